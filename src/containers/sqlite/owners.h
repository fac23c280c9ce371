/* Owners and news, for the batch and the store. */
#ifndef LTSH_CONTAINERS_SQLITE_OWNERS_H
#define LTSH_CONTAINERS_SQLITE_OWNERS_H

#include "containers/sqlite/lane.h"

/* Makes and locks a file beside the database that shows that this process lives, and says its number and version: its descriptor, and the end of its name,
 * the caller's to free. -1 with errno. */
int lt_sqlite_lock_open(const char *path, char **suffix);

/* The member becomes an owner; owners that died are given up. `wall`: Unix seconds. */
int lt_sqlite_join(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, double wall);

/* All owners as they are in the file now. Of this process: which are still there. */
int lt_sqlite_read_owners(struct lt_sqlite_lane *lane);

/* One of another process; NULL: there was none when they were last read. */
struct lt_sqlite_other *lt_sqlite_find_other(struct lt_sqlite_lane *lane, int64_t owner);

/* Whether a look may find anything. */
bool lt_sqlite_look_needed(struct lt_sqlite_lane *lane);

/* The transaction is over, and was stored or not: lock files of processes that are dead go. */
void lt_sqlite_remove_locks(struct lt_sqlite_lane *lane, bool stored);

/* Lets others know that something changed, after the commit. */
void lt_sqlite_ring(const struct lt_sqlite_lane *lane);

/* Shows that this process lives; whether it is time; how often. */
int lt_sqlite_mark(struct lt_sqlite_lane *lane);
bool lt_sqlite_mark_due(const struct lt_sqlite_lane *lane);
double lt_sqlite_mark_interval(const struct lt_sqlite_lane *lane);

void lt_sqlite_forget_others(struct lt_sqlite_lane *lane);

#endif
