#include "containers/sqlite/limits.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "containers/sqlite/perform.h"

static const char *const names[LT_SQLITE_LIMITS] = {"global_limit", "key_limit", "rate", "rate per"};

static void note_difference(struct lt_sqlite_request *request, int limit, double held)
{
    size_t len = strlen(request->differ);
    snprintf(request->differ + len, sizeof request->differ - len, "%s%s %.14g instead of %.14g", len > 0 ? ", " : "",
             names[limit], held, request->given[limit]);
}

void lt_sqlite_limits_take(struct lt_sqlite_request *request)
{
    struct lt_sqlite_queue *queue = request->member->queue;
    double held[LT_SQLITE_LIMITS];
    request->differ[0] = '\0';
    for (int i = 0; i < LT_SQLITE_LIMITS; i++) {
        if (queue->limits[i] < 0 && request->given[i] > 0) {
            queue->limits[i] = request->given[i];
            queue->changed = true;
        }
        held[i] = queue->limits[i] > 0 ? queue->limits[i] : 0;
        if (request->given[i] > 0 && held[i] != request->given[i])
            note_difference(request, i, held[i]);
    }
    request->global_limit = (uint32_t)held[LT_SQLITE_GLOBAL];
    request->key_limit = (uint32_t)held[LT_SQLITE_KEY];
    request->keys_limited = request->key_limit > 0 || request->key_once;
}

void lt_sqlite_limits_join(const struct lt_sqlite_lane *lane, const struct lt_sqlite_member *member)
{
    struct lt_sqlite_queue *queue = member->queue;
    const struct lt_sqlite_other *other;
    const struct lt_sqlite_member *mate;
    TAILQ_FOREACH(other, &lane->others, link) {
        if (other->queue == queue->number && other->mark >= 0)
            return;
    }
    TAILQ_FOREACH(mate, &lane->members, link) {
        if (mate != member && mate->queue == queue && mate->standing.owner != 0)
            return;
    }
    for (int i = 0; i < LT_SQLITE_LIMITS; i++) {
        if ((queue->limits_set >> i & 1) != 0 || queue->limits[i] < 0)
            continue;
        queue->limits[i] = -1;
        queue->changed = true;
    }
}

int lt_sqlite_set_limits(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    struct lt_sqlite_queue *queue = request->member->queue;
    for (int i = 0; i < LT_SQLITE_LIMITS; i++) {
        if (request->given[i] < 0) /* it was not named */
            continue;
        queue->limits[i] = request->given[i];
        queue->limits_set |= 1 << i;
    }
    queue->changed = true;
    lane->rings = true;
    lt_sqlite_tell_work(lane, queue, NULL);
    return SQLITE_OK;
}

/* The rate: a token bucket. Its clock is the machine's monotonic one, which all hosts on a file share; after the machine was
 * started anew it may be behind the time that is stored: then nothing has come since. */

int64_t lt_sqlite_tokens(struct lt_sqlite_queue *queue)
{
    double burst = queue->limits[LT_SQLITE_BURST], per = queue->limits[LT_SQLITE_PER];
    double now = lt_sqlite_monotonic();
    if (burst <= 0 || per <= 0)
        return INT64_MAX;
    if (queue->tokens_at < 0)
        queue->tokens = burst;
    else if (queue->tokens_at < now)
        queue->tokens += (now - queue->tokens_at) * burst / per;
    queue->changed = queue->changed || queue->tokens_at > now;
    queue->tokens = fmin(queue->tokens, burst);
    queue->tokens_at = now;
    return (int64_t)floor(queue->tokens + 1e-9);
}

double lt_sqlite_tokens_spend(struct lt_sqlite_queue *queue, int64_t count)
{
    double burst = queue->limits[LT_SQLITE_BURST], per = queue->limits[LT_SQLITE_PER];
    if (burst <= 0 || per <= 0)
        return 0;
    queue->tokens -= (double)count;
    queue->changed = queue->changed || count > 0;
    return queue->tokens < 1 ? (1 - queue->tokens) * per / burst : 0;
}
