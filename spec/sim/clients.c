/* The steps of a simulation: what clients ask, and what befalls the world. They are a list that the seed decides before
 * anything runs, so that the shrinker can leave out some and keep the others as they are. */
#include <stdio.h>

#include "world.h"

#define STEPS(S)                                                                                                       \
    S(ADD, 30, FAULT_COUNT)                                                                                            \
    S(ADD_MANY, 3, FAULT_ADD_ODD)                                                                                      \
    S(ADD_WAITING, 3, FAULT_ADD_ODD)                                                                                   \
    S(ADD_AGAIN, 5, FAULT_ADD_ODD)                                                                                     \
    S(STOP, 6, FAULT_STOPS)                                                                                            \
    S(RETRY, 5, FAULT_RETRIES)                                                                                         \
    S(DELETE, 3, FAULT_RETRIES)                                                                                        \
    S(GET, 2, FAULT_LOOKS)                                                                                             \
    S(OUTPUT, 2, FAULT_LOOKS)                                                                                          \
    S(EXPLAIN, 4, FAULT_LOOKS)                                                                                         \
    S(LIST, 1, FAULT_LOOKS)                                                                                            \
    S(COUNT, 1, FAULT_LOOKS)                                                                                           \
    S(STATS, 1, FAULT_LOOKS)                                                                                           \
    S(WAIT, 5, FAULT_WAITS)                                                                                            \
    S(CANCEL, 4, FAULT_CANCELS)                                                                                        \
    S(SET, 4, FAULT_SETS)                                                                                              \
    S(PAUSE, 3, FAULT_PAUSES)                                                                                          \
    S(RESUME, 4, FAULT_PAUSES)                                                                                         \
    S(READ_FINISHED, 3, FAULT_COUNT)                                                                                   \
    S(MEDDLE, 3, FAULT_MEDDLERS)                                                                                       \
    S(CLOSE, 1, FAULT_CLOSE_EARLY)                                                                                     \
    S(STORE_DOWN, 3, FAULT_STORE_DOWN)                                                                                 \
    S(LOSE_LEASE, 5, FAULT_LEASE_LOST)                                                                                 \
    S(OTHER_HOST, 10, FAULT_OTHER_HOST)                                                                                \
    S(ASK_STOP, 3, FAULT_STOP_ASKED)                                                                                   \
    S(PAUSE_ALL, 2, FAULT_PAUSE_ALL)                                                                                   \
    S(RESUME_ALL, 3, FAULT_PAUSE_ALL)                                                                                  \
    S(CLOCK, 3, FAULT_CLOCK)                                                                                           \
    S(CAPACITY, 3, FAULT_CAPACITY)                                                                                     \
    S(PUSH_STALE, 4, FAULT_PUSH_STALE)

enum step_kind {
#define STEP_ENUM(name_, weight_, fault_) STEP_##name_,
    STEPS(STEP_ENUM)
#undef STEP_ENUM
        STEP_KINDS
};

static const struct {
    const char *name;
    unsigned weight;
    enum fault fault;
} kinds[] = {
#define STEP_KIND(name_, weight_, fault_) {#name_, weight_, fault_},
    STEPS(STEP_KIND)
#undef STEP_KIND
};

struct step {
    struct sim_event event;
    struct clients *clients;
    uint32_t index;
    double at;
    enum step_kind kind;
};

enum request_kind { ADD_REQUEST, TASK_REQUEST, WAIT_REQUEST, LIST_REQUEST, COUNT_REQUEST, PAUSE_REQUEST };

struct request {
    struct clients *clients;
    enum request_kind kind;
    enum lt_request_kind task_kind;
    bool wished; /* a list's key */
    char *id;
    double since;
    struct lt_bytes *reason;
    union {
        struct lt_add_request add;
        struct lt_task_request task;
        struct lt_wait_request wait;
        struct lt_list_request list;
        struct lt_count_request count;
        struct lt_pause_request pause;
    };
    TAILQ_ENTRY(request) link;
};

