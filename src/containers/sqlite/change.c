/* Transitions, as enum lt_status allows them: the row says where the task is, its run and its owner whose it is. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/sqlite/news.h"
#include "containers/sqlite/perform.h"
#include "containers/sqlite/turns.h"

enum { RUNS_KEPT = 100, RUNS_MORE = 50 /* so many more until the oldest go, for that costs more than to add one */ };

struct head {
    bool there;
    int state;
    uint64_t run;
    int64_t owner;
    int64_t adder;
    int64_t lost;
    int64_t past;
    bool large;
};

static int read_head(struct lt_sqlite_lane *lane, int64_t seq, const char *id, struct head *head)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_HEAD);
    *head = (struct head){0};
    if (row == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, seq);
    int code = sqlite3_step(row);
    if (code == SQLITE_ROW) {
        const char *found = (const char *)sqlite3_column_text(row, 6);
        *head = (struct head){
            .there = id == NULL || (found != NULL && strcmp(found, id) == 0),
            .state = sqlite3_column_int(row, 0),
            .run = (uint64_t)sqlite3_column_int64(row, 1),
            .owner = sqlite3_column_int64(row, 2),
            .adder = sqlite3_column_int64(row, 3),
            .lost = sqlite3_column_int64(row, 4),
            .past = sqlite3_column_int64(row, 5),
            .large = strcmp((const char *)sqlite3_column_text(row, 7), "integer") == 0,
        };
    }
    sqlite3_reset(row);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&lane->db, code);
}

/* A run is over: those who could not claim something before look again. */
static void tell_held(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue)
{
    const struct lt_sqlite_member *member;
    TAILQ_FOREACH(member, &lane->members, link) {
        if (member->standing.held && member->queue == queue) {
            lt_sqlite_tell_work(lane, queue, NULL);
            return;
        }
    }
}

/* The run that is over goes to the history. */
static int remember_run(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, int64_t seq,
                        const struct head *head, bool ended, int64_t *past)
{
    const struct lt_change_op *op = request->op;
    struct lt_database *db = &lane->db;
    sqlite3_stmt *statement = lt_database_statement(db, LT_ST_REMEMBER_RUN);
    *past = head->past + 1;
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, seq);
    if (ended) { /* the row says how it ended */
        for (int i = 2; i <= 4; i++)
            sqlite3_bind_null(statement, i);
    } else {
        sqlite3_bind_double(statement, 2, op->transition.now);
        lt_bind_bytes_text(statement, 3, op->transition.reason);
        lt_bind_bytes_text(statement, 4, request->version);
    }
    int code = lt_database_run(db, statement);
    if (code != SQLITE_OK || *past < RUNS_KEPT + RUNS_MORE)
        return code;
    statement = lt_database_statement(db, LT_ST_PRUNE_RUNS);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, seq);
    sqlite3_bind_int(statement, 2, RUNS_KEPT);
    *past = RUNS_KEPT;
    return lt_database_run(db, statement);
}

/* To an end, from where the task is thought to be: if it is not there, nothing is changed. */
static int end_row(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, int64_t seq,
                   const struct head *head, int state)
{
    const struct lt_change_op *op = request->op;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_END);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, seq);
    sqlite3_bind_int(statement, 2, state);
    sqlite3_bind_double(statement, 3, op->transition.now);
    lt_bind_bytes_text(statement, 4, op->transition.reason);
    lt_bind_bytes_value(statement, 5, op->transition.output);
    lt_bind_bytes_value(statement, 6, request->progress);
    lt_bind_bytes_text(statement, 7, request->version);
    sqlite3_bind_int64(statement, 8, (int64_t)head->run);
    if (head->owner != 0)
        sqlite3_bind_int64(statement, 9, head->owner);
    else
        sqlite3_bind_null(statement, 9);
    sqlite3_bind_int(statement, 10, head->state);
    return lt_database_run(&lane->db, statement);
}

