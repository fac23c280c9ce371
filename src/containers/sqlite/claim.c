/* Claims: what is due becomes running, in order. Before that, in the same transaction: what has expired fails, what was
 * delayed becomes due; and what was left by an owner that died is taken over, alone, since it may be running still. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/sqlite/claim_choice.h"
#include "containers/sqlite/claim_keys.h"
#include "containers/sqlite/limits.h"
#include "containers/sqlite/news.h"
#include "containers/sqlite/owners.h"
#include "containers/sqlite/perform.h"
#include "containers/sqlite/turns.h"

enum { BATCH = 512 };

/* One row at most; *found says whether there is one, and it is to be reset then. */
static int step_one(struct lt_sqlite_lane *lane, sqlite3_stmt *statement, bool *found)
{
    int code = statement != NULL ? sqlite3_step(statement) : SQLITE_ERROR;
    *found = code == SQLITE_ROW;
    if (code == SQLITE_ROW || code == SQLITE_DONE)
        return SQLITE_OK;
    return lt_database_error(&lane->db);
}

/* A row of ROW becomes one of the answer. */
static int push_claimed(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, sqlite3_stmt *row,
                        bool taken_over)
{
    struct lt_task *task = lt_sqlite_read_row(lane, row);
    if (task == NULL)
        return SQLITE_CORRUPT;
    bool to_stop = taken_over && sqlite3_column_type(row, LT_COLUMN_STOP) != SQLITE_NULL;
    lt_claims_push(&request->claims, (struct lt_claimed){.task = task,
                                                         .token = (uint64_t)request->member->standing.owner,
                                                         .taken_over = taken_over});
    if (!to_stop)
        return SQLITE_OK;
    /* Somebody has asked for that: it is told when the answer to this has been taken. */
    struct lt_sqlite_about about = {.kind = LT_SQLITE_NEWS_STOP, .seq = (int64_t)task->seq, .run = (int64_t)task->run};
    return lt_sqlite_news_add(lane, request->member->standing.owner, &about);
}

/* What is due by time. */

static int expire_one(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t seq, int state)
{
    struct lt_database *db = &lane->db;
    sqlite3_stmt *end = lt_database_statement(db, LT_ST_END), *get = lt_database_statement(db, LT_ST_GET_SEQ);
    bool found = false;
    if (end == NULL || get == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(end, 1, seq);
    sqlite3_bind_int(end, 2, LT_ROW_FAILED);
    sqlite3_bind_double(end, 3, request->now);
    sqlite3_bind_text(end, 4, "expired", -1, SQLITE_STATIC);
    for (int i = 5; i <= 7; i++)
        sqlite3_bind_null(end, i);
    sqlite3_bind_int64(end, 8, 0); /* it never ran */
    sqlite3_bind_null(end, 9);
    sqlite3_bind_int(end, 10, state);
    sqlite3_bind_int64(get, 1, seq);
    int code = lt_database_run(db, end);
    if (code == SQLITE_OK)
        code = step_one(lane, get, &found);
    struct lt_task *task = found ? lt_row_task(db, get, lane->host) : NULL;
    int64_t adder = found ? sqlite3_column_int64(get, LT_COLUMN_ADDER) : 0;
    sqlite3_reset(get);
    if (task != NULL)
        lt_tasks_push(&request->tasks, task);
    lt_sqlite_count_move(request->member->queue, state, LT_ROW_FAILED);
    struct lt_sqlite_about about = {.kind = LT_SQLITE_NEWS_ENDED, .seq = seq};
    return code == SQLITE_OK ? lt_sqlite_news_end(lane, request->member, adder, &about) : code;
}

struct due {
    int64_t seq;
    int64_t what; /* its state, or how often it was lost */
};

/* The rows that a statement of (queue, time, limit) gives. */
static int find_due(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, enum lt_statement which,
                    struct due *due, int *count)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, which);
    int code = SQLITE_DONE;
    *count = 0;
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, request->member->queue->number);
    sqlite3_bind_double(statement, 2, request->now);
    sqlite3_bind_int(statement, 3, BATCH);
    while (*count < BATCH && (code = sqlite3_step(statement)) == SQLITE_ROW)
        due[(*count)++] = (struct due){sqlite3_column_int64(statement, 0), sqlite3_column_int64(statement, 1)};
    sqlite3_reset(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&lane->db, code);
}

static int expire_due(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    struct due due[BATCH];
    int count;
    int code = find_due(lane, request, LT_ST_EXPIRED, due, &count);
    for (int i = 0; code == SQLITE_OK && i < count; i++)
        code = expire_one(lane, request, due[i].seq, (int)due[i].what);
    request->more = request->more || count == BATCH;
    return code;
}

