#include "containers/sqlite/lane.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/alloc.h"

double lt_sqlite_monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Queues. */

int lt_sqlite_queue_read(struct lt_sqlite_lane *lane, struct lt_sqlite_queue *queue)
{
    struct lt_database *db = &lane->db;
    int code = SQLITE_DONE;
    if (queue->number != 0)
        return SQLITE_OK;
    for (int tries = 0; tries < 2; tries++) {
        sqlite3_stmt *row = lt_database_statement(db, LT_ST_QUEUE);
        if (row == NULL)
            return lt_database_error(db);
        sqlite3_bind_text(row, 1, queue->name, -1, SQLITE_STATIC);
        code = sqlite3_step(row);
        if (code == SQLITE_ROW) {
            queue->number = sqlite3_column_int64(row, 0);
            queue->paused = sqlite3_column_int(row, 1) != 0;
            queue->fair = sqlite3_column_int(row, 2) != 0;
            for (int state = 0; state < LT_ROW_STATES; state++)
                queue->counts[state] = sqlite3_column_int64(row, 3 + state);
            for (int i = 0; i < LT_SQLITE_LIMITS; i++)
                queue->limits[i] = sqlite3_column_double(row, 3 + LT_ROW_STATES + i);
            queue->tokens = sqlite3_column_double(row, 3 + LT_ROW_STATES + LT_SQLITE_LIMITS);
            queue->tokens_at = sqlite3_column_double(row, 4 + LT_ROW_STATES + LT_SQLITE_LIMITS);
            queue->limits_set = sqlite3_column_int64(row, 5 + LT_ROW_STATES + LT_SQLITE_LIMITS);
            sqlite3_reset(row);
            return SQLITE_OK;
        }
        sqlite3_reset(row);
        if (code != SQLITE_DONE)
            return lt_database_fail(db, code);
        row = lt_database_statement(db, LT_ST_QUEUE_NEW);
        if (row == NULL)
            return lt_database_error(db);
        sqlite3_bind_text(row, 1, queue->name, -1, SQLITE_STATIC);
        code = lt_database_run(db, row);
        if (code != SQLITE_OK)
            return code;
    }
    return lt_database_fail(db, SQLITE_CORRUPT);
}

void lt_sqlite_count_move(struct lt_sqlite_queue *queue, int from, int to)
{
    if (from >= 0)
        queue->counts[from]--;
    if (to >= 0)
        queue->counts[to]++;
    queue->changed = true;
}

int lt_sqlite_queues_write(struct lt_sqlite_lane *lane)
{
    struct lt_sqlite_queue *queue;
    TAILQ_FOREACH(queue, &lane->queues, link) {
        if (!queue->changed)
            continue;
        sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_QUEUE_SET);
        if (statement == NULL)
            return lt_database_error(&lane->db);
        sqlite3_bind_int64(statement, 1, queue->number);
        for (int state = 0; state < LT_ROW_STATES; state++)
            sqlite3_bind_int64(statement, 2 + state, queue->counts[state]);
        for (int i = 0; i < LT_SQLITE_LIMITS; i++)
            sqlite3_bind_double(statement, 2 + LT_ROW_STATES + i, queue->limits[i]);
        sqlite3_bind_double(statement, 2 + LT_ROW_STATES + LT_SQLITE_LIMITS, queue->tokens);
        sqlite3_bind_double(statement, 3 + LT_ROW_STATES + LT_SQLITE_LIMITS, queue->tokens_at);
        sqlite3_bind_int64(statement, 4 + LT_ROW_STATES + LT_SQLITE_LIMITS, queue->limits_set);
        int code = lt_database_run(&lane->db, statement);
        if (code != SQLITE_OK)
            return code;
        queue->changed = false;
    }
    return SQLITE_OK;
}

/* Requests. */

void lt_sqlite_refuse(struct lt_sqlite_request *request, int code, const char *format, ...)
{
    struct lt_error error;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error.message, sizeof error.message, format, arguments);
    va_end(arguments);
    request->code = code;
    free(request->message);
    request->message = lt_strdup(error.message);
}

