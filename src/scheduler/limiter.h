/* The limiter: who may start now.
 *
 * Slots, starts a second (a token bucket), and the same for each task key. A start is admitted before it is
 * made and holds its slot until lt_limiter_release, so no limit is passed, not for an instant. A key's entry
 * lives while the key is in use: a million keys that come and go cost nothing. */
#ifndef LTSH_SCHEDULER_LIMITER_H
#define LTSH_SCHEDULER_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "base/map.h"
#include "scheduler/task.h"

/* A token bucket: `burst` tokens at most, refilled evenly, `burst` in `per` seconds. per 0: no limit. */
struct lt_rate {
    double burst;
    double per;
};

struct lt_limits {
    uint32_t slots;
    struct lt_rate rate;
    struct lt_rate key_rate;
    uint32_t key_limit; /* 0: none */
    /* Asks for the limit of one key instead, when key_limit is 0; NULL: none. Returns 0 for "no limit". */
    uint32_t (*key_limit_fn)(void *arg, const struct lt_bytes *key);
    void *key_limit_arg;
};

struct lt_limiter {
    struct lt_limits limits;
    uint32_t running;
    double tokens;
    double filled_at; /* monotonic seconds at which `tokens` was true */
    struct lt_map keys;
    struct lt_heap reopening; /* keys that are out of tokens, by the time of their next one */
    double now;
    /* Called when a key that was full has room again. */
    void (*key_open)(void *arg, struct lt_bytes *key);
    void *key_open_arg;
};

void lt_limiter_open(struct lt_limiter *limiter, const struct lt_limits *limits, double now);
void lt_limiter_close(struct lt_limiter *limiter);

/* New limits; what runs goes on. */
void lt_limiter_set(struct lt_limiter *limiter, const struct lt_limits *limits, double now);

/* Takes note of the time (monotonic seconds) and opens the keys that have a token again. Then: how many starts slots
 * and rate allow. */
uint32_t lt_limiter_room(struct lt_limiter *limiter, double now);

enum lt_admission {
    LT_ADMITTED, /* it has its slot and its tokens */
    LT_KEY_FULL, /* its key is full: key_open tells when it has room again */
    LT_NO_ROOM,  /* no slot, or no token, for anybody */
};

/* Takes a slot and the tokens for this task's start, if it can. */
enum lt_admission lt_limiter_admit(struct lt_limiter *limiter, const struct lt_task *task);

/* Takes a slot for a task that runs already (it outlived its host): no limit is asked. */
void lt_limiter_adopt(struct lt_limiter *limiter, const struct lt_task *task);

/* Gives the slot back. */
void lt_limiter_release(struct lt_limiter *limiter, const struct lt_task *task);

/* Calls `visit` for each key that is full now. */
void lt_limiter_full_keys(const struct lt_limiter *limiter, void (*visit)(void *arg, const struct lt_bytes *key),
                          void *arg);

/* The time (monotonic) at which a token comes that is waited for; 0: none is. */
double lt_limiter_next(const struct lt_limiter *limiter);

#endif