/* Back to the queue, after a run. */
static int make_waiting(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t seq,
                        const struct head *head, int *state)
{
    const struct lt_change_op *op = request->op;
    const struct lt_transition *transition = &op->transition;
    double run_at = transition->delay > 0 ? request->now + transition->delay
                                          : (transition->run_at > 0 ? transition->run_at : transition->now);
    bool suspect = head->lost > 0 || transition->lost;
    int64_t past = head->past;
    if (transition->not_begun) {
        *state = head->lost > 0 ? LT_ROW_SUSPECT : LT_ROW_DUE;
        return lt_sqlite_run_on(lane, LT_ST_WAIT_AS_BEFORE, seq, 0);
    }
    int code = remember_run(lane, request, seq, head, false, &past);
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_WAIT);
    if (code != SQLITE_OK || statement == NULL)
        return code != SQLITE_OK ? code : lt_database_error(&lane->db);
    *state = run_at > request->now ? LT_ROW_DELAYED : suspect ? LT_ROW_SUSPECT : LT_ROW_DUE;
    sqlite3_bind_int64(statement, 1, seq);
    sqlite3_bind_int(statement, 2, *state);
    sqlite3_bind_int64(statement, 3, lt_database_next(&lane->db));
    sqlite3_bind_double(statement, 4, run_at);
    lt_bind_bytes_text(statement, 5, transition->reason);
    sqlite3_bind_int(statement, 6, transition->uncounted);
    sqlite3_bind_int(statement, 7, transition->lost);
    sqlite3_bind_int(statement, 8, transition->uncounted && !transition->lost);
    sqlite3_bind_int64(statement, 9, past);
    lt_bind_bytes_text(statement, 10, request->version);
    return lt_database_run(&lane->db, statement);
}

/* Back to the queue, after an end. */
static int retry_row(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, int64_t seq,
                     const struct head *head, int *state)
{
    const struct lt_change_op *op = request->op;
    double now = op->transition.now;
    int64_t past = head->past;
    int code = head->run > 0 ? remember_run(lane, request, seq, head, true, &past) : SQLITE_OK;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_RETRY);
    if (code != SQLITE_OK || statement == NULL)
        return code != SQLITE_OK ? code : lt_database_error(&lane->db);
    *state = LT_ROW_DUE;
    sqlite3_bind_int64(statement, 1, seq);
    sqlite3_bind_int(statement, 2, *state);
    sqlite3_bind_int64(statement, 3, lt_database_next(&lane->db));
    sqlite3_bind_double(statement, 4, now);
    lt_bind_bytes_text(statement, 5, op->transition.reason);
    sqlite3_bind_int64(statement, 6, past);
    return lt_database_run(&lane->db, statement);
}

static int delete_task(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, int64_t seq, bool large)
{
    const struct lt_change_op *op = request->op;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_ONCE_DELETE);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, request->member->queue->number);
    lt_bind_text(statement, 2, op->task->data, op->task->id_len);
    int code = lt_database_run(&lane->db, statement);
    return code == SQLITE_OK ? lt_sqlite_delete_row(lane, seq, large) : code;
}

static int move_row(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t seq,
                    const struct head *head)
{
    const struct lt_change_op *op = request->op;
    int code, state = (int)op->transition.to;
    switch (op->transition.to) {
    case LT_WAITING:
        lane->rings = true;
        code = lt_status_ended(lt_row_status(head->state)) ? retry_row(lane, request, seq, head, &state)
                                                           : make_waiting(lane, request, seq, head, &state);
        if (code == SQLITE_OK && state != LT_ROW_DELAYED)
            code = lt_sqlite_turn_due(lane, request->member->queue, seq, op->transition.not_begun ? op->task->turn : 0);
        break;
    case LT_EXPORTING:
        code = lt_sqlite_run_on(lane, LT_ST_MARK_EXPORTING, seq, 0);
        break;
    case LT_DELETED:
        state = -1; /* the row goes when those who wait for it are told */
        code = SQLITE_OK;
        break;
    default:
        code = end_row(lane, request, seq, head, state);
    }
    if (code != SQLITE_OK)
        return code;
    lt_sqlite_count_move(request->member->queue, head->state, state);
    if (state == LT_ROW_EXPORTING)
        return SQLITE_OK;
    struct lt_sqlite_about about = {.kind = LT_SQLITE_NEWS_ENDED, .seq = seq};
    if (state < 0)
        about = (struct lt_sqlite_about){.kind = LT_SQLITE_NEWS_DELETED, .seq = seq, .task = op->task};
    if (state < 0 || lt_status_ended(lt_row_status(state)))
        code = lt_sqlite_news_end(lane, request->member, head->adder, &about);
    else
        lt_sqlite_tell_work(lane, request->member->queue, request->member);
    if (code == SQLITE_OK && state < 0)
        code = delete_task(lane, request, seq, head->large);
    tell_held(lane, request->member->queue);
    return code;
}

static bool was_done(const struct lt_change_op *op, const struct head *head)
{
    enum lt_status status = lt_row_status(head->state);
    if (!head->there)
        return op->transition.to == LT_DELETED;
    return status == op->transition.to && head->run == op->transition.run &&
           (op->token == 0 || head->owner == (int64_t)op->token);
}