struct meddler {
    struct lt_observer observer;
    struct clients *clients;
    uint64_t seed;
    TAILQ_ENTRY(meddler) link;
};

struct clients {
    struct world *world;
    const struct plan *plan;
    uint32_t count;
    uint32_t made;
    struct step steps[STEPS_MOST];
    TAILQ_HEAD(, request) requests;
    TAILQ_HEAD(, meddler) meddlers;
    uint32_t meddled;
    uint64_t told;
    bool wants_close;
    double drain;
    bool reading;
};

enum { MEDDLE_MOST = 40 };

/* ---- requests ---- */

static struct lt_reply *reply_of(struct request *request)
{
    switch (request->kind) {
    case ADD_REQUEST:
        return &request->add.reply;
    case TASK_REQUEST:
        return &request->task.reply;
    case WAIT_REQUEST:
        return &request->wait.reply;
    case LIST_REQUEST:
        return &request->list.reply;
    case COUNT_REQUEST:
        return &request->count.reply;
    case PAUSE_REQUEST:
        break;
    }
    return &request->pause.reply;
}

static const char *request_name(const struct request *request)
{
    static const char *const of_task[] = {"get", "stop", "retry", "delete", "output", "explain"};
    static const char *const names[] = {"add", "", "wait", "list", "count", "pause_all"};
    return request->kind == TASK_REQUEST ? of_task[request->task_kind] : names[request->kind];
}

static void free_request(struct request *request)
{
    if (request->kind == ADD_REQUEST) {
        for (uint32_t i = 0; i < request->add.count; i++)
            lt_task_unref(request->add.tasks[i]);
        free(request->add.tasks);
    }
    TAILQ_REMOVE(&request->clients->requests, request, link);
    lt_reply_clear(reply_of(request));
    lt_bytes_unref(request->reason);
    free(request->id);
    free(request);
}

static void take_task_answer(struct request *request)
{
    struct lt_task_request *task = &request->task;
    struct clients *clients = request->clients;
    static const char *const codes[] = {"due",  "limit",   "rate",      "key",      "delayed", "paused", "capacity",
                                        "down", "running", "exporting", "stopping", "ended",   "unknown"};
    if (task->reply.code == LT_OK && request->task_kind == LT_REQUEST_EXPLAIN) {
        bool known = false;
        check_that(task->output != NULL && task->why != NULL, "explain says nothing");
        for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
            known = known || strcmp(codes[i], task->why) == 0;
        check_that(known, "explain says '%s'", task->why);
        trace("client   explain %s: %s (%s)", request->id, task->output->data, task->why);
    }
    bool ends = request->task_kind == LT_REQUEST_STOP;
    if (task->reply.code == LT_OK && ends) {
        check_that(task->task != NULL && lt_status_ended(task->task->status),
                   "a stop of %s is answered with a task that is %s", request->id,
                   task->task != NULL ? lt_status_name(task->task->status) : "none");
    }
    bool loads = request->task_kind == LT_REQUEST_OUTPUT || request->task_kind == LT_REQUEST_DELETE;
    check_that(task->reply.code == LT_OK || task->task == NULL || loads, "a request failed, and there is a task in it");
    if (task->reply.code == LT_OK && request->task_kind == LT_REQUEST_DELETE) {
        struct record *record = record_find(clients->world, request->id, strlen(request->id));
        check_that(record != NULL, "a task was deleted that never was");
    }
    lt_task_unref(task->task);
    lt_bytes_unref(task->output);
}

static void take_wait_answer(struct request *request)
{
    struct lt_wait_request *wait = &request->wait;
    if (wait->reply.code == LT_OK)
        check_that(wait->task != NULL && lt_status_ended(wait->task->status),
                   "a wait for %s is over, and it is not ended", request->id);
    else
        check_that(wait->task == NULL, "a wait failed, and there is a task in it");
    lt_task_unref(wait->task);
}

