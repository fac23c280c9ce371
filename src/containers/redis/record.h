/* Tasks as the server has them: the record that queue.lua describes, and what is kept beside it. */
#ifndef LTSH_CONTAINERS_REDIS_RECORD_H
#define LTSH_CONTAINERS_REDIS_RECORD_H

#include <hiredis/hiredis.h>

#include "scheduler/task.h"

enum { LT_REDIS_LARGE_ITEM = 1000 /* bytes: it is kept apart, and not written anew with each transition */ };

/* Numbers as their bytes, the highest first, so that they are in order as text. */
void lt_redis_pack(char *to, uint64_t number, size_t bytes);
double lt_redis_unpack_double(const char *from);
uint64_t lt_redis_unpack(const char *from, size_t bytes);

/* A priority, so that the highest is the first as text: how many bytes it takes. */
enum { LT_REDIS_PRIORITY = 9 };
size_t lt_redis_pack_priority(char to[LT_REDIS_PRIORITY], int64_t priority);

/* What a change begins with: run and token as their bytes, the status to come to, its bits, and those of the values that follow,
 * in their order; as queue.lua has them. */
enum { LT_REDIS_CHANGE = 17, LT_REDIS_CHANGE_TO = 14, LT_REDIS_CHANGE_BITS, LT_REDIS_CHANGE_VALUES };
enum lt_redis_change_bit {
    LT_REDIS_AGAIN = 1,
    LT_REDIS_FREES = 2,
    LT_REDIS_UNCOUNTED = 4,
    LT_REDIS_WAS_LOST = 8,
    LT_REDIS_NOT_BEGUN = 16
};
enum lt_redis_change_value {
    LT_REDIS_WHEN = 1,
    LT_REDIS_REASON = 2,
    LT_REDIS_VERSION = 4,
    LT_REDIS_PROGRESS = 8,
    LT_REDIS_OUTPUT = 16
};

/* Appends what only hosts read: the options that were set, and an item that is not kept apart. */
void lt_redis_pack_rest(struct lt_buffer *to, const struct lt_task *task);

/* What is read of a task: NULL if it is not as queue.lua writes it. */
struct lt_redis_found {
    struct lt_task *task; /* with a reference */
    uint64_t token;
    const char *adder;      /* 8 letters; in the answer */
    const redisReply *stop; /* that somebody asked to stop it: the run and the reason; NULL: nobody did */
};

/* Reads a task of an answer. False: it is none. `host`: the name of this one, of which tasks say nothing. */
bool lt_redis_read_task(const redisReply *part, const char *host, struct lt_redis_found *found);

/* The element of an array, or NULL; its text, or NULL. */
const redisReply *lt_redis_element(const redisReply *reply, size_t i);
const char *lt_redis_text(const redisReply *reply, size_t i);

#endif
