/* A world from a seed: what it is made of, its way through noise, calm and close, and what must be true at the end. */
#include "world.h"

#include <math.h>

#include "memory_count.h"

const char *const fault_names[FAULT_COUNT] = {
#define FAULT_NAME(name_, text_) [FAULT_##name_] = text_,
    FAULTS(FAULT_NAME)
#undef FAULT_NAME
};

/* ---- chance ---- */

bool world_has(const struct world *world, enum fault fault)
{
    return (world->on >> fault & 1) != 0;
}

bool world_leaves(const struct world *world)
{
    return world->config.leave && world->options.durable && world->options.has_recover;
}

void world_count(struct world *world, enum fault fault)
{
    world->tally->faults[fault]++;
}

bool world_fault(struct world *world, enum fault fault, double share, uint64_t what, uint64_t nth)
{
    if (world->quiet || !world_has(world, fault))
        return false;
    struct rng rng = rng_of(world->seed, 501 + fault, what, nth);
    if (!rng_chance(&rng, share))
        return false;
    world_count(world, fault);
    return true;
}

uint64_t world_faults(uint64_t seed)
{
    static const double densities[] = {0.05, 0.2, 0.4, 0.7};
    struct rng rng = rng_of(seed, 502, 0, 0);
    double density = densities[rng_below(&rng, 4)];
    uint64_t on = 0;
    for (int i = 0; i < FAULT_COUNT; i++)
        on |= (uint64_t)rng_chance(&rng, density) << i;
    if (rng_chance(&rng, 0.8))
        on &= ~(UINT64_C(1) << FAULT_OPEN_FAILS); /* after which there is nothing to see */
    return on;
}

/* ---- what the seed decides ---- */

static uint32_t limit_by_key(void *arg, const struct lt_bytes *key)
{
    (void)arg;
    uint32_t limit = (uint32_t)(rng_text(key->data) % 4);
    return limit > 0 ? limit : LT_NO_KEY_LIMIT;
}

static double backoff(void *arg, uint32_t attempt, const struct lt_bytes *reason, struct lt_task *task)
{
    (void)arg;
    check_that(attempt > 0, "the backoff is asked for attempt 0");
    check_that(task->status == LT_RUNNING || task->status == LT_EXPORTING, "the backoff of %s is asked, which is %s",
               task->data, lt_status_name(task->status));
    (void)reason;
    return 0.1 * attempt;
}

static void busy(void *arg, bool is_busy)
{
    struct world *world = arg;
    check_that(world->busy != is_busy, "the owner is told twice that the scheduler is %s", is_busy ? "busy" : "idle");
    world->busy = is_busy;
}

static void finished(void *arg)
{
    struct world *world = arg;
    clients_finished(world->clients);
}

static void choose_options(struct world *world, struct rng *rng)
{
    struct options *options = &world->options;
    options->hosts =
        world_has(world, FAULT_OTHER_HOST) || world_has(world, FAULT_LEASE_LOST) || world_has(world, FAULT_PAUSE_ALL);
    options->recovers = options->hosts || world_has(world, FAULT_ORPHANS) || rng_chance(rng, 0.2);
    options->leases = options->hosts || (options->recovers && rng_chance(rng, 0.7));
    options->remote = options->recovers || rng_chance(rng, 0.4);
    options->durable = options->recovers || rng_chance(rng, 0.3);
    options->priorities = rng_chance(rng, 0.4);
    options->fair = world->seed % 3 == 0; /* takes nothing from the rng: known seeds stay what they are */
    options->announces = rng_chance(rng, 0.6);
    options->tells = world_has(world, FAULT_STORE_DOWN) && rng_chance(rng, 0.5);
    options->ordered = options->remote && rng_chance(rng, 0.4);
    options->asks = !options->ordered && rng_chance(rng, 0.6);
    options->size = rng_chance(rng, 0.2) ? 3 + rng_below(rng, 10) : 1000000;
    options->attach = rng_chance(rng, 0.6);
    options->receiver = rng_chance(rng, 0.3);
    options->poll = rng_chance(rng, 0.4) || (!options->attach && !options->receiver);
    options->can_status = options->poll || rng_chance(rng, 0.3);
    options->has_output = rng_chance(rng, 0.3);
    options->has_stored = options->leases || rng_chance(rng, 0.75);
    options->has_front = rng_chance(rng, 0.2);
    options->begins = rng_chance(rng, 0.3);
    options->has_init = world_has(world, FAULT_INIT);
    options->has_recover = rng_chance(rng, 0.8);
    options->persister = (int)rng_below(rng, 3);
    options->latency = rng_exponential(rng, rng_chance(rng, 0.3) ? 1 : 0.05);
    options->work = rng_exponential(rng, 1.5);
    options->keys = rng_chance(rng, 0.5) ? 1 + rng_below(rng, 4) : 0;
}