static void on_answer(struct lt_reply *reply, struct request *request)
{
    trace("client   %s %s: %s%s%s", request_name(request), request->id, lt_code_name(reply->code),
          reply->code != LT_OK ? ", " : "", reply->code != LT_OK ? lt_reply_message(reply) : "");
    switch (request->kind) {
    case ADD_REQUEST:
        for (uint32_t i = 0; i < request->add.count && reply->code == LT_OK; i++)
            check_that(record_find(request->clients->world, request->add.tasks[i]->data,
                                   request->add.tasks[i]->id_len) != NULL,
                       "an add is answered, and nothing was added");
        break;
    case TASK_REQUEST:
        take_task_answer(request);
        break;
    case WAIT_REQUEST:
        take_wait_answer(request);
        break;
    case LIST_REQUEST:
        lt_tasks_free(&request->list.op.tasks);
        break;
    case COUNT_REQUEST:
    case PAUSE_REQUEST:
        break;
    }
    free_request(request);
}

#define ANSWER(name_, member_)                                                                                         \
    static void on_##name_(struct lt_reply *reply)                                                                     \
    {                                                                                                                  \
        on_answer(reply, sim_container_of(reply, struct request, member_.reply));                                      \
    }
ANSWER(add, add)
ANSWER(task, task)
ANSWER(wait, wait)
ANSWER(list, list)
ANSWER(count, count)
ANSWER(pause, pause)
#undef ANSWER

static struct request *new_request(struct clients *clients, enum request_kind kind, const char *id)
{
    struct request *request = lt_zalloc(sizeof *request);
    request->clients = clients;
    request->kind = kind;
    request->id = lt_strdup(id);
    request->since = world_now(clients->world);
    TAILQ_INSERT_TAIL(&clients->requests, request, link);
    return request;
}

static struct lt_loop *loop_of(const struct clients *clients)
{
    return &clients->world->sim.loop;
}

static void ask(struct clients *clients, enum lt_request_kind kind, const char *id, bool gives_reason)
{
    struct request *request = new_request(clients, TASK_REQUEST, id);
    request->task_kind = kind;
    request->task.id = request->id;
    request->task.id_len = strlen(request->id);
    if (gives_reason)
        request->reason = request->task.reason = lt_bytes_printf("a client's wish");
    struct record *record = record_of(clients->world, id, strlen(id));
    if (kind == LT_REQUEST_STOP)
        record->stop_asked = true;
    trace("client   %s %s", request_name(request), id);
    lt_reply_begin(&request->task.reply, loop_of(clients), on_task);
    lt_scheduler_request(clients->world->scheduler, kind, &request->task);
    lt_reply_end(&request->task.reply);
}

static void wait_for(struct clients *clients, const char *id)
{
    struct request *request = new_request(clients, WAIT_REQUEST, id);
    request->wait.id = request->id;
    request->wait.id_len = strlen(request->id);
    trace("client   wait %s", id);
    lt_reply_begin(&request->wait.reply, loop_of(clients), on_wait);
    lt_scheduler_wait(clients->world->scheduler, &request->wait);
    lt_reply_end(&request->wait.reply);
}

static void list_some(struct clients *clients, struct rng *rng)
{
    struct request *request = new_request(clients, LIST_REQUEST, "");
    request->list.op.status = rng_chance(rng, 0.5) ? -1 : (int)rng_below(rng, LT_STATUSES);
    request->list.op.limit = rng_below(rng, 20);
    request->list.op.offset = rng_below(rng, 3);
    request->list.op.descending = rng_chance(rng, 0.5);
    lt_reply_begin(&request->list.reply, loop_of(clients), on_list);
    lt_scheduler_list(clients->world->scheduler, &request->list);
    lt_reply_end(&request->list.reply);
}

static void count_all(struct clients *clients)
{
    struct request *request = new_request(clients, COUNT_REQUEST, "");
    lt_reply_begin(&request->count.reply, loop_of(clients), on_count);
    lt_scheduler_count(clients->world->scheduler, &request->count);
    lt_reply_end(&request->count.reply);
}