void lt_sqlite_request_clear(struct lt_sqlite_request *request)
{
    lt_claims_free(&request->claims);
    lt_tasks_free(&request->tasks);
    lt_tasks_free(&request->seen);
    lt_task_unref(request->task);
    lt_queue_hosts_free(&request->hosts);
    lt_bytes_unref(request->bytes);
    free(request->message);
    request->task = NULL;
    request->bytes = NULL;
    request->message = NULL;
    request->code = LT_OK;
    request->next_date = request->oldest = 0;
    request->more = request->waits = false;
    request->token_in = 0;
    request->queue_full = 0;
    request->after = 0;
}

/* Rows. */

int lt_sqlite_run_on(struct lt_sqlite_lane *lane, enum lt_statement which, int64_t first, int64_t second)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, which);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, first);
    if (second != 0)
        sqlite3_bind_int64(statement, 2, second);
    return lt_database_run(&lane->db, statement);
}

struct lt_task *lt_sqlite_read_row(struct lt_sqlite_lane *lane, sqlite3_stmt *row)
{
    struct lt_task *task = lt_row_task(&lane->db, row, lane->host);
    if (task != NULL)
        return task;
    free(lane->db.message);
    lane->db.message = lt_format("the item of task '%s' cannot be read", sqlite3_column_text(row, 1));
    return NULL;
}

int lt_sqlite_delete_row(struct lt_sqlite_lane *lane, int64_t seq, bool large)
{
    int code = lt_sqlite_run_on(lane, LT_ST_DELETE, seq, 0);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_DELETE_RUNS, seq, 0);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_DELETE_WATCHERS, seq, 0);
    if (code == SQLITE_OK && large)
        code = lt_sqlite_run_on(lane, LT_ST_DELETE_ITEM, seq, 0);
    return code;
}

/* News for members of this process. */

void lt_sqlite_news_free(struct lt_sqlite_news *news)
{
    lt_task_unref(news->task);
    lt_bytes_unref(news->reason);
    free(news);
}

void lt_sqlite_news_drop(struct lt_sqlite_news_list *list)
{
    struct lt_sqlite_news *news;
    while ((news = STAILQ_FIRST(list)) != NULL) {
        STAILQ_REMOVE_HEAD(list, link);
        lt_sqlite_news_free(news);
    }
}

struct lt_sqlite_news *lt_sqlite_tell(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member,
                                      enum lt_news_kind kind, struct lt_task *task, struct lt_bytes *reason)
{
    struct lt_sqlite_news *news = lt_zalloc(sizeof *news);
    *news = (struct lt_sqlite_news){.member = member, .kind = kind, .task = task, .reason = reason};
    if (task != NULL) {
        news->run = task->run;
        news->token = (uint64_t)member->standing.owner;
    }
    STAILQ_INSERT_TAIL(&lane->news, news, link);
    return news;
}

void lt_sqlite_tell_work(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue,
                         const struct lt_sqlite_member *except)
{
    struct lt_sqlite_member *member;
    TAILQ_FOREACH(member, &lane->members, link) {
        if (member != except && member->standing.open && (queue == NULL || member->queue == queue) &&
            !member->to_look) {
            member->to_look = true; /* once in a transaction is enough */
            lt_sqlite_tell(lane, member, LT_NEWS_WORK, NULL, NULL);
        }
    }
}

void lt_sqlite_tell_paused(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member)
{
    member->standing.told_paused = member->queue->paused;
    lt_sqlite_tell(lane, member, LT_NEWS_PAUSED, NULL, NULL)->on = member->queue->paused;
}

bool lt_sqlite_is_alone(const struct lt_sqlite_lane *lane)
{
    return TAILQ_EMPTY(&lane->others) && TAILQ_NEXT(TAILQ_FIRST(&lane->members), link) == NULL;
}
