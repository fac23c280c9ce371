/* The scripts that the server runs (queue.lua; prepare.lua before that), and the names of their keys. */
#ifndef LTSH_CONTAINERS_REDIS_SCRIPT_H
#define LTSH_CONTAINERS_REDIS_SCRIPT_H

#include <stddef.h>

extern const char lt_redis_script[];
extern const size_t lt_redis_script_len;
extern const char lt_redis_library[]; /* the name of it as a library of functions: another one for another text */
extern const char lt_redis_script_commands[]; /* of the server's, by name, that it uses */
extern const char lt_redis_prepare[];

enum {
    LT_REDIS_LAYOUT = 2, /* of the keys: grows when hosts of before could not read them any more */
    LT_REDIS_KEYS = 23,
};

/* What each key is: "h": a hash, "z": a sorted set. */
extern const char lt_redis_key_types[LT_REDIS_KEYS + 1];

/* The name of a key of a queue, by its number in the script, the caller's to free. All of a queue have one hash tag, so that a
 * cluster keeps them together; the first is also the name of the channel on which all hosts hear. */
char *lt_redis_key(const char *queue, int number);

#endif
