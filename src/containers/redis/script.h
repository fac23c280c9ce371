/* The script that the server runs (queue.lua), and the names of its keys. */
#ifndef LTSH_CONTAINERS_REDIS_SCRIPT_H
#define LTSH_CONTAINERS_REDIS_SCRIPT_H

#include <stddef.h>

extern const char lt_redis_script[];
extern const size_t lt_redis_script_len;

enum { LT_REDIS_KEYS = 23 };

/* The name of a key of a queue, by its number in the script, the caller's to free. All of a queue have one hash tag, so that a
 * cluster keeps them together; the first is also the name of the channel on which all hosts hear. */
char *lt_redis_key(const char *queue, int number);

#endif
