/* The container of the simulation: a real one in memory behind a bad line.
 *
 * Every operation is a call, which is handed in now or later (perform), and answered now, later, out of order, or not as
 * it should be (answer): the store was down, or its answer was lost, and then nobody knows whether it was done. It can
 * be a store with leases that other hosts share: those take tasks, end them, leave them, and die.
 *
 * The real containers go by objects that they share with the scheduler. As a remote store (options.remote) the double
 * gives out copies instead, and is the one who applies transitions to the objects inside. */
#include <stdio.h>

#include "containers/memory.h"
#include "world.h"

enum kind { ADD, CLAIM, CHANGE, UPDATE, GET, LIST, COUNT, RECOVER, ASK_STOP, PAUSE_ALL };

static const char *const kind_names[] = {"add",  "claim", "change",  "update",   "get",
                                         "list", "count", "recover", "ask_stop", "pause_all"};

enum fate { DONE, LOST_DONE, LOST_UNDONE };

struct call {
    struct sim_event event;
    struct store *store;
    enum kind kind;
    enum fate fate;
    void *op;
    struct lt_reply *reply;
    uint32_t refs;
    bool performed;
    bool by_run; /* of a change: a run's own */
    double answer_at;
    int lost_code;
    int code;
    struct lt_bytes *message;
    struct lt_task *task;  /* of a get */
    struct lt_tasks tasks; /* of a list */
    uint64_t counts[LT_STATUSES];
    uint64_t delayed;
    bool paused;
    /* Of a claim: what was borrowed with the question. */
    uint64_t number;
    uint32_t limit;
    struct call **ends;
    uint32_t end_count;
    struct lt_bytes **full;
    uint32_t full_count;
    TAILQ_ENTRY(call) link;
};

struct item {
    struct lt_task *task; /* as it is given out */
    uint64_t token;
    bool taken_over;
    bool admitted;
};

/* The latest claim: asked again with its number, it is given again. */
struct last_claim {
    uint64_t number; /* 0: none */
    struct item *items;
    uint32_t count;
    struct lt_tasks expired;
    double next_at;
    double next_date;
    bool more;
    bool waits;
};

struct store {
    struct lt_container base;
    struct lt_container_ops ops;
    struct world *world;
    struct lt_container *inner;
    struct lt_container_env env;
    bool open;
    TAILQ_HEAD(, call) calls;
    double last_perform, last_answer; /* of an ordered one */
    /* Of one that does batches: the one that is gathered, or was the last. */
    double batch_at, batch_over;
    enum fate batch_fate;
    int batch_lost_code;
    bool down;
    bool told_down;
    struct sim_event up;
    bool paused;
    struct last_claim last;
    uint64_t next_token;
    uint64_t asked; /* operations so far */
    uint32_t later; /* things that will happen by themselves */
    struct lt_reply *closing;
    struct sim_event close_event;
};

/* ---- objects ---- */

static struct lt_task *copy_of(const struct lt_task *task)
{
    struct lt_task *copy = lt_task_new(task->data, task->id_len, lt_task_item(task), task->item_len);
    copy->status = task->status;
    copy->snoozes = task->snoozes;
    copy->attempts = task->attempts;
    copy->lost = task->lost;
    copy->delayed = task->delayed;
    copy->run = task->run;
    copy->priority = task->priority;
    copy->added_at = task->added_at;
    copy->run_at = task->run_at;
    copy->started_at = task->started_at;
    copy->ended_at = task->ended_at;
    copy->output = lt_bytes_ref(task->output);
    copy->reason = lt_bytes_ref(task->reason);
    if (task->options != NULL) {
        struct lt_task_options *options = lt_task_options(copy);
        *options = *task->options;
        lt_bytes_ref(options->key);
        options->task = copy;
        options->expiry_place = LT_HEAP_NONE;
    }
    if (task->extra != NULL) {
        struct lt_task_extra *extra = lt_task_extra(copy);
        *extra = *task->extra;
        lt_bytes_ref(extra->progress);
        lt_bytes_ref(extra->handle);
        lt_bytes_ref(extra->version);
        lt_bytes_ref(extra->host);
        if (extra->past != NULL)
            extra->past->refs++;
    }
    return copy;
}

/* What is given out for an object inside. */
static struct lt_task *given(const struct store *store, struct lt_task *inner)
{
    return store->world->options.remote ? copy_of(inner) : lt_task_ref(inner);
}

/* ---- the container inside ---- */

static void never(struct lt_reply *reply)
{
    (void)reply;
    fail("a container in memory answered late");
}

static void begin_inner(struct store *store, struct lt_reply *reply)
{
    lt_reply_begin(reply, &store->world->sim.loop, never);
}

static int end_inner(struct lt_reply *reply, struct lt_bytes **message)
{
    check_that(lt_reply_end_now(reply), "a container in memory did not answer at once");
    int code = reply->code;
    if (message != NULL && code != LT_OK)
        lt_bytes_set(message, lt_bytes_ref(reply->message));
    lt_reply_clear(reply);
    return code;
}

/* With a reference, or NULL. */
static struct lt_task *inner_get(struct store *store, const char *id, size_t id_len)
{
    struct lt_get_op op = {.id = id, .id_len = id_len};
    begin_inner(store, &op.reply);
    store->inner->ops->get(store->inner, &op);
    end_inner(&op.reply, NULL);
    return op.task;
}

/* Applied to the object inside by who knows that it was done, as the scheduler does with a shared one. */
static void apply_inside(struct lt_task *task, const struct lt_transition *transition)
{
    if (transition->to != LT_WAITING && transition->to != LT_DELETED && !lt_status_ended(task->status))
        lt_task_apply(task, transition);
}

static int inner_change(struct store *store, struct lt_task *task, const struct lt_transition *transition, bool again,
                        bool applies, struct lt_bytes **message)
{
    struct lt_change_op op = {.task = lt_task_ref(task), .again = again, .transition = *transition};
    begin_inner(store, &op.reply);
    store->inner->ops->change(store->inner, &op);
    int code = end_inner(&op.reply, message);
    if (code == LT_OK && applies)
        apply_inside(task, transition);
    lt_task_unref(task);
    return code;
}

/* ---- news ---- */

static void tell(struct store *store, const struct lt_news *news)
{
    static const char *const names[] = {"work", "lease lost", "stop", "forgotten", "ended", "paused", "available"};
    if (!store->open)
        return;
    trace("store    news: %s %s run %llu token %llu%s", names[news->kind],
          news->id != NULL     ? news->id
          : news->task != NULL ? lt_task_id(news->task)
                               : "",
          (unsigned long long)news->run, (unsigned long long)news->token, news->on ? " on" : "");
    store->env.tell(store->env.tell_arg, news);
}

