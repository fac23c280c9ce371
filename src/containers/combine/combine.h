/* The container `combine`: one that has the tasks, and one in memory before it that says in which order they run. */
#ifndef LTSH_CONTAINERS_COMBINE_COMBINE_H
#define LTSH_CONTAINERS_COMBINE_COMBINE_H

#include "scheduler/container.h"

/* Takes over both when it succeeds. NULL with a message: these two cannot be combined. */
struct lt_container *lt_combine_new(struct lt_container *memory, struct lt_container *store, struct lt_error *error);

#endif
