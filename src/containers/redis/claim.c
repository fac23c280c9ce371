/* Claims, and what hosts left that died: it is claimed as all else, alone, since it may be running still. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "containers/redis/container_state.h"
#include "containers/redis/record.h"

/* Never 0, and by chance never used before: run numbers may come again when a server has lost what it knew last. */
static uint64_t put_token(struct lt_redis_request *request)
{
    uint64_t token = 0;
    while (token == 0) {
        if (getrandom(&token, sizeof token, 0) != (ssize_t)sizeof token)
            token = uv_hrtime();
    }
    lt_redis_put_packed(request, token, 8);
    return token;
}

static bool is_one(const redisReply *reply, size_t i)
{
    const char *text = lt_redis_text(reply, i);
    return text != NULL && text[0] == '1';
}

/* Claims. */

/* By choice: what came of each of those that were sent. */

enum { MOST_CHOICES = 100 }; /* of a call */

static void put_choices(const struct lt_redis *redis, struct lt_redis_request *request, const struct lt_claim_op *op)
{
    uint32_t count = op->choice_count < MOST_CHOICES ? op->choice_count : MOST_CHOICES;
    lt_redis_put_text(request, op->by_choice ? "1" : "0");
    if (!op->by_choice)
        return;
    lt_redis_put_number(request, (double)redis->known_number);
    lt_redis_put_number(request, op->look);
    lt_redis_put_number(request, count);
    for (uint32_t i = 0; i < count; i++) {
        lt_redis_put(request, op->choices[i].task->data, op->choices[i].task->id_len);
        lt_redis_put_packed(request, op->choices[i].task->run, 6);
    }
}

static void take_choice(struct lt_redis *redis, struct lt_choice *choice, uint64_t run, uint64_t token)
{
    choice->state = LT_CHOICE_TAKEN;
    choice->run = run;
    choice->token = token;
    lt_redis_note_run(redis, choice->task->data, choice->task->id_len, run, token);
}

static void take_states(struct lt_redis *redis, const struct lt_redis_request *request, struct lt_claim_op *op)
{
    const redisReply *states = lt_redis_element(request->reply, 10), *run = lt_redis_element(request->reply, 11);
    const char *at = states != NULL && states->type == REDIS_REPLY_STRING ? states->str : "";
    const char *end = at + (states != NULL && states->type == REDIS_REPLY_STRING ? states->len : 0);
    for (uint32_t i = 0; i < op->choice_count; i++) {
        struct lt_choice *choice = &op->choices[i];
        choice->state = LT_CHOICE_WAITS;
        if (at < end && *at == 't' && end - at >= 7 && run != NULL && run->len == 14) {
            take_choice(redis, choice, lt_redis_unpack(run->str, 6), redis->claim_token);
            choice->started_at = lt_redis_unpack_double(run->str + 6);
            choice->turn = lt_redis_unpack(at + 1, 6);
            at += 7;
        } else if (at < end) {
            choice->state = *at++ == 'g' ? LT_CHOICE_GONE : LT_CHOICE_WAITS;
        }
    }
    op->more = op->more || op->choice_count > MOST_CHOICES;
}

static struct lt_choice *find_choice(const struct lt_claim_op *op, const struct lt_task *task)
{
    for (uint32_t i = 0; i < op->choice_count; i++) {
        const struct lt_task *chosen = op->choices[i].task;
        if (chosen->id_len == task->id_len && memcmp(chosen->data, task->data, task->id_len) == 0)
            return &op->choices[i];
    }
    return NULL;
}

/* Where an answer came again, it has them among the tasks. */
static bool take_claimed_choice(struct lt_redis *redis, const struct lt_claim_op *op,
                                const struct lt_redis_found *found)
{
    struct lt_choice *choice = op->choice_count > 0 ? find_choice(op, found->task) : NULL;
    if (choice == NULL)
        return false;
    take_choice(redis, choice, found->task->run, found->token);
    choice->started_at = found->task->started_at;
    lt_task_unref(found->task);
    return true;
}

static void take_seen(const struct lt_redis *redis, const redisReply *list, struct lt_tasks *seen)
{
    for (size_t i = 0; list != NULL && i < list->elements; i++) {
        const redisReply *turn = lt_redis_element(list->element[i], 1);
        struct lt_redis_found found;
        if (turn == NULL || turn->len != 6 ||
            !lt_redis_read_task(lt_redis_element(list->element[i], 0), redis->host, &found))
            continue;
        found.task->turn = lt_redis_unpack(turn->str, 6);
        lt_tasks_push(seen, found.task);
    }
}

/* `op`: NULL: of a recovery. */
static void take_claimed(struct lt_redis *redis, const redisReply *list, bool taken_over, const struct lt_claim_op *op,
                         struct lt_claims *claims)
{
    for (size_t i = 0; list != NULL && i < list->elements; i++) {
        struct lt_redis_found found;
        if (!lt_redis_read_task(list->element[i], redis->host, &found) ||
            (op != NULL && take_claimed_choice(redis, op, &found)))
            continue;
        lt_redis_note_run(redis, found.task->data, found.task->id_len, found.task->run, found.token);
        lt_claims_push(claims, (struct lt_claimed){.task = found.task, .token = found.token, .taken_over = taken_over});
    }
}

static void take_expired(const struct lt_redis *redis, const redisReply *list, struct lt_tasks *expired)
{
    for (size_t i = 0; list != NULL && i < list->elements; i++) {
        struct lt_redis_found found;
        if (lt_redis_read_task(list->element[i], redis->host, &found))
            lt_tasks_push(expired, found.task);
    }
}