/* News that come a little later, of what is true by then. */
struct message {
    struct store *store;
    struct lt_news news;
    char *id;
};

static void deliver_message(void *arg)
{
    struct message *message = arg;
    struct store *store = message->store;
    store->later--;
    if (message->news.kind == LT_NEWS_PAUSED)
        message->news.on = store->paused; /* what is true by now */
    tell(store, &message->news);
    if (message->news.kind == LT_NEWS_LEASE_LOST && !store->world->config.go_on_without_lease) {
        struct record *record = record_find(store->world, message->id, strlen(message->id));
        if (record != NULL)
            stage_must_stop(store->world->stage, record, message->news.run);
    }
    lt_bytes_unref(message->news.reason);
    lt_task_unref(message->news.task);
    free(message->id);
    free(message);
}

static void tell_later(struct store *store, double seconds, struct lt_news news)
{
    struct message *message = lt_zalloc(sizeof *message);
    *message = (struct message){.store = store, .news = news};
    if (news.id != NULL) {
        message->id = lt_strdup(news.id);
        message->news.id = message->id;
        message->news.id_len = strlen(message->id);
    }
    store->later++;
    world_later(store->world, seconds, deliver_message, message);
}

static void announce(struct store *store)
{
    if (store->world->options.announces)
        tell_later(store, 0.01, (struct lt_news){.kind = LT_NEWS_WORK});
}

/* ---- what is done in the store ---- */

static void perform_add(struct call *call)
{
    struct store *store = call->store;
    struct lt_add_op *op = call->op;
    struct lt_add_op inner = {.tasks = op->tasks, .count = op->count};
    bool remote = store->world->options.remote;
    if (remote) {
        inner.tasks = lt_alloc(op->count * sizeof(struct lt_task *));
        for (uint32_t i = 0; i < op->count; i++)
            inner.tasks[i] = copy_of(op->tasks[i]);
    }
    begin_inner(store, &inner.reply);
    store->inner->ops->add(store->inner, &inner);
    call->code = end_inner(&inner.reply, &call->message);
    for (uint32_t i = 0; i < op->count; i++) {
        const struct lt_task *task = inner.tasks[i];
        if (call->code == LT_OK)
            record_added(store->world, record_of(store->world, task->data, task->id_len), task);
        if (remote)
            lt_task_unref(inner.tasks[i]);
    }
    if (remote)
        free(inner.tasks);
    if (call->code == LT_OK && call->fate == LOST_DONE)
        announce(store);
}

/* A limiter that a store far away goes by: so many, and not of these keys. */

static uint32_t full_or_not(void *arg, const struct lt_bytes *key)
{
    const struct call *call = arg;
    for (uint32_t i = 0; i < call->full_count; i++) {
        if (strcmp(call->full[i]->data, key->data) == 0)
            return 1;
    }
    return LT_NO_KEY_LIMIT;
}

static void open_private(struct lt_limiter *limiter, struct call *call, uint32_t slots)
{
    struct lt_limits limits = {.slots = slots + call->full_count, .key_limit_fn = full_or_not, .key_limit_arg = call};
    lt_limiter_open(limiter, &limits, world_now(call->store->world));
    for (uint32_t i = 0; i < call->full_count; i++)
        lt_limiter_adopt(limiter, call->full[i]);
}

static void close_private(struct lt_limiter *limiter, const struct call *call)
{
    struct lt_container *inner = call->store->inner;
    for (uint32_t i = 0; i < call->full_count; i++)
        inner->ops->key_open(inner, call->full[i]); /* nothing is kept back from the next */
    lt_limiter_close(limiter);
}

void store_left(struct store *store)
{
    announce(store);
}

static void clear_last(struct store *store)
{
    struct last_claim *last = &store->last;
    for (uint32_t i = 0; i < last->count; i++)
        lt_task_unref(last->items[i].task);
    free(last->items);
    lt_tasks_free(&last->expired);
    *last = (struct last_claim){0};
}

static void push_item(struct store *store, struct lt_task *task, uint64_t token, bool taken_over, bool admitted)
{
    struct last_claim *last = &store->last;
    last->items = lt_realloc(last->items, (last->count + 1) * sizeof *last->items);
    last->items[last->count++] = (struct item){task, token, taken_over, admitted};
}

static uint64_t new_token(struct store *store)
{
    return store->world->options.leases ? ++store->next_token : 0;
}

static bool may_be_taken(struct store *store, const struct record *record)
{
    return record->known && record->holder == DEAD &&
           (record->status == LT_RUNNING || record->status == LT_EXPORTING) && !stage_has(store->world->stage, record);
}

/* A task of a dead host is ours. */
static bool take_over(struct store *store, struct record *record)
{
    struct lt_task *task = inner_get(store, record->id, record->id_len);
    check_that(task != NULL, "task %s is %s and the container does not know it", record->id,
               lt_status_name(record->status));
    record_taken_over(store->world, record, new_token(store), US);
    push_item(store, given(store, task), record->token, true, false);
    lt_task_unref(task);
    if (record->stop_wished)
        tell_later(
            store, 5,
            (struct lt_news){.kind = LT_NEWS_STOP, .id = record->id, .run = record->run, .token = record->token});
    return true;
}

static uint32_t take_orphans(struct store *store, uint32_t limit)
{
    uint32_t position = 0, count = 0;
    struct record *record;
    while (count < limit && (record = lt_map_next(&store->world->records, &position)) != NULL) {
        if (may_be_taken(store, record))
            count += take_over(store, record);
    }
    return count;
}

/* One claim inside, with a limiter: the tasks are this host's, or another's. */
static void claim_inside(struct store *store, struct lt_limiter *limiter, uint32_t limit, enum holder holder,
                         struct lt_claim_op *inner)
{
    *inner = (struct lt_claim_op){.limiter = limiter, .limit = limit};
    begin_inner(store, &inner->reply);
    store->inner->ops->claim(store->inner, inner);
    check_that(end_inner(&inner->reply, NULL) == LT_OK, "a claim in memory failed");
    check_that(inner->claimed.count <= limit, "a claim took %u of %u", inner->claimed.count, limit);
    for (uint32_t i = 0; i < inner->claimed.count; i++) {
        struct lt_claimed *claimed = &inner->claimed.items[i];
        claimed->token = new_token(store);
        record_claimed(store->world, record_of(store->world, claimed->task->data, claimed->task->id_len), claimed->task,
                       claimed->token, holder);
    }
    for (uint32_t i = 0; i < inner->expired.count; i++) {
        const struct lt_task *task = inner->expired.items[i];
        record_expired(store->world, record_of(store->world, task->data, task->id_len), holder == US);
    }
}

