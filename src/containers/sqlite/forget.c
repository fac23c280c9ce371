/* Forgetting what is old, in steps: some hundred rows, so that claims are never far away. */
#include "containers/sqlite/perform.h"

enum { STEP = 200 };

/* With its history; what was saved of it is deleted by its scheduler, which is told. */
static int forget_task(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, int64_t seq)
{
    sqlite3_stmt *head = lt_database_statement(&lane->db, LT_ST_HEAD);
    if (head == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(head, 1, seq);
    if (sqlite3_step(head) == SQLITE_ROW) {
        struct lt_task *task =
            lt_task_new((const char *)sqlite3_column_text(head, 6), (size_t)sqlite3_column_bytes(head, 6), NULL, 0);
        task->run = (uint64_t)sqlite3_column_int64(head, 1);
        task->status = (uint8_t)lt_row_status(sqlite3_column_int(head, 0));
        lt_sqlite_tell(lane, member, LT_NEWS_FORGOTTEN, task, NULL);
    }
    sqlite3_reset(head);
    return lt_sqlite_delete_row(lane, seq, true);
}

static int forget_rows(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int which)
{
    struct lt_sqlite_member *member = request->member;
    struct lt_sqlite_queue *queue = member->queue;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_OLD_ENDED);
    int64_t old[STEP], seen = 0, count = 0;
    double before = request->now - member->keep[which];
    bool reached = false; /* what was added later cannot have ended before */
    int code = SQLITE_DONE;
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, queue->number);
    sqlite3_bind_int(statement, 2, LT_ROW_SUCCESS + which);
    sqlite3_bind_int64(statement, 3, queue->pruned_to[which]);
    sqlite3_bind_int(statement, 4, STEP);
    while (!reached && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        seen++;
        reached = sqlite3_column_double(statement, 1) > before;
        if (sqlite3_column_double(statement, 2) <= before)
            old[count++] = sqlite3_column_int64(statement, 0);
        queue->pruned_to[which] = sqlite3_column_int64(statement, 0);
    }
    sqlite3_reset(statement);
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        return lt_database_fail(&lane->db, code);
    if (reached || seen < STEP)
        queue->pruned_to[which] = 0;
    else
        request->more = true;
    code = SQLITE_OK;
    for (int64_t i = 0; code == SQLITE_OK && i < count; i++) {
        lt_sqlite_count_move(queue, LT_ROW_SUCCESS + which, -1);
        code = forget_task(lane, member, old[i]);
    }
    return code;
}

/* Ids of `once` are remembered for a day at least, and longer than any task is kept. */
static int forget_once(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_sqlite_member *member = request->member;
    double kept = 86400;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_ONCE_PRUNE);
    for (int i = 0; i < 3; i++) {
        if (member->keep[i] < 0)
            return SQLITE_OK;
        kept = member->keep[i] > kept ? member->keep[i] : kept;
    }
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, member->queue->number);
    sqlite3_bind_double(statement, 2, request->now - kept);
    sqlite3_bind_int(statement, 3, STEP);
    int code = lt_database_run(&lane->db, statement);
    request->more = request->more || sqlite3_changes(lane->db.handle) == STEP;
    return code;
}

int lt_sqlite_prune(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    int code = SQLITE_OK;
    for (int which = 0; code == SQLITE_OK && which < 3; which++) {
        if (request->member->keep[which] >= 0)
            code = forget_rows(lane, request, which);
    }
    if (code == SQLITE_OK)
        code = forget_once(lane, request);
    if (code == SQLITE_OK &&
        sqlite3_exec(lane->db.handle, "PRAGMA incremental_vacuum(64)", NULL, NULL, NULL) != SQLITE_OK)
        code = lt_database_error(&lane->db);
    return code;
}