static int wake_one(struct lt_sqlite_lane *lane, struct lt_sqlite_queue *queue, const struct due *due)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_WAKE);
    int to = due->what > 0 ? LT_ROW_SUSPECT : LT_ROW_DUE;
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, due->seq);
    sqlite3_bind_int(statement, 2, to);
    sqlite3_bind_int64(statement, 3, lt_database_next(&lane->db));
    lt_sqlite_count_move(queue, LT_ROW_DELAYED, to);
    int code = lt_database_run(&lane->db, statement);
    return code == SQLITE_OK ? lt_sqlite_turn_due(lane, queue, due->seq, 0) : code;
}

static int wake_delayed(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    struct lt_sqlite_queue *queue = request->member->queue;
    struct due due[BATCH];
    int count;
    if (queue->counts[LT_ROW_DELAYED] == 0)
        return SQLITE_OK;
    int code = find_due(lane, request, LT_ST_DELAYED_DUE, due, &count);
    for (int i = 0; code == SQLITE_OK && i < count; i++)
        code = wake_one(lane, queue, &due[i]);
    request->more = request->more || count == BATCH;
    return code;
}

static int find_next(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, enum lt_statement which)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, which);
    bool found;
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, request->member->queue->number);
    int code = step_one(lane, statement, &found);
    if (found)
        request->next_date = lt_earlier(request->next_date, sqlite3_column_double(statement, 0));
    sqlite3_reset(statement);
    return code;
}

/* How many. */

static int count_in(struct lt_sqlite_lane *lane, const struct lt_sqlite_member *member, enum lt_statement which,
                    int64_t *count)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, which);
    bool found;
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, member->queue->number);
    if (which == LT_ST_RUNNING_OF)
        sqlite3_bind_int64(statement, 2, member->standing.owner);
    int code = step_one(lane, statement, &found);
    *count = found ? sqlite3_column_int64(statement, 0) : 0;
    sqlite3_reset(statement);
    return code;
}

/* Places of this scheduler, those included that the ends before it have freed. */
static int64_t own_room(const struct lt_sqlite_request *request)
{
    int64_t room = request->limit;
    for (uint32_t i = 0; i < request->end_count; i++)
        room += request->ends[i]->code == LT_OK;
    return room;
}

/* What the queue leaves of that: how many all may run, and how many its rate lets start now. */
struct room {
    int64_t all;
    int64_t now;
};

static int find_room(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, struct room *room)
{
    int64_t own = own_room(request), running = 0, tokens;
    *room = (struct room){own, own};
    if (own == 0)
        return SQLITE_OK;
    int code = request->global_limit > 0 ? count_in(lane, request->member, LT_ST_RUNNING_COUNT, &running) : SQLITE_OK;
    if (request->global_limit > 0) {
        int64_t left = (int64_t)request->global_limit - running;
        request->member->standing.held = left < own;
        room->all = left < 0 ? 0 : left < own ? left : own;
    }
    tokens = lt_sqlite_tokens(request->member->queue);
    room->now = tokens < room->all ? tokens : room->all;
    return code;
}

/* What died with its owner. */

static int take_orphans(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t room)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_ORPHANS);
    int code = SQLITE_ROW, pushed = SQLITE_OK;
    if (row == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, request->member->queue->number);
    sqlite3_bind_int64(row, 2, room);
    while (pushed == SQLITE_OK && (code = sqlite3_step(row)) == SQLITE_ROW)
        pushed = push_claimed(lane, request, row, true);
    if (pushed == SQLITE_OK && code != SQLITE_DONE)
        pushed = lt_database_error(&lane->db);
    sqlite3_reset(row);
    if (pushed == SQLITE_OK && room == INT64_MAX)
        return lt_sqlite_run_on(lane, LT_ST_TAKE_ALL_OVER, request->member->queue->number,
                                request->member->standing.owner);
    for (uint32_t i = 0; pushed == SQLITE_OK && i < request->claims.count; i++)
        pushed = lt_sqlite_run_on(lane, LT_ST_TAKE_OVER, (int64_t)request->claims.items[i].task->seq,
                                  request->member->standing.owner);
    return pushed;
}

int lt_sqlite_recover(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    int code = request->member->standing.owner == 0 ? lt_sqlite_join(lane, request->member, request->now) : SQLITE_OK;
    return code == SQLITE_OK ? take_orphans(lane, request, INT64_MAX) : code;
}

/* Claiming. */