static void perform_claim(struct call *call)
{
    struct store *store = call->store;
    struct world *world = store->world;
    struct lt_claim_op *op = call->op, inner;
    struct last_claim *last = &store->last;
    if (last->number == call->number)
        return; /* it was asked before */
    clear_last(store);
    last->number = call->number;
    uint32_t limit = call->limit;
    for (uint32_t i = 0; i < call->end_count; i++)
        limit += call->ends[i]->performed && call->ends[i]->fate != LOST_UNDONE && call->ends[i]->code == LT_OK;
    /* What is taken over is given alone: it has its slot and its key before others are admitted. */
    bool takes_over = world->options.hosts && limit > 0 && !world->closing && take_orphans(store, limit) > 0;
    if (takes_over)
        limit = 0;
    bool asks = world->options.asks;
    struct lt_limiter limiter;
    if (!asks)
        open_private(&limiter, call, limit);
    claim_inside(store, asks ? op->limiter : &limiter, limit, US, &inner);
    if (!asks)
        close_private(&limiter, call);
    for (uint32_t i = 0; i < inner.claimed.count; i++) {
        struct lt_claimed *claimed = &inner.claimed.items[i];
        push_item(store, given(store, claimed->task), claimed->token, false, asks);
    }
    for (uint32_t i = 0; i < inner.expired.count; i++)
        lt_tasks_push(&last->expired, given(store, inner.expired.items[i]));
    lt_claims_free(&inner.claimed);
    lt_tasks_free(&inner.expired);
    last->next_at = inner.next_at;
    last->next_date = inner.next_date;
    last->more = inner.more || takes_over;
    last->waits = inner.waits;
}

/* It was done, and nobody will hear that from the answer. */
static void lost_change(struct call *call)
{
    struct world *world = call->store->world;
    const struct lt_change_op *op = call->op;
    struct record *record = record_of(world, op->task->data, op->task->id_len);
    bool given_up = call->by_run && world->stopping; /* it is not asked again */
    if ((!call->by_run || given_up) && lt_status_ended(op->transition.to))
        record_unclear(record, op->transition.run, op->transition.to);
    if (!call->by_run && op->transition.to == LT_WAITING)
        announce(call->store);
    record->unclear_deletion = record->unclear_deletion || op->transition.to == LT_DELETED;
}

/* It was not done now, but may have been before; and it is not asked again. */
static void given_up(const struct call *call)
{
    struct world *world = call->store->world;
    const struct lt_change_op *op = call->op;
    if (op->again && world->stopping)
        record_unclear(record_of(world, op->task->data, op->task->id_len), op->transition.run, op->transition.to);
}

static int refuse(struct call *call, int code, const char *message)
{
    lt_bytes_set(&call->message, lt_bytes_new(message, strlen(message)));
    return code;
}

static int change_record(struct call *call, struct record *record, struct lt_task *inner)
{
    struct store *store = call->store;
    struct world *world = store->world;
    struct lt_change_op *op = call->op;
    const struct lt_transition *transition = &op->transition;
    bool runs = record->status == LT_RUNNING || record->status == LT_EXPORTING;
    call->by_run = true;
    /* One that a client asked for has no run of its own: what it was to make of the task, the task is. */
    bool of_run = op->task->status == LT_RUNNING || op->task->status == LT_EXPORTING;
    if (op->again && !of_run && record->run == transition->run && record->status == transition->to) {
        call->by_run = false;
        return LT_OK;
    }
    if (op->again && of_run && record_done(record, transition->run, op->token, transition->to)) {
        if (!world->options.remote && !transition->not_begun)
            check_that(inner_change(store, inner, transition, true, false, NULL) == LT_OK,
                       "task %s: a change that was done is refused when it comes again", record->id);
        return LT_OK;
    }
    if (record->run == transition->run && record->token != op->token && (runs || op->token != 0))
        return refuse(call, LT_STALE, "the lease is another's");
    if (inner == NULL)
        return refuse(call, LT_UNKNOWN, "no such task");
    int code = inner_change(store, inner, transition, false, world->options.remote, &call->message);
    if (code != LT_OK)
        return code;
    check_that(!runs || record->holder == US, "task %s is changed by us though it is held by %s", record->id,
               holder_name(record->holder));
    record_changed(world, record, transition, true, runs);
    if (transition->not_begun) {
        struct lt_task *waits = inner_get(store, record->id, record->id_len);
        record_not_begun(record, waits->run);
        lt_task_unref(waits);
    }
    if (transition->to == LT_SUCCESS && transition->save)
        vault_store(world->vault, record->id, transition->run);
    call->by_run = runs;
    return LT_OK;
}

static void perform_change(struct call *call)
{
    struct store *store = call->store;
    struct lt_change_op *op = call->op;
    struct lt_task *task = op->task;
    struct record *record = record_of(store->world, task->data, task->id_len);
    struct lt_task *inner =
        store->world->options.remote ? inner_get(store, task->data, task->id_len) : lt_task_ref(task);
    call->code = change_record(call, record, inner);
    lt_task_unref(inner);
}

static void perform_update(struct call *call)
{
    struct store *store = call->store;
    struct lt_update_op *op = call->op;
    struct record *record = record_of(store->world, op->task->data, op->task->id_len);
    if (record->run != op->run || record->token != op->token || record->holder != US) {
        call->code = refuse(call, LT_STALE, "the run is over");
        return;
    }
    if (!store->world->options.remote)
        return;
    struct lt_task *task = inner_get(store, record->id, record->id_len);
    if (task == NULL)
        return;
    if (op->handle != NULL)
        lt_bytes_set(&lt_task_extra(task)->handle, lt_bytes_ref(op->handle));
    if (op->progress != NULL)
        lt_bytes_set(&lt_task_extra(task)->progress, lt_bytes_ref(op->progress));
    lt_task_unref(task);
}

static void perform_get(struct call *call)
{
    struct lt_get_op *op = call->op;
    struct lt_task *task = inner_get(call->store, op->id, op->id_len);
    call->code = task != NULL ? LT_OK : LT_UNKNOWN;
    if (task != NULL)
        call->task = given(call->store, task);
    lt_task_unref(task);
}

static void perform_list(struct call *call)
{
    struct store *store = call->store;
    const struct lt_list_op *op = call->op;
    struct lt_list_op inner = {
        .status = op->status, .key = op->key, .offset = op->offset, .limit = op->limit, .descending = op->descending};
    begin_inner(store, &inner.reply);
    store->inner->ops->list(store->inner, &inner);
    call->code = end_inner(&inner.reply, &call->message);
    for (uint32_t i = 0; i < inner.tasks.count; i++)
        lt_tasks_push(&call->tasks, given(store, inner.tasks.items[i]));
    lt_tasks_free(&inner.tasks);
}

