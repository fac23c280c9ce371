/* New tasks, all of a list or none. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/sqlite/perform.h"
#include "containers/sqlite/turns.h"

enum { LARGE_ITEM = 1000 /* bytes: it is not written anew with each transition */ };

static bool is_once(const struct lt_task *task)
{
    return task->options != NULL && task->options->once;
}

/* Whether the id may be used: what has ended under it goes. request->code says if it may not. */
static int clear_id(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, const struct lt_task *task)
{
    struct lt_sqlite_queue *queue = request->member->queue;
    sqlite3_stmt *known = lt_database_statement(&lane->db, LT_ST_KNOWN);
    if (known == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(known, 1, queue->number);
    lt_bind_text(known, 2, task->data, task->id_len);
    int code = sqlite3_step(known);
    int64_t seq = code == SQLITE_ROW ? sqlite3_column_int64(known, 0) : 0;
    int state = code == SQLITE_ROW ? sqlite3_column_int(known, 1) : 0;
    sqlite3_reset(known);
    if (code == SQLITE_DONE)
        return SQLITE_OK;
    if (code != SQLITE_ROW)
        return lt_database_fail(&lane->db, code);
    enum lt_status status = lt_row_status(state);
    if (is_once(task) || !lt_status_ended(status)) {
        lt_sqlite_refuse(request, LT_EXISTS, "task '%s' exists and is %s", task->data, lt_status_name(status));
        return SQLITE_OK;
    }
    lt_sqlite_count_move(queue, state, -1);
    return lt_sqlite_delete_row(lane, seq, true);
}

/* An id that was added with `once` is remembered by itself. */
static int check_once(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, const struct lt_task *task)
{
    struct lt_database *db = &lane->db;
    if (!is_once(task) || request->code != LT_OK)
        return SQLITE_OK;
    sqlite3_stmt *known = lt_database_statement(db, LT_ST_ONCE_KNOWN);
    sqlite3_stmt *add = lt_database_statement(db, LT_ST_ONCE_ADD);
    if (known == NULL || add == NULL)
        return lt_database_error(db);
    sqlite3_bind_int64(known, 1, request->member->queue->number);
    lt_bind_text(known, 2, task->data, task->id_len);
    int code = sqlite3_step(known);
    sqlite3_reset(known);
    if (code == SQLITE_ROW) {
        lt_sqlite_refuse(request, LT_EXISTS, "task '%s' was added before", task->data);
        return SQLITE_OK;
    }
    sqlite3_bind_int64(add, 1, request->member->queue->number);
    lt_bind_text(add, 2, task->data, task->id_len);
    sqlite3_bind_double(add, 3, request->now);
    return lt_database_run(db, add);
}

static int insert_item(struct lt_sqlite_lane *lane, const struct lt_task *task, int64_t seq)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_ADD_ITEM);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, seq);
    lt_bind_value(statement, 2, lt_task_item(task), task->item_len);
    return lt_database_run(&lane->db, statement);
}

/* *done: it is in; else its id is there. */
static int insert_task(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, struct lt_task *task, bool *done)
{
    struct lt_database *db = &lane->db;
    struct lt_sqlite_queue *queue = request->member->queue;
    const struct lt_task_options *options = task->options;
    sqlite3_stmt *statement = lt_database_statement(db, LT_ST_ADD);
    if (statement == NULL)
        return lt_database_error(db);
    int state = task->run_at > request->now ? LT_ROW_DELAYED : LT_ROW_DUE;
    bool large = task->item_len > LARGE_ITEM;
    int64_t seq = lt_database_next(db);
    sqlite3_bind_int64(statement, 1, seq);
    sqlite3_bind_int64(statement, 2, queue->number);
    lt_bind_text(statement, 3, task->data, task->id_len);
    sqlite3_bind_int(statement, 4, state);
    sqlite3_bind_int64(statement, 5, task->priority);
    sqlite3_bind_int64(statement, 6, request->member->standing.owner);
    sqlite3_bind_double(statement, 7, request->now);
    lt_bind_time(statement, 8, task->run_at);
    lt_bind_time(statement, 9, options != NULL ? options->expires_at : 0);
    lt_bind_bytes_text(statement, 10, options != NULL ? options->key : NULL);
    if (options != NULL)
        lt_bind_options(statement, 11, options);
    else
        sqlite3_bind_null(statement, 11);
    if (large)
        sqlite3_bind_int(statement, 12, 0);
    else
        lt_bind_value(statement, 12, lt_task_item(task), task->item_len);
    int code = lt_database_run(db, statement);
    *done = code == SQLITE_OK && sqlite3_changes(db->handle) > 0;
    if (!*done)
        return code;
    task->seq = (uint64_t)seq; /* the container's own field, and this is part of it */
    lt_sqlite_count_move(queue, -1, state);
    if (large)
        code = insert_item(lane, task, seq);
    return code == SQLITE_OK && state == LT_ROW_DUE ? lt_sqlite_turn_due(lane, queue, seq, 0) : code;
}

static int add_one(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, struct lt_task *task)
{
    bool done = false;
    int code = check_once(lane, request, task);
    if (code == SQLITE_OK && request->code == LT_OK)
        code = insert_task(lane, request, task, &done);
    if (done || code != SQLITE_OK || request->code != LT_OK)
        return code;
    code = clear_id(lane, request, task);
    if (code == SQLITE_OK && request->code == LT_OK)
        code = insert_task(lane, request, task, &done);
    return code;
}

static int undo_add(struct lt_sqlite_lane *lane, struct lt_sqlite_queue *queue, const int64_t *counts)
{
    struct lt_database *db = &lane->db;
    memcpy(queue->counts, counts, sizeof queue->counts);
    int code = lt_database_run(db, lt_database_statement(db, LT_ST_ROLLBACK_TO));
    return code == SQLITE_OK ? lt_database_run(db, lt_database_statement(db, LT_ST_RELEASE)) : code;
}

int lt_sqlite_add(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_add_op *op = request->op;
    struct lt_sqlite_queue *queue = request->member->queue;
    struct lt_database *db = &lane->db;
    int64_t counts[LT_ROW_STATES];
    memcpy(counts, queue->counts, sizeof counts);
    int code = lt_database_run(db, lt_database_statement(db, LT_ST_SAVEPOINT));
    for (uint32_t i = 0; code == SQLITE_OK && request->code == LT_OK && i < op->count; i++)
        code = add_one(lane, request, op->tasks[i]);
    if (code != SQLITE_OK)
        return code;
    if (request->code != LT_OK)
        return undo_add(lane, queue, counts);
    lane->rings = true;
    lt_sqlite_tell_work(lane, queue, request->member);
    return lt_database_run(db, lt_database_statement(db, LT_ST_RELEASE));
}
