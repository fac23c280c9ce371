/* What is asked: one task, lists, counts; outputs that a persister saved. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/sqlite/perform.h"

static int unreadable(struct lt_sqlite_lane *lane, sqlite3_stmt *row)
{
    free(lane->db.message);
    lane->db.message = lt_format("the item of task '%s' cannot be read", sqlite3_column_text(row, 1));
    return SQLITE_CORRUPT;
}

/* Who waits for its end, and did not add it, is told of that. */
static int watch(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, int64_t adder)
{
    const struct lt_get_op *op = request->op;
    int64_t owner = request->member->standing.owner;
    if (!op->waits || adder == owner || lt_status_ended((enum lt_status)request->task->status))
        return SQLITE_OK;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_WATCH_ADD);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, (int64_t)request->task->seq);
    sqlite3_bind_int64(statement, 2, owner);
    return lt_database_run(&lane->db, statement);
}

int lt_sqlite_get(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_get_op *op = request->op;
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_GET);
    if (row == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, request->member->queue->number);
    lt_bind_text(row, 2, op->id, op->id_len);
    int code = sqlite3_step(row);
    int64_t adder = 0;
    if (code == SQLITE_ROW) {
        request->task = lt_row_task(&lane->db, row, lane->host);
        adder = sqlite3_column_int64(row, LT_COLUMN_ADDER);
        code = request->task != NULL ? SQLITE_DONE : unreadable(lane, row);
    } else if (code == SQLITE_DONE) {
        lt_sqlite_refuse(request, LT_UNKNOWN, "no such task");
    }
    sqlite3_reset(row);
    if (code == SQLITE_DONE && request->task != NULL)
        code = lt_row_history(&lane->db, request->task, lane->host) == SQLITE_OK ? SQLITE_DONE : SQLITE_ERROR;
    if (code == SQLITE_DONE)
        return request->task != NULL ? watch(lane, request, adder) : SQLITE_OK;
    return code == SQLITE_CORRUPT ? code : lt_database_error(&lane->db);
}

/* Lists. */

/* By which rows of a status are found. */
static const char *rows_of(int status)
{
    switch (status) {
    case LT_WAITING:
        return "NOT INDEXED WHERE state IN (0, 1, 7)";
    case LT_RUNNING:
        return "INDEXED BY ltsh_running WHERE state >= 2 AND state <= 3 AND state = 2";
    case LT_EXPORTING:
        return "INDEXED BY ltsh_running WHERE state >= 2 AND state <= 3 AND state = 3";
    case LT_SUCCESS:
        return "INDEXED BY ltsh_ended WHERE state = 4 AND ended_at IS NOT NULL";
    case LT_FAILED:
        return "INDEXED BY ltsh_ended WHERE state = 5 AND ended_at IS NOT NULL";
    case LT_STOPPED:
        return "INDEXED BY ltsh_ended WHERE state = 6 AND ended_at IS NOT NULL";
    default:
        return "NOT INDEXED WHERE 1";
    }
}

static sqlite3_stmt *prepare_list(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request)
{
    const struct lt_list_op *op = request->op;
    sqlite3_stmt *statement = NULL;
    char *text = lt_format("SELECT %s FROM ltsh_tasks %s AND queue = ?1%s%s%s ORDER BY seq%s LIMIT ?5 OFFSET ?6",
                           lt_row_columns, rows_of(op->status), op->key != NULL ? " AND key = ?2" : "",
                           op->text != NULL ? " AND instr(id, ?3) > 0" : "",
                           op->after == 0   ? ""
                           : op->descending ? " AND seq < ?4"
                                            : " AND seq > ?4",
                           op->descending ? " DESC" : "");
    sqlite3_prepare_v2(lane->db.handle, text, -1, &statement, NULL);
    free(text);
    if (statement == NULL)
        return NULL;
    sqlite3_bind_int64(statement, 1, request->member->queue->number);
    lt_bind_bytes_text(statement, 2, op->key);
    lt_bind_bytes_text(statement, 3, op->text);
    sqlite3_bind_int64(statement, 4, (int64_t)op->after);
    sqlite3_bind_int64(statement, 5, op->limit > INT64_MAX ? INT64_MAX : (int64_t)op->limit);
    sqlite3_bind_int64(statement, 6, op->offset > INT64_MAX ? INT64_MAX : (int64_t)op->offset);
    return statement;
}

int lt_sqlite_list(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    sqlite3_stmt *row = prepare_list(lane, request);
    int code;
    if (row == NULL)
        return lt_database_error(&lane->db);
    while ((code = sqlite3_step(row)) == SQLITE_ROW) {
        struct lt_task *task = lt_row_task(&lane->db, row, lane->host);
        if (task == NULL) {
            code = unreadable(lane, row);
            sqlite3_finalize(row);
            return code;
        }
        lt_tasks_push(&request->tasks, task);
        request->after = (int64_t)task->seq;
    }
    code = code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&lane->db, code);
    sqlite3_finalize(row);
    return code;
}

int lt_sqlite_count(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_sqlite_queue *queue = request->member->queue;
    sqlite3_stmt *first = lt_database_statement(&lane->db, LT_ST_FIRST_DUE);
    if (first == NULL)
        return lt_database_error(&lane->db);
    for (int state = 0; state < LT_ROW_STATES; state++)
        request->counts[state] = (uint64_t)queue->counts[state];
    sqlite3_bind_int64(first, 1, queue->number);
    int code = sqlite3_step(first);
    if (code == SQLITE_ROW) {
        double added = sqlite3_column_double(first, 2), due = sqlite3_column_double(first, 3);
        request->oldest = due > added ? due : added;
    }
    sqlite3_reset(first);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&lane->db, code);
}

int lt_sqlite_pause(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    struct lt_sqlite_queue *queue = request->member->queue;
    struct lt_sqlite_member *member;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_QUEUE_PAUSE);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, queue->number);
    sqlite3_bind_int(statement, 2, request->paused);
    queue->paused = request->paused;
    lane->rings = true;
    TAILQ_FOREACH(member, &lane->members, link) {
        if (member->queue == queue && member->standing.open)
            lt_sqlite_tell_paused(lane, member);
    }
    return lt_database_run(&lane->db, statement);
}
