#include "containers/redis/script.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* In the order in which the script takes them. */
static const char *const key_names[LT_REDIS_KEYS] = {
    "",     "tasks", "items", "outputs", "more", "ready", "delayed", "expiring", "index",  "lines",    "heads", "aside",
    "busy", "own",   "hosts", "names",   "idle", "kept",  "once",    "news",     "claims", "watchers", "stops",
};

#define TYPES "hhhhhzzzzzhzzzzhzzzzhhh"
const char lt_redis_key_types[LT_REDIS_KEYS + 1] = TYPES;
_Static_assert(sizeof TYPES == LT_REDIS_KEYS + 1, "each key has a type");

/* Braces would end the tag. */
static char *escaped(const char *queue)
{
    char *text = lt_alloc(strlen(queue) * 3 + 1), *to = text;
    for (; *queue != 0; queue++) {
        if (*queue == '{' || *queue == '}' || *queue == '%') {
            static const char digits[] = "0123456789ABCDEF";
            *to++ = '%';
            *to++ = digits[(unsigned char)*queue >> 4];
            *to++ = digits[(unsigned char)*queue & 15];
        } else {
            *to++ = *queue;
        }
    }
    *to = 0;
    return text;
}

char *lt_redis_key(const char *queue, int number)
{
    char *name = escaped(queue);
    char *key = lt_format("ltsh:{%s}%s%s", name, number > 0 ? ":" : "", key_names[number]);
    free(name);
    return key;
}
