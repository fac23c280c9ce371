/* Which tasks a claim takes where keys have limits. */
#ifndef LTSH_CONTAINERS_SQLITE_CLAIM_KEYS_H
#define LTSH_CONTAINERS_SQLITE_CLAIM_KEYS_H

#include "containers/sqlite/lane.h"

struct lt_sqlite_place {
    int64_t seq, priority, place;
    int64_t turn; /* of its key, that it uses (fair); 0: none */
};

/* The place of a row of (seq, priority, place); and which of two comes first, as qsort wants it. */
struct lt_sqlite_place lt_sqlite_place_in(sqlite3_stmt *row);
int lt_sqlite_place_order(const void *a, const void *b);

struct lt_sqlite_chosen {
    int64_t room;                 /* so many at most */
    struct lt_sqlite_place *rows; /* in their order; the caller's to free */
    int64_t count, size;
    bool passed_over; /* there are tasks of keys that are full */
    bool unfinished;  /* there may be others: it took too long to look */
};
void lt_sqlite_chosen_push(struct lt_sqlite_chosen *chosen, const struct lt_sqlite_place *place);

/* What runs of each key, as of now. NULL, and *code is not SQLITE_OK: that cannot be read. */
struct lt_sqlite_keys;
struct lt_sqlite_keys *lt_sqlite_keys_new(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                                          int *code);
void lt_sqlite_keys_free(struct lt_sqlite_keys *keys);

/* For a claim by choice: whether one more of this key (NULL: it has none) may run; then it does. */
bool lt_sqlite_keys_take(struct lt_sqlite_keys *keys, const struct lt_bytes *key);

/* Whether one more of this key may start, as far as it is known here; then it does. */
bool lt_sqlite_keys_start(struct lt_sqlite_keys *keys, const char *key, size_t len);

/* Whether the key of the task in this row, if it has one, has room. */
int lt_sqlite_key_has_room(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, int64_t seq,
                           bool *room);

int lt_sqlite_choose_by_keys(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                             struct lt_sqlite_chosen *chosen);

#endif