static void perform_count(struct call *call)
{
    struct store *store = call->store;
    struct lt_count_op inner = {.delayed = 0};
    begin_inner(store, &inner.reply);
    store->inner->ops->count(store->inner, &inner);
    call->code = end_inner(&inner.reply, &call->message);
    memcpy(call->counts, inner.counts, sizeof call->counts);
    call->delayed = inner.delayed;
}

static void perform_recover(struct call *call)
{
    struct store *store = call->store;
    clear_last(store);
    store_left_by_us(store); /* and what an answer gave that was lost */
    take_orphans(store, UINT32_MAX);
}

static void perform_ask_stop(struct call *call)
{
    struct store *store = call->store;
    const struct lt_ask_stop_op *op = call->op;
    struct record *record = record_of(store->world, op->task->data, op->task->id_len);
    if (record->holder != OTHER && record->holder != DEAD)
        call->code = refuse(call, LT_STALE, "no other host runs it");
    else
        record->stop_wished = true;
}

static void tell_paused(struct store *store, bool paused)
{
    store->paused = paused;
    tell_later(store, 0.01, (struct lt_news){.kind = LT_NEWS_PAUSED, .on = paused});
}

static void perform(struct call *call)
{
    static void (*const performs[])(struct call *) = {
        [ADD] = perform_add,       [CLAIM] = perform_claim,     [CHANGE] = perform_change,
        [UPDATE] = perform_update, [GET] = perform_get,         [LIST] = perform_list,
        [COUNT] = perform_count,   [RECOVER] = perform_recover, [ASK_STOP] = perform_ask_stop,
    };
    struct store *store = call->store;
    call->performed = true;
    if (store->down && call->fate == DONE)
        call->fate = LOST_UNDONE;
    if (call->fate == LOST_UNDONE)
        return;
    if (call->kind == PAUSE_ALL)
        tell_paused(store, call->paused && !store->world->quiet);
    else
        performs[call->kind](call);
}

/* ---- answers ---- */

/* A store that did not ask before it took a task asks now, and gives back what may not start. */
static bool admit(struct store *store, struct lt_claim_op *op, struct item *item)
{
    struct world *world = store->world;
    if (item->taken_over || item->admitted || world->options.ordered)
        return true;
    enum lt_admission admission = lt_limiter_admit(op->limiter, lt_task_key(item->task));
    if (admission == LT_ADMITTED)
        return true;
    struct record *record = record_of(world, item->task->data, item->task->id_len);
    trace("store    gives back %s run %llu", record->id, (unsigned long long)record->run);
    struct lt_transition back = {.to = LT_WAITING, .run = item->task->run, .now = world_wall(world), .uncounted = true};
    struct lt_task *inner = inner_get(store, record->id, record->id_len);
    if (record->run == item->task->run && record->holder == US && record->status == LT_RUNNING) {
        int code = inner_change(store, inner, &back, false, world->options.remote, NULL);
        check_that(code == LT_OK, "a task that was just claimed cannot be given back: %s", lt_code_name(code));
        record_changed(world, record, &back, true, true);
    }
    lt_task_unref(inner);
    store->last.waits = true;
    if (admission == LT_NO_ROOM)
        store->last.more = true;
    return false;
}

/* Its lease may have been lost before the answer came. */
static bool is_ours(struct store *store, struct lt_claim_op *op, const struct item *item)
{
    const struct lt_task *task = item->task;
    const struct record *record = record_of(store->world, task->data, task->id_len);
    bool ours = record->holder == US && record->run == task->run && record->token == item->token;
    if (!ours && item->admitted)
        lt_limiter_return(op->limiter, lt_task_key(task));
    return ours;
}

static void answer_claim(struct call *call)
{
    struct store *store = call->store;
    struct lt_claim_op *op = call->op;
    struct last_claim *last = &store->last;
    check_that(op->claimed.count == 0 && op->expired.count == 0, "a claim is asked with tasks in it");
    for (uint32_t i = 0; i < last->count; i++) {
        struct item *item = &last->items[i];
        if (is_ours(store, op, item) && admit(store, op, item))
            lt_claims_push(&op->claimed,
                           (struct lt_claimed){lt_task_ref(item->task), item->token, item->taken_over, false});
    }
    for (uint32_t i = 0; i < last->expired.count; i++)
        lt_tasks_push(&op->expired, lt_task_ref(last->expired.items[i]));
    op->next_at = last->next_at;
    op->next_date = last->next_date;
    op->more = last->more;
    op->waits = last->waits;
    trace("store    claim %llu gives %u, expired %u, more %d, waits %d", (unsigned long long)call->number,
          op->claimed.count, op->expired.count, op->more, op->waits);
    clear_last(store);
}

/* The answer is lost: what was admitted is not, until it is given. */
static void lose_claim(struct call *call)
{
    struct lt_claim_op *op = call->op;
    struct last_claim *last = &call->store->last;
    if (last->number != call->number)
        return;
    for (uint32_t i = 0; i < last->count; i++) {
        if (last->items[i].admitted)
            lt_limiter_return(op->limiter, lt_task_key(last->items[i].task));
        last->items[i].admitted = false;
    }
}

static void answer_recover(struct call *call)
{
    struct lt_recover_op *op = call->op;
    struct last_claim *last = &call->store->last;
    for (uint32_t i = 0; i < last->count; i++)
        lt_claims_push(&op->tasks,
                       (struct lt_claimed){lt_task_ref(last->items[i].task), last->items[i].token, true, false});
    clear_last(call->store);
}

static void answer_add(struct call *call)
{
    struct lt_add_op *op = call->op;
    if (!call->store->world->options.remote)
        return;
    for (uint32_t i = 0; i < op->count; i++)
        lt_task_apply_added(op->tasks[i], world_wall(call->store->world));
}

static void fill_answer(struct call *call)
{
    switch (call->kind) {
    case ADD:
        answer_add(call);
        break;
    case CLAIM:
        answer_claim(call);
        break;
    case RECOVER:
        answer_recover(call);
        break;
    case GET:
        ((struct lt_get_op *)call->op)->task = call->task;
        call->task = NULL;
        break;
    case LIST:
        ((struct lt_list_op *)call->op)->tasks = call->tasks;
        call->tasks = (struct lt_tasks){0};
        break;
    case COUNT:
        memcpy(((struct lt_count_op *)call->op)->counts, call->counts, sizeof call->counts);
        ((struct lt_count_op *)call->op)->delayed = call->delayed;
        break;
    case CHANGE:
    case UPDATE:
    case ASK_STOP:
    case PAUSE_ALL:
        break;
    }
}

