#include "containers/sqlite/news.h"

enum { NEWS_AT_ONCE = 1000 };

/* Writing. */

int lt_sqlite_news_add(struct lt_sqlite_lane *lane, int64_t owner, const struct lt_sqlite_about *about)
{
    const struct lt_task *task = about->task;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_NEWS_ADD);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, owner);
    sqlite3_bind_int(statement, 2, about->kind);
    sqlite3_bind_int64(statement, 3, about->seq);
    sqlite3_bind_int64(statement, 4, about->run);
    lt_bind_text(statement, 5, task != NULL ? task->data : NULL, task != NULL ? task->id_len : 0);
    const struct lt_sqlite_member *member;
    TAILQ_FOREACH(member, &lane->members, link)
        lane->local_news = lane->local_news || member->standing.owner == owner;
    lane->rings = true;
    return lt_database_run(&lane->db, statement);
}

static bool is_at_work(const struct lt_sqlite_lane *lane, int64_t owner)
{
    const struct lt_sqlite_other *other;
    const struct lt_sqlite_member *member;
    TAILQ_FOREACH(other, &lane->others, link) {
        if (other->owner == owner)
            return true;
    }
    TAILQ_FOREACH(member, &lane->members, link) {
        if (member->standing.owner == owner)
            return true;
    }
    return false;
}

static int tell_owner(struct lt_sqlite_lane *lane, const struct lt_sqlite_member *member, int64_t owner,
                      const struct lt_sqlite_about *about)
{
    if (owner == 0 || owner == member->standing.owner || !is_at_work(lane, owner))
        return SQLITE_OK;
    return lt_sqlite_news_add(lane, owner, about);
}

/* Who waits for it; but the adder, who has been told. */
static int tell_watchers(struct lt_sqlite_lane *lane, const struct lt_sqlite_member *member, int64_t adder,
                         const struct lt_sqlite_about *about)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_WATCHERS);
    int code, told = SQLITE_OK, count = 0;
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, about->seq);
    while (told == SQLITE_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        int64_t owner = sqlite3_column_int64(statement, 0);
        if (owner != adder)
            told = tell_owner(lane, member, owner, about);
        count++;
    }
    if (told == SQLITE_OK && code != SQLITE_DONE)
        told = lt_database_error(&lane->db);
    sqlite3_reset(statement);
    return told == SQLITE_OK && count > 0 ? lt_sqlite_run_on(lane, LT_ST_DELETE_WATCHERS, about->seq, 0) : told;
}

static bool is_done(const struct lt_sqlite_queue *queue)
{
    int64_t unfinished = queue->counts[LT_ROW_SUSPECT];
    for (int state = LT_ROW_DELAYED; state <= LT_ROW_EXPORTING; state++)
        unfinished += queue->counts[state];
    return unfinished == 0;
}

int lt_sqlite_news_end(struct lt_sqlite_lane *lane, const struct lt_sqlite_member *member, int64_t adder,
                       const struct lt_sqlite_about *about)
{
    if (lt_sqlite_is_alone(lane))
        return SQLITE_OK;
    lane->rings = lane->rings || !TAILQ_EMPTY(&lane->others); /* they may have waited for a place */
    if (is_done(member->queue))                               /* who waits for that */
        lt_sqlite_tell_work(lane, member->queue, member);
    int code = tell_owner(lane, member, adder, about);
    return code == SQLITE_OK ? tell_watchers(lane, member, adder, about) : code;
}

/* Reading. */

/* The task of a row, or NULL in *task: there is none any more. */
static int task_of_row(struct lt_sqlite_lane *lane, int64_t seq, struct lt_task **task)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_GET_SEQ);
    *task = NULL;
    if (row == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, seq);
    int code = sqlite3_step(row);
    if (code == SQLITE_ROW)
        *task = lt_row_task(&lane->db, row, lane->host);
    sqlite3_reset(row);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&lane->db, code);
}

enum news_column { NEWS, KIND, TASK, RUN, ADDER, STOP, ID };

static void take_deletion(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, sqlite3_stmt *row)
{
    struct lt_task *task =
        lt_task_new((const char *)sqlite3_column_text(row, ID), (size_t)sqlite3_column_bytes(row, ID), NULL, 0);
    task->status = LT_DELETED;
    lt_sqlite_tell(lane, member, LT_NEWS_ENDED, task, NULL);
}

/* It ended; or it was begun anew since, or is not there any more: then there is nothing to tell. */
static void take_end(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, sqlite3_stmt *row,
                     struct lt_task *task)
{
    bool own = sqlite3_column_int64(row, ADDER) == member->standing.owner;
    if (lt_status_ended((enum lt_status)task->status))
        lt_sqlite_tell(lane, member, LT_NEWS_ENDED, task, NULL)->on = own;
    else
        lt_task_unref(task);
}

static int take_news(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, sqlite3_stmt *row)
{
    int kind = sqlite3_column_int(row, KIND), code = SQLITE_OK;
    struct lt_task *task = NULL;
    if (kind == LT_SQLITE_NEWS_DELETED)
        take_deletion(lane, member, row);
    else
        code = task_of_row(lane, sqlite3_column_int64(row, TASK), &task);
    if (task == NULL)
        return code;
    if (kind == LT_SQLITE_NEWS_ENDED) {
        take_end(lane, member, row, task);
        return SQLITE_OK;
    }
    bool stops = kind == LT_SQLITE_NEWS_STOP;
    struct lt_sqlite_news *news = lt_sqlite_tell(lane, member, stops ? LT_NEWS_STOP : LT_NEWS_LEASE_LOST, task,
                                                 stops ? lt_column_bytes(row, STOP) : NULL);
    news->run = (uint64_t)sqlite3_column_int64(row, RUN);
    news->token = (uint64_t)(member->standing.owner != 0 ? member->standing.owner : member->standing.former);
    return SQLITE_OK;
}

int lt_sqlite_news_read(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, int64_t owner)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_NEWS);
    int64_t last = 0;
    int code, taken = SQLITE_OK;
    if (row == NULL || owner == 0)
        return owner == 0 ? SQLITE_OK : lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, owner);
    for (int count = 0; taken == SQLITE_OK && (code = sqlite3_step(row)) == SQLITE_ROW; count++) {
        taken = take_news(lane, member, row);
        last = sqlite3_column_int64(row, NEWS);
        lane->local_news = lane->local_news || count == NEWS_AT_ONCE - 1; /* there may be more */
    }
    sqlite3_reset(row);
    if (taken != SQLITE_OK || code != SQLITE_DONE)
        return taken != SQLITE_OK ? taken : lt_database_fail(&lane->db, code);
    return last != 0 ? lt_sqlite_run_on(lane, LT_ST_NEWS_READ, owner, last) : SQLITE_OK;
}

int lt_sqlite_news_any(struct lt_sqlite_lane *lane, int64_t owner, bool *found)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_NEWS);
    if (row == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, owner);
    int code = sqlite3_step(row);
    *found = code == SQLITE_ROW;
    sqlite3_reset(row);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&lane->db, code);
}