static void pause_all(struct clients *clients, bool paused)
{
    struct request *request = new_request(clients, PAUSE_REQUEST, "");
    lt_reply_begin(&request->pause.reply, loop_of(clients), on_pause);
    lt_scheduler_pause_all(clients->world->scheduler, paused, &request->pause);
    lt_reply_end(&request->pause.reply);
}

/* ---- adding ---- */

static struct lt_task *make_task(struct clients *clients, const char *id, struct rng *rng)
{
    struct world *world = clients->world;
    const struct options *options = &world->options;
    char item[64] = "item";
    struct lt_task *task = lt_task_new(id, strlen(id), item, rng_below(rng, sizeof item));
    bool odd = world_has(world, FAULT_ADD_ODD);
    if (options->priorities || (odd && rng_chance(rng, 0.02)))
        task->priority = (int64_t)rng_below(rng, 5) - 2;
    if (rng_chance(rng, 0.2)) {
        task->delayed = rng_chance(rng, 0.5);
        task->run_at = world_wall(world) + rng_exponential(rng, 10);
    }
    if (options->keys > 0 && rng_chance(rng, 0.8))
        lt_task_options(task)->key = lt_bytes_printf("key%u", rng_below(rng, options->keys));
    if (odd && rng_chance(rng, 0.2))
        lt_task_options(task)->expires_at = world_wall(world) + rng_exponential(rng, 10);
    if (odd && rng_chance(rng, 0.1))
        lt_task_options(task)->once = true;
    if (rng_chance(rng, 0.1))
        lt_task_options(task)->timeout = rng_between(rng, 0, 5);
    if (rng_chance(rng, 0.1))
        lt_task_options(task)->max_retries = rng_below(rng, 4);
    if (rng_chance(rng, 0.1)) {
        lt_task_options(task)->has_backoff = true;
        task->options->backoff = (struct lt_backoff){.base = rng_between(rng, 0, 2), .factor = 2, .jitter = 0.5};
    }
    return task;
}

static void add(struct clients *clients, struct lt_task **tasks, uint32_t count, bool waits)
{
    struct request *request = new_request(clients, ADD_REQUEST, tasks[0]->data);
    request->add.tasks = tasks;
    request->add.count = count;
    request->add.waits = waits;
    trace("client   add %s (%u)%s", request->id, count, waits ? ", waits for room" : "");
    lt_reply_begin(&request->add.reply, loop_of(clients), on_add);
    lt_scheduler_add(clients->world->scheduler, &request->add);
    lt_reply_end(&request->add.reply);
}

static void add_one(struct clients *clients, const char *id, struct rng *rng, bool waits)
{
    struct lt_task **tasks = lt_alloc(sizeof *tasks);
    tasks[0] = make_task(clients, id, rng);
    add(clients, tasks, 1, waits);
}

static void add_many(struct clients *clients, const struct step *step, struct rng *rng)
{
    uint32_t count = 2 + rng_below(rng, 8);
    struct lt_task **tasks = lt_alloc(count * sizeof *tasks);
    for (uint32_t i = 0; i < count; i++) {
        char id[32];
        snprintf(id, sizeof id, "t%u.%u", step->index, rng_chance(rng, 0.02) ? 0 : i);
        tasks[i] = make_task(clients, id, rng);
    }
    add(clients, tasks, count, rng_chance(rng, 0.3));
}

/* A task that may be known: of an earlier step. */
static const char *some_id(const struct step *step, struct rng *rng)
{
    static char id[32];
    const struct step *steps = step->clients->steps;
    uint32_t tries = 20, index;
    do {
        index = rng_below(rng, step->index + 1);
        enum step_kind kind = steps[index].kind;
        if (kind == STEP_ADD || kind == STEP_ADD_WAITING) {
            snprintf(id, sizeof id, "t%u", index);
            return id;
        }
        if (kind == STEP_ADD_MANY) {
            snprintf(id, sizeof id, "t%u.%u", index, rng_below(rng, 5));
            return id;
        }
    } while (--tries > 0);
    snprintf(id, sizeof id, "orphan%u", rng_below(rng, 4));
    return id;
}

/* ---- who calls back ---- */

