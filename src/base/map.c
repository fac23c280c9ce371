/* What an entry is made of, the low bits first:
 *
 *     pointer    45 bits   of the 48 that there are: objects are aligned to 8 bytes
 *     rest       14 bits   the bits of the hash that follow those of the home slot, inverted; as many as the map says
 *     reach       5 bits   1: the entry is at home, 2: in the slot after it, ...; FAR: so far or farther; 0: free
 *
 * Entries that touch stand in the order of their hashes. So from slot to slot what is to come before another has the
 * greater reach, or the same and the greater rest (which is why it is inverted): one comparison of words.
 *
 * Slot and reach give the home slot, that is the top bits of the hash, and the rest those after them. So an entry tells
 * enough of its hash for a bigger table, until few bits of the rest are left; then the hashes are made anew from the
 * keys. A FAR entry's hash is always made from its key: with this order and at most three quarters of the slots taken
 * there is hardly any, but for many equal hashes. */
#include "base/map.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"

enum {
    ALIGNED = 3,       /* low bits of a pointer that are 0 */
    POINTER_BITS = 45, /* user space is 48 bits on x86-64 and aarch64, unless a program asks for more */
    REST_BITS = 14,
    REACH_SHIFT = POINTER_BITS + REST_BITS,
    FAR = 31,
    HASH_BITS = 32,
    ENOUGH_REST = 5, /* with fewer, look-ups would touch wrong objects too often */
    SMALLEST = 4,    /* bits */
    ROOMY = 12,      /* below it a table never shrinks: small ones fill and empty all the time */
    AHEAD = 16,      /* how many slots before its turn an object is fetched */
};

static const uint64_t POINTER = (UINT64_C(1) << POINTER_BITS) - 1;
static const uint64_t STEP = UINT64_C(1) << REACH_SHIFT;
static const uint64_t FAR_TAG = (uint64_t)FAR << REACH_SHIFT;

uint32_t lt_hash(const char *key, size_t len)
{
    static uint64_t seed;
    if (__builtin_expect(seed == 0, 0)) {
        uint64_t fresh = 0;
        if (getrandom(&fresh, sizeof fresh, GRND_NONBLOCK) != (ssize_t)sizeof fresh)
            fresh = (uint64_t)(uintptr_t)&fresh;
        __atomic_store_n(&seed, fresh | 1, __ATOMIC_RELAXED);
    }
    return (uint32_t)XXH3_64bits_withSeed(key, len, __atomic_load_n(&seed, __ATOMIC_RELAXED));
}

static void *object_of(uint64_t entry)
{
    return (void *)(uintptr_t)((entry & POINTER) << ALIGNED);
}

static uint64_t pointer_of(const void *object)
{
    return (uint64_t)(uintptr_t)object >> ALIGNED;
}

static uint32_t reach_of(uint64_t entry)
{
    return (uint32_t)(entry >> REACH_SHIFT);
}

static uint32_t rest_of(uint64_t entry)
{
    return (uint32_t)(entry >> POINTER_BITS) & ((1 << REST_BITS) - 1);
}

static uint32_t home_of(const struct lt_map *map, uint32_t hash)
{
    return hash >> (HASH_BITS - map->home_bits);
}

/* An entry at home, without its pointer. */
static uint64_t tag_of(const struct lt_map *map, uint32_t hash)
{
    uint64_t known = hash >> (HASH_BITS - map->home_bits - map->rest_bits);
    return STEP | (~known & ((UINT64_C(1) << map->rest_bits) - 1)) << POINTER_BITS;
}

static uint32_t slot_after(const struct lt_map *map, uint32_t slot)
{
    return (slot + 1) & map->mask;
}

__attribute__((noinline, cold)) static uint32_t hash_by_key(const struct lt_map *map, uint64_t entry)
{
    size_t len;
    const char *key = map->key(object_of(entry), &len);
    return lt_hash(key, len);
}

/* How far from its home this entry stands, plus 1; the entry is not a free one. */
static uint32_t true_reach(const struct lt_map *map, uint32_t slot, uint64_t entry)
{
    if (__builtin_expect(reach_of(entry) < FAR, 1))
        return reach_of(entry);
    return ((slot - home_of(map, hash_by_key(map, entry))) & map->mask) + 1;
}

