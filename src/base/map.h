/* A hash map from byte strings to objects that hold their own key.
 *
 * Open addressing with linear probing, entries in the order of their hashes (Robin Hood) and backward-shift deletion
 * (no tombstones). An entry is one word: the pointer, how far from home it stands, and some bits of the hash (see
 * map.c). So probing hardly ever touches a wrong object, and growing touches none but at one size in ten. With many
 * objects each look-up is a cache miss: what counts is how small the table is. Hashes are XXH3, seeded anew in each
 * process: ids come from outside. */
#ifndef LTSH_BASE_MAP_H
#define LTSH_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lt_map {
    uint64_t *entries; /* 0: free */
    uint32_t mask;     /* number of entries - 1; 0 when there are none yet */
    uint32_t count;
    uint8_t home_bits; /* the top bits of a hash, which say where its home is */
    uint8_t rest_bits; /* those after them, which entries keep */
    /* The key of an object: its address, and its length in *len. It must not change while the object is in the map. */
    const char *(*key)(const void *object, size_t *len);
};

/* The hash of a key, as all maps of this process use it. */
uint32_t lt_hash(const char *key, size_t len);

/* The object with this key, or NULL. `hash` is here and below lt_hash() of the key. */
void *lt_map_find(const struct lt_map *map, uint32_t hash, const char *key, size_t len);

/* Puts in an object whose key is not there yet; it is aligned to 8 bytes, as all that malloc gives. */
void lt_map_put(struct lt_map *map, uint32_t hash, void *object);

/* Takes out this very object, which must be there. */
void lt_map_remove(struct lt_map *map, uint32_t hash, const void *object);

/* Has the place of this hash fetched into the cache: it will be looked for soon. */
void lt_map_prefetch(const struct lt_map *map, uint32_t hash);

/* Goes over all objects: start with *position = 0; NULL at the end. The map must not change meanwhile. */
void *lt_map_next(const struct lt_map *map, uint32_t *position);

/* Goes over all objects some at a time, while others come and go between: start with *place = 0. Calls fn for those whose home
 * slots are the next `slots` ones, which must not change the map; false: that was the end. What is in the map from the first
 * call to the last is met exactly once. */
bool lt_map_walk(const struct lt_map *map, uint64_t *place, uint32_t slots, void (*fn)(void *arg, void *object),
                 void *arg);

/* Frees the table, not the objects. */
void lt_map_free(struct lt_map *map);

#endif
