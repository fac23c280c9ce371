/* Batches, for the store: on its thread. */
#ifndef LTSH_CONTAINERS_SQLITE_BATCH_H
#define LTSH_CONTAINERS_SQLITE_BATCH_H

#include "containers/sqlite/lane.h"

/* Does all of them; each says what came of it. News that come of it are in lane->committed_news. */
void lt_sqlite_batch(struct lt_sqlite_lane *lane, struct lt_sqlite_requests *requests);

/* Nothing was asked for a while: others are to see that this process lives. Returns the seconds until that is to be shown
 * again. */
double lt_sqlite_show_life(struct lt_sqlite_lane *lane);

/* Lets go of all; the database is closed. */
void lt_sqlite_lane_clear(struct lt_sqlite_lane *lane);

#endif
