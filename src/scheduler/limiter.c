#include "scheduler/limiter.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/alloc.h"

static const double WITHDRAWN = 1;   /* seconds after which who was turned away for others is told that they are gone */
static const double LEFT_ALONE = 10; /* seconds after which a key whose limit is 0 is looked at again */

struct key {
    struct lt_bytes *name;
    uint32_t hash;
    uint32_t running;
    uint32_t limit; /* or LT_NO_KEY_LIMIT */
    uint32_t place; /* in `reopening` */
    bool refused;   /* somebody was turned away: tell when it opens */
    double refused_at;
    uint64_t asked; /* the limiter's round in which its limit was */
    double tokens;
    double filled_at;
};

static const char *key_name(const void *object, size_t *len)
{
    const struct key *key = object;
    *len = key->name->len;
    return key->name->data;
}

static double refill_bucket(const struct lt_rate *rate, double tokens, double filled_at, double now)
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
    return limits->key_limit > 0 ? limits->key_limit : LT_NO_KEY_LIMIT;
}

/* Asks the function for the limit of a key that is in use, once in a round. */
static void ask_limit_again(struct lt_limiter *limiter, struct key *key)
{
    if (limiter->limits.key_limit_fn == NULL || key->asked == limiter->round)
        return;
    key->asked = limiter->round;
    key->limit = limit_of(limiter, key->name);
}

/* Finds the entry of a task's key, or makes it; NULL when keys do not matter or it has none. */
static struct key *key_of(struct lt_limiter *limiter, struct lt_bytes *name, bool make)
{
    uint32_t hash = lt_hash(name->data, name->len);
    struct key *key = lt_map_find(&limiter->keys, hash, name->data, name->len);
    if (key != NULL || !make)
        return key; /* made without limits too: they may come while its tasks run */
    key = lt_alloc(sizeof *key);
    *key = (struct key){
        .name = lt_bytes_ref(name),
        .hash = hash,
        .limit = limit_of(limiter, name),
        .asked = limiter->round,
        .place = LT_HEAP_NONE,
        .tokens = limiter->limits.key_rate.burst,
        .filled_at = limiter->now,
    };
    lt_map_put(&limiter->keys, hash, key);
    return key;
}

static void refill_key(const struct lt_limiter *limiter, struct key *key)
{
    if (limiter->limits.key_rate.per <= 0)
        return;
    key->tokens = refill_bucket(&limiter->limits.key_rate, key->tokens, key->filled_at, limiter->now);
    key->filled_at = limiter->now;
}

static bool slots_full(const struct key *key)
{
    return key->running >= key->limit; /* nothing comes to LT_NO_KEY_LIMIT */
}

static bool out_of_tokens(const struct lt_limiter *limiter, const struct key *key)
{
    return limiter->limits.key_rate.per > 0 && !has_token(key->tokens);
}

/* Puts a key up for review at a time, always after now: the nanosecond more also rounds up. */
static void plan_review(struct lt_limiter *limiter, struct key *key, double at)
{
    int64_t rank = lt_heap_time(at);
    if (rank < INT64_MAX)
        rank++;
    if (key->place == LT_HEAP_NONE)
        lt_heap_push(&limiter->reopening, rank, 0, key);
    else
        lt_heap_change(&limiter->reopening, key->place, rank, 0);
}

/* Seconds until the function is asked again about a full key: more of them, the more there are. */
static double until_asked(const struct lt_limiter *limiter)
{
    return 0.1 + 1e-4 * limiter->reopening.count;
}

/* Remembers when a full key must be looked at: it has a token then and is full no more, or its entry has no use any more;
 * or the function may say something else. */
static void await_opening(struct lt_limiter *limiter, struct key *key)
{
    double at = 0;
    if (out_of_tokens(limiter, key))
        at = next_token(&limiter->limits.key_rate, key->tokens, limiter->now);
    if (slots_full(key) && key->refused && limiter->limits.key_limit_fn != NULL)
        at = fmax(at, limiter->now + until_asked(limiter));
    if (at > 0)
        plan_review(limiter, key, at);
}

static bool key_is_full(const struct lt_limiter *limiter, const struct key *key)
{
    return slots_full(key) || out_of_tokens(limiter, key);
}

static void refuse_key(struct lt_limiter *limiter, struct key *key)
{
    if (!key->refused)
        key->refused_at = limiter->now;
    key->refused = true;
    await_opening(limiter, key);
}

/* None of its tasks may run, and those that were turned away may be gone: they are let try now and then, as nobody else
 * would end its entry. */
static bool is_left_alone(const struct lt_limiter *limiter, const struct key *key)
{
    return key->running == 0 && slots_full(key) && limiter->now >= key->refused_at + LEFT_ALONE;
}