static void unref_call(struct call *call)
{
    if (--call->refs > 0)
        return;
    for (uint32_t i = 0; i < call->end_count; i++)
        unref_call(call->ends[i]);
    for (uint32_t i = 0; i < call->full_count; i++)
        lt_bytes_unref(call->full[i]);
    free(call->ends);
    free(call->full);
    lt_bytes_unref(call->message);
    lt_task_unref(call->task);
    lt_tasks_free(&call->tasks);
    free(call);
}

static const char *about(const struct call *call)
{
    static char text[300];
    switch (call->kind) {
    case CHANGE: {
        const struct lt_change_op *op = call->op;
        snprintf(text, sizeof text, "%s run %llu to %s%s", op->task->data, (unsigned long long)op->transition.run,
                 lt_status_name(op->transition.to), op->again ? " again" : "");
        return text;
    }
    case ADD: {
        const struct lt_add_op *op = call->op;
        snprintf(text, sizeof text, "%s (%u)", op->count > 0 ? op->tasks[0]->data : "", op->count);
        return text;
    }
    case UPDATE:
        return ((const struct lt_update_op *)call->op)->task->data;
    case GET:
        return ((const struct lt_get_op *)call->op)->id;
    case CLAIM:
        snprintf(text, sizeof text, "%llu up to %u", (unsigned long long)call->number, call->limit);
        return text;
    default:
        return "";
    }
}

/* A deletion that asks whether the id is known again, and is not told, leaves what was saved. */
static void lost_get(const struct call *call)
{
    const struct lt_get_op *op = call->op;
    struct record *record = record_find(call->store->world, op->id, op->id_len);
    if (record != NULL && record->status == LT_DELETED)
        record->unclear_deletion = true;
}

static void answer(struct call *call)
{
    struct store *store = call->store;
    bool late = call->event.fn != NULL;
    if (late && store->down && call->fate == DONE) {
        call->fate = LOST_DONE;
        if (call->code == LT_OK && call->kind == ADD)
            announce(store);
    }
    if (call->fate == LOST_DONE && call->code == LT_OK && call->kind == CHANGE)
        lost_change(call);
    else if (call->fate == LOST_UNDONE && call->kind == CHANGE)
        given_up(call);
    struct lt_reply *reply = call->reply;
    TAILQ_REMOVE(&store->calls, call, link);
    if (call->fate == DONE) {
        if (call->code == LT_OK)
            fill_answer(call);
        trace("store    %s %s: %s", kind_names[call->kind], about(call), lt_code_name(call->code));
        lt_reply_send(reply, call->code, call->message != NULL ? call->message->data : NULL);
    } else {
        if (call->kind == CLAIM)
            lose_claim(call);
        if (call->kind == GET)
            lost_get(call);
        trace("store    %s %s: lost, %s", kind_names[call->kind], about(call),
              call->fate == LOST_DONE ? "done" : "not done");
        lt_reply_send(reply, call->lost_code, "the store did not answer");
    }
    unref_call(call);
}

static void on_event(struct sim_event *event)
{
    struct call *call = sim_container_of(event, struct call, event);
    if (!call->performed)
        perform(call);
    if (world_now(call->store->world) >= call->answer_at)
        answer(call);
    else
        sim_event_at(&call->store->world->sim, event, call->answer_at, on_event);
}

/* ---- questions ---- */

static void decide_fate(struct call *call, uint64_t what)
{
    struct store *store = call->store;
    struct world *world = store->world;
    uint64_t nth = ++store->asked;
    double share = call->kind == CLAIM || call->kind == CHANGE ? 0.15 : 0.08;
    call->lost_code = LT_ERROR;
    if (store->down) {
        call->fate = LOST_UNDONE;
        return;
    }
    if (!world_fault(world, FAULT_STORE_LOST, share, what, nth))
        return;
    struct rng rng = rng_of(world->seed, 101, what, nth);
    call->fate = rng_chance(&rng, 0.5) ? LOST_DONE : LOST_UNDONE;
    call->lost_code = rng_chance(&rng, 0.5) ? LT_ERROR : LT_TIMEOUT;
}

static double latency(struct store *store, uint64_t what, uint64_t nth)
{
    struct world *world = store->world;
    if (!world_has(world, FAULT_STORE_LATE))
        return 0;
    struct rng rng = rng_of(world->seed, 102, what, nth);
    if (world->quiet)
        return rng_chance(&rng, 0.5) ? 0 : 0.001;
    if (rng_chance(&rng, 0.3))
        return 0;
    world_count(world, FAULT_STORE_LATE);
    return rng_exponential(&rng, rng_chance(&rng, 0.05) ? 20 * world->options.latency : world->options.latency);
}

/* As a database does whose commits are grouped: a batch begins when the one before is over, and is one transaction. */
static void join_batch(struct call *call, double *perform_at, double *answer_at)
{
    static const double LEAST = 0.0005; /* seconds that one takes */
    struct store *store = call->store;
    double now = world_now(store->world);
    if (now >= store->batch_at) {
        double takes = fmax(*answer_at - now, LEAST);
        store->batch_at = fmax(now, store->batch_over);
        store->batch_over = store->batch_at + takes;
        store->batch_fate = call->fate;
        store->batch_lost_code = call->lost_code;
    }
    *perform_at = store->batch_at;
    *answer_at = store->batch_over;
    if (call->fate == DONE || store->batch_fate != DONE) {
        call->fate = store->batch_fate;
        call->lost_code = store->batch_lost_code;
    } else { /* what befell this one befalls nobody: the others are done */
        call->fate = DONE;
    }
}

static void submit(struct call *call, uint64_t what)
{
    struct store *store = call->store;
    struct world *world = store->world;
    double now = world_now(world);
    decide_fate(call, what);
    double perform_at = now + latency(store, what, store->asked * 2);
    double answer_at = perform_at + latency(store, what, store->asked * 2 + 1);
    if (call->lost_code == LT_TIMEOUT)
        answer_at = fmax(answer_at, now + world->config.container_timeout);
    if (world->options.batches)
        join_batch(call, &perform_at, &answer_at);
    if (world->options.ordered && !TAILQ_EMPTY(&store->calls)) {
        perform_at = fmax(perform_at, store->last_perform + 2e-9);
        answer_at = fmax(answer_at, store->last_answer + 2e-9);
    }
    answer_at = fmax(answer_at, perform_at);
    store->last_perform = perform_at;
    store->last_answer = answer_at;
    call->event = SIM_EVENT_INIT;
    call->answer_at = answer_at;
    TAILQ_INSERT_TAIL(&store->calls, call, link);
    if (perform_at > now) {
        sim_event_at(&world->sim, &call->event, perform_at, on_event);
        return;
    }
    perform(call);
    if (answer_at > now)
        sim_event_at(&world->sim, &call->event, answer_at, on_event);
    else
        answer(call);
}