/* The row becomes running; and its object. */
static int claim_row(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, struct lt_task *task, int64_t run,
                     int state)
{
    struct lt_sqlite_member *member = request->member;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_CLAIM);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, (int64_t)task->seq);
    sqlite3_bind_int64(statement, 2, run);
    sqlite3_bind_int64(statement, 3, member->standing.owner);
    sqlite3_bind_double(statement, 4, request->now);
    sqlite3_bind_text(statement, 5, lane->host, -1, SQLITE_STATIC);
    lt_task_apply_claimed(task, (uint64_t)run, request->now);
    lt_sqlite_count_move(member->queue, state, LT_ROW_RUNNING);
    return lt_database_run(&lane->db, statement);
}

static int claim_rows(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int state)
{
    int64_t run = request->claims.count > 0 ? lt_database_next(&lane->db) : 0; /* which none of them had before */
    int code = SQLITE_OK;
    for (uint32_t i = 0; code == SQLITE_OK && i < request->claims.count; i++)
        code = claim_row(lane, request, request->claims.items[i].task, run, state);
    return code;
}

/* The first so many. */
static int claim_first(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t room)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_DUE_ROWS);
    int code, pushed = SQLITE_OK;
    if (row == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, request->member->queue->number);
    sqlite3_bind_int64(row, 2, room);
    while (pushed == SQLITE_OK && (code = sqlite3_step(row)) == SQLITE_ROW)
        pushed = push_claimed(lane, request, row, false);
    if (pushed == SQLITE_OK && code != SQLITE_DONE)
        pushed = lt_database_error(&lane->db);
    sqlite3_reset(row);
    return pushed == SQLITE_OK ? claim_rows(lane, request, LT_ROW_DUE) : pushed;
}

/* One that was chosen. */
static int choose_row(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request,
                      const struct lt_sqlite_place *place)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_GET_SEQ);
    bool found;
    if (row == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, place->seq);
    int code = step_one(lane, row, &found);
    if (found)
        code = push_claimed(lane, request, row, false);
    if (found && code == SQLITE_OK)
        request->claims.items[request->claims.count - 1].task->turn = (uint64_t)place->turn;
    sqlite3_reset(row);
    return code;
}

/* With limits for keys, or by turns. */
static int claim_by_keys(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t room)
{
    struct lt_sqlite_chosen chosen = {.room = room};
    int code = request->member->fair ? lt_sqlite_choose_by_turns(lane, request, &chosen, true)
                                     : lt_sqlite_choose_by_keys(lane, request, &chosen);
    for (int64_t i = 0; code == SQLITE_OK && i < chosen.count; i++)
        code = choose_row(lane, request, &chosen.rows[i]);
    if (code == SQLITE_OK)
        code = claim_rows(lane, request, LT_ROW_DUE);
    request->member->standing.held = chosen.passed_over;
    request->more = request->more || chosen.unfinished;
    free(chosen.rows);
    return code;
}

/* Suspects. */

/* Whether the one that runs alone still does. */
static int look_at_alone(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member)
{
    sqlite3_stmt *head = lt_database_statement(&lane->db, LT_ST_HEAD);
    bool found;
    if (head == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(head, 1, member->standing.alone);
    int code = step_one(lane, head, &found);
    int state = found ? sqlite3_column_int(head, 0) : LT_ROW_STATES;
    bool runs = (state == LT_ROW_RUNNING || state == LT_ROW_EXPORTING) &&
                sqlite3_column_int64(head, 2) == member->standing.owner;
    sqlite3_reset(head);
    if (!runs)
        member->standing.alone = 0;
    return code;
}

/* *there: there is one. */
static int first_of(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue, enum lt_statement which,
                    struct lt_sqlite_place *first, bool *there)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, which);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, queue->number);
    int code = step_one(lane, statement, there);
    if (*there) {
        first->priority = sqlite3_column_int64(statement, 0);
        first->place = sqlite3_column_int64(statement, 1);
        first->seq = which == LT_ST_FIRST_SUSPECT ? sqlite3_column_int64(statement, 2) : 0;
    }
    sqlite3_reset(statement);
    return code;
}

/* The first suspect, if it comes before all that is due: *next. */
static int find_suspect(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                        struct lt_sqlite_place *suspect, bool *next)
{
    const struct lt_sqlite_queue *queue = request->member->queue;
    struct lt_sqlite_place due = {0};
    bool there = false, any_due = false;
    if (request->member->fair)
        return lt_sqlite_suspect_by_turns(lane, request, suspect, next);
    int code = first_of(lane, queue, LT_ST_FIRST_SUSPECT, suspect, &there);
    if (code == SQLITE_OK)
        code = first_of(lane, queue, LT_ST_FIRST_DUE, &due, &any_due);
    *next = there && (!any_due || lt_sqlite_place_order(suspect, &due) < 0);
    return code;
}

