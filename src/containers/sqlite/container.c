/* The container: each operation becomes a request to the store. What may change while that is under way is copied. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "containers/limits_told.h"
#include "containers/sqlite/container.h"
#include "containers/sqlite/sqlite.h"
#include "containers/sqlite/store.h"

static const double PRUNE = 1; /* seconds between two steps of forgetting, while there is something to forget */
static const double PRUNE_IDLE = 30;

struct sqlite {
    struct lt_container base;
    struct lt_loop *loop;
    struct lt_sqlite_store *store;
    struct lt_sqlite_member *member;
    struct lt_container_env env;
    double oldest; /* as of the last count */
    struct lt_limits_told limits_told;
    struct lt_timer prune;
    bool pruning;
    bool open;
    bool released;
    bool hurries;
    bool full;
};

static struct sqlite *sqlite_of(struct lt_container *container)
{
    return lt_container_of(container, struct sqlite, base);
}

static struct lt_sqlite_request *ask(struct lt_container *container, enum lt_sqlite_kind kind, void *op,
                                     struct lt_reply *reply)
{
    return lt_sqlite_request_new(kind, sqlite_of(container)->member, op, reply);
}

static void send_request(struct lt_container *container, struct lt_sqlite_request *request)
{
    lt_sqlite_send(sqlite_of(container)->store, request);
}

/* Adding. */

static void answer_add(struct lt_sqlite_request *request)
{
    const struct lt_add_op *op = request->op;
    for (uint32_t i = 0; request->code == LT_OK && i < op->count; i++)
        lt_task_apply_added(op->tasks[i], request->now);
}

static void sqlite_add(struct lt_container *container, struct lt_add_op *op)
{
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_ADD, op, &op->reply);
    request->answer = answer_add;
    send_request(container, request);
}

/* Claims. */

static void answer_claim(struct lt_sqlite_request *request)
{
    struct lt_claim_op *op = request->op;
    struct sqlite *sqlite = request->member->tell_arg;
    for (uint32_t i = 0; i < request->claims.count; i++)
        lt_claims_push(&op->claimed, request->claims.items[i]);
    for (uint32_t i = 0; i < request->tasks.count; i++)
        lt_tasks_push(&op->expired, request->tasks.items[i]);
    for (uint32_t i = 0; i < request->seen.count; i++)
        lt_tasks_push(&op->seen, request->seen.items[i]);
    request->claims.count = request->tasks.count = request->seen.count = 0; /* the references moved */
    op->due = request->counts[LT_ROW_DUE];
    op->more = request->more;
    op->waits = request->waits;
    double now = lt_loop_now(sqlite->loop);
    op->token_at = request->token_in > 0 ? now + request->token_in : 0;
    op->next_at = op->token_at > 0 ? op->token_at + 0.001 : 0;
    op->next_date = request->next_date;
    op->queue_full = request->queue_full;
    lt_limits_tell(&sqlite->limits_told, sqlite->member->name, request->differ);
}

static void note_full_key(void *arg, struct lt_bytes *key)
{
    struct lt_sqlite_request *request = arg;
    request->full_keys = lt_realloc(request->full_keys, (request->full_count + 1) * sizeof(struct lt_bytes *));
    request->full_keys[request->full_count++] = lt_bytes_ref(key);
}

static void copy_given(struct lt_sqlite_request *request, const struct lt_limits *limits)
{
    request->given[LT_SQLITE_GLOBAL] = limits->global_slots;
    request->given[LT_SQLITE_KEY] = limits->shared_key_limit;
    request->given[LT_SQLITE_BURST] = limits->shared_rate.burst;
    request->given[LT_SQLITE_PER] = limits->shared_rate.per;
}