/* What none of the two actuators below does: they tell each end once, by themselves, and begin what they were given. */
static const enum fault NOT_OURS[] = {FAULT_END_TWICE,   FAULT_END_LOST,     FAULT_PUSH_STALE, FAULT_STATUS_BAD,
                                      FAULT_OUTPUT_LATE, FAULT_OUTPUT_FAILS, FAULT_CAPACITY,   FAULT_NOT_BEGUN};
/* Nor does that of processes, which has nobody else between. */
static const enum fault NOT_OF_PROCESSES[] = {FAULT_WORK_SNOOZES, FAULT_STOP_FAILS, FAULT_END_LATE};

static void leave_out(struct world *world, const enum fault *faults, size_t count)
{
    for (size_t i = 0; i < count; i++)
        world->on &= ~(UINT64_C(1) << faults[i]);
}

/* Half of the worlds have an actuator that can all there is; the others have a double of that of processes, whose work ends with
 * its host, or of Docker's, which takes up again what ran and is told when an end is stored. */
static void choose_shape(struct world *world)
{
    struct options *options = &world->options;
    struct rng rng = rng_of(world->seed, 503, 0, 0);
    struct rng store_rng = rng_of(world->seed, 504, 0, 0);
    options->batches = options->ordered && rng_chance(&store_rng, 0.6);
    options->shape = (enum shape)rng_below(&rng, SHAPES);
    if (options->shape == ANY_SHAPE || options->shape == ANY_SHAPE_TOO)
        return;
    leave_out(world, NOT_OURS, sizeof NOT_OURS / sizeof NOT_OURS[0]);
    options->attach = true;
    options->receiver = options->poll = options->can_status = false;
    options->has_output = options->has_front = options->begins = false;
    options->has_stored = options->has_recover = options->shape == DOCKER_SHAPE;
    if (options->shape == PROCESS_SHAPE)
        leave_out(world, NOT_OF_PROCESSES, sizeof NOT_OF_PROCESSES / sizeof NOT_OF_PROCESSES[0]);
}

static void choose_limits(const struct world *world, struct lt_limits *limits, struct rng *rng)
{
    limits->slots = 1 + rng_below(rng, 6);
    if (rng_chance(rng, 0.25))
        limits->rate = (struct lt_rate){1 + rng_below(rng, 5), rng_between(rng, 0.5, 5)};
    if (world->options.keys == 0)
        return;
    if (rng_chance(rng, 0.3))
        limits->key_rate = (struct lt_rate){1 + rng_below(rng, 3), rng_between(rng, 0.2, 3)};
    if (rng_chance(rng, 0.2))
        limits->key_limit_fn = limit_by_key;
    else if (rng_chance(rng, 0.7))
        limits->key_limit = 1 + rng_below(rng, 2);
}

