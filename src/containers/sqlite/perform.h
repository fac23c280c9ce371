/* What is done for each kind of request, within a transaction, on the store's thread: add.c, claim.c, change.c, query.c,
 * outputs.c, forget.c, limits.c, owners.c, hosts.c. What they find and say is in the request. A code of SQLite's that is
 * not SQLITE_OK: the transaction is to be given up. */
#ifndef LTSH_CONTAINERS_SQLITE_PERFORM_H
#define LTSH_CONTAINERS_SQLITE_PERFORM_H

#include "containers/sqlite/lane.h"

int lt_sqlite_add(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_claim(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_recover(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_change(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_update(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_ask_stop(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_get(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_list(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_count(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_hosts(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_pause(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_set_limits(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_output(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_prune(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_look(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_leave(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);

#endif