static struct call *new_call(struct lt_container *container, enum kind kind, void *op, struct lt_reply *reply)
{
    struct store *store = sim_container_of(container, struct store, base);
    check_that(store->open, "%s is called on a container that is closed", kind_names[kind]);
    struct call *call = lt_zalloc(sizeof *call);
    call->refs = 1;
    call->store = store;
    call->kind = kind;
    call->op = op;
    call->reply = reply;
    return call;
}

static void op_add(struct lt_container *container, struct lt_add_op *op)
{
    submit(new_call(container, ADD, op, &op->reply), rng_text(op->tasks[0]->data));
}

static void note_full(void *arg, struct lt_bytes *key)
{
    struct call *call = arg;
    call->full = lt_realloc(call->full, (call->full_count + 1) * sizeof(struct lt_bytes *));
    call->full[call->full_count++] = lt_bytes_new(key->data, key->len);
    trace("store    a claim leaves out %s, which is full", key->data);
}

/* NULL: it was answered, though that is not delivered yet. */
static struct call *call_of_end(struct store *store, const struct lt_change_op *op)
{
    struct call *call;
    TAILQ_FOREACH(call, &store->calls, link) {
        if (call->op == op)
            return call;
    }
    check_that(op->reply.state == LT_REPLY_SENT, "a claim names a change that is not under way");
    return NULL;
}

static void op_claim(struct lt_container *container, struct lt_claim_op *op)
{
    struct call *call = new_call(container, CLAIM, op, &op->reply);
    struct store *store = call->store;
    const struct call *other;
    TAILQ_FOREACH(other, &store->calls, link)
        check_that(other->kind != CLAIM, "two claims are under way");
    check_that(op->number > 0, "a claim has no number");
    call->number = op->number;
    call->limit = op->limit;
    if (!store->world->options.asks)
        lt_limiter_full_keys(op->limiter, UINT32_MAX, note_full, call);
    check_that(op->end_count == 0 || store->world->options.ordered, "a container that is not ordered is told of ends");
    call->ends = op->end_count > 0 ? lt_alloc(op->end_count * sizeof(struct call *)) : NULL;
    for (uint32_t i = 0; i < op->end_count; i++) {
        struct call *end = call_of_end(store, op->ends[i]);
        if (end == NULL) {
            call->limit += op->ends[i]->reply.code == LT_OK;
            continue;
        }
        end->refs++;
        call->ends[call->end_count++] = end;
    }
    submit(call, 1);
}

static void op_change(struct lt_container *container, struct lt_change_op *op)
{
    struct call *call = new_call(container, CHANGE, op, &op->reply);
    const struct call *other;
    TAILQ_FOREACH(other, &call->store->calls, link) {
        if (other->kind != CHANGE || op->token == 0)
            continue;
        const struct lt_change_op *theirs = other->op;
        check_that(theirs->token != op->token, "two changes of run %llu are under way",
                   (unsigned long long)op->transition.run);
    }
    submit(call, rng_text(op->task->data) + op->transition.run);
}

static void op_update(struct lt_container *container, struct lt_update_op *op)
{
    struct call *call = new_call(container, UPDATE, op, &op->reply);
    const struct call *other;
    TAILQ_FOREACH(other, &call->store->calls, link)
        check_that(other->kind != UPDATE || ((const struct lt_update_op *)other->op)->run != op->run ||
                       ((const struct lt_update_op *)other->op)->token != op->token,
                   "two updates of run %llu are under way", (unsigned long long)op->run);
    submit(call, rng_text(op->task->data) + op->run);
}

static void op_get(struct lt_container *container, struct lt_get_op *op)
{
    submit(new_call(container, GET, op, &op->reply), rng_text(op->id));
}

static void op_list(struct lt_container *container, struct lt_list_op *op)
{
    submit(new_call(container, LIST, op, &op->reply), 2);
}

static void op_count(struct lt_container *container, struct lt_count_op *op)
{
    submit(new_call(container, COUNT, op, &op->reply), 3);
}

static void op_recover(struct lt_container *container, struct lt_recover_op *op)
{
    struct call *call = new_call(container, RECOVER, op, &op->reply);
    struct store *store = call->store;
    if (world_fault(store->world, FAULT_RECOVER_FAILS, 0.5, 4, store->asked)) {
        trace("store    recover fails");
        free(call);
        lt_reply_send(&op->reply, LT_ERROR, "not now");
        return;
    }
    submit(call, 4);
}

static void op_ask_stop(struct lt_container *container, struct lt_ask_stop_op *op)
{
    submit(new_call(container, ASK_STOP, op, &op->reply), rng_text(op->task->data));
}

static void op_pause_all(struct lt_container *container, bool paused, struct lt_reply *reply)
{
    struct call *call = new_call(container, PAUSE_ALL, NULL, reply);
    call->paused = paused;
    submit(call, 5);
}

static double op_oldest(const struct lt_container *container)
{
    const struct store *store = (const struct store *)container;
    return store->inner->ops->oldest(store->inner);
}

static uint64_t op_ahead(const struct lt_container *container, const struct lt_task *task)
{
    const struct store *store = (const struct store *)container;
    return store->inner->ops->ahead(store->inner, task);
}

static void op_key_open(struct lt_container *container, const struct lt_bytes *key)
{
    struct store *store = sim_container_of(container, struct store, base);
    store->inner->ops->key_open(store->inner, key);
}

/* By threes, so that there are several turns of it. */
static bool op_abandon(struct lt_container *container, struct lt_bytes *reason, double now, uint32_t limit,
                       struct lt_tasks *stopped)
{
    struct store *store = sim_container_of(container, struct store, base);
    struct lt_transition transition = {.to = LT_STOPPED, .now = now, .reason = reason};
    bool all = store->inner->ops->abandon(store->inner, reason, now, limit < 3 ? limit : 3, stopped);
    for (uint32_t i = 0; i < stopped->count; i++) {
        const struct lt_task *task = stopped->items[i];
        transition.run = task->run;
        record_changed(store->world, record_of(store->world, task->data, task->id_len), &transition, true, false);
    }
    return all;
}