static void choose_config(struct world *world, struct rng *rng)
{
    struct lt_scheduler_config *config = &world->config;
    *config = (struct lt_scheduler_config){
        .name = "sim",
        .timeout = rng_chance(rng, 0.5) ? rng_between(rng, 0.5, 10) : 0,
        .export_timeout = rng_chance(rng, 0.7) ? rng_between(rng, 0.5, 60) : 0,
        .max_retries = rng_below(rng, 4),
        .backoff = {.base = rng_chance(rng, 0.3) ? 0 : rng_between(rng, 0, 2),
                    .factor = rng_between(rng, 1, 3),
                    .max = rng_chance(rng, 0.5) ? 5 : 0,
                    .jitter = rng_between(rng, 0, 1)},
        .backoff_fn = rng_chance(rng, 0.2),
        .max_lost = rng_below(rng, 4),
        .schedule_interval = rng_between(rng, 0.1, 2),
        .poll_interval = world->options.poll ? rng_between(rng, 0.2, 3) : 0,
        .attach = world->options.attach,
        .finished_size = rng_chance(rng, 0.2) ? rng_below(rng, 4) : 10000,
        .keep_tasks = rng_chance(rng, 0.2) ? rng_below(rng, 6) : 10000,
        .keep_bytes = rng_chance(rng, 0.1) ? rng_below(rng, 3000) : 64 << 20,
        .container_timeout = 30,
        .callback_timeout = 30,
        .max_stall = 0.25,
        .shutdown_grace = 10,
        .go_on_without_lease = rng_chance(rng, 0.2),
        .hooks = {.arg = world, .busy = busy, .finished = finished, .backoff = backoff},
    };
    /* Without a time limit, an export that hangs does so for ever. */
    if (world_has(world, FAULT_SAVE_HANGS) || world_has(world, FAULT_OUTPUT_LATE))
        config->export_timeout = fmax(config->export_timeout, 1);
    choose_limits(world, &config->limits, rng);
    world->most_retries = config->max_retries;
    world->most_lost = config->max_lost;
    struct rng own = rng_of(world->seed, 505, 0, 0);
    config->leave = rng_chance(&own, 0.25);
}

/* ---- sessions ---- */

static void closed(struct lt_reply *reply);

static bool open_scheduler(struct world *world)
{
    struct lt_error error = {.code = LT_OK};
    world->sessions++;
    world->rate_at = 0; /* a scheduler begins with all its tokens */
    world->closing = world->stopping = world->paused = false;
    world->rate_at = 0;
    world->config.container = store_container(world->store);
    world->config.actuator = stage_actuator(world->stage);
    world->config.persister = vault_persister(world->vault);
    world->config.receiver = stage_receiver(world->stage);
    world->scheduler = lt_scheduler_open(&world->sim.loop, &world->config, &error);
    trace("world    session %u %s", world->sessions, world->scheduler != NULL ? "begins" : "could not begin");
    if (world->scheduler == NULL) {
        check_that(error.code != LT_OK && error.message[0] != '\0', "it cannot be opened, and does not say why");
        check_that(!store_container(world->store)->in_use, "it cannot be opened, and the container is in use");
        return false;
    }
    checks_observe(world);
    lt_scheduler_await_finished(world->scheduler);
    return true;
}

static void stopping(struct sim_event *event)
{
    sim_container_of(event, struct world, stopping_event)->stopping = true;
}

void world_close(struct world *world, double drain)
{
    double at = world_now(world) + drain;
    trace("world    close, drain %g s", drain);
    world->closing = true;
    if (world->stopping_event.place == LT_HEAP_NONE || world->stopping_event.due > at)
        sim_event_at(&world->sim, &world->stopping_event, at, stopping);
    if (drain <= 0)
        world->stopping = true;
    if (lt_reply_pending(&world->close_request.reply)) {
        lt_scheduler_close(world->scheduler, drain, "shutdown", NULL);
        return;
    }
    lt_reply_begin(&world->close_request.reply, &world->sim.loop, closed);
    lt_scheduler_close(world->scheduler, drain, "shutdown", &world->close_request);
    lt_reply_end(&world->close_request.reply);
}

