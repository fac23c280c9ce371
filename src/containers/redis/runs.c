/* The runs that this host has, from their claims to their last transitions: whose leases may be lost, and which the queue may
 * see otherwise. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/redis/container_state.h"
#include "containers/redis/record.h"

static const double SOON = 1; /* seconds: a task that can never be read comes back no more often than that */

void lt_redis_tell(const struct lt_redis *redis, const struct lt_news *news)
{
    if (redis->open)
        redis->env.tell(redis->env.tell_arg, news);
}

static const char *id_of_run(const void *object, size_t *len)
{
    const struct lt_redis_run *run = object;
    *len = run->id_len;
    return run->id;
}

struct lt_redis_run *lt_redis_find_run(const struct lt_redis *redis, const char *id, size_t len)
{
    return lt_map_find(&redis->runs, lt_hash(id, len), id, len);
}

/* It was told that its lease is lost, and its end does not count; or it has one. */
static void set_forsaken(struct lt_redis *redis, struct lt_redis_run *run, bool forsaken)
{
    redis->forsaken_runs += (uint32_t)forsaken - (uint32_t)run->forsaken;
    run->forsaken = forsaken;
}

void lt_redis_forget_run(struct lt_redis *redis, struct lt_redis_run *run)
{
    set_forsaken(redis, run, false);
    lt_map_remove(&redis->runs, lt_hash(run->id, run->id_len), run);
    free(run);
}

void lt_redis_note_run(struct lt_redis *redis, const char *id, uint8_t id_len, uint64_t run, uint64_t token)
{
    struct lt_redis_run *known = lt_redis_find_run(redis, id, id_len);
    if (known == NULL) {
        known = lt_zalloc(sizeof *known + id_len);
        known->id_len = id_len;
        memcpy(known->id, id, id_len);
        lt_map_put(&redis->runs, lt_hash(id, id_len), known);
    }
    known->run = run;
    known->token = token;
    known->told = false;
    known->seen = true;
    set_forsaken(redis, known, false);
}

void lt_redis_open_runs(struct lt_redis *redis)
{
    redis->runs.key = id_of_run;
}

void lt_redis_free_runs(struct lt_redis *redis)
{
    uint32_t position = 0;
    struct lt_redis_run *run;
    while ((run = lt_map_next(&redis->runs, &position)) != NULL)
        free(run);
    lt_map_free(&redis->runs);
}

/* Leases. */

void lt_redis_tell_lost(struct lt_redis *redis, struct lt_redis_run *run)
{
    run->told = true;
    set_forsaken(redis, run, !redis->env.goes_on); /* else its end counts if nobody has taken it over by then */
    lt_redis_tell(
        redis,
        &(struct lt_news){
            .kind = LT_NEWS_LEASE_LOST, .id = run->id, .id_len = run->id_len, .run = run->run, .token = run->token});
}

void lt_redis_tell_all_lost(struct lt_redis *redis)
{
    uint32_t position = 0;
    struct lt_redis_run *run;
    while ((run = lt_map_next(&redis->runs, &position)) != NULL) {
        if (!run->forsaken)
            lt_redis_tell_lost(redis, run);
    }
}

/* What the server thinks that this host runs, and it does not, waits again; what this host runs,
 * and the server says another does, or nobody, is lost. */

static void given_back(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    bool done = lt_redis_answers(request, "ok");
    lt_redis_request_free(request);
    if (done) /* there is something to wait for, which the last claim did not see */
        lt_redis_tell(redis, &(struct lt_news){.kind = LT_NEWS_WORK});
}

