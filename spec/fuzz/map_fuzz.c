/* Does with a map what bytes say (a libFuzzer target: -fsanitize=fuzzer,address,undefined), and with a plain array.
 *
 * Three bytes are an operation on some objects: one, or up to 512 that follow each other in the array. Some of the objects
 * have hashes whose top bits are the same, so that they stand in one long row, with entries that are far from home;
 * hashes differ in each process, so keys are looked for that have them. Each object is looked up after its operation, and
 * all of them at the end. Short inputs do little: -len_control=0 -max_len=300, and a few files of random bytes to start
 * with. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

enum {
    CROWD = 160,    /* objects that want the same few slots */
    CROWD_BITS = 6, /* so many top bits of their hashes are 1: their row goes on at the start of the table */
    OBJECTS = 8192, /* all, the crowd first */
};

struct object {
    _Alignas(8) uint32_t hash;
    uint32_t len;
    uint32_t met; /* in a walk */
    bool is_in;   /* what the map should know */
    char key[24];
};

static struct object objects[OBJECTS];

static void expect(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "map_fuzz: %s\n", what);
    abort();
}

static const char *key_of(const void *object, size_t *len)
{
    *len = ((const struct object *)object)->len;
    return ((const struct object *)object)->key;
}

static void make_objects(void)
{
    uint32_t number = 0;
    for (uint32_t i = 0; i < OBJECTS; number++) {
        struct object *object = &objects[i];
        object->len = (uint32_t)snprintf(object->key, sizeof object->key, "%u", number);
        object->hash = lt_hash(object->key, object->len);
        if (i >= CROWD || object->hash >> (32 - CROWD_BITS) == (1 << CROWD_BITS) - 1)
            i++;
    }
}

static void find(const struct lt_map *map, struct object *object)
{
    void *found = lt_map_find(map, object->hash, object->key, object->len);
    expect(found == (object->is_in ? object : NULL), "found what is not there, or not what is");
}

static void put(struct lt_map *map, struct object *object)
{
    find(map, object);
    if (!object->is_in)
        lt_map_put(map, object->hash, object);
    object->is_in = true;
    find(map, object);
}

static void take_out(struct lt_map *map, struct object *object)
{
    if (object->is_in)
        lt_map_remove(map, object->hash, object);
    object->is_in = false;
    find(map, object);
}

static void meet(void *arg, void *object)
{
    (void)arg;
    ((struct object *)object)->met++;
}

/* In steps, while a part of the objects goes and comes back between them. */
static void check_walk(struct lt_map *map, uint32_t slots)
{
    uint64_t place = 0;
    uint32_t step = 0;
    bool was_in[OBJECTS];
    for (uint32_t i = 0; i < OBJECTS; i++) {
        was_in[i] = objects[i].is_in;
        objects[i].met = 0;
    }
    while (lt_map_walk(map, &place, slots, meet, NULL)) {
        for (uint32_t i = step++ % 3; i < OBJECTS; i += 3) {
            if (i % 2 == 0 && objects[i].is_in)
                take_out(map, &objects[i]);
            else if (i % 2 == 0)
                put(map, &objects[i]);
        }
    }
    for (uint32_t i = 0; i < OBJECTS; i++) {
        if (step == 0 || i % 2 == 1)
            expect(objects[i].met == (was_in[i] ? 1 : 0), "does not meet each once");
    }
}

static void check_all(const struct lt_map *map)
{
    uint32_t count = 0;
    uint32_t seen = 0;
    uint32_t position = 0;
    for (uint32_t i = 0; i < OBJECTS; i++) {
        find(map, &objects[i]);
        count += objects[i].is_in;
    }
    for (struct object *object; (object = lt_map_next(map, &position)) != NULL; seen++)
        expect(object->is_in, "goes over what is not there");
    expect(count == map->count && count == seen, "the count is wrong");
}

/* The low bits of `what` choose the operation, the next the number of objects; removing comes more seldom than putting. */
static void run(struct lt_map *map, unsigned what, uint32_t first)
{
    static const uint32_t counts[8] = {1, 1, 1, 2, 8, 32, 128, 512};
    uint32_t count = counts[what / 8 % 8];
    for (uint32_t i = 0; i < count; i++) {
        struct object *object = &objects[(first + i) % OBJECTS];
        if (what % 8 < 4)
            put(map, object);
        else if (what % 8 < 7)
            take_out(map, object);
        else
            find(map, object);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct lt_map map = {.key = key_of};
    if (objects[0].len == 0)
        make_objects();
    for (uint32_t i = 0; i < OBJECTS; i++)
        objects[i].is_in = false;
    for (size_t at = 0; at + 2 < len; at += 3) {
        uint32_t first = (uint32_t)(data[at + 1] << 8 | data[at + 2]);
        bool of_crowd = data[at] >= 0x80; /* or else of all */
        run(&map, data[at], first % (of_crowd ? CROWD : OBJECTS));
    }
    check_all(&map);
    check_walk(&map, 1 + (uint32_t)(len * 37 % 3000));
    check_all(&map);
    lt_map_free(&map);
    return 0;
}
