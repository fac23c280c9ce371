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

#define LT_NO_KEY_LIMIT UINT32_MAX

/* The limits that a queue may keep, where somebody says which are meant. */
enum lt_limit_named { LT_NAMES_GLOBAL = 1, LT_NAMES_KEY = 2, LT_NAMES_RATE = 4 };

struct lt_limits {
    uint32_t slots;
    uint32_t global_slots; /* over all schedulers on the queue: for the container to keep. 0: none */
    struct lt_rate rate;
    /* The same two, kept by a container with ops->keeps_limits over all schedulers on the queue; `rate` and `key_limit` are
     * none then. 0: none. */
    struct lt_rate shared_rate;
    uint32_t shared_key_limit;
    struct lt_rate key_rate;
    uint32_t key_limit; /* 0: none */
    /* Asks for the limit of one key instead; NULL: none. May answer differently at any time: 0, none of them may start
     * now, or LT_NO_KEY_LIMIT. Asked once for a key in a claim, and now and then while it is full. */
    uint32_t (*key_limit_fn)(void *arg, const struct lt_bytes *key);
    void *key_limit_arg;
};

struct lt_limiter {
    struct lt_limits limits;
    uint32_t running;
    uint32_t
        expected; /* slots that will be free: of ends under way. Admitted beyond the others, for who withdraws that */
    double tokens;
    double filled_at; /* monotonic seconds at which `tokens` was true */
    struct lt_map keys;
    struct lt_heap reopening; /* keys that are to be looked at again, by time: out of tokens, or full by key_limit_fn */
    double now;
    uint64_t round; /* counts claims: in each, key_limit_fn is asked again */
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

/* Takes a slot and the tokens for the start of a task with this key (NULL: none), if it can. */
enum lt_admission lt_limiter_admit(struct lt_limiter *limiter, struct lt_bytes *key);

/* Gives back what was admitted and did not start: the slot and the tokens. */
void lt_limiter_return(struct lt_limiter *limiter, struct lt_bytes *key);

/* The same for who only chose: it is asked again for those that are taken in the end. So who was turned away for them is
 * told a while later, and not at once. */
void lt_limiter_withdraw(struct lt_limiter *limiter, struct lt_bytes *key);

/* Takes a slot for a task that runs already (it outlived its host): no limit is asked, and no token taken. */
void lt_limiter_adopt(struct lt_limiter *limiter, struct lt_bytes *key);

/* Gives the slot back. */
void lt_limiter_release(struct lt_limiter *limiter, struct lt_bytes *key);

/* Looks at `most` keys at most and calls `visit` for each that is full now. Its tasks are taken to be turned away:
 * key_open tells when it has room. */
void lt_limiter_full_keys(struct lt_limiter *limiter, uint32_t most, void (*visit)(void *arg, struct lt_bytes *key),
                          void *arg);

/* A key as it is now, for people. */
struct lt_key_state {
    uint32_t running;
    uint32_t limit;  /* or LT_NO_KEY_LIMIT */
    double token_in; /* seconds until it has a token; 0: it has one, or needs none */
};
void lt_limiter_look(const struct lt_limiter *limiter, const struct lt_bytes *key, struct lt_key_state *state);

/* Seconds until there is a token for anybody; 0: there is one, or none is needed. */
double lt_limiter_token_in(const struct lt_limiter *limiter, double now);

/* The time (monotonic) at which a token comes that is waited for; 0: none is. */
double lt_limiter_next(const struct lt_limiter *limiter);

#endif
