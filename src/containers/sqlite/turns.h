/* Keys that take turns (the option `fair`). Each key of which something is due has a row with its turn, the smallest is
 * next; that is shared by all hosts on the queue, and outlives them.
 *
 *     something of a key becomes due, and nothing of it was   it stands behind all others
 *     a claim takes a task of it                              the same
 *     it is full                                              it keeps its turn, and is passed over
 *     a task that was claimed and never began is back         the key has the turn again that this used
 *
 * Nobody looks whether a key has something left when a task of it ends while it waits: a row of a key without any is dropped
 * when a claim comes to it, and means nothing when the key comes again. */
#ifndef LTSH_CONTAINERS_SQLITE_TURNS_H
#define LTSH_CONTAINERS_SQLITE_TURNS_H

#include "containers/sqlite/claim_keys.h"
#include "containers/sqlite/lane.h"

/* The queue has turns from now on, whoever is at work on it: what is due gets them in the order of its places. Goes once
 * through all that is due, in the first claim of the first one that is fair. */
int lt_sqlite_turns_begin(struct lt_sqlite_lane *lane, struct lt_sqlite_queue *queue);

/* The task in this row has just become due, or a suspect. `turn`: the one that it used when it was claimed, if it never
 * began; else 0. Does nothing in a queue without turns. */
int lt_sqlite_turn_due(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue, int64_t seq, uint64_t turn);

/* One of this key (NULL: it has none) was taken: *turn is what the key has from now on. */
int lt_sqlite_turn_taken(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue, const struct lt_bytes *key,
                         uint64_t *turn);

/* The next ones by turns, as many as there is room for, each with the turn that it uses. `takes`: they will be claimed, so
 * their keys go behind the others; else only the first of each key has its turn, the rest 0. */
int lt_sqlite_choose_by_turns(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                              struct lt_sqlite_chosen *chosen, bool takes);

/* The suspect whose turn is before that of all that may be claimed; *next: there is one. */
int lt_sqlite_suspect_by_turns(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request,
                               struct lt_sqlite_place *suspect, bool *next);

#endif