struct held_flow {
    struct lt_flow *flow;
    struct clients *clients;
};

static void release_flow(void *arg)
{
    struct held_flow *held = arg;
    held->clients->world->flows--;
    lt_flow_release(held->flow);
    free(held);
}

static void hold_flow(struct clients *clients, struct lt_flow *flow, double seconds)
{
    struct held_flow *held = lt_alloc(sizeof *held);
    *held = (struct held_flow){flow, clients};
    lt_flow_hold(flow);
    clients->world->flows++;
    world_later(clients->world, seconds, release_flow, held);
}

static void drop_meddler(struct meddler *meddler)
{
    lt_scheduler_unobserve(meddler->clients->world->scheduler, &meddler->observer);
    TAILQ_REMOVE(&meddler->clients->meddlers, meddler, link);
    free(meddler);
}

static void meddle(struct lt_observer *observer, enum lt_event event, struct lt_task *task,
                   const struct lt_event_data *data)
{
    struct meddler *meddler = sim_container_of(observer, struct meddler, observer);
    struct clients *clients = meddler->clients;
    struct rng rng = rng_of(meddler->seed, event, rng_text(task->data), task->run + 100 * clients->meddled);
    if (event == LT_EVENT_OUTPUT && rng_chance(&rng, 0.5))
        hold_flow(clients, data->flow, rng_exponential(&rng, 1));
    if (!rng_chance(&rng, 0.2) || clients->meddled >= MEDDLE_MOST || clients->world->quiet)
        return;
    char id[32];
    snprintf(id, sizeof id, "m%u", clients->meddled++);
    world_count(clients->world, FAULT_MEDDLERS);
    trace("client   a handler of %s calls back", task->data);
    switch (rng_below(&rng, 8)) {
    case 0:
    case 1:
        add_one(clients, id, &rng, false);
        break;
    case 2:
        ask(clients, LT_REQUEST_STOP, task->data, true);
        break;
    case 3:
        ask(clients, LT_REQUEST_RETRY, task->data, false);
        break;
    case 4:
        wait_for(clients, task->data);
        break;
    case 5:
        ask(clients, LT_REQUEST_DELETE, task->data, false);
        break;
    case 6:
        clients_read_finished(clients);
        break;
    default:
        drop_meddler(meddler);
    }
}

static void add_meddler(struct clients *clients, struct rng *rng)
{
    struct meddler *meddler = lt_zalloc(sizeof *meddler);
    meddler->clients = clients;
    meddler->seed = rng_next(rng);
    meddler->observer.fn = meddle;
    meddler->observer.events = rng_chance(rng, 0.5) ? (1 << LT_EVENTS) - 1 : rng_below(rng, 1 << LT_EVENTS);
    TAILQ_INSERT_TAIL(&clients->meddlers, meddler, link);
    lt_scheduler_observe(clients->world->scheduler, &meddler->observer);
}

/* The scheduler is gone, and those who observed it. */
void clients_forget_observers(struct clients *clients)
{
    struct meddler *meddler;
    while ((meddler = TAILQ_FIRST(&clients->meddlers)) != NULL) {
        TAILQ_REMOVE(&clients->meddlers, meddler, link);
        free(meddler);
    }
}

/* ---- the other steps ---- */

static void cancel_one(struct clients *clients, struct rng *rng)
{
    struct request *request, *chosen = NULL;
    uint32_t count = 0;
    TAILQ_FOREACH(request, &clients->requests, link) {
        if (rng_below(rng, ++count) == 0)
            chosen = request;
    }
    if (chosen == NULL)
        return;
    bool given_up = lt_reply_cancel(reply_of(chosen));
    trace("client   cancels %s %s: %s", request_name(chosen), chosen->id,
          given_up ? "given up" : "its answer will come");
    world_count(clients->world, FAULT_CANCELS);
    if (given_up)
        free_request(chosen);
}