/* The limits as data: what the store's thread cannot ask, it is told. */
static void copy_limits(struct lt_sqlite_request *request, struct lt_limiter *limiter)
{
    enum { MOST_FULL = 100000 };
    const struct lt_limits *limits = &limiter->limits;
    copy_given(request, limits);
    request->key_once = limits->key_limit_fn != NULL || limits->key_rate.per > 0;
    if (request->key_once)
        lt_limiter_full_keys(limiter, MOST_FULL, note_full_key, request);
}

/* Changes under way, of which each that is stored makes room. */
static void copy_ends(struct lt_sqlite_request *request, const struct lt_claim_op *op)
{
    if (op->end_count == 0)
        return;
    request->ends = lt_alloc(op->end_count * sizeof(struct lt_sqlite_request *));
    for (uint32_t i = 0; i < op->end_count; i++) {
        struct lt_sqlite_request *end = op->ends[i]->reply.cancel_arg;
        if (end == NULL)
            continue;
        lt_sqlite_request_ref(end);
        request->ends[request->end_count++] = end;
    }
}

static void sqlite_claim(struct lt_container *container, struct lt_claim_op *op)
{
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_CLAIM, op, &op->reply);
    request->answer = answer_claim;
    request->limit = op->limit;
    copy_limits(request, op->limiter);
    copy_ends(request, op);
    send_request(container, request);
}

static void limits_set(struct lt_sqlite_request *request)
{
    if (request->code != LT_OK)
        lt_log(LT_LOG_WARN, "the limits of the queue could not be set", LT_S("queue", request->member->name),
               LT_S("error", request->message));
}

static void sqlite_set_limits(struct lt_container *container, const struct lt_limits *limits, unsigned named)
{
    if (!sqlite_of(container)->open)
        return;
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_SET_LIMITS, NULL, NULL);
    copy_given(request, limits);
    if ((named & LT_NAMES_GLOBAL) == 0)
        request->given[LT_SQLITE_GLOBAL] = -1;
    if ((named & LT_NAMES_KEY) == 0)
        request->given[LT_SQLITE_KEY] = -1;
    if ((named & LT_NAMES_RATE) == 0)
        request->given[LT_SQLITE_BURST] = request->given[LT_SQLITE_PER] = -1;
    request->answer = limits_set;
    send_request(container, request);
}

static void answer_recover(struct lt_sqlite_request *request)
{
    struct lt_recover_op *op = request->op;
    for (uint32_t i = 0; i < request->claims.count; i++)
        lt_claims_push(&op->tasks, request->claims.items[i]);
    request->claims.count = 0;
}

static void sqlite_recover(struct lt_container *container, struct lt_recover_op *op)
{
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_RECOVER, op, &op->reply);
    request->answer = answer_recover;
    send_request(container, request);
}

/* Changes. */

static void sqlite_change(struct lt_container *container, struct lt_change_op *op)
{
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_CHANGE, op, &op->reply);
    const struct lt_task_extra *extra = op->task->extra;
    request->from = op->task->status;
    if (extra != NULL) {
        request->version = lt_bytes_ref(extra->version);
        request->progress = lt_bytes_ref(extra->progress);
    }
    send_request(container, request);
}

static void sqlite_update(struct lt_container *container, struct lt_update_op *op)
{
    send_request(container, ask(container, LT_SQLITE_UPDATE, op, &op->reply));
}

static void sqlite_ask_stop(struct lt_container *container, struct lt_ask_stop_op *op)
{
    send_request(container, ask(container, LT_SQLITE_ASK_STOP, op, &op->reply));
}

static void sqlite_pause_all(struct lt_container *container, bool paused, struct lt_reply *reply)
{
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_PAUSE, NULL, reply);
    request->paused = paused;
    send_request(container, request);
}

/* Questions. */

static void answer_get(struct lt_sqlite_request *request)
{
    struct lt_get_op *op = request->op;
    op->task = request->task;
    request->task = NULL;
}

static void sqlite_get(struct lt_container *container, struct lt_get_op *op)
{
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_GET, op, &op->reply);
    request->answer = answer_get;
    send_request(container, request);
}