static void op_open(struct lt_container *container, const struct lt_container_env *env)
{
    struct store *store = sim_container_of(container, struct store, base);
    check_that(!store->open, "the container is opened twice");
    struct lt_container_env inner = *env;
    store->env = *env;
    store->open = true;
    store->last.number = 0;
    if (store->world->sessions == 1) {
        store->inner->ops->open(store->inner, &inner);
        return;
    }
    for (uint32_t i = 0; i < store->world->options.keys; i++) { /* what an earlier limiter turned away */
        struct lt_bytes *key = lt_bytes_printf("key%u", i);
        store->inner->ops->key_open(store->inner, key);
        lt_bytes_unref(key);
    }
}

static void closed(struct sim_event *event)
{
    struct store *store = sim_container_of(event, struct store, close_event);
    struct lt_reply *reply = store->closing;
    store->closing = NULL;
    lt_reply_ok(reply);
}

static void op_close(struct lt_container *container, struct lt_reply *reply)
{
    struct store *store = sim_container_of(container, struct store, base);
    check_that(store->open, "the container is closed twice");
    const struct call *call = TAILQ_FIRST(&store->calls);
    check_that(call == NULL, "the container is closed while %s is under way",
               call != NULL ? kind_names[call->kind] : "");
    store->open = false;
    for (uint32_t i = 0; i < store->last.expired.count;
         i++) { /* of a claim whose answer was lost: it is not asked again */
        const struct lt_task *task = store->last.expired.items[i];
        record_unclear(record_of(store->world, task->data, task->id_len), task->run, LT_FAILED);
    }
    clear_last(store);
    if (world_fault(store->world, FAULT_CLOSE_LATE, 0.5, 6, store->world->sessions)) {
        store->closing = reply;
        sim_event_in(&store->world->sim, &store->close_event, 3, closed);
    } else {
        lt_reply_ok(reply);
    }
}

static void op_release(struct lt_container *container)
{
    (void)container;
}

/* ---- what befalls it ---- */

static void come_up(struct sim_event *event)
{
    struct store *store = sim_container_of(event, struct store, up);
    store->down = false;
    trace("store    is up");
    if (store->told_down || store->world->options.tells)
        tell(store, &(struct lt_news){.kind = LT_NEWS_AVAILABLE, .on = true, .why = "back"});
    store->told_down = false;
}

void store_set_down(struct store *store, double seconds)
{
    if (store->down)
        return;
    store->down = true;
    trace("store    is down for %g s", seconds);
    if (store->world->options.tells) {
        store->told_down = true;
        tell(store, &(struct lt_news){.kind = LT_NEWS_AVAILABLE, .on = false, .why = "unplugged"});
    }
    sim_event_in(&store->world->sim, &store->up, seconds, come_up);
}

/* One of the records that are as wanted, by chance. */
static struct record *choose(struct store *store, struct rng *rng, enum holder holder)
{
    struct record *record, *chosen = NULL;
    uint32_t position = 0, count = 0;
    while ((record = lt_map_next(&store->world->records, &position)) != NULL) {
        bool runs = record->known && (record->status == LT_RUNNING || record->status == LT_EXPORTING);
        if (runs && record->holder == holder && rng_below(rng, ++count) == 0)
            chosen = record;
    }
    return chosen;
}

static void other_claims(struct store *store)
{
    struct call none = {.store = store};
    struct lt_limiter limiter;
    struct lt_claim_op inner;
    open_private(&limiter, &none, 1);
    claim_inside(store, &limiter, 1, OTHER, &inner);
    close_private(&limiter, &none);
    for (uint32_t i = 0; i < inner.claimed.count; i++)
        trace("other    claims %s run %llu", inner.claimed.items[i].task->data,
              (unsigned long long)inner.claimed.items[i].task->run);
    for (uint32_t i = 0; i < inner.expired.count; i++)
        tell_later(store, 0.1, (struct lt_news){.kind = LT_NEWS_ENDED, .task = given(store, inner.expired.items[i])});
    lt_claims_free(&inner.claimed);
    lt_tasks_free(&inner.expired);
}

static void other_changes(struct store *store, struct record *record, enum lt_status to)
{
    struct world *world = store->world;
    struct lt_transition transition = {
        .to = to, .run = record->run, .now = world_wall(world), .uncounted = to == LT_WAITING};
    struct lt_task *inner = inner_get(store, record->id, record->id_len);
    check_that(inner != NULL, "the task of another host is not known");
    trace("other    makes %s run %llu %s", record->id, (unsigned long long)record->run, lt_status_name(to));
    lt_task_ref(inner);
    int code = inner_change(store, inner, &transition, false, true, NULL);
    check_that(code == LT_OK, "another host cannot end task %s: %s", record->id, lt_code_name(code));
    record_changed(world, record, &transition, false, true);
    if (to == LT_SUCCESS && world->vault != NULL)
        vault_store(world->vault, record->id, transition.run);
    if (to == LT_WAITING)
        announce(store);
    else
        tell_later(store, 0.1, (struct lt_news){.kind = LT_NEWS_ENDED, .task = given(store, inner)});
    lt_task_unref(inner);
    lt_task_unref(inner);
}

static void other_ends(struct store *store, struct rng *rng, struct record *record)
{
    static const enum lt_status ends[] = {LT_SUCCESS, LT_FAILED, LT_STOPPED, LT_WAITING};
    enum lt_status to = record->stop_wished ? LT_STOPPED : ends[rng_below(rng, 4)];
    other_changes(store, record, to);
}

static void other_dies(struct store *store)
{
    uint32_t position = 0;
    struct record *record;
    while ((record = lt_map_next(&store->world->records, &position)) != NULL) {
        bool runs = record->known && (record->status == LT_RUNNING || record->status == LT_EXPORTING);
        if (!runs || record->holder != OTHER)
            continue;
        trace("other    dies with %s run %llu", record->id, (unsigned long long)record->run);
        record->holder = DEAD;
        stage_orphan(store->world->stage, record);
    }
    announce(store);
}

void store_other_host(struct store *store, struct rng *rng)
{
    if (!store->world->options.hosts || store->down)
        return;
    struct record *record = choose(store, rng, OTHER);
    switch (rng_below(rng, 4)) {
    case 0:
    case 1:
        other_claims(store);
        break;
    case 2:
        if (record != NULL)
            other_ends(store, rng, record);
        break;
    default:
        other_dies(store);
    }
}

