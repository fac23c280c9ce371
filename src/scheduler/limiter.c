#include "scheduler/limiter.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/alloc.h"

struct key {
    struct lt_bytes *name;
    uint32_t hash;
    uint32_t running;
    uint32_t limit; /* 0: none */
    uint32_t place; /* in `reopening` */
    bool refused;   /* somebody was turned away: tell when it opens */
    double tokens;
    double filled_at;
};

static const char *key_name(const void *object, size_t *len)
{
    const struct key *key = object;
    *len = key->name->len;
    return key->name->data;
}

static double refill(const struct lt_rate *rate, double tokens, double filled_at, double now)
{
    tokens += (now - filled_at) * rate->burst / rate->per;
    return tokens < rate->burst ? tokens : rate->burst;
}

/* A hair below one: the sum of many refills may miss a whole token by a rounding error. */
static bool has_token(double tokens)
{
    return tokens >= 1 - 1e-9;
}

static double next_token(const struct lt_rate *rate, double tokens, double now)
{
    return now + (1 - tokens) * rate->per / rate->burst;
}

void lt_limiter_open(struct lt_limiter *limiter, const struct lt_limits *limits, double now)
{
    *limiter = (struct lt_limiter){
        .limits = *limits,
        .tokens = limits->rate.burst,
        .filled_at = now,
        .keys.key = key_name,
        .reopening.place = offsetof(struct key, place),
        .now = now,
    };
}

static void free_key(struct lt_limiter *limiter, struct key *key)
{
    lt_map_remove(&limiter->keys, key->hash, key);
    if (key->place != LT_HEAP_NONE)
        lt_heap_remove(&limiter->reopening, key->place);
    lt_bytes_unref(key->name);
    free(key);
}

void lt_limiter_close(struct lt_limiter *limiter)
{
    uint32_t position = 0;
    struct key *key;
    while ((key = lt_map_next(&limiter->keys, &position)) != NULL) {
        lt_bytes_unref(key->name);
        free(key);
    }
    lt_map_free(&limiter->keys);
    lt_heap_free(&limiter->reopening);
}

static uint32_t limit_of(const struct lt_limiter *limiter, const struct lt_bytes *name)
{
    const struct lt_limits *limits = &limiter->limits;
    if (limits->key_limit_fn != NULL)
        return limits->key_limit_fn(limits->key_limit_arg, name);
    return limits->key_limit;
}

/* Finds the entry of a task's key, or makes it; NULL when keys do not matter or it has none. */
static struct key *key_of(struct lt_limiter *limiter, const struct lt_task *task, bool make)
{
    struct lt_bytes *name = lt_task_key(task);
    if (name == NULL)
        return NULL;
    uint32_t hash = lt_hash(name->data, name->len);
    struct key *key = lt_map_find(&limiter->keys, hash, name->data, name->len);
    const struct lt_limits *limits = &limiter->limits;
    bool limited = limits->key_limit > 0 || limits->key_limit_fn != NULL || limits->key_rate.per > 0;
    if (key != NULL || !make || !limited)
        return key;
    key = lt_alloc(sizeof *key);
    *key = (struct key){
        .name = lt_bytes_ref(name),
        .hash = hash,
        .limit = limit_of(limiter, name),
        .place = LT_HEAP_NONE,
        .tokens = limits->key_rate.burst,
        .filled_at = limiter->now,
    };
    lt_map_put(&limiter->keys, hash, key);
    return key;
}

static void refill_key(const struct lt_limiter *limiter, struct key *key)
{
    if (limiter->limits.key_rate.per <= 0)
        return;
    key->tokens = refill(&limiter->limits.key_rate, key->tokens, key->filled_at, limiter->now);
    key->filled_at = limiter->now;
}

static bool slots_full(const struct key *key)
{
    return key->limit > 0 && key->running >= key->limit;
}

static bool out_of_tokens(const struct lt_limiter *limiter, const struct key *key)
{
    return limiter->limits.key_rate.per > 0 && !has_token(key->tokens);
}

/* Puts a key up for review at a time, always after now: the nanosecond more also rounds up. */
static void come_back(struct lt_limiter *limiter, struct key *key, double at)
{
    int64_t rank = lt_heap_time(at);
    if (rank < INT64_MAX)
        rank++;
    if (key->place == LT_HEAP_NONE)
        lt_heap_push(&limiter->reopening, rank, 0, key);
    else
        lt_heap_change(&limiter->reopening, key->place, rank, 0);
}

/* Remembers when a key without a token gets one: then it is full no more, or its entry has no use any more. */
static void await_token(struct lt_limiter *limiter, struct key *key)
{
    if (out_of_tokens(limiter, key))
        come_back(limiter, key, next_token(&limiter->limits.key_rate, key->tokens, limiter->now));
}