static void set_some(struct clients *clients, struct rng *rng)
{
    struct world *world = clients->world;
    struct lt_scheduler_config *config = lt_scheduler_config(world->scheduler);
    const struct lt_limits *limits = &config->limits;
    uint32_t slots = limits->slots, key_limit = limits->key_limit;
    switch (rng_below(rng, 7)) {
    case 0:
    case 1:
        config->limits.slots = rng_below(rng, 6);
        break;
    case 2:
        config->limits.key_limit = rng_below(rng, 3);
        config->limits.key_limit_fn = NULL;
        break;
    case 3:
        config->limits.rate = rng_chance(rng, 0.5) ? (struct lt_rate){0}
                                                   : (struct lt_rate){1 + rng_below(rng, 5), rng_between(rng, 0.2, 3)};
        break;
    case 4:
        config->timeout = rng_chance(rng, 0.3) ? 0 : rng_between(rng, 0.5, 10);
        break;
    case 5:
        config->poll_interval = world->options.poll ? rng_between(rng, 0.1, 3) : 0;
        break;
    default:
        config->max_retries = rng_below(rng, 4);
        config->limits.key_rate = rng_chance(rng, 0.5) ? (struct lt_rate){0} : (struct lt_rate){1, 1};
    }
    if (config->limits.slots < slots || key_limit == 0 || config->limits.key_limit < key_limit)
        world->limits_lowered = true;
    world->config = *config;
    world->most_retries = config->max_retries > world->most_retries ? config->max_retries : world->most_retries;
    world_count(world, FAULT_SETS);
    trace("client   sets: %u slots, %u of a key, rate %g in %g, timeout %g, poll %g, %lld retries",
          config->limits.slots, config->limits.key_limit, config->limits.rate.burst, config->limits.rate.per,
          config->timeout, config->poll_interval, (long long)config->max_retries);
    lt_scheduler_set(world->scheduler, 0);
}

static void set_paused(struct clients *clients, bool paused)
{
    struct world *world = clients->world;
    world->paused = paused && !lt_scheduler_closing(world->scheduler);
    world->paused_at = world_now(world);
    trace("client   %s", paused ? "pauses" : "resumes");
    lt_scheduler_pause(world->scheduler, paused);
}

static void step_clock(struct clients *clients, struct rng *rng)
{
    double seconds = rng_chance(rng, 0.3) ? rng_between(rng, -90000, 90000) : rng_between(rng, -20, 20);
    /* A delay travels as a time and a mark: what is on its way to the store when the clock is set is off by that. */
    if (!clients_answered(clients) || !store_idle(clients->world->store) || stage_live(clients->world->stage) > 0)
        return;
    world_count(clients->world, FAULT_CLOCK);
    trace("world    the wall clock is set by %g s", seconds);
    sim_loop_step_clock(&clients->world->sim, seconds, true);
}

void clients_read_finished(struct clients *clients)
{
    struct lt_task *task;
    while ((task = lt_scheduler_next_finished(clients->world->scheduler)) != NULL) {
        checks_finished(clients->world, task);
        lt_task_unref(task);
    }
}

static void read_later(void *arg)
{
    struct clients *clients = arg;
    clients->reading = false;
    if (clients->world->scheduler != NULL)
        clients_read_finished(clients);
}

/* The hook. */
void clients_finished(struct clients *clients)
{
    struct world *world = clients->world;
    struct rng rng = rng_of(world->seed, 401, ++clients->told, 0);
    if (world->scheduler == NULL)
        return;
    if (rng_chance(&rng, 0.5)) {
        clients_read_finished(clients);
    } else if (!clients->reading) {
        clients->reading = true;
        world_later(world, rng_exponential(&rng, 1), read_later, clients);
    }
    if (rng_chance(&rng, 0.8))
        lt_scheduler_await_finished(world->scheduler);
}

