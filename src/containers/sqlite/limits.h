/* The limits of a queue, which hold over all schedulers on it. */
#ifndef LTSH_CONTAINERS_SQLITE_LIMITS_H
#define LTSH_CONTAINERS_SQLITE_LIMITS_H

#include "containers/sqlite/lane.h"

/* Of a claim: the queue's limits are those that hold. Where the queue has none of a kind, what this host was given becomes
 * the queue's. */
void lt_sqlite_limits_take(struct lt_sqlite_request *request);

/* A member joins: when nobody else is at work on its queue, what was given before, and not set, is forgotten. */
void lt_sqlite_limits_join(const struct lt_sqlite_lane *lane, const struct lt_sqlite_member *member);

/* How many starts the rate allows now; INT64_MAX: there is none. Then: so many are used, and the seconds until the next
 * is allowed: 0: it is. */
int64_t lt_sqlite_tokens(struct lt_sqlite_queue *queue);
double lt_sqlite_tokens_spend(struct lt_sqlite_queue *queue, int64_t count);

#endif
