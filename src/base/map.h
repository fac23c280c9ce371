/* A hash map from byte strings to objects that hold their own key.
 *
 * Open addressing with linear probing and backward-shift deletion (no tombstones). An entry keeps the 32-bit
 * hash beside the pointer, so that probing and growing touch no object. Hashes are XXH3, seeded anew in each
 * process: ids come from outside. */
#ifndef LTSH_BASE_MAP_H
#define LTSH_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct lt_map_entry {
    void *object; /* NULL: free */
    uint32_t hash;
};

struct lt_map {
    struct lt_map_entry *entries;
    uint32_t mask; /* number of entries - 1; 0 when there are none yet */
    uint32_t count;
    /* The key of an object: its address, and its length in *len. */
    const char *(*key)(const void *object, size_t *len);
};

/* The hash of a key, as all maps of this process use it. */
uint32_t lt_hash(const char *key, size_t len);

/* The object with this key, or NULL. */
void *lt_map_find(const struct lt_map *map, uint32_t hash, const char *key, size_t len);

/* Puts in an object whose key is not there yet. */
void lt_map_put(struct lt_map *map, uint32_t hash, void *object);

/* Takes out this very object, which must be there. */
void lt_map_remove(struct lt_map *map, uint32_t hash, const void *object);

/* Goes over all objects: start with *position = 0; NULL at the end. The map must not change meanwhile. */
void *lt_map_next(const struct lt_map *map, uint32_t *position);

/* Frees the table, not the objects. */
void lt_map_free(struct lt_map *map);

#endif