/* Why the queue gave no more. */
static void note_queue_limits(const struct lt_redis *redis, const redisReply *reply, struct lt_claim_op *op)
{
    const char *token_in = lt_redis_text(reply, 15);
    const redisReply *full = lt_redis_element(reply, 16);
    double seconds = token_in != NULL ? strtod(token_in, NULL) : 0;
    op->token_at = seconds > 0 ? lt_loop_now(redis->loop) + seconds : 0;
    op->queue_full = full != NULL ? (uint32_t)full->integer : 0;
}

static void claimed(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    struct lt_claim_op *op = request->op;
    const redisReply *reply = request->reply;
    const char *seconds = lt_redis_text(reply, 3);
    if (seconds == NULL) {
        redis->claim_lost = redis->claim_lost || request->sent;
        lt_redis_fail(request, &op->reply);
    } else {
        redis->claim_lost = false;
        double in = strtod(seconds, NULL);
        op->more = is_one(reply, 1);
        op->waits = is_one(reply, 2);
        op->next_at = in >= 0 ? lt_loop_now(redis->loop) + in + 0.001 : 0;
        op->next_date = 0;
        note_queue_limits(redis, reply, op);
        const redisReply *due = lt_redis_element(reply, 13);
        op->due = due != NULL && due->integer >= 0 ? (uint64_t)due->integer : UINT64_MAX;
        const redisReply *number = lt_redis_element(reply, 14);
        redis->known_number = op->look > 0 && number != NULL ? number->integer : redis->known_number;
        take_states(redis, request, op);
        take_claimed(redis, lt_redis_element(reply, 5), is_one(reply, 7), op, &op->claimed);
        take_seen(redis, lt_redis_element(reply, 12), &op->seen);
        take_expired(redis, lt_redis_element(reply, 6), &op->expired);
        lt_limits_tell(&redis->limits_told, lt_redis_queue(redis->link), lt_redis_text(reply, 8));
        const redisReply *mine = lt_redis_element(reply, 9);
        bool unknown = mine != NULL && mine->integer >= 0 && !lt_redis_has_runs(redis, mine->integer);
        op->waits = op->waits || unknown;
        if (unknown || redis->compare_again)
            lt_redis_compare_runs(redis);
        lt_reply_ok(&op->reply);
    }
    lt_redis_request_free(request);
}

/* Ends that go with this claim: each that is stored makes room for one more. */
static void mark_ends(const struct lt_claim_op *op)
{
    for (uint32_t i = 0; i < op->end_count; i++) {
        struct lt_redis_request *end = op->ends[i]->reply.cancel_arg;
        if (end != NULL && !end->sent)
            end->frees = true;
    }
}

void lt_redis_claim(struct lt_container *container, struct lt_claim_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "q", op, claimed);
    mark_ends(op);
    lt_redis_put_packed(request, op->number, 8);
    redis->claim_token = put_token(request);
    lt_redis_put_text(request, redis->host);
    lt_redis_put_number(request, op->limit);
    lt_redis_put_limits(redis, request, op->limiter);
    put_choices(redis, request, op);
    request->weight = op->limit + op->end_count < 100 ? op->limit + op->end_count : 100;
    request->claims = true;
    lt_redis_send(redis->link, request);
}

/* Nobody waits for this: if it is lost, the server looks at what was set aside by itself, a little later. */
void lt_redis_key_open(struct lt_container *container, const struct lt_bytes *key)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "o", NULL, lt_redis_request_free);
    lt_redis_put(request, key->data, key->len);
    lt_redis_send(redis->link, request);
}

/* Recovery: which owners are dead is proved where that can be done at once; what they left is taken over step by step. */

static void taken_over(struct lt_redis_request *request);

static void take_next(struct lt_redis *redis, struct lt_recover_op *op)
{
    struct lt_redis_request *request = lt_redis_request(redis, "t", op, taken_over);
    put_token(request);
    request->weight = 100;
    lt_redis_send(redis->link, request);
}

static void taken_over(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    struct lt_recover_op *op = request->op;
    if (request->code != LT_OK || lt_redis_outcome(request) == NULL) {
        lt_redis_fail(request, &op->reply);
    } else {
        take_claimed(redis, lt_redis_element(request->reply, 2), true, NULL, &op->tasks);
        if (is_one(request->reply, 1))
            take_next(redis, op);
        else
            lt_reply_ok(&op->reply);
    }
    lt_redis_request_free(request);
}

static void tell_dead(struct lt_redis *redis, const redisReply *owner)
{
    const redisReply *name = lt_redis_element(owner, 0);
    if (name == NULL || !lt_redis_is_dead(lt_redis_element(owner, 2)))
        return;
    struct lt_redis_request *request = lt_redis_request(redis, "x", NULL, lt_redis_request_free);
    lt_redis_put(request, name->str, name->len);
    lt_redis_send(redis->link, request);
}

static void owners_known(struct lt_redis_request *request)
{
    struct lt_redis *redis = request->user;
    struct lt_recover_op *op = request->op;
    const redisReply *owners = lt_redis_element(request->reply, 2);
    if (owners == NULL) {
        lt_redis_fail(request, &op->reply);
    } else {
        for (size_t i = 0; i < owners->elements; i++)
            tell_dead(redis, owners->element[i]);
        take_next(redis, op);
    }
    lt_redis_request_free(request);
}

void lt_redis_recover(struct lt_container *container, struct lt_recover_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "h", op, owners_known);
    request->patient = true;
    lt_redis_send(redis->link, request);
}
