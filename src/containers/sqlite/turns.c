#include "containers/sqlite/turns.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum { MOST_DROPPED = 1000 }; /* rows of keys of which nothing is due, in one claim */

int lt_sqlite_turns_begin(struct lt_sqlite_lane *lane, struct lt_sqlite_queue *queue)
{
    int code = lt_sqlite_run_on(lane, LT_ST_QUEUE_FAIR, queue->number, 0);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_TURNS_OF_KEYS, queue->number, 0);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_TURN_OF_KEYLESS, queue->number, 0);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_TURNS_OF_SUSPECTS, queue->number, 0);
    queue->fair = code == SQLITE_OK;
    return code;
}

int lt_sqlite_turn_due(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue, int64_t seq, uint64_t turn)
{
    if (!queue->fair)
        return SQLITE_OK;
    return lt_sqlite_run_on(lane, turn > 0 ? LT_ST_TURN_BACK : LT_ST_TURN_NEW, seq, (int64_t)turn);
}

static int move_turn(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue, const char *key, size_t len,
                     int64_t turn)
{
    sqlite3_stmt *statement = lt_database_statement(&lane->db, LT_ST_TURN_MOVE);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    sqlite3_bind_int64(statement, 1, queue->number);
    lt_bind_text(statement, 2, key, len);
    sqlite3_bind_int64(statement, 3, turn);
    return lt_database_run(&lane->db, statement);
}

int lt_sqlite_turn_taken(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue, const struct lt_bytes *key,
                         uint64_t *turn)
{
    int64_t number = lt_database_next(&lane->db);
    *turn = (uint64_t)number;
    return move_turn(lane, queue, key != NULL ? key->data : "", key != NULL ? key->len : 0, number);
}

/* Choosing. */

/* A key whose turn came. */
struct waiter {
    int64_t turn;
    bool served;
    bool out;                     /* there are no others of it */
    bool all;                     /* there are no others than those in `rows` */
    struct lt_sqlite_place *rows; /* the next of it */
    int64_t count, next;
    int64_t read;
    STAILQ_ENTRY(waiter) link;
    size_t len;
    char key[]; /* "": those without one */
};
STAILQ_HEAD(waiters, waiter);

struct walk {
    struct lt_sqlite_lane *lane;
    const struct lt_sqlite_request *request;
    struct lt_sqlite_chosen *chosen;
    struct lt_sqlite_keys *keys; /* NULL: they have no limits */
    sqlite3_stmt *turns;         /* NULL: all of them were seen */
    struct waiters line;         /* served, and they have more: in the order of their new turns */
    struct waiters left;         /* they have no more, or no room */
    int64_t in_line;
    int dropped;
    bool takes;
};

static void free_waiter(struct waiter *waiter)
{
    free(waiter->rows);
    free(waiter);
}

static void free_waiters(struct waiters *waiters)
{
    struct waiter *waiter;
    while ((waiter = STAILQ_FIRST(waiters)) != NULL) {
        STAILQ_REMOVE_HEAD(waiters, link);
        free_waiter(waiter);
    }
}

/* The next in the table; when all of those have had their turn, the first one that was served. NULL: there is none. */
static int next_waiter(struct walk *walk, struct waiter **next)
{
    *next = NULL;
    if (walk->turns != NULL) {
        int code = sqlite3_step(walk->turns);
        if (code == SQLITE_ROW) {
            size_t len = (size_t)sqlite3_column_bytes(walk->turns, 0);
            struct waiter *waiter = lt_zalloc(sizeof *waiter + len + 1);
            waiter->turn = sqlite3_column_int64(walk->turns, 1);
            waiter->len = len;
            if (len > 0)
                memcpy(waiter->key, sqlite3_column_text(walk->turns, 0), len);
            *next = waiter;
            return SQLITE_OK;
        }
        sqlite3_reset(walk->turns);
        walk->turns = NULL;
        if (code != SQLITE_DONE)
            return lt_database_fail(&walk->lane->db, code);
    }
    *next = STAILQ_FIRST(&walk->line);
    if (*next == NULL)
        return SQLITE_OK;
    STAILQ_REMOVE_HEAD(&walk->line, link);
    walk->in_line--;
    return SQLITE_OK;
}

/* Reads the next of its tasks: at first just as many as show whether it has more than one, then its share of what there is
 * room for. */
static int read_rows(const struct walk *walk, struct waiter *waiter)
{
    int64_t most = 2, left = walk->chosen->room - walk->chosen->count;
    bool keyless = waiter->len == 0;
    int place = 1, code;
    sqlite3_stmt *row = lt_database_statement(&walk->lane->db, keyless ? LT_ST_KEYLESS : LT_ST_KEY_FIRST);
    if (row == NULL)
        return lt_database_error(&walk->lane->db);
    if (waiter->served)
        most += left / (walk->in_line + 1);
    waiter->rows = lt_realloc(waiter->rows, (size_t)most * sizeof *waiter->rows);
    waiter->count = waiter->next = 0;
    sqlite3_bind_int64(row, place++, walk->request->member->queue->number);
    if (!keyless)
        lt_bind_text(row, place++, waiter->key, waiter->len);
    sqlite3_bind_int64(row, place++, most);
    sqlite3_bind_int64(row, place, waiter->read);
    while ((code = sqlite3_step(row)) == SQLITE_ROW)
        waiter->rows[waiter->count++] = lt_sqlite_place_in(row);
    sqlite3_reset(row);
    waiter->read += waiter->count;
    waiter->all = waiter->count < most;
    return code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&walk->lane->db, code);
}

