/* Which tasks a claim takes where keys have limits. */
#ifndef LTSH_CONTAINERS_SQLITE_CLAIM_KEYS_H
#define LTSH_CONTAINERS_SQLITE_CLAIM_KEYS_H

#include "containers/sqlite/lane.h"

struct lt_sqlite_place {
    int64_t seq, priority, place;
};

struct lt_sqlite_chosen {
    int64_t room;                 /* so many at most */
    struct lt_sqlite_place *rows; /* in their order; the caller's to free */
    int64_t count;
    bool passed_over; /* there are tasks of keys that are full */
};

/* For a claim by choice: what runs of each key, as of now. NULL, and *code is not SQLITE_OK: that cannot be read. */
struct lt_sqlite_keys;
struct lt_sqlite_keys *lt_sqlite_keys_new(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                                          int *code);
void lt_sqlite_keys_free(struct lt_sqlite_keys *keys);

/* Whether one more of this key (NULL: it has none) may run; then it does. */
bool lt_sqlite_keys_take(struct lt_sqlite_keys *keys, const struct lt_bytes *key);

/* Whether the key of the task in this row, if it has one, has room. */
int lt_sqlite_key_has_room(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, int64_t seq,
                           bool *room);

int lt_sqlite_choose_by_keys(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                             struct lt_sqlite_chosen *chosen);

#endif