/* What most changes are: the end of a run that nobody else wants to know of, where it is expected. *done: it was. */
static int end_as_expected(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, bool *done)
{
    const struct lt_change_op *op = request->op;
    const struct lt_transition *transition = &op->transition;
    struct lt_sqlite_member *member = request->member;
    struct head head = {.run = transition->run, .owner = (int64_t)op->token, .state = request->from};
    bool usual = lt_status_ended(transition->to) && op->token != 0 && !op->again && !member->standing.held &&
                 lt_sqlite_is_alone(lane) && (request->from == LT_ROW_RUNNING || request->from == LT_ROW_EXPORTING);
    if (!usual)
        return SQLITE_OK;
    int code = end_row(lane, request, (int64_t)op->task->seq, &head, (int)transition->to);
    *done = code == SQLITE_OK && sqlite3_changes(lane->db.handle) > 0;
    if (*done)
        lt_sqlite_count_move(member->queue, request->from, (int)transition->to);
    return code;
}

int lt_sqlite_change(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_change_op *op = request->op;
    const struct lt_task *task = op->task;
    const struct lt_transition *transition = &op->transition;
    int64_t seq = (int64_t)task->seq;
    struct head head;
    struct lt_error error;
    bool done = false;
    int code = end_as_expected(lane, request, &done);
    if (code != SQLITE_OK || done)
        return code;
    code = read_head(lane, seq, task->data, &head);
    if (code != SQLITE_OK)
        return code;
    if (op->again && was_done(op, &head))
        return SQLITE_OK;
    enum lt_status status = lt_row_status(head.state);
    if (!head.there) {
        lt_sqlite_refuse(request, op->token != 0 ? LT_STALE : LT_UNKNOWN, "task '%s' is not known any more",
                         task->data);
    } else if (lt_status_under_way(status) && head.owner != (int64_t)op->token) {
        lt_sqlite_refuse(request, LT_STALE, "task '%s' is another host's by now", task->data);
    } else if (!lt_status_under_way(status) && op->token != 0) { /* it must not pass for a wish of who has no run */
        lt_sqlite_refuse(request, LT_STALE, "the run of task '%s' is over", task->data);
    } else if (lt_transition_check_row(transition, task->data, head.run, status, &error) != LT_OK) {
        lt_sqlite_refuse(request, LT_STALE, "%s", error.message);
    } else {
        code = move_row(lane, request, seq, &head); /* with `save` too: the output is in the row */
    }
    return code;
}

int lt_sqlite_update(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_update_op *op = request->op;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_UPDATE);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, (int64_t)op->task->seq);
    sqlite3_bind_int64(statement, 2, (int64_t)op->run);
    sqlite3_bind_int64(statement, 3, (int64_t)op->token);
    lt_bind_bytes_value(statement, 4, op->handle);
    lt_bind_bytes_value(statement, 5, op->progress);
    int code = lt_database_run(&lane->db, statement);
    if (code == SQLITE_OK && sqlite3_changes(lane->db.handle) == 0)
        lt_sqlite_refuse(request, LT_STALE, "task '%s' has moved on", op->task->data);
    return code;
}

int lt_sqlite_ask_stop(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_ask_stop_op *op = request->op;
    int64_t seq = (int64_t)op->task->seq;
    struct head head;
    int code = read_head(lane, seq, op->task->data, &head);
    if (code != SQLITE_OK)
        return code;
    if (!head.there || !lt_status_under_way(lt_row_status(head.state)) || head.run != op->task->run) {
        lt_sqlite_refuse(request, LT_STALE, "task '%s' has moved on", op->task->data);
        return SQLITE_OK;
    }
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_ASK_STOP);
    sqlite3_stmt *watch = lt_database_statement(&lane->db, LT_ST_WATCH_ADD);
    if (statement == NULL || watch == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, seq);
    lt_bind_bytes_text(statement, 2, op->reason);
    sqlite3_bind_int64(watch, 1, seq);
    sqlite3_bind_int64(watch, 2, request->member->standing.owner);
    code = lt_database_run(&lane->db, statement);
    if (code == SQLITE_OK)
        code = lt_database_run(&lane->db, watch);
    if (code == SQLITE_OK && head.owner != 0)
        code = lt_sqlite_news_add(
            lane, head.owner,
            &(struct lt_sqlite_about){.kind = LT_SQLITE_NEWS_STOP, .seq = seq, .run = (int64_t)head.run});
    return code;
}