static void take_place(struct walk *walk, struct waiter *waiter)
{
    struct lt_sqlite_place place = waiter->rows[waiter->next++];
    place.turn = walk->takes || !waiter->served ? waiter->turn : 0;
    if (walk->takes)
        waiter->turn = lt_database_next(&walk->lane->db);
    lt_sqlite_chosen_push(walk->chosen, &place);
    waiter->served = true;
}

/* Its turn: it gives one task, if it has one and room for it. */
static int serve(struct walk *walk, struct waiter *waiter)
{
    bool full = walk->keys != NULL && waiter->len > 0 && !lt_sqlite_keys_start(walk->keys, waiter->key, waiter->len);
    int code = SQLITE_OK;
    if (!full && waiter->next == waiter->count)
        code = read_rows(walk, waiter);
    if (!full && waiter->next < waiter->count)
        take_place(walk, waiter);
    waiter->out = !full && code == SQLITE_OK && waiter->next == waiter->count && waiter->all;
    walk->chosen->passed_over = walk->chosen->passed_over || full;
    walk->dropped += waiter->out && !waiter->served;
    if (full && !waiter->served) {
        free_waiter(waiter); /* it keeps its turn */
    } else if (full || waiter->out || code != SQLITE_OK) {
        STAILQ_INSERT_TAIL(&walk->left, waiter, link);
    } else {
        STAILQ_INSERT_TAIL(&walk->line, waiter, link);
        walk->in_line++;
    }
    return code;
}

static int serve_all(struct walk *walk)
{
    struct lt_sqlite_chosen *chosen = walk->chosen;
    struct waiter *waiter = NULL;
    int code = SQLITE_OK;
    while (code == SQLITE_OK && chosen->count < chosen->room && walk->dropped < MOST_DROPPED) {
        code = next_waiter(walk, &waiter);
        if (waiter == NULL)
            break;
        code = serve(walk, waiter);
    }
    if (walk->turns != NULL)
        sqlite3_reset(walk->turns);
    chosen->unfinished = walk->dropped == MOST_DROPPED;
    return code;
}

static int drop_turn(const struct walk *walk, const struct waiter *waiter)
{
    sqlite3_stmt *statement = lt_database_statement(&walk->lane->db, LT_ST_TURN_DROP);
    if (statement == NULL)
        return lt_database_error(&walk->lane->db);
    sqlite3_bind_int64(statement, 1, walk->request->member->queue->number);
    lt_bind_text(statement, 2, waiter->key, waiter->len);
    return lt_database_run(&walk->lane->db, statement);
}

static int write_turns(const struct walk *walk, const struct waiters *waiters)
{
    const struct lt_sqlite_queue *queue = walk->request->member->queue;
    bool suspects = queue->counts[LT_ROW_SUSPECT] > 0; /* a suspect may be of a key of which nothing is due */
    const struct waiter *waiter;
    int code = SQLITE_OK;
    STAILQ_FOREACH(waiter, waiters, link) {
        if (waiter->out && !suspects && (walk->takes || !waiter->served))
            code = drop_turn(walk, waiter);
        else if (walk->takes && waiter->served)
            code = move_turn(walk->lane, queue, waiter->key, waiter->len, waiter->turn);
        if (code != SQLITE_OK)
            break;
    }
    return code;
}

int lt_sqlite_choose_by_turns(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                              struct lt_sqlite_chosen *chosen, bool takes)
{
    struct walk walk = {.lane = lane, .request = request, .chosen = chosen, .takes = takes};
    int code = SQLITE_OK;
    STAILQ_INIT(&walk.line);
    STAILQ_INIT(&walk.left);
    walk.keys = request->keys_limited ? lt_sqlite_keys_new(lane, request, &code) : NULL;
    walk.turns = lt_database_statement(&lane->db, LT_ST_TURNS);
    if (code == SQLITE_OK && walk.turns == NULL)
        code = lt_database_error(&lane->db);
    if (code == SQLITE_OK) {
        sqlite3_bind_int64(walk.turns, 1, request->member->queue->number);
        code = serve_all(&walk);
    }
    if (code == SQLITE_OK)
        code = write_turns(&walk, &walk.left);
    if (code == SQLITE_OK)
        code = write_turns(&walk, &walk.line);
    free_waiters(&walk.left);
    free_waiters(&walk.line);
    lt_sqlite_keys_free(walk.keys);
    return code;
}

/* Suspects. */

int lt_sqlite_suspect_by_turns(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                               struct lt_sqlite_place *suspect, bool *next)
{
    struct lt_sqlite_chosen chosen = {.room = 1};
    int code = lt_sqlite_choose_by_turns(lane, request, &chosen, false);
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_TURN_OF_SUSPECT);
    if (code == SQLITE_OK && row == NULL)
        code = lt_database_error(&lane->db);
    if (code == SQLITE_OK) {
        sqlite3_bind_int64(row, 1, request->member->queue->number);
        sqlite3_bind_int64(row, 2, chosen.count > 0 ? chosen.rows[0].turn : INT64_MAX);
        code = sqlite3_step(row);
        *next = code == SQLITE_ROW;
        if (*next) {
            *suspect = lt_sqlite_place_in(row);
            suspect->turn = sqlite3_column_int64(row, 3);
        }
        sqlite3_reset(row);
        code = code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&lane->db, code);
    }
    if (*next && chosen.count > 0 && suspect->turn == chosen.rows[0].turn) /* of the same key */
        *next = lt_sqlite_place_order(suspect, &chosen.rows[0]) < 0;
    free(chosen.rows);
    return code;
}