/* After something gave way: tells who was turned away, and forgets a key that is as good as new. */
static void review(struct lt_limiter *limiter, struct key *key)
{
    if (slots_full(key) || out_of_tokens(limiter, key)) {
        await_token(limiter, key);
        return;
    }
    if (key->refused) {
        key->refused = false;
        struct lt_bytes *name = lt_bytes_ref(key->name);
        limiter->key_open(limiter->key_open_arg, name);
        lt_bytes_unref(name);
    }
    if (key->running > 0 || key->place != LT_HEAP_NONE)
        return;
    const struct lt_rate *rate = &limiter->limits.key_rate;
    if (rate->per <= 0 || key->tokens >= rate->burst - 1e-9)
        free_key(limiter, key);
    else /* come back for it when its bucket is full */
        come_back(limiter, key, limiter->now + (rate->burst - key->tokens) * rate->per / rate->burst);
}

uint32_t lt_limiter_room(struct lt_limiter *limiter, double now)
{
    const struct lt_limits *limits = &limiter->limits;
    limiter->now = now;
    const struct lt_heap_entry *first;
    while ((first = lt_heap_first(&limiter->reopening)) != NULL && first->rank <= lt_heap_time(now)) {
        struct key *key = first->object;
        lt_heap_remove(&limiter->reopening, key->place);
        refill_key(limiter, key);
        review(limiter, key);
    }
    uint32_t room = limits->slots > limiter->running ? limits->slots - limiter->running : 0;
    if (limits->rate.per > 0) {
        limiter->tokens = refill(&limits->rate, limiter->tokens, limiter->filled_at, now);
        limiter->filled_at = now;
        double whole = floor(limiter->tokens + 1e-9);
        if (whole < room)
            room = (uint32_t)whole;
    }
    return room;
}

static void take(struct lt_limiter *limiter, struct key *key)
{
    limiter->running++;
    if (limiter->limits.rate.per > 0)
        limiter->tokens -= 1;
    if (key == NULL)
        return;
    key->running++;
    if (limiter->limits.key_rate.per > 0)
        key->tokens -= 1;
}

enum lt_admission lt_limiter_admit(struct lt_limiter *limiter, const struct lt_task *task)
{
    if (limiter->running >= limiter->limits.slots)
        return LT_NO_ROOM;
    if (limiter->limits.rate.per > 0 && !has_token(limiter->tokens))
        return LT_NO_ROOM;
    struct key *key = task->options != NULL ? key_of(limiter, task, true) : NULL;
    if (key != NULL) {
        refill_key(limiter, key);
        if (slots_full(key) || out_of_tokens(limiter, key)) {
            key->refused = true;
            await_token(limiter, key);
            return LT_KEY_FULL;
        }
    }
    take(limiter, key);
    return LT_ADMITTED;
}

void lt_limiter_adopt(struct lt_limiter *limiter, const struct lt_task *task)
{
    take(limiter, key_of(limiter, task, true));
}

void lt_limiter_release(struct lt_limiter *limiter, const struct lt_task *task)
{
    limiter->running--;
    struct key *key = task->options != NULL ? key_of(limiter, task, false) : NULL;
    if (key == NULL || key->running == 0)
        return;
    key->running--;
    refill_key(limiter, key);
    review(limiter, key);
}

void lt_limiter_set(struct lt_limiter *limiter, const struct lt_limits *limits, double now)
{
    lt_limiter_room(limiter, now); /* what was earned at the old rate stays */
    bool had_rate = limiter->limits.rate.per > 0;
    bool had_key_rate = limiter->limits.key_rate.per > 0;
    limiter->limits = *limits;
    limiter->filled_at = now;
    if (!had_rate || limiter->tokens > limits->rate.burst)
        limiter->tokens = limits->rate.burst;
    lt_heap_free(&limiter->reopening);
    uint32_t position = 0;
    struct key *key;
    while ((key = lt_map_next(&limiter->keys, &position)) != NULL) {
        key->place = LT_HEAP_NONE;
        key->limit = limit_of(limiter, key->name);
        key->filled_at = now;
        if (!had_key_rate || key->tokens > limits->key_rate.burst)
            key->tokens = limits->key_rate.burst;
        come_back(limiter, key, now); /* not here: a review may change the map */
    }
}

void lt_limiter_full_keys(const struct lt_limiter *limiter, void (*visit)(void *arg, const struct lt_bytes *key),
                          void *arg)
{
    uint32_t position = 0;
    const struct key *key;
    while ((key = lt_map_next(&limiter->keys, &position)) != NULL) {
        if (slots_full(key) || out_of_tokens(limiter, key))
            visit(arg, key->name);
    }
}

double lt_limiter_next(const struct lt_limiter *limiter)
{
    double next = 0;
    const struct lt_limits *limits = &limiter->limits;
    if (limits->rate.per > 0 && limits->slots > limiter->running && !has_token(limiter->tokens))
        next = next_token(&limits->rate, limiter->tokens, limiter->filled_at);
    const struct lt_heap_entry *first = lt_heap_first(&limiter->reopening);
    if (first != NULL) {
        double at = (double)first->rank * 1e-9;
        if (next == 0 || at < next)
            next = at;
    }
    return next;
}
