/* Claims where keys have limits. What runs of each key is counted from the rows.
 *
 * Tasks are looked at in their order, and those of full keys passed over. When these are many (a key that is full has a long
 * line at the front), the keys themselves are gone through, and the first tasks of those that are not full are taken: what
 * waits of a full key costs nothing then. */
#include "containers/sqlite/claim_keys.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/map.h"

enum { MOST_PASSED = 1000, MOST_KEYS = 10000 /* that are gone through in a claim */ };

struct key {
    uint32_t running;
    uint32_t taken; /* by this claim */
    bool full;
    size_t len;
    char text[];
};

struct lt_sqlite_keys {
    struct lt_sqlite_lane *lane;
    const struct lt_sqlite_request *request;
    struct lt_map keys;
    struct lt_sqlite_chosen *chosen;
    int64_t keyless; /* how many of those without a key were chosen */
};

static const char *key_text(const void *object, size_t *len)
{
    const struct key *key = object;
    *len = key->len;
    return key->text;
}

static struct key *find_key(struct lt_map *keys, const char *text, size_t len)
{
    uint32_t hash = lt_hash(text, len);
    struct key *key = lt_map_find(keys, hash, text, len);
    if (key == NULL) {
        key = lt_zalloc(sizeof *key + len + 1);
        key->len = len;
        memcpy(key->text, text, len);
        lt_map_put(keys, hash, key);
    }
    return key;
}

static struct key *key_in(struct lt_sqlite_keys *choice, sqlite3_stmt *row, int column)
{
    const char *text = (const char *)sqlite3_column_text(row, column);
    return text != NULL ? find_key(&choice->keys, text, (size_t)sqlite3_column_bytes(row, column)) : NULL;
}

static void free_keys(struct lt_map *keys)
{
    uint32_t position = 0;
    struct key *key;
    while ((key = lt_map_next(keys, &position)) != NULL)
        free(key);
    lt_map_free(keys);
}

static int count_running(struct lt_sqlite_keys *choice)
{
    const struct lt_sqlite_request *request = choice->request;
    sqlite3_stmt *row = lt_database_statement(&choice->lane->db, LT_ST_RUNNING_KEYS);
    int code;
    for (uint32_t i = 0; i < request->full_count; i++)
        find_key(&choice->keys, request->full_keys[i]->data, request->full_keys[i]->len)->full = true;
    if (row == NULL)
        return lt_database_error(&choice->lane->db);
    sqlite3_bind_int64(row, 1, request->member->queue->number);
    while ((code = sqlite3_step(row)) == SQLITE_ROW)
        key_in(choice, row, 0)->running = (uint32_t)sqlite3_column_int(row, 1);
    sqlite3_reset(row);
    return code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&choice->lane->db, code);
}

/* How many more of it may start. */
static int64_t room_of(const struct lt_sqlite_request *request, const struct key *key)
{
    if (key->full || (request->key_once && key->taken > 0))
        return 0;
    if (request->key_once)
        return 1;
    int64_t limit = request->key_limit > 0 ? request->key_limit : UINT32_MAX;
    int64_t used = (int64_t)key->running + key->taken;
    return limit > used ? limit - used : 0;
}

struct lt_sqlite_place lt_sqlite_place_in(sqlite3_stmt *row)
{
    return (struct lt_sqlite_place){.seq = sqlite3_column_int64(row, 0),
                                    .priority = sqlite3_column_int64(row, 1),
                                    .place = sqlite3_column_int64(row, 2)};
}

void lt_sqlite_chosen_push(struct lt_sqlite_chosen *chosen, const struct lt_sqlite_place *place)
{
    if (chosen->count == chosen->size) {
        chosen->size = chosen->size > 0 ? chosen->size * 2 : 64;
        chosen->rows = lt_realloc(chosen->rows, (size_t)chosen->size * sizeof *chosen->rows);
    }
    chosen->rows[chosen->count++] = *place;
}

static void choose(struct lt_sqlite_keys *choice, sqlite3_stmt *row)
{
    struct lt_sqlite_place place = lt_sqlite_place_in(row);
    lt_sqlite_chosen_push(choice->chosen, &place);
}

/* In their order, as long as few are passed over. *all: there are no others. */
static int choose_in_order(struct lt_sqlite_keys *choice, bool *all)
{
    struct lt_sqlite_chosen *chosen = choice->chosen;
    sqlite3_stmt *row = lt_database_statement(&choice->lane->db, LT_ST_CLAIM_CANDIDATES);
    int code = SQLITE_ROW, passed = 0;
    if (row == NULL)
        return lt_database_error(&choice->lane->db);
    sqlite3_bind_int64(row, 1, choice->request->member->queue->number);
    while (chosen->count < chosen->room && passed < MOST_PASSED && (code = sqlite3_step(row)) == SQLITE_ROW) {
        struct key *key = key_in(choice, row, 3);
        if (key != NULL && room_of(choice->request, key) == 0) {
            passed++;
            continue;
        }
        if (key != NULL)
            key->taken++;
        else
            choice->keyless++;
        choose(choice, row);
    }
    sqlite3_reset(row);
    chosen->passed_over = passed > 0;
    *all = code == SQLITE_DONE || chosen->count == chosen->room;
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&choice->lane->db, code);
}