static void make_step(struct clients *clients, const struct step *step)
{
    struct world *world = clients->world;
    struct rng rng = rng_of(world->seed, 402, step->index, 0);
    char id[32];
    snprintf(id, sizeof id, "t%u", step->index);
    switch (step->kind) {
    case STEP_ADD:
        add_one(clients, id, &rng, false);
        break;
    case STEP_ADD_MANY:
        add_many(clients, step, &rng);
        break;
    case STEP_ADD_WAITING:
        add_one(clients, id, &rng, true);
        break;
    case STEP_ADD_AGAIN:
        add_one(clients, some_id(step, &rng), &rng, rng_chance(&rng, 0.2));
        break;
    case STEP_STOP:
        ask(clients, LT_REQUEST_STOP, some_id(step, &rng), rng_chance(&rng, 0.5));
        break;
    case STEP_RETRY:
        ask(clients, LT_REQUEST_RETRY, some_id(step, &rng), false);
        break;
    case STEP_DELETE:
        ask(clients, LT_REQUEST_DELETE, some_id(step, &rng), false);
        break;
    case STEP_GET:
        ask(clients, LT_REQUEST_GET, some_id(step, &rng), false);
        break;
    case STEP_OUTPUT:
        ask(clients, LT_REQUEST_OUTPUT, some_id(step, &rng), false);
        break;
    case STEP_EXPLAIN:
        ask(clients, LT_REQUEST_EXPLAIN, some_id(step, &rng), false);
        break;
    case STEP_LIST:
        list_some(clients, &rng);
        break;
    case STEP_COUNT:
        count_all(clients);
        break;
    case STEP_STATS: {
        struct lt_stats stats;
        lt_scheduler_stats(world->scheduler, &stats);
        check_that(stats.running < 1000 && stats.exporting < 1000, "stats say that %u run and %u export", stats.running,
                   stats.exporting);
        checks_idle(world);
        break;
    }
    case STEP_WAIT:
        wait_for(clients, some_id(step, &rng));
        break;
    case STEP_CANCEL:
        cancel_one(clients, &rng);
        break;
    case STEP_SET:
        set_some(clients, &rng);
        break;
    case STEP_PAUSE:
        set_paused(clients, true);
        break;
    case STEP_RESUME:
        set_paused(clients, false);
        break;
    case STEP_READ_FINISHED:
        clients_read_finished(clients);
        break;
    case STEP_MEDDLE:
        add_meddler(clients, &rng);
        break;
    case STEP_CLOSE:
        world_close(world, rng_chance(&rng, 0.3) ? 0 : rng_exponential(&rng, 5));
        break;
    case STEP_STORE_DOWN:
        world_count(world, FAULT_STORE_DOWN);
        store_set_down(world->store, rng_exponential(&rng, 5));
        break;
    case STEP_LOSE_LEASE:
        store_lose_lease(world->store, &rng);
        break;
    case STEP_OTHER_HOST:
        world_count(world, FAULT_OTHER_HOST);
        store_other_host(world->store, &rng);
        break;
    case STEP_ASK_STOP:
        store_ask_stop_here(world->store, &rng);
        break;
    case STEP_PAUSE_ALL:
        world_count(world, FAULT_PAUSE_ALL);
        if (rng_chance(&rng, 0.5))
            pause_all(clients, true);
        else
            store_pause_all(world->store, true);
        break;
    case STEP_RESUME_ALL:
        pause_all(clients, false);
        break;
    case STEP_CLOCK:
        step_clock(clients, &rng);
        break;
    case STEP_CAPACITY:
        world_count(world, FAULT_CAPACITY);
        stage_capacity(world->stage, rng_below(&rng, 6));
        break;
    case STEP_PUSH_STALE:
        world_count(world, FAULT_PUSH_STALE);
        stage_push_stale(world->stage, &rng);
        break;
    case STEP_KINDS:
        break;
    }
}

static void on_step(struct sim_event *event)
{
    struct step *step = sim_container_of(event, struct step, event);
    struct clients *clients = step->clients;
    struct world *world = clients->world;
    clients->made++;
    bool off = kinds[step->kind].fault != FAULT_COUNT && !world_has(world, kinds[step->kind].fault);
    if (off || clients->plan->skipped[step->index] || world->scheduler == NULL)
        return;
    trace("step %u: %s", step->index, kinds[step->kind].name);
    make_step(clients, step);
}

