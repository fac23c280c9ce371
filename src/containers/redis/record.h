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

/* A priority, the highest first. */
void lt_redis_pack_priority(char to[8], int64_t priority);

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
