#include "base/map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"

enum { SMALLEST = 16, ROOMY = 4096 }; /* below ROOMY a table never shrinks: small ones fill and empty all the time */

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

void *lt_map_find(const struct lt_map *map, uint32_t hash, const char *key, size_t len)
{
    if (map->count == 0)
        return NULL;
    for (uint32_t i = hash & map->mask; map->entries[i].object != NULL; i = (i + 1) & map->mask) {
        if (map->entries[i].hash != hash)
            continue;
        size_t have_len;
        const char *have = map->key(map->entries[i].object, &have_len);
        if (have_len == len && memcmp(have, key, len) == 0)
            return map->entries[i].object;
    }
    return NULL;
}

static void insert(struct lt_map *map, uint32_t hash, void *object)
{
    uint32_t i = hash & map->mask;
    while (map->entries[i].object != NULL)
        i = (i + 1) & map->mask;
    map->entries[i] = (struct lt_map_entry){object, hash};
}

static void resize(struct lt_map *map, uint32_t size)
{
    struct lt_map old = *map;
    map->entries = lt_zalloc(size * sizeof *map->entries);
    map->mask = size - 1;
    for (uint32_t i = 0; old.entries != NULL && i <= old.mask; i++) {
        if (old.entries[i].object != NULL)
            insert(map, old.entries[i].hash, old.entries[i].object);
    }
    free(old.entries);
}

void lt_map_put(struct lt_map *map, uint32_t hash, void *object)
{
    if (map->entries == NULL)
        resize(map, SMALLEST);
    else if (map->count >= map->mask - map->mask / 4)
        resize(map, (map->mask + 1) * 2);
    insert(map, hash, object);
    map->count++;
}

void lt_map_remove(struct lt_map *map, uint32_t hash, const void *object)
{
    uint32_t hole = hash & map->mask;
    while (map->entries[hole].object != object)
        hole = (hole + 1) & map->mask;
    /* Close the hole: move back each later entry of the run that may stand there. */
    for (uint32_t i = (hole + 1) & map->mask; map->entries[i].object != NULL; i = (i + 1) & map->mask) {
        uint32_t distance = (i - map->entries[i].hash) & map->mask;
        if (distance >= ((i - hole) & map->mask)) {
            map->entries[hole] = map->entries[i];
            hole = i;
        }
    }
    map->entries[hole].object = NULL;
    map->count--;
    if (map->mask + 1 > ROOMY && map->count < (map->mask + 1) / 8)
        resize(map, (map->mask + 1) / 2);
}

void *lt_map_next(const struct lt_map *map, uint32_t *position)
{
    if (map->entries == NULL)
        return NULL;
    for (; *position <= map->mask; (*position)++) {
        if (map->entries[*position].object != NULL)
            return map->entries[(*position)++].object;
    }
    return NULL;
}

void lt_map_free(struct lt_map *map)
{
    free(map->entries);
    map->entries = NULL;
    map->mask = 0;
    map->count = 0;
}