static void answer_list(struct lt_sqlite_request *request)
{
    struct lt_list_op *op = request->op;
    for (uint32_t i = 0; i < request->tasks.count; i++)
        lt_tasks_push(&op->tasks, request->tasks.items[i]);
    request->tasks.count = 0;
    op->next = (uint64_t)request->after;
}

static void sqlite_list(struct lt_container *container, struct lt_list_op *op)
{
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_LIST, op, &op->reply);
    request->answer = answer_list;
    send_request(container, request);
}

static void answer_count(struct lt_sqlite_request *request)
{
    struct lt_count_op *op = request->op;
    struct sqlite *sqlite = request->member->tell_arg;
    for (int state = 0; state < LT_ROW_STATES; state++)
        op->counts[lt_row_status(state)] += request->counts[state];
    op->delayed = request->counts[LT_ROW_DELAYED];
    sqlite->oldest = request->oldest;
}

static void sqlite_count(struct lt_container *container, struct lt_count_op *op)
{
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_COUNT, op, &op->reply);
    memset(op->counts, 0, sizeof op->counts);
    request->answer = answer_count;
    send_request(container, request);
}

static void answer_hosts(struct lt_sqlite_request *request)
{
    struct lt_hosts_op *op = request->op;
    op->hosts = request->hosts;
    request->hosts = (struct lt_queue_hosts){0};
}

static void sqlite_hosts(struct lt_container *container, struct lt_hosts_op *op)
{
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_HOSTS, op, &op->reply);
    request->answer = answer_hosts;
    send_request(container, request);
}

static double sqlite_oldest(const struct lt_container *container)
{
    return ((const struct sqlite *)container)->oldest;
}

/* Forgetting what is old. */

static void prune_now(struct lt_timer *timer);

static void plan_prune(struct sqlite *sqlite, double seconds)
{
    lt_timer_start(sqlite->loop, &sqlite->prune, lt_loop_now(sqlite->loop) + seconds, prune_now);
}

static void pruned(struct lt_sqlite_request *request)
{
    struct sqlite *sqlite = request->op;
    sqlite->pruning = false;
    if (sqlite->open)
        plan_prune(sqlite, request->code != LT_OK ? PRUNE_IDLE : request->more ? 0.01 : PRUNE);
}

static void prune_now(struct lt_timer *timer)
{
    struct sqlite *sqlite = lt_container_of(timer, struct sqlite, prune);
    struct lt_sqlite_request *request = ask(&sqlite->base, LT_SQLITE_PRUNE, sqlite, NULL);
    request->answer = pruned;
    sqlite->pruning = true;
    send_request(&sqlite->base, request);
}

static bool forgets(const struct lt_sqlite_member *member)
{
    return member->keep[0] >= 0 || member->keep[1] >= 0 || member->keep[2] >= 0;
}

/* Life. */

static void tell(void *arg, const struct lt_news *news)
{
    const struct sqlite *sqlite = arg;
    if (sqlite->open)
        sqlite->env.tell(sqlite->env.tell_arg, news);
}

static void sqlite_open(struct lt_container *container, const struct lt_container_env *env)
{
    struct sqlite *sqlite = sqlite_of(container);
    sqlite->env = *env;
    sqlite->open = true;
    sqlite->member->tell = tell;
    sqlite->member->tell_arg = sqlite;
    lt_sqlite_watch(sqlite->store);
    if (forgets(sqlite->member))
        plan_prune(sqlite, PRUNE);
}

static void let_go(struct sqlite *sqlite)
{
    lt_sqlite_member_free(sqlite->member);
    lt_sqlite_durability(sqlite->store, sqlite->full, -1);
    lt_sqlite_store_release(sqlite->store);
    sqlite->store = NULL;
}

static void free_sqlite(struct sqlite *sqlite)
{
    if (sqlite->store != NULL)
        let_go(sqlite);
    free(sqlite);
}