void store_lose_lease(struct store *store, struct rng *rng)
{
    struct world *world = store->world;
    struct record *record = choose(store, rng, US);
    if (!world->options.leases || !world->options.hosts || record == NULL)
        return;
    uint64_t token = record->token;
    trace("store    the lease of %s run %llu is lost", record->id, (unsigned long long)record->run);
    record->lease_lost = record->was_lost = true;
    record_taken_over(world, record, new_token(store), rng_chance(rng, 0.5) ? OTHER : DEAD);
    if (record->holder == DEAD)
        announce(store);
    /* Of one that has not begun at once: nobody could know better before it begins. */
    bool at_once = rng_chance(rng, 0.5) || record->started_run != record->run;
    tell_later(store, at_once ? 0 : rng_between(rng, 0, 2),
               (struct lt_news){.kind = LT_NEWS_LEASE_LOST, .id = record->id, .run = record->run, .token = token});
}

void store_ask_stop_here(struct store *store, struct rng *rng)
{
    struct record *record = choose(store, rng, US);
    if (record == NULL || !store->open)
        return;
    bool stale = rng_chance(rng, 0.2);
    record->stop_asked = record->stop_asked || !stale;
    struct lt_bytes *reason = lt_bytes_printf("asked elsewhere");
    tell(store, &(struct lt_news){.kind = LT_NEWS_STOP,
                                  .id = record->id,
                                  .id_len = record->id_len,
                                  .run = record->run + stale,
                                  .token = record->token,
                                  .reason = reason});
    lt_bytes_unref(reason);
}

void store_pause_all(struct store *store, bool paused)
{
    tell_paused(store, paused);
}

void store_calm(struct store *store)
{
    if (store->down) {
        sim_event_cancel(&store->world->sim, &store->up);
        come_up(&store->up);
    }
    if (store->paused)
        tell_paused(store, false);
    struct record *record;
    uint32_t position = 0;
    while ((record = lt_map_next(&store->world->records, &position)) != NULL) {
        bool runs = record->known && (record->status == LT_RUNNING || record->status == LT_EXPORTING);
        if (runs && record->holder == OTHER)
            other_changes(store, record, record->stop_wished ? LT_STOPPED : LT_SUCCESS);
    }
    announce(store);
}

bool store_idle(const struct store *store)
{
    return TAILQ_EMPTY(&store->calls) && store->later == 0 && store->closing == NULL;
}

void store_left_by_us(struct store *store)
{
    struct record *record;
    uint32_t position = 0;
    while ((record = lt_map_next(&store->world->records, &position)) != NULL) {
        bool runs = record->known && (record->status == LT_RUNNING || record->status == LT_EXPORTING);
        if (runs && record->holder == US)
            record->holder = DEAD;
    }
}

/* Before the scheduler is there: tasks are added and claimed, and their host dies. */
void store_orphans(struct store *store, uint32_t count)
{
    struct world *world = store->world;
    store->inner->ops->open(store->inner, &(struct lt_container_env){.loop = &world->sim.loop,
                                                                     .keep_tasks = world->config.keep_tasks,
                                                                     .keep_bytes = world->config.keep_bytes});
    for (uint32_t i = 0; i < count; i++) {
        struct rng rng = rng_of(world->seed, 103, i, 0);
        char id[32];
        snprintf(id, sizeof id, "orphan%u", i);
        struct lt_task *task = lt_task_new(id, strlen(id), NULL, 0);
        struct lt_add_op add = {.tasks = &task, .count = 1};
        begin_inner(store, &add.reply);
        store->inner->ops->add(store->inner, &add);
        if (end_inner(&add.reply, NULL) == LT_OK) {
            struct record *record = record_of(world, id, strlen(id));
            record_added(world, record, task);
            other_claims(store);
            if (record->holder == OTHER && rng_chance(&rng, 0.3)) {
                struct lt_transition transition = {.to = LT_EXPORTING, .run = record->run, .now = world_wall(world)};
                inner_change(store, task, &transition, false, true, NULL);
                record_changed(world, record, &transition, false, true);
            }
            if (record->holder == OTHER) {
                record->holder = DEAD;
                stage_orphan(world->stage, record);
            }
        }
        lt_task_unref(task);
    }
}

/* ---- life ---- */

struct store *store_new(struct world *world)
{
    const struct options *options = &world->options;
    struct store *store = lt_zalloc(sizeof *store);
    store->world = world;
    store->inner = options->priorities ? lt_priority_new(options->size, options->fair)
                                       : lt_queue_new(options->size, options->fair);
    TAILQ_INIT(&store->calls);
    store->up = store->close_event = SIM_EVENT_INIT;
    store->ops = (struct lt_container_ops){
        .name = "double",
        .durable = options->durable,
        .announces = options->announces,
        .tells_availability = options->tells,
        .ordered = options->ordered,
        .priorities = options->priorities,
        .open = op_open,
        .add = op_add,
        .claim = op_claim,
        .change = op_change,
        .update = op_update,
        .get = op_get,
        .list = op_list,
        .count = op_count,
        .recover = options->recovers ? op_recover : NULL,
        .ask_stop = options->hosts ? op_ask_stop : NULL,
        .pause_all = options->hosts ? op_pause_all : NULL,
        .oldest = op_oldest,
        .ahead = options->remote ? NULL : op_ahead,
        .key_open = op_key_open,
        .abandon = options->durable ? NULL : op_abandon,
        .close = op_close,
        .release = op_release,
    };
    store->base.ops = &store->ops;
    return store;
}

struct lt_container *store_container(struct store *store)
{
    return &store->base;
}

static void inner_closed(struct lt_reply *reply)
{
    (void)reply;
}

void store_free(struct store *store)
{
    struct lt_reply reply = {.state = LT_REPLY_IDLE};
    lt_reply_begin(&reply, &store->world->sim.loop, inner_closed);
    store->inner->ops->close(store->inner, &reply);
    lt_reply_end(&reply);
    store->inner->ops->release(store->inner);
    sim_event_cancel(&store->world->sim, &store->up);
    clear_last(store);
    free(store);
}

/* What the container inside says of each task is what the account says. */
void store_check_kept(struct store *store)
{
    uint32_t position = 0;
    struct record *record;
    while ((record = lt_map_next(&store->world->records, &position)) != NULL) {
        if (!record->known)
            continue;
        struct lt_task *task = inner_get(store, record->id, record->id_len);
        check_that(task != NULL || lt_status_ended(record->status), "task %s is %s and the container has lost it",
                   record->id, lt_status_name(record->status));
        if (task != NULL) {
            check_that(task->stored == record->status, "task %s is %s and the container says %s", record->id,
                       lt_status_name(record->status), lt_status_name(task->stored));
            check_that(task->run == record->run, "task %s is at run %llu and the container says %llu", record->id,
                       (unsigned long long)record->run, (unsigned long long)task->run);
            check_that(task->attempts == record->attempts, "task %s used %u attempts and the container says %u",
                       record->id, record->attempts, task->attempts);
        }
        lt_task_unref(task);
    }
}