/* After something gave way: tells who was turned away, and forgets a key that is as good as new. */
static void review_key(struct lt_limiter *limiter, struct key *key)
{
    if (key->refused)
        ask_limit_again(limiter, key);
    if (key_is_full(limiter, key) && !is_left_alone(limiter, key)) {
        await_opening(limiter, key);
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
        plan_review(limiter, key, limiter->now + (rate->burst - key->tokens) * rate->per / rate->burst);
}

uint32_t lt_limiter_room(struct lt_limiter *limiter, double now)
{
    const struct lt_limits *limits = &limiter->limits;
    limiter->now = now;
    limiter->round++;
    const struct lt_heap_entry *first;
    while ((first = lt_heap_first(&limiter->reopening)) != NULL && first->rank <= lt_heap_time(now)) {
        struct key *key = first->object;
        lt_heap_remove(&limiter->reopening, key->place);
        refill_key(limiter, key);
        review_key(limiter, key);
    }
    uint32_t room = limits->slots > limiter->running ? limits->slots - limiter->running : 0;
    if (limits->rate.per > 0) {
        limiter->tokens = refill_bucket(&limits->rate, limiter->tokens, limiter->filled_at, now);
        limiter->filled_at = now;
        double whole = floor(limiter->tokens + 1e-9);
        if (whole < room)
            room = (uint32_t)whole;
    }
    return room;
}

static void take_slot(struct lt_limiter *limiter, struct key *key)
{
    limiter->running++;
    if (key != NULL)
        key->running++;
}

static void take_tokens(struct lt_limiter *limiter, struct key *key, double count)
{
    if (limiter->limits.rate.per > 0)
        limiter->tokens = fmin(limiter->tokens - count, limiter->limits.rate.burst);
    if (key != NULL && limiter->limits.key_rate.per > 0)
        key->tokens = fmin(key->tokens - count, limiter->limits.key_rate.burst);
}

static void give_slot(struct lt_limiter *limiter, struct key *key)
{
    limiter->running--;
    if (key != NULL && key->running > 0)
        key->running--;
}

enum lt_admission lt_limiter_admit(struct lt_limiter *limiter, struct lt_bytes *name)
{
    if (limiter->running >= (uint64_t)limiter->limits.slots + limiter->expected)
        return LT_NO_ROOM;
    if (limiter->limits.rate.per > 0 && !has_token(limiter->tokens))
        return LT_NO_ROOM;
    struct key *key = name != NULL ? key_of(limiter, name, true) : NULL;
    if (key != NULL) {
        refill_key(limiter, key);
        ask_limit_again(limiter, key);
        if (key_is_full(limiter, key)) {
            refuse_key(limiter, key);
            return LT_KEY_FULL;
        }
    }
    take_slot(limiter, key);
    take_tokens(limiter, key, 1);
    return LT_ADMITTED;
}

void lt_limiter_adopt(struct lt_limiter *limiter, struct lt_bytes *name)
{
    take_slot(limiter, name != NULL ? key_of(limiter, name, true) : NULL);
}

void lt_limiter_release(struct lt_limiter *limiter, struct lt_bytes *name)
{
    struct key *key = name != NULL ? key_of(limiter, name, false) : NULL;
    give_slot(limiter, key);
    if (key == NULL)
        return;
    refill_key(limiter, key);
    review_key(limiter, key);
}

void lt_limiter_withdraw(struct lt_limiter *limiter, struct lt_bytes *name)
{
    struct key *key = name != NULL ? key_of(limiter, name, false) : NULL;
    take_tokens(limiter, key, -1);
    give_slot(limiter, key);
    if (key != NULL && key->refused)
        plan_review(limiter, key, limiter->now + WITHDRAWN);
    else if (key != NULL)
        review_key(limiter, key);
}

void lt_limiter_return(struct lt_limiter *limiter, struct lt_bytes *name)
{
    take_tokens(limiter, name != NULL ? key_of(limiter, name, false) : NULL, -1);
    lt_limiter_release(limiter, name);
}

void lt_limiter_set(struct lt_limiter *limiter, const struct lt_limits *limits, double now)
{
    lt_limiter_room(limiter, now); /* what was earned at the old rate stays */
    uint32_t position = 0;
    struct key *key;
    while ((key = lt_map_next(&limiter->keys, &position)) != NULL)
        refill_key(limiter, key);
    bool had_rate = limiter->limits.rate.per > 0;
    bool had_key_rate = limiter->limits.key_rate.per > 0;
    limiter->limits = *limits;
    limiter->filled_at = now;
    if (!had_rate || limiter->tokens > limits->rate.burst)
        limiter->tokens = limits->rate.burst;
    lt_heap_free(&limiter->reopening);
    position = 0;
    while ((key = lt_map_next(&limiter->keys, &position)) != NULL) {
        key->place = LT_HEAP_NONE;
        key->asked = limiter->round;
        key->limit = limit_of(limiter, key->name);
        key->filled_at = now;
        if (!had_key_rate || key->tokens > limits->key_rate.burst)
            key->tokens = limits->key_rate.burst;
        plan_review(limiter, key, now); /* not here: a review may change the map */
    }
}

void lt_limiter_full_keys(struct lt_limiter *limiter, uint32_t most, void (*visit)(void *arg, struct lt_bytes *key),
                          void *arg)
{
    uint32_t position = 0;
    struct key *key;
    while (most-- > 0 && (key = lt_map_next(&limiter->keys, &position)) != NULL) {
        refill_key(limiter, key);
        if (slots_full(key))
            ask_limit_again(limiter, key);
        if (!key_is_full(limiter, key))
            continue;
        refuse_key(limiter, key);
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
        double at = lt_heap_due(first->rank);
        if (next == 0 || at < next)
            next = at;
    }
    return next;
}

static double token_in(const struct lt_rate *rate, double tokens, double filled_at, double now)
{
    if (rate->per <= 0)
        return 0;
    tokens = refill_bucket(rate, tokens, filled_at, now);
    return has_token(tokens) ? 0 : next_token(rate, tokens, now) - now;
}

double lt_limiter_token_in(const struct lt_limiter *limiter, double now)
{
    return token_in(&limiter->limits.rate, limiter->tokens, limiter->filled_at, now);
}

void lt_limiter_look(const struct lt_limiter *limiter, const struct lt_bytes *name, struct lt_key_state *state)
{
    const struct key *key = lt_map_find(&limiter->keys, lt_hash(name->data, name->len), name->data, name->len);
    *state = (struct lt_key_state){.limit = LT_NO_KEY_LIMIT};
    if (key == NULL)
        return;
    state->running = key->running;
    state->limit = key->limit;
    state->token_in = token_in(&limiter->limits.key_rate, key->tokens, key->filled_at, limiter->now);
}