/* It is no member any more. The object may live on for a while, and does nothing: the file is let go of now. */
static void after_leave(struct lt_sqlite_request *request)
{
    struct sqlite *sqlite = request->op;
    lt_sqlite_unwatch(sqlite->store);
    if (sqlite->hurries)
        lt_sqlite_hurried(sqlite->store);
    if (request->code != LT_OK) {
        lt_sqlite_stranded(sqlite->store);
        lt_log(LT_LOG_WARN, "the store could not be told that this host leaves; others will find that out",
               LT_S("error", request->message));
    }
    request->code = LT_OK; /* it is closed all the same */
    let_go(sqlite);
    if (sqlite->released)
        free_sqlite(sqlite);
}

static void sqlite_hurry(struct lt_container *container)
{
    struct sqlite *sqlite = sqlite_of(container);
    if (!sqlite->hurries)
        lt_sqlite_hurry(sqlite->store);
    sqlite->hurries = true;
}

static void sqlite_close(struct lt_container *container, struct lt_reply *reply)
{
    struct sqlite *sqlite = sqlite_of(container);
    sqlite->open = false;
    lt_timer_stop(sqlite->loop, &sqlite->prune);
    struct lt_sqlite_request *request = ask(container, LT_SQLITE_LEAVE, sqlite, reply);
    request->answer = after_leave;
    send_request(container, request);
}

static void sqlite_release(struct lt_container *container)
{
    struct sqlite *sqlite = sqlite_of(container);
    sqlite->released = true;
    if (!sqlite->base.in_use || sqlite->store == NULL)
        free_sqlite(sqlite);
}

static const struct lt_container_ops sqlite_ops = {
    .name = "sqlite",
    .durable = true,
    .announces = true,
    .ordered = true,
    .priorities = true,
    .chooses = true,
    .keeps_limits = true,
    .open = sqlite_open,
    .add = sqlite_add,
    .claim = sqlite_claim,
    .change = sqlite_change,
    .update = sqlite_update,
    .get = sqlite_get,
    .list = sqlite_list,
    .count = sqlite_count,
    .hosts = sqlite_hosts,
    .recover = sqlite_recover,
    .ask_stop = sqlite_ask_stop,
    .pause_all = sqlite_pause_all,
    .set_limits = sqlite_set_limits,
    .oldest = sqlite_oldest,
    .hurry = sqlite_hurry,
    .close = sqlite_close,
    .release = sqlite_release,
};

const char *lt_sqlite_queue_in(struct lt_container *container, const struct lt_sqlite_store *store)
{
    if (container->behind != NULL)
        container = container->behind;
    if (container->ops != &sqlite_ops || sqlite_of(container)->store != store)
        return NULL;
    return sqlite_of(container)->member->name;
}

const char *lt_sqlite_path(struct lt_container *container)
{
    struct sqlite *sqlite = sqlite_of(container);
    return container->ops == &sqlite_ops && sqlite->store != NULL ? lt_sqlite_store_path(sqlite->store) : NULL;
}

struct lt_container *lt_sqlite_container_new(struct lt_loop *loop, const struct lt_sqlite_options *options,
                                             struct lt_error *error)
{
    struct lt_sqlite_store *store = lt_sqlite_store_get(loop, options->path, error);
    if (store == NULL)
        return NULL;
    struct sqlite *sqlite = lt_zalloc(sizeof *sqlite);
    sqlite->base.ops = &sqlite_ops;
    sqlite->loop = loop;
    sqlite->store = store;
    sqlite->prune = LT_TIMER_INIT;
    sqlite->member = lt_sqlite_member_new(options->queue);
    sqlite->full = options->full;
    lt_sqlite_durability(store, options->full, 1);
    sqlite->member->lease = options->lease;
    sqlite->member->fair = sqlite->base.fair = options->fair;
    memcpy(sqlite->member->keep, options->keep, sizeof options->keep);
    return &sqlite->base;
}