/* ---- life ---- */

static enum step_kind choose_kind(uint64_t on, struct rng *rng)
{
    uint32_t sum = 0;
    for (int i = 0; i < STEP_KINDS; i++)
        sum += kinds[i].fault == FAULT_COUNT || (on >> kinds[i].fault & 1) != 0 ? kinds[i].weight : 0;
    uint32_t n = rng_below(rng, sum);
    for (int i = 0; i < STEP_KINDS; i++) {
        uint32_t weight = kinds[i].fault == FAULT_COUNT || (on >> kinds[i].fault & 1) != 0 ? kinds[i].weight : 0;
        if (n < weight)
            return (enum step_kind)i;
        n -= weight;
    }
    return STEP_ADD;
}

struct clients *clients_new(struct world *world, const struct plan *plan)
{
    struct clients *clients = lt_zalloc(sizeof *clients);
    struct rng rng = rng_of(world->seed, 403, 0, 0);
    clients->world = world;
    clients->plan = plan;
    TAILQ_INIT(&clients->requests);
    TAILQ_INIT(&clients->meddlers);
    clients->count = 5 + rng_below(&rng, rng_chance(&rng, 0.1) ? STEPS_MOST - 5 : 90);
    double span = clients->count * rng_between(&rng, 0.02, 1), at = 0;
    uint64_t on = world_faults(world->seed);
    for (uint32_t i = 0; i < clients->count; i++) {
        at += rng_chance(&rng, 0.3) ? 0 : rng_exponential(&rng, span / clients->count);
        clients->steps[i] = (struct step){
            .event = SIM_EVENT_INIT, .clients = clients, .index = i, .at = at, .kind = choose_kind(on, &rng)};
    }
    return clients;
}

void clients_begin(struct clients *clients)
{
    for (uint32_t i = 0; i < clients->count; i++)
        sim_event_in(&clients->world->sim, &clients->steps[i].event, clients->steps[i].at, on_step);
}

bool clients_stepped(const struct clients *clients)
{
    return clients->made == clients->count;
}

/* A wait for an end of which nobody knows: the answer to the client who stopped the task was lost. */
static bool is_hopeless(const struct request *request)
{
    if (request->kind != WAIT_REQUEST)
        return false;
    const struct record *record = record_find(request->clients->world, request->id, strlen(request->id));
    return record != NULL && record_is_unclear(record) && !request->clients->world->closing;
}

bool clients_answered(const struct clients *clients)
{
    const struct request *request;
    TAILQ_FOREACH(request, &clients->requests, link) {
        if (!is_hopeless(request))
            return false;
    }
    return true;
}

void clients_calm(struct clients *clients)
{
    struct world *world = clients->world;
    struct lt_scheduler_config *config = lt_scheduler_config(world->scheduler);
    set_paused(clients, false);
    if (config->limits.slots == 0)
        config->limits.slots = 1;
    world->config = *config;
    lt_scheduler_set(world->scheduler, 0);
    clients->made = clients->count;
    for (uint32_t i = 0; i < clients->count; i++)
        sim_event_cancel(&world->sim, &clients->steps[i].event);
}

void clients_check_answered(struct clients *clients)
{
    const struct request *request = TAILQ_FIRST(&clients->requests);
    while (request != NULL && is_hopeless(request))
        request = TAILQ_NEXT(request, link);
    if (request == NULL)
        return;
    const struct record *record = record_find(clients->world, request->id, strlen(request->id));
    fail("%s %s, asked %g s ago, is not answered; the task is %s", request_name(request), request->id,
         world_now(clients->world) - request->since,
         record == NULL || !record->known ? "not known" : lt_status_name(record->status));
}

void clients_free(struct clients *clients)
{
    clients_forget_observers(clients);
    for (uint32_t i = 0; i < clients->count; i++)
        sim_event_cancel(&clients->world->sim, &clients->steps[i].event);
    free(clients);
}

uint32_t clients_count(const struct clients *clients)
{
    return clients->count;
}