/* The first tasks of a key, behind those of it that were taken. */
static int choose_of_key(struct lt_sqlite_keys *choice, struct key *key)
{
    int64_t room = room_of(choice->request, key);
    sqlite3_stmt *row = lt_database_statement(&choice->lane->db, LT_ST_KEY_FIRST);
    int code;
    if (row == NULL)
        return lt_database_error(&choice->lane->db);
    sqlite3_bind_int64(row, 1, choice->request->member->queue->number);
    lt_bind_text(row, 2, key->text, key->len);
    sqlite3_bind_int64(row, 3, room < choice->chosen->room ? room : choice->chosen->room);
    sqlite3_bind_int64(row, 4, key->taken);
    while ((code = sqlite3_step(row)) == SQLITE_ROW)
        choose(choice, row);
    sqlite3_reset(row);
    return code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&choice->lane->db, code);
}

/* The key after this one (NULL: the first), in any order that does not change; NULL in *next: there is none. */
static int next_key(struct lt_sqlite_keys *choice, const struct key *after, struct key **next)
{
    sqlite3_stmt *row = lt_database_statement(&choice->lane->db, LT_ST_NEXT_KEY);
    if (row == NULL)
        return lt_database_error(&choice->lane->db);
    sqlite3_bind_int64(row, 1, choice->request->member->queue->number);
    lt_bind_text(row, 2, after != NULL ? after->text : "", after != NULL ? after->len + 1 : 0); /* with its NUL */
    int code = sqlite3_step(row);
    *next = code == SQLITE_ROW ? key_in(choice, row, 0) : NULL;
    sqlite3_reset(row);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&choice->lane->db, code);
}

/* The same of those without a key. */
static int choose_keyless(struct lt_sqlite_keys *choice)
{
    sqlite3_stmt *row = lt_database_statement(&choice->lane->db, LT_ST_KEYLESS);
    int code;
    if (row == NULL)
        return lt_database_error(&choice->lane->db);
    sqlite3_bind_int64(row, 1, choice->request->member->queue->number);
    sqlite3_bind_int64(row, 2, choice->chosen->room);
    sqlite3_bind_int64(row, 3, choice->keyless);
    while ((code = sqlite3_step(row)) == SQLITE_ROW)
        choose(choice, row);
    sqlite3_reset(row);
    return code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&choice->lane->db, code);
}

int lt_sqlite_place_order(const void *a, const void *b)
{
    const struct lt_sqlite_place *left = a, *right = b;
    if (left->priority != right->priority)
        return left->priority > right->priority ? -1 : 1;
    return left->place < right->place ? -1 : left->place > right->place;
}

static int choose_from_keys(struct lt_sqlite_keys *choice)
{
    struct lt_sqlite_chosen *chosen = choice->chosen;
    struct key *key = NULL;
    int code = choose_keyless(choice);
    for (int i = 0; code == SQLITE_OK && i < MOST_KEYS; i++) {
        code = next_key(choice, key, &key);
        if (key == NULL)
            break;
        if (code == SQLITE_OK && room_of(choice->request, key) > 0)
            code = choose_of_key(choice, key);
    }
    if (chosen->count > 1)
        qsort(chosen->rows, (size_t)chosen->count, sizeof *chosen->rows, lt_sqlite_place_order);
    if (chosen->count > chosen->room)
        chosen->count = chosen->room;
    return code;
}

int lt_sqlite_choose_by_keys(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                             struct lt_sqlite_chosen *chosen)
{
    struct lt_sqlite_keys choice = {.lane = lane, .request = request, .keys = {.key = key_text}, .chosen = chosen};
    bool all = false;
    int code = count_running(&choice);
    if (code == SQLITE_OK)
        code = choose_in_order(&choice, &all);
    if (code == SQLITE_OK && !all)
        code = choose_from_keys(&choice);
    free_keys(&choice.keys);
    return code;
}

int lt_sqlite_key_has_room(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, int64_t seq,
                           bool *room)
{
    struct lt_sqlite_keys choice = {.lane = lane, .request = request, .keys = {.key = key_text}};
    int code = count_running(&choice);
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_KEY_OF);
    if (code == SQLITE_OK && row == NULL)
        code = lt_database_error(&lane->db);
    if (code == SQLITE_OK) {
        sqlite3_bind_int64(row, 1, seq);
        code = sqlite3_step(row);
        const struct key *key = code == SQLITE_ROW ? key_in(&choice, row, 0) : NULL;
        *room = key == NULL || room_of(request, key) > 0;
        sqlite3_reset(row);
        code = code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : lt_database_error(&lane->db);
    }
    free_keys(&choice.keys);
    return code;
}

struct lt_sqlite_keys *lt_sqlite_keys_new(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                                          int *code)
{
    struct lt_sqlite_keys *keys = lt_alloc(sizeof *keys);
    *keys = (struct lt_sqlite_keys){.lane = lane, .request = request, .keys = {.key = key_text}};
    *code = count_running(keys);
    if (*code == SQLITE_OK)
        return keys;
    lt_sqlite_keys_free(keys);
    return NULL;
}

void lt_sqlite_keys_free(struct lt_sqlite_keys *keys)
{
    if (keys == NULL)
        return;
    free_keys(&keys->keys);
    free(keys);
}

bool lt_sqlite_keys_start(struct lt_sqlite_keys *keys, const char *text, size_t len)
{
    struct key *key = find_key(&keys->keys, text, len);
    if (room_of(keys->request, key) == 0)
        return false;
    key->taken++;
    return true;
}

bool lt_sqlite_keys_take(struct lt_sqlite_keys *keys, const struct lt_bytes *name)
{
    /* What is not a number was asked by who chose. */
    if (name == NULL || keys->request->key_limit == 0)
        return true;
    struct key *key = find_key(&keys->keys, name->data, name->len);
    if (key->running + key->taken >= keys->request->key_limit)
        return false;
    key->taken++;
    return true;
}