static bool has_key(const struct lt_map *map, void *object, const char *key, size_t len)
{
    size_t have_len;
    const char *have = map->key(object, &have_len);
    return have_len == len && memcmp(have, key, len) == 0;
}

struct place {
    uint32_t slot;
    uint64_t tag; /* as it is in this slot */
};

/* The place after all entries of lesser hashes; with a tag of FAR_TAG or more: where it gave up. */
static inline struct place find_place(const struct lt_map *map, uint32_t hash)
{
    struct place place = {home_of(map, hash), tag_of(map, hash)};
    while (map->entries[place.slot] > (place.tag | POINTER) && place.tag < FAR_TAG) {
        place.slot = slot_after(map, place.slot);
        place.tag += STEP;
    }
    return place;
}

__attribute__((noinline, cold)) static void *find_far(const struct lt_map *map, uint32_t hash, const char *key,
                                                      size_t len)
{
    for (uint32_t slot = home_of(map, hash); map->entries[slot] != 0; slot = slot_after(map, slot)) {
        if (has_key(map, object_of(map->entries[slot]), key, len))
            return object_of(map->entries[slot]);
    }
    return NULL;
}

void *lt_map_find(const struct lt_map *map, uint32_t hash, const char *key, size_t len)
{
    if (map->count == 0)
        return NULL;
    struct place place = find_place(map, hash);
    while (map->entries[place.slot] >= place.tag && place.tag < FAR_TAG) {
        if (has_key(map, object_of(map->entries[place.slot]), key, len))
            return object_of(map->entries[place.slot]);
        place.slot = slot_after(map, place.slot);
        place.tag += STEP;
    }
    return __builtin_expect(place.tag < FAR_TAG, 1) ? NULL : find_far(map, hash, key, len);
}

/* Goes on where find_place gave up. */
__attribute__((noinline, cold)) static struct place find_far_place(const struct lt_map *map, struct place place)
{
    for (uint32_t reach = FAR; map->entries[place.slot] != 0; reach++) {
        uint64_t other = map->entries[place.slot];
        uint32_t other_reach = true_reach(map, place.slot, other);
        if (other_reach < reach || (other_reach == reach && rest_of(other) <= rest_of(place.tag)))
            break;
        place.slot = slot_after(map, place.slot);
    }
    return place;
}

/* Puts the object in its place, and what stood there and after it a slot further, up to the next free one. */
static void insert_entry(struct lt_map *map, uint32_t hash, const void *object)
{
    struct place place = find_place(map, hash);
    if (__builtin_expect(place.tag >= FAR_TAG, 0))
        place = find_far_place(map, place);
    uint64_t entry = place.tag | pointer_of(object);
    uint32_t slot = place.slot;
    while (map->entries[slot] != 0) {
        uint64_t other = map->entries[slot];
        map->entries[slot] = entry;
        entry = other < FAR_TAG ? other + STEP : other;
        slot = slot_after(map, slot);
    }
    map->entries[slot] = entry;
}

/* The known bits of an entry's hash, and zeros after them. */
static uint32_t known_hash(const struct lt_map *map, uint32_t slot, uint64_t entry)
{
    if (reach_of(entry) == FAR)
        return hash_by_key(map, entry);
    uint64_t home = (slot + 1 - reach_of(entry)) & map->mask;
    uint64_t rest = ~rest_of(entry) & ((UINT64_C(1) << map->rest_bits) - 1);
    return (uint32_t)((home << map->rest_bits | rest) << (HASH_BITS - map->home_bits - map->rest_bits));
}

static void prefetch_object(const char *object)
{
    __builtin_prefetch(object);
    __builtin_prefetch(object + 128); /* the id of a task */
}

static uint8_t lesser_of(int a, int b)
{
    return (uint8_t)(a < b ? a : b);
}

