/* Claims by choice: another container says which tasks are next, and is shown what waits. */
#include "containers/sqlite/claim_choice.h"

#include <stdlib.h>

#include "containers/sqlite/claim_keys.h"
#include "containers/sqlite/turns.h"

/* The row becomes running, if it still waits where it did. */
static int take_choice(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, struct lt_choice *choice,
                       int64_t run)
{
    const struct lt_sqlite_member *member = request->member;
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_TAKE);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, (int64_t)choice->task->seq);
    sqlite3_bind_int64(statement, 2, run);
    sqlite3_bind_int64(statement, 3, member->standing.owner);
    sqlite3_bind_double(statement, 4, request->now);
    sqlite3_bind_text(statement, 5, lane->host, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 6, (int64_t)choice->task->run);
    int code = lt_database_run(&lane->db, statement);
    bool taken = code == SQLITE_OK && sqlite3_changes(lane->db.handle) > 0;
    choice->state = taken ? LT_CHOICE_TAKEN : LT_CHOICE_GONE;
    choice->run = (uint64_t)run;
    choice->token = (uint64_t)member->standing.owner;
    choice->started_at = request->now;
    if (!taken)
        return code;
    lt_sqlite_count_move(member->queue, LT_ROW_DUE, LT_ROW_RUNNING);
    return member->fair ? lt_sqlite_turn_taken(lane, member->queue, lt_task_key(choice->task), &choice->turn)
                        : SQLITE_OK;
}

int lt_sqlite_claim_choices(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t room)
{
    const struct lt_claim_op *op = request->op;
    int code = SQLITE_OK;
    struct lt_sqlite_keys *keys = request->keys_limited ? lt_sqlite_keys_new(lane, request, &code) : NULL;
    bool any = code == SQLITE_OK && room > 0 && op->choice_count > 0;
    int64_t run = any ? lt_database_next(&lane->db) : 0; /* which none of them had before */
    for (uint32_t i = 0; code == SQLITE_OK && room > 0 && i < op->choice_count; i++) {
        struct lt_choice *choice = &op->choices[i];
        if (keys != NULL && !lt_sqlite_keys_take(keys, lt_task_key(choice->task))) {
            request->member->standing.held = true;
            continue;
        }
        code = take_choice(lane, request, choice, run);
        room -= choice->state == LT_CHOICE_TAKEN;
    }
    lt_sqlite_keys_free(keys);
    return code;
}

static int show_row(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, sqlite3_stmt *row, int64_t turn)
{
    struct lt_task *task = lt_sqlite_read_row(lane, row);
    if (task == NULL)
        return SQLITE_CORRUPT;
    task->turn = (uint64_t)turn;
    lt_tasks_push(&request->seen, task);
    return SQLITE_OK;
}

static int show_first(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, uint32_t count)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_DUE_ROWS);
    int code, shown = SQLITE_OK;
    if (row == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, request->member->queue->number);
    sqlite3_bind_int64(row, 2, count);
    while (shown == SQLITE_OK && (code = sqlite3_step(row)) == SQLITE_ROW)
        shown = show_row(lane, request, row, 0);
    if (shown == SQLITE_OK && code != SQLITE_DONE)
        shown = lt_database_error(&lane->db);
    sqlite3_reset(row);
    return shown;
}

static int show_one(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, const struct lt_sqlite_place *place)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_GET_SEQ);
    if (row == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(row, 1, place->seq);
    int step = sqlite3_step(row);
    int code = step == SQLITE_ROW ? show_row(lane, request, row, place->turn) : step == SQLITE_DONE ? SQLITE_OK : step;
    sqlite3_reset(row);
    return code;
}

static int show_chosen(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, uint32_t count)
{
    struct lt_sqlite_chosen chosen = {.room = count};
    int code = request->member->fair ? lt_sqlite_choose_by_turns(lane, request, &chosen, false)
                                     : lt_sqlite_choose_by_keys(lane, request, &chosen);
    for (int64_t i = 0; code == SQLITE_OK && i < chosen.count; i++)
        code = show_one(lane, request, &chosen.rows[i]);
    request->member->standing.held = request->member->standing.held || chosen.passed_over;
    request->more = request->more || chosen.unfinished;
    free(chosen.rows);
    return code;
}

int lt_sqlite_show_due(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    uint32_t look = ((const struct lt_claim_op *)request->op)->look;
    request->counts[LT_ROW_DUE] = (uint64_t)request->member->queue->counts[LT_ROW_DUE];
    if (look == 0 || request->member->queue->counts[LT_ROW_DUE] == 0)
        return SQLITE_OK;
    bool chooses = request->keys_limited || request->member->fair;
    return chooses ? show_chosen(lane, request, look) : show_first(lane, request, look);
}
