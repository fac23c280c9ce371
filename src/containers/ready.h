/* Which waiting task is next, when some keys may not start.
 *
 * Tasks stand in groups by their key (one group holds those without a key). A group keeps its tasks in the container's
 * order, first in first out or by priority, and the groups are ordered by their first task. A group whose key is full
 * is set aside, so a claim never looks at a task that may not start: it costs O(1) where no keys are used, O(log keys)
 * else (and O(log n) by priority).
 *
 * Fair, the groups are ordered by turns instead: one that gave a task, or is new, stands behind all others. One that is
 * set aside keeps its turn. So order and priorities hold within a key only. */
#ifndef LTSH_CONTAINERS_READY_H
#define LTSH_CONTAINERS_READY_H

#include <stdbool.h>

#include "base/heap.h"
#include "base/map.h"
#include "scheduler/limiter.h"
#include "scheduler/task.h"

struct lt_group {
    struct lt_bytes *key; /* NULL: the group of those without */
    uint32_t hash;
    uint32_t place;     /* in `open` or `aside` */
    uint32_t age_place; /* in `ages` */
    uint32_t count;     /* of its tasks */
    bool set_aside;
    uint64_t turn;            /* fair: the smaller, the sooner */
    struct lt_task_list list; /* first in, first out */
    struct lt_heap heap;      /* or by priority */
};

struct lt_ready {
    bool by_priority;
    bool fair;
    uint64_t seq;
    uint64_t turn; /* the last that was given */
    uint64_t count;
    struct lt_group keyless;
    struct lt_map groups; /* the others; a group lives while it has tasks */
    struct lt_heap open;
    struct lt_heap aside;
    struct lt_heap ages;        /* fair, not by priority: the groups by their first tasks */
    struct lt_task_list by_age; /* by priority: all of them in the order in which they came */
};

void lt_ready_open(struct lt_ready *ready, bool by_priority, bool fair);

/* Frees the groups; the tasks' references are the caller's affair. */
void lt_ready_close(struct lt_ready *ready);

/* Puts in a task that may start as far as time goes: behind the others, or where it was, if it has a place (seq). */
void lt_ready_push(struct lt_ready *ready, struct lt_task *task);

/* Takes out any. */
void lt_ready_remove(struct lt_ready *ready, struct lt_task *task);

/* Takes out the next that the limiter admits, or NULL. */
struct lt_task *lt_ready_claim(struct lt_ready *ready, struct lt_limiter *limiter);

/* Whether there is one that was not set aside. */
static inline bool lt_ready_any(const struct lt_ready *ready)
{
    return ready->open.count > 0;
}

/* The key has no room, for somebody else knows better than the limiter: it is set aside. And it has room again. */
void lt_ready_close_key(struct lt_ready *ready, const struct lt_bytes *key);
void lt_ready_open_key(struct lt_ready *ready, const struct lt_bytes *key);

/* Fair, where somebody else decides on turns: the key (NULL: those without one), if any of it wait, has this one. */
void lt_ready_set_turn(struct lt_ready *ready, const struct lt_bytes *key, uint64_t turn);

/* How many stand before it; looks at them all, or, fair, at all keys and those of its own. */
uint64_t lt_ready_ahead(const struct lt_ready *ready, const struct lt_task *task);

/* The one that came first, or NULL. */
struct lt_task *lt_ready_oldest(const struct lt_ready *ready);

#endif
