#include "base/heap.h"

#include <stdlib.h>

#include "base/alloc.h"

enum { CHILDREN = 4, ROOMY = 1024 };

static bool comes_before(const struct lt_heap_entry *a, const struct lt_heap_entry *b)
{
    return a->rank < b->rank || (a->rank == b->rank && a->order < b->order);
}

static void place_entry(struct lt_heap *heap, uint32_t place, struct lt_heap_entry entry)
{
    heap->entries[place] = entry;
    *(uint32_t *)((char *)entry.object + heap->place) = place;
}

static void sift_up(struct lt_heap *heap, uint32_t place, struct lt_heap_entry entry)
{
    while (place > 0) {
        uint32_t parent = (place - 1) / CHILDREN;
        if (!comes_before(&entry, &heap->entries[parent]))
            break;
        place_entry(heap, place, heap->entries[parent]);
        place = parent;
    }
    place_entry(heap, place, entry);
}

static void sift_down(struct lt_heap *heap, uint32_t place, struct lt_heap_entry entry)
{
    for (;;) {
        uint32_t first = place * CHILDREN + 1;
        if (first >= heap->count)
            break;
        uint32_t last = first + CHILDREN < heap->count ? first + CHILDREN : heap->count;
        uint32_t least = first;
        for (uint32_t child = first + 1; child < last; child++) {
            if (comes_before(&heap->entries[child], &heap->entries[least]))
                least = child;
        }
        if (!comes_before(&heap->entries[least], &entry))
            break;
        place_entry(heap, place, heap->entries[least]);
        place = least;
    }
    place_entry(heap, place, entry);
}

static void settle_entry(struct lt_heap *heap, uint32_t place, struct lt_heap_entry entry)
{
    if (place > 0 && comes_before(&entry, &heap->entries[(place - 1) / CHILDREN]))
        sift_up(heap, place, entry);
    else
        sift_down(heap, place, entry);
}

void lt_heap_push(struct lt_heap *heap, int64_t rank, uint64_t order, void *object)
{
    if (heap->count == heap->size) {
        heap->size = heap->size > 0 ? heap->size * 2 : 16;
        heap->entries = lt_realloc(heap->entries, heap->size * sizeof *heap->entries);
    }
    sift_up(heap, heap->count++, (struct lt_heap_entry){rank, order, object});
}

void lt_heap_remove(struct lt_heap *heap, uint32_t place)
{
    *(uint32_t *)((char *)heap->entries[place].object + heap->place) = LT_HEAP_NONE;
    struct lt_heap_entry last = heap->entries[--heap->count];
    if (place < heap->count)
        settle_entry(heap, place, last);
    if (heap->size > ROOMY && heap->count < heap->size / 4) {
        heap->size /= 2;
        heap->entries = lt_realloc(heap->entries, heap->size * sizeof *heap->entries);
    }
}

void lt_heap_change(struct lt_heap *heap, uint32_t place, int64_t rank, uint64_t order)
{
    settle_entry(heap, place, (struct lt_heap_entry){rank, order, heap->entries[place].object});
}

void lt_heap_free(struct lt_heap *heap)
{
    free(heap->entries);
    heap->entries = NULL;
    heap->count = 0;
    heap->size = 0;
}