/* The last that is seen of it. */
static void free_scheduler(struct world *world)
{
    clients_read_finished(world->clients);
    struct lt_stats stats;
    lt_scheduler_stats(world->scheduler, &stats);
    check_that(stats.success + stats.failed + stats.stopped == world->told_events - world->told_before,
               "%llu ends are counted, and %llu were told",
               (unsigned long long)(stats.success + stats.failed + stats.stopped),
               (unsigned long long)(world->told_events - world->told_before));
    if (world->config.finished_size > 0)
        check_that(
            world->told_list - world->listed_before + stats.finished_dropped == world->told_events - world->told_before,
            "%llu ends were told, %llu were in the finished list, and %llu dropped",
            (unsigned long long)(world->told_events - world->told_before),
            (unsigned long long)(world->told_list - world->listed_before), (unsigned long long)stats.finished_dropped);
    check_that(lt_scheduler_idle(world->scheduler), "it is closed, and not idle");
    check_that(!world->busy, "it is closed, and busy");
    lt_scheduler_free(world->scheduler);
    world->scheduler = NULL;
    stage_host_gone(world->stage);
    world->told_before = world->told_events;
    world->listed_before = world->told_list;
    clients_forget_observers(world->clients);
    store_container(world->store)->in_use = false;
    trace("world    it is freed");
}

static void closed(struct lt_reply *reply)
{
    struct world *world = sim_container_of(reply, struct world, close_request.reply);
    check_that(lt_scheduler_closed(world->scheduler), "close is answered, and it is not closed");
    trace("world    it is closed");
    checks_closed(world);
    world->is_closed = true;
}

/* ---- the way of a world ---- */

static bool noise_over(void *arg)
{
    const struct world *world = arg;
    return clients_stepped(world->clients) || world->is_closed;
}

static bool is_closed(void *arg)
{
    const struct world *world = arg;
    return world->is_closed;
}

static bool all_ended(const struct world *world)
{
    uint32_t position = 0;
    const struct record *record;
    while ((record = lt_map_next(&world->records, &position)) != NULL) {
        if (record->known && !lt_status_ended(record->status))
            return false;
    }
    return true;
}

static bool is_settled(void *arg)
{
    const struct world *world = arg;
    return clients_answered(world->clients) && lt_scheduler_idle(world->scheduler) && all_ended(world) &&
           world->flows == 0 && store_idle(world->store) && stage_idle(world->stage) && vault_idle(world->vault) &&
           !sim_loop_has_turns(&world->sim) && world->later == 0;
}

static bool nothing_left(void *arg)
{
    const struct world *world = arg;
    return clients_answered(world->clients) && !sim_loop_has_turns(&world->sim) && store_idle(world->store) &&
           stage_idle(world->stage) && vault_idle(world->vault) && world->flows == 0 && world->later == 0;
}

static void close_it(struct world *world, double drain)
{
    if (!world->is_closed)
        world_close(world, drain);
    check_that(sim_loop_run(&world->sim, world_now(world) + 3600, is_closed, world), "it does not close");
    bool over = sim_loop_run(&world->sim, world_now(world) + 3600, nothing_left, world);
    clients_check_answered(world->clients);
    check_that(over, "it is closed, and something is still under way");
    free_scheduler(world);
    world->is_closed = false;
    lt_reply_clear(&world->close_request.reply);
    sim_event_cancel(&world->sim, &world->stopping_event);
    check_that(sim_loop_timers(&world->sim) == 0, "it is freed, and %u timers are left", sim_loop_timers(&world->sim));
    check_that(!sim_loop_has_turns(&world->sim), "it is freed, and turns are left");
    check_that(world->sim.loop.holds == 0, "it is freed, and holds the loop");
    check_that(TAILQ_EMPTY(&world->sim.loop.clock_watches), "it is freed, and watches the clock");
}

