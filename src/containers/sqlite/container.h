/* The container, for the persister that may share its store. */
#ifndef LTSH_CONTAINERS_SQLITE_CONTAINER_H
#define LTSH_CONTAINERS_SQLITE_CONTAINER_H

#include "containers/sqlite/store.h"

/* The queue of this container, if it is one of ours in this store; else NULL. Lives as long as the container is open. */
const char *lt_sqlite_queue_in(struct lt_container *container, const struct lt_sqlite_store *store);

#endif