static void resize_map(struct lt_map *map, int home_bits)
{
    struct lt_map old = *map;
    uint8_t can_have = lesser_of(REST_BITS, HASH_BITS - home_bits);
    bool anew = old.home_bits + old.rest_bits < home_bits + lesser_of(ENOUGH_REST, can_have);
    map->home_bits = (uint8_t)home_bits;
    map->rest_bits = anew ? can_have : lesser_of(can_have, old.home_bits + old.rest_bits - home_bits);
    map->mask = (uint32_t)((UINT64_C(1) << home_bits) - 1);
    map->entries = lt_zalloc(((size_t)map->mask + 1) * sizeof *map->entries);
    for (uint32_t slot = 0; old.entries != NULL && slot <= old.mask; slot++) {
        uint64_t entry = old.entries[slot];
        if (anew && old.entries[(slot + AHEAD) & old.mask] != 0)
            prefetch_object(object_of(old.entries[(slot + AHEAD) & old.mask]));
        if (entry != 0)
            insert_entry(map, anew ? hash_by_key(&old, entry) : known_hash(&old, slot, entry), object_of(entry));
    }
    free(old.entries);
}

void lt_map_put(struct lt_map *map, uint32_t hash, void *object)
{
    assert(object != NULL && ((uintptr_t)object & ~(uintptr_t)(POINTER << ALIGNED)) == 0);
    if (map->entries == NULL)
        resize_map(map, SMALLEST);
    else if (map->count >= map->mask - map->mask / 4)
        resize_map(map, map->home_bits + 1);
    insert_entry(map, hash, object);
    map->count++;
}

void lt_map_remove(struct lt_map *map, uint32_t hash, const void *object)
{
    uint32_t hole = home_of(map, hash);
    while ((map->entries[hole] & POINTER) != pointer_of(object))
        hole = slot_after(map, hole);
    /* Close the hole: each entry after it moves back, up to one that is at home. */
    for (;;) {
        uint32_t next = slot_after(map, hole);
        uint64_t entry = map->entries[next];
        if (reach_of(entry) <= 1)
            break;
        map->entries[hole] = true_reach(map, next, entry) > FAR ? entry : entry - STEP;
        hole = next;
    }
    map->entries[hole] = 0;
    map->count--;
    if (map->home_bits > ROOMY && map->count < (map->mask + 1) / 8)
        resize_map(map, map->home_bits - 1);
}

void lt_map_prefetch(const struct lt_map *map, uint32_t hash)
{
    if (map->entries != NULL)
        __builtin_prefetch(&map->entries[home_of(map, hash)], 1);
}

void *lt_map_next(const struct lt_map *map, uint32_t *position)
{
    if (map->entries == NULL)
        return NULL;
    for (; *position <= map->mask; (*position)++) {
        if (map->entries[*position] != 0)
            return object_of(map->entries[(*position)++]);
    }
    return NULL;
}

/* A place is a hash: where the next home slot begins, also in a table that has another size by then. Entries stand in the order of
 * their hashes, so those of a slot are in it or right after it; and in a smaller table some of a slot may have been met. */
bool lt_map_walk(const struct lt_map *map, uint64_t *place, uint32_t slots, void (*fn)(void *arg, void *object),
                 void *arg)
{
    int64_t size = (int64_t)map->mask + 1;
    if (map->count == 0 || *place >> HASH_BITS != 0)
        return false;
    int64_t first = (int64_t)(*place >> (HASH_BITS - map->home_bits));
    int64_t end = first + slots < size ? first + slots : size;
    for (int64_t at = first;; at++) { /* beyond `size`: the row of the last ones goes on at the start */
        uint32_t slot = (uint32_t)at & map->mask;
        uint64_t entry = map->entries[slot];
        int64_t home = entry != 0 ? at + 1 - (int64_t)true_reach(map, slot, entry) : at;
        if (at >= end && home >= end)
            break;
        prefetch_object(object_of(map->entries[(slot + AHEAD) & map->mask]));
        if (entry == 0 || home < first || home >= end)
            continue;
        if (home > first || known_hash(map, slot, entry) >= *place)
            fn(arg, object_of(entry));
    }
    *place = (uint64_t)end << (HASH_BITS - map->home_bits);
    return end < size;
}

void lt_map_free(struct lt_map *map)
{
    free(map->entries);
    map->entries = NULL;
    map->mask = 0;
    map->count = 0;
    map->home_bits = 0;
    map->rest_bits = 0;
}