static int take_suspect(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request,
                        const struct lt_sqlite_place *suspect)
{
    struct lt_sqlite_member *member = request->member;
    uint64_t turn;
    member->standing.alone = suspect->seq;
    int code = choose_row(lane, request, suspect);
    if (code == SQLITE_OK && member->fair && request->claims.count > 0)
        code = lt_sqlite_turn_taken(lane, member->queue, lt_task_key(request->claims.items[0].task), &turn);
    return code == SQLITE_OK ? claim_rows(lane, request, LT_ROW_SUSPECT) : code;
}

/* One that is next is claimed when nothing else runs, and until then nothing is claimed. *room is what is left for others. */
static int claim_suspect(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t *room)
{
    struct lt_sqlite_member *member = request->member;
    struct lt_sqlite_place suspect = {0};
    int64_t running = 0;
    bool next = false;
    int code = member->standing.alone != 0 ? look_at_alone(lane, member) : SQLITE_OK;
    if (member->standing.alone != 0)
        *room = 0;
    /* Whatever ends makes room for one, or for those that wait for it. */
    member->standing.held =
        member->standing.held || member->standing.alone != 0 || member->queue->counts[LT_ROW_SUSPECT] > 0;
    if (code != SQLITE_OK || *room == 0 || member->queue->counts[LT_ROW_SUSPECT] == 0)
        return code;
    code = find_suspect(lane, request, &suspect, &next);
    if (code != SQLITE_OK || !next)
        return code;
    *room = 0;
    code = count_in(lane, member, LT_ST_RUNNING_OF, &running);
    if (code != SQLITE_OK || running > 0)
        return code;
    bool may_start = true;
    if (request->keys_limited)
        code = lt_sqlite_key_has_room(lane, request, suspect.seq, &may_start);
    if (code != SQLITE_OK || !may_start)
        return code;
    return take_suspect(lane, request, &suspect);
}

static struct lt_choice *find_choice(const struct lt_claim_op *op, int64_t seq)
{
    for (uint32_t i = 0; i < op->choice_count; i++) {
        if ((int64_t)op->choices[i].task->seq == seq)
            return &op->choices[i];
    }
    return NULL;
}

/* Of the answer that was lost. */
static int push_again(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, sqlite3_stmt *row)
{
    struct lt_choice *choice = find_choice(request->op, sqlite3_column_int64(row, 0));
    if (choice == NULL)
        return push_claimed(lane, request, row, false);
    *choice = (struct lt_choice){.task = choice->task,
                                 .state = LT_CHOICE_TAKEN,
                                 .run = (uint64_t)sqlite3_column_int64(row, LT_COLUMN_RUN),
                                 .token = (uint64_t)request->member->standing.owner,
                                 .started_at = request->now};
    return SQLITE_OK;
}

/* The same claim again. */
static int claim_again(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_sqlite_member *member = request->member;
    int code = SQLITE_OK;
    for (uint32_t i = 0; code == SQLITE_OK && i < member->claim_count; i++) {
        sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_GET_SEQ);
        bool found;
        if (row == NULL)
            return lt_database_error(&lane->db);
        sqlite3_bind_int64(row, 1, member->claim_rows[i]);
        code = step_one(lane, row, &found);
        int state = found ? sqlite3_column_int(row, 2) : LT_ROW_STATES;
        if ((state == LT_ROW_RUNNING || state == LT_ROW_EXPORTING) &&
            sqlite3_column_int64(row, LT_COLUMN_OWNER) == member->standing.owner)
            code = push_again(lane, request, row);
        sqlite3_reset(row);
    }
    return code;
}

static void remember_claim(struct lt_sqlite_member *member, const struct lt_sqlite_request *request)
{
    const struct lt_claim_op *op = request->op;
    uint32_t most = request->claims.count + op->choice_count, count = 0;
    if (most > 0)
        member->claim_rows = lt_realloc(member->claim_rows, most * sizeof(int64_t));
    for (uint32_t i = 0; i < request->claims.count; i++)
        member->claim_rows[count++] = (int64_t)request->claims.items[i].task->seq;
    for (uint32_t i = 0; i < op->choice_count; i++) {
        if (op->choices[i].state == LT_CHOICE_TAKEN)
            member->claim_rows[count++] = (int64_t)op->choices[i].task->seq;
    }
    member->claim_number = op->number;
    member->claim_count = count;
}

