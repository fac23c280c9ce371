/* Containers in memory: a queue, and one by priority. They live and end with the host. */
#ifndef LTSH_CONTAINERS_MEMORY_H
#define LTSH_CONTAINERS_MEMORY_H

#include "scheduler/container.h"

/* First in, first out. `size`: how many tasks that have not ended it takes; `fair`: keys take turns, and order is within
 * a key. Owned by the caller until release. */
struct lt_container *lt_queue_new(uint64_t size, bool fair);

/* Higher priority first, then first in, first out. */
struct lt_container *lt_priority_new(uint64_t size, bool fair);

#endif