static void calm(struct world *world)
{
    trace("world    is calm from now on");
    world->quiet = true;
    sim_loop_step_clock(&world->sim, world->sim.most_offset - world->sim.loop.wall_offset - world->sim.step, true);
    world->sim.tick_cost = 0;
    clients_calm(world->clients);
    store_calm(world->store);
    stage_calm(world->stage);
}

static void settle(struct world *world)
{
    static const double LONGEST = 2 * 3600; /* virtual seconds in which all must have ended */
    calm(world);
    if (!sim_loop_run(&world->sim, world_now(world) + LONGEST, is_settled, world)) {
        checks_settled(world);
        clients_check_answered(world->clients);
        check_that(lt_scheduler_idle(world->scheduler), "all has ended, and the scheduler is not idle");
        fail("all has ended, and something is still under way");
    }
    checks_settled(world);
    checks_idle(world);
}

/* A loop that works without need, though not for ever. */
static void check_turns(struct world *world, const struct tally *before)
{
    double lives = (double)(world->tally->lives - before->lives + world->tally->runs - before->runs);
    double seconds = world_now(world) - 1000;
    double most = 20000 + 400 * (lives + clients_count(world->clients)) + 30 * seconds;
    check_that((double)world->sim.turns < most, "%llu turns for %g lives and runs in %g s",
               (unsigned long long)world->sim.turns, lives, seconds);
}

static void go(struct world *world)
{
    if (world_has(world, FAULT_ORPHANS)) {
        struct rng rng = rng_of(world->seed, 503, 0, 0);
        store_orphans(world->store, 1 + rng_below(&rng, 5));
        world_count(world, FAULT_ORPHANS);
    }
    if (!open_scheduler(world)) {
        world->quiet = true;
        bool over = sim_loop_run(&world->sim, world_now(world) + 100, nothing_left, world);
        check_that(over && world->sim.loop.timers.count == 0, "it could not be opened, and something is under way");
        return;
    }
    clients_begin(world->clients);
    check_that(sim_loop_run(&world->sim, INFINITY, noise_over, world), "nothing is left to do, and steps are");
    if (world->closing) {
        world_count(world, FAULT_CLOSE_EARLY);
        close_it(world, 0);
        if (!world->options.recovers)
            return;
        store_left_by_us(world->store);
        world->quiet = true;
        check_that(open_scheduler(world), "it cannot be opened again");
    }
    settle(world);
    close_it(world, 1);
}

static void do_later(struct sim_event *event);

struct later {
    struct sim_event event;
    struct world *world;
    void (*fn)(void *arg);
    void *arg;
};

static void do_later(struct sim_event *event)
{
    struct later *later = sim_container_of(event, struct later, event);
    void (*fn)(void *) = later->fn;
    void *arg = later->arg;
    later->world->later--;
    free(later);
    fn(arg);
}

void world_later(struct world *world, double seconds, void (*fn)(void *arg), void *arg)
{
    struct later *later = lt_alloc(sizeof *later);
    *later = (struct later){SIM_EVENT_INIT, world, fn, arg};
    world->later++;
    sim_event_in(&world->sim, &later->event, seconds, do_later);
}

static struct world *world_new(const struct plan *plan, struct tally *tally)
{
    struct world *world = lt_zalloc(sizeof *world);
    struct rng rng = rng_of(plan->seed, 504, 0, 0);
    world->seed = plan->seed;
    world->on = world_faults(plan->seed) & ~plan->off;
    world->tally = tally;
    world->stopping_event = SIM_EVENT_INIT;
    bool slow = world_has(world, FAULT_SLOW);
    sim_loop_open(&world->sim, plan->seed, slow ? rng_between(&rng, 0, 0.0003) : 0);
    report_open(&world->sim, plan->tracing);
    srand48((long)plan->seed);
    choose_options(world, &rng);
    choose_shape(world);
    choose_config(world, &rng);
    checks_open(world);
    world->store = store_new(world);
    world->stage = stage_new(world);
    world->vault = world->options.persister > 0 ? vault_new(world) : NULL;
    world->clients = clients_new(world, plan);
    return world;
}

