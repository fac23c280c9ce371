/* A priority heap whose members know their place, so that any of them can leave in O(log n).
 *
 * Members are ordered by (rank, order), the smallest first: a rank is a time or a priority, and the order in
 * which members came breaks ties. The sort key lies in the heap's own array, so sifting touches no member but to tell
 * it its place. Four children a node: half the depth, and siblings share cache lines. */
#ifndef LTSH_BASE_HEAP_H
#define LTSH_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LT_HEAP_NONE = UINT32_MAX }; /* the place of an object that is in no heap */

struct lt_heap_entry {
    int64_t rank;
    uint64_t order;
    void *object;
};

struct lt_heap {
    struct lt_heap_entry *entries;
    uint32_t count;
    uint32_t size;
    size_t place; /* where in each object its uint32_t place lies: offsetof(...) */
};

void lt_heap_push(struct lt_heap *heap, int64_t rank, uint64_t order, void *object);

/* The first entry, or NULL when empty. Valid until the heap changes. */
static inline const struct lt_heap_entry *lt_heap_first(const struct lt_heap *heap)
{
    return heap->count > 0 ? &heap->entries[0] : NULL;
}

/* A time in seconds as a rank: nanoseconds, so that no heap compares floats. */
static inline int64_t lt_heap_time(double seconds)
{
    return seconds >= 9e9 ? INT64_MAX : seconds <= -9e9 ? INT64_MIN : (int64_t)(seconds * 1e9);
}

/* And back, rounded up: at that time what has this rank is due. */
static inline double lt_heap_due(int64_t rank)
{
    return ((double)rank + 1) * 1e-9;
}

/* Takes out the object at `place` and sets its place to LT_HEAP_NONE. */
void lt_heap_remove(struct lt_heap *heap, uint32_t place);

/* Gives the object at `place` a new rank and order. */
void lt_heap_change(struct lt_heap *heap, uint32_t place, int64_t rank, uint64_t order);

/* Frees the array, not the objects. */
void lt_heap_free(struct lt_heap *heap);

#endif
