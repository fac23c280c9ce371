/* Outputs that ltsh.persister.sqlite saves: in a table of their own; or, where the container shares the file, in the rows of
 * tasks. */
#include "containers/sqlite/perform.h"
#include "scheduler/persister.h"

static int save_output(struct lt_sqlite_lane *lane, const char *name, const struct lt_task *task, uint64_t run,
                       const struct lt_bytes *output)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_SAVE_OUTPUT);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    lt_bind_text(statement, 2, task->data, task->id_len);
    sqlite3_bind_int64(statement, 3, (int64_t)run);
    lt_bind_bytes_value(statement, 4, output);
    return lt_database_run(&lane->db, statement);
}

static int load_output(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_load_op *op = request->op;
    bool shared = request->queue != NULL;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, shared ? LT_ST_ROW_OUTPUT : LT_ST_LOAD_OUTPUT);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_text(statement, 1, shared ? request->queue : request->name, -1, SQLITE_STATIC);
    lt_bind_text(statement, 2, op->task->data, op->task->id_len);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        request->bytes = lt_column_value(statement, 0);
    sqlite3_reset(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_error(&lane->db);
}

static int erase_output(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_load_op *op = request->op;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_ERASE_OUTPUT);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_text(statement, 1, request->name, -1, SQLITE_STATIC);
    lt_bind_text(statement, 2, op->task->data, op->task->id_len);
    return lt_database_run(&lane->db, statement);
}

int lt_sqlite_output(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_save_op *op = request->op;
    if (request->kind == LT_SQLITE_SAVE)
        return save_output(lane, request->name, op->task, op->run, op->data);
    return request->kind == LT_SQLITE_LOAD ? load_output(lane, request) : erase_output(lane, request);
}
