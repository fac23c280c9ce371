/* Lists of tasks that a container in memory keeps in a map, whatever else they are in. */
#ifndef LTSH_CONTAINERS_LISTING_H
#define LTSH_CONTAINERS_LISTING_H

#include "base/map.h"
#include "loop/loop.h"
#include "scheduler/container.h"

/* The task of an object in the map, if it is one of those that the operation wants, as it is now; else NULL. */
typedef struct lt_task *lt_listed(void *object, const struct lt_list_op *op);

/* Does what the operation asks, and answers it: at once if there are few, else in steps, a turn of the loop each, so that a
 * million hold up nobody. The map is to be there until it is answered, and keyed by the tasks' ids; it may change.
 *
 * What is wanted all the time is listed, exactly once and in its place; what is not wanted any more by the end is not; what
 * came, or came to be wanted, meanwhile may be listed or not. */
void lt_list(struct lt_loop *loop, const struct lt_map *tasks, lt_listed *listed, struct lt_list_op *op);

#endif
