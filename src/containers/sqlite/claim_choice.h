/* Claims by choice, for claim.c. */
#ifndef LTSH_CONTAINERS_SQLITE_CLAIM_CHOICE_H
#define LTSH_CONTAINERS_SQLITE_CLAIM_CHOICE_H

#include "containers/sqlite/lane.h"

/* The choices of the claim become running, as far as they wait still: `room` of them at most. Each says what came of it. */
int lt_sqlite_claim_choices(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, int64_t room);

/* The first so many that are due, in order; those whose key is full are left out. Nothing, if nobody asks for that. */
int lt_sqlite_show_due(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);

#endif