/* Waits again: soon, and a while later if its work may not be dead yet. */
static void give_back(struct lt_redis *redis, const char *id, size_t id_len, const char *run_and_token, bool later)
{
    struct lt_redis_request *request = lt_redis_request(redis, "c", NULL, given_back);
    char packed[LT_REDIS_CHANGE], when[32];
    snprintf(when, sizeof when, "+%.3f", later ? redis->options.lease : SOON);
    memcpy(packed, run_and_token, LT_REDIS_CHANGE_TO);
    packed[LT_REDIS_CHANGE_TO] = (char)('0' + LT_WAITING);
    packed[LT_REDIS_CHANGE_BITS] = LT_REDIS_UNCOUNTED;
    packed[LT_REDIS_CHANGE_VALUES] = LT_REDIS_WHEN | LT_REDIS_REASON;
    lt_redis_put(request, id, id_len);
    lt_redis_put(request, packed, sizeof packed);
    lt_redis_put_text(request, when);
    lt_redis_put_text(request, "the store could not be reached");
    lt_redis_send(redis->link, request);
}

static void ask_runs(struct lt_redis *redis, const char *after, size_t len);

static void compare_run(struct lt_redis *redis, const redisReply *part)
{
    const char *id = part->str + 14;
    size_t id_len = part->len - 14;
    uint64_t run_number = lt_redis_unpack(part->str, 6), token = lt_redis_unpack(part->str + 6, 8);
    struct lt_redis_run *run = lt_redis_find_run(redis, id, id_len);
    if (run != NULL && run->run == run_number && run->token == token)
        run->seen = true;
    if (run != NULL && run->seen && !run->forsaken)
        return;
    if (run == NULL && redis->claim_lost) { /* perhaps of that one */
        redis->compare_again = true;
        return;
    }
    give_back(redis, id, id_len, part->str, run != NULL);
    if (run != NULL && run->forsaken && run->token == token)
        lt_redis_forget_run(redis, run);
}

/* All that the queue says is known. What it does not name is another's, or nobody's: so it is when a replica has taken over that
 * had not heard of the claim. */
static void lose_unseen(struct lt_redis *redis)
{
    struct lt_redis_run *run, **over = lt_alloc((redis->forsaken_runs + 1) * sizeof(struct lt_redis_run *));
    uint32_t position = 0, count = 0;
    while ((run = lt_map_next(&redis->runs, &position)) != NULL) {
        if (!run->seen && run->forsaken)
            over[count++] = run;
        else if (!run->seen && !run->told)
            lt_redis_tell_lost(redis, run);
    }
    while (count > 0)
        lt_redis_forget_run(redis, over[--count]);
    free(over);
}

static void end_comparison(struct lt_redis *redis)
{
    redis->comparing = false;
    if (redis->compare_again && !redis->claim_lost)
        lt_redis_compare_runs(redis);
}

static void runs_known(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    const redisReply *list = lt_redis_element(request->reply, 1), *last = NULL;
    for (size_t i = 0; list != NULL && i < list->elements; i++) {
        const redisReply *part = list->element[i];
        if (part->type != REDIS_REPLY_STRING || part->len <= 14)
            continue;
        compare_run(redis, part);
        last = part;
    }
    if (last != NULL) {
        ask_runs(redis, last->str + 14, last->len - 14);
    } else {
        if (list != NULL)
            lose_unseen(redis);
        end_comparison(redis);
    }
    lt_redis_request_free(request);
}

static void ask_runs(struct lt_redis *redis, const char *after, size_t len)
{
    struct lt_redis_request *request = lt_redis_request(redis, "v", NULL, runs_known);
    lt_redis_put(request, after, len);
    lt_redis_send(redis->link, request);
}

bool lt_redis_has_runs(const struct lt_redis *redis, long long mine)
{
    return mine == redis->runs.count - redis->forsaken_runs;
}

void lt_redis_compare_runs(struct lt_redis *redis)
{
    redis->compare_again = redis->comparing;
    if (redis->comparing)
        return;
    redis->comparing = true;
    uint32_t position = 0;
    struct lt_redis_run *run;
    while ((run = lt_map_next(&redis->runs, &position)) != NULL)
        run->seen = false;
    ask_runs(redis, "", 0);
}