/* What is left in the queue. */
static int look_ahead(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_sqlite_queue *queue = request->member->queue;
    int64_t waiting = queue->counts[LT_ROW_DELAYED] + queue->counts[LT_ROW_DUE] + queue->counts[LT_ROW_SUSPECT];
    int64_t running = queue->counts[LT_ROW_RUNNING] + queue->counts[LT_ROW_EXPORTING], own = running;
    int code = waiting > 0 ? find_next(lane, request, LT_ST_NEXT_DELAYED) : SQLITE_OK;
    if (code == SQLITE_OK && waiting > 0)
        code = find_next(lane, request, LT_ST_NEXT_EXPIRY);
    if (code == SQLITE_OK && waiting == 0 && running > 0)
        code = count_in(lane, request->member, LT_ST_RUNNING_OF, &own);
    request->waits = waiting > 0 || running > own;
    if (code == SQLITE_OK && !request->waits) /* what ended elsewhere is to be told first */
        code = lt_sqlite_news_any(lane, request->member->standing.owner, &request->waits);
    return code;
}

static int64_t count_claimed(const struct lt_sqlite_request *request)
{
    const struct lt_claim_op *op = request->op;
    int64_t count = request->claims.count;
    for (uint32_t i = 0; i < op->choice_count; i++)
        count += op->choices[i].state == LT_CHOICE_TAKEN;
    return count;
}

/* Of those that wait, so many. */
static int claim_waiting(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t room)
{
    const struct lt_sqlite_member *member = request->member;
    int code = claim_suspect(lane, request, &room);
    if (code != SQLITE_OK || ((const struct lt_claim_op *)request->op)->by_choice)
        return code == SQLITE_OK ? lt_sqlite_claim_choices(lane, request, room) : code;
    if (room == 0 || member->queue->counts[LT_ROW_DUE] == 0)
        return SQLITE_OK;
    return request->keys_limited || member->fair ? claim_by_keys(lane, request, room)
                                                 : claim_first(lane, request, room);
}

/* What is left, and what it waits for. */
static void note_left(struct lt_sqlite_request *request, const struct room *room)
{
    const struct lt_claim_op *op = request->op;
    struct lt_sqlite_queue *queue = request->member->queue;
    int64_t count = count_claimed(request), own = own_room(request);
    double token_in = own > 0 ? lt_sqlite_tokens_spend(queue, count) : 0;
    if (queue->counts[LT_ROW_DUE] + queue->counts[LT_ROW_SUSPECT] > 0)
        request->token_in = token_in;
    request->queue_full = room->all < own && count >= room->all ? request->global_limit : 0;
    bool left = op->by_choice ? op->choice_count > 0 && count >= room->now : queue->counts[LT_ROW_DUE] > 0;
    request->more = request->more || (left && !request->member->standing.held && request->token_in == 0);
}

static int claim_new(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    struct lt_sqlite_member *member = request->member;
    const struct lt_sqlite_queue *queue = member->queue;
    struct room room = {0};
    int code = member->fair && !queue->fair ? lt_sqlite_turns_begin(lane, member->queue) : SQLITE_OK;
    if (code == SQLITE_OK)
        code = expire_due(lane, request);
    if (code == SQLITE_OK)
        code = wake_delayed(lane, request);
    member->standing.held = false;
    if (queue->paused != member->standing.told_paused)
        lt_sqlite_tell_paused(lane, member);
    if (queue->paused) /* the scheduler may not have heard of it */
        return code;
    int64_t own = own_room(request);
    if (code == SQLITE_OK && own > 0 && queue->counts[LT_ROW_RUNNING] + queue->counts[LT_ROW_EXPORTING] > 0)
        code = take_orphans(lane, request, own);
    if (code != SQLITE_OK || request->claims.count > 0) {
        request->more = true;
        return code;
    }
    code = find_room(lane, request, &room);
    if (code == SQLITE_OK)
        code = claim_waiting(lane, request, room.now);
    note_left(request, &room);
    return code;
}

int lt_sqlite_claim(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    const struct lt_claim_op *op = request->op;
    struct lt_sqlite_member *member = request->member;
    bool again = op->number == member->claim_number && member->claim_count > 0;
    for (uint32_t i = 0; i < op->choice_count; i++)
        op->choices[i].state = LT_CHOICE_WAITS;
    lt_sqlite_limits_take(request);
    int code = again ? claim_again(lane, request) : claim_new(lane, request);
    if (code == SQLITE_OK)
        code = lt_sqlite_show_due(lane, request);
    if (code == SQLITE_OK)
        code = look_ahead(lane, request);
    if (code == SQLITE_OK && !again)
        remember_claim(member, request);
    return code;
}