static void world_free(struct world *world)
{
    clients_free(world->clients);
    store_free(world->store);
    stage_free(world->stage);
    vault_free(world->vault);
    checks_close(world);
    sim_loop_close(&world->sim);
    free(world);
}

static const char *const shape_names[SHAPES] = {"", "", " process", " docker"};

static void tell_world(const struct world *world)
{
    const struct options *o = &world->options;
    const struct lt_scheduler_config *c = &world->config;
    if (!report_tracing())
        return;
    trace("world    seed %llu, %u steps", (unsigned long long)world->seed, clients_count(world->clients));
    for (int i = 0; i < FAULT_COUNT; i++) {
        if (world_has(world, (enum fault)i))
            trace("world      on: %s", fault_names[i]);
    }
    trace("world    container: %s%s%s%s%s%s%s%s%s%s%s size %llu, latency %g", o->priorities ? "priority" : "queue",
          o->fair ? " fair" : "", o->durable ? " durable" : "", o->announces ? " announces" : "",
          o->tells ? " tells" : "", o->ordered ? " ordered" : "", o->batches ? " batches" : "",
          o->remote ? " remote" : "", o->asks ? " asks" : "", o->leases ? " leases" : "", o->hosts ? " hosts" : "",
          (unsigned long long)o->size, o->latency);
    trace("world    actuator:%s%s%s%s%s%s%s%s%s%s, persister %d, work %g", shape_names[o->shape],
          o->attach ? " attach" : "", o->poll ? " poll" : "", o->receiver ? " receiver" : "",
          o->has_output ? " output" : "", o->has_stored ? " stored" : "", o->has_front ? " front" : "",
          o->has_init ? " init" : "", o->has_recover ? " recover" : "", o->begins ? " begins" : "", o->persister,
          o->work);
    trace("world    %u slots, rate %g in %g, %u of a key%s, key rate %g in %g", c->limits.slots, c->limits.rate.burst,
          c->limits.rate.per, c->limits.key_limit, c->limits.key_limit_fn != NULL ? " (function)" : "",
          c->limits.key_rate.burst, c->limits.key_rate.per);
    trace("world    timeout %g, export timeout %g, %lld retries, backoff %g * %g^n, %u lost, interval %g, poll %g%s%s",
          c->timeout, c->export_timeout, (long long)c->max_retries, c->backoff.base, c->backoff.factor, c->max_lost,
          c->schedule_interval, c->poll_interval, c->go_on_without_lease ? ", goes on without lease" : "",
          c->leave ? ", leaves" : "");
}

/* Of the sanitizer, where there is one: it says where the memory came from. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));
static int (*const find_leaks)(void) = __lsan_do_recoverable_leak_check;

void world_run(const struct plan *plan, struct tally *tally)
{
    int64_t blocks = memory_blocks();
    struct tally before = *tally;
    struct world *world = world_new(plan, tally);
    tell_world(world);
    go(world);
    check_turns(world, &before);
    tally->seeds++;
    tally->turns += world->sim.turns;
    tally->seconds += world_now(world) - 1000;
    trace("world    ends");
    report_open(NULL, plan->tracing);
    world_free(world);
    if (memory_blocks() != blocks && plan->tracing && find_leaks != NULL)
        find_leaks();
    check_that(memory_blocks() == blocks, "%lld blocks of memory are left", (long long)(memory_blocks() - blocks));
}

uint32_t world_steps(uint64_t seed)
{
    struct world world = {.seed = seed};
    struct plan plan = {.seed = seed};
    struct clients *clients = clients_new(&world, &plan);
    uint32_t count = clients_count(clients);
    clients_free(clients);
    return count;
}
