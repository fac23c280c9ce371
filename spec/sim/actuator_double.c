/* The actuator of the simulation, and the receiver: work that takes its time, fails, hangs, is reported early, late,
 * twice, or for runs that are over; starts and stops that are late and fail.
 *
 * A proc is what runs: it may outlive the host that started it, and is then found by its run number. What the scheduler
 * promises of a work is checked here: how many there are at once, that none is touched after its end, that none runs
 * longer than it may, that `stored` comes once, and when it is true. */
#include "world.h"

static const double SLACK = 2.5; /* seconds within which a work is stopped that must be: a last look takes one */

struct proc {
    struct stage *stage;
    char *id;
    char *key;
    uint64_t what; /* for chance */
    uint64_t run;
    struct lt_work *work; /* NULL: nobody's, or not to be touched any more */
    bool starting;        /* replies that are owed */
    bool stopping;
    bool fetching;
    bool recovering;
    bool failing; /* its start fails */
    bool to_begin;
    double lasts; /* once it has begun */
    bool alive;
    bool known;    /* the scheduler knows that it runs */
    bool killed;   /* it was stopped, or never started */
    bool reported; /* its end was told */
    bool silent;   /* what is told is told by status alone */
    bool full;     /* its output is held up */
    uint32_t stops;
    uint32_t stops_seen;
    uint32_t outputs;
    uint32_t chunks;
    double ended_at;
    struct lt_report end; /* how it ends by itself; without bytes */
    struct sim_event start_event, end_event, tell_event, stop_event, output_event, chunk_event, check_event;
    TAILQ_ENTRY(proc) link;
};

struct status_call {
    struct sim_event event;
    struct stage *stage;
    struct lt_status_op *op;
    uint64_t *runs;
    bool fails, old;
};

struct recover_call {
    struct sim_event event;
    struct stage *stage;
    struct lt_recover_work_op *op;
};

struct stage {
    struct lt_actuator base;
    struct lt_actuator_ops ops;
    struct lt_actuator front;
    struct lt_actuator_ops front_ops;
    struct lt_receiver receiver;
    struct lt_receiver_ops receiver_ops;
    struct world *world;
    struct lt_actuator_env env;
    struct lt_actuator_env receiver_env;
    bool open, front_open, receiver_open;
    TAILQ_HEAD(, proc) procs;
    uint32_t calls; /* of status, recover, init and close, under way */
    uint64_t asked;
    bool capacity_changed;
};

static struct stage *stage_of(struct lt_actuator *actuator)
{
    return sim_container_of(actuator, struct stage, base);
}

static struct lt_bytes *text(const char *what, const struct proc *proc)
{
    return lt_bytes_printf("%s of %s run %llu", what, proc->id, (unsigned long long)proc->run);
}

static struct proc *find(const struct stage *stage, uint64_t run)
{
    struct proc *proc;
    TAILQ_FOREACH(proc, &stage->procs, link) {
        if (proc->run == run)
            return proc;
    }
    return NULL;
}

static struct proc *proc_new(struct stage *stage, const char *id, const char *key, uint64_t run)
{
    struct proc *proc = lt_zalloc(sizeof *proc);
    proc->stage = stage;
    proc->id = lt_strdup(id);
    proc->key = key != NULL ? lt_strdup(key) : NULL;
    proc->what = rng_text(id);
    proc->run = run;
    proc->start_event = proc->end_event = proc->tell_event = proc->stop_event = proc->output_event = proc->chunk_event =
        proc->check_event = SIM_EVENT_INIT;
    TAILQ_INSERT_TAIL(&stage->procs, proc, link);
    return proc;
}

static void cancel_events(struct proc *proc)
{
    struct sim_event *events[] = {&proc->start_event,  &proc->end_event,   &proc->tell_event, &proc->stop_event,
                                  &proc->output_event, &proc->chunk_event, &proc->check_event};
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        sim_event_cancel(&proc->stage->world->sim, events[i]);
}

static void proc_free(struct proc *proc)
{
    cancel_events(proc);
    TAILQ_REMOVE(&proc->stage->procs, proc, link);
    free(proc->id);
    free(proc->key);
    free(proc);
}

static bool has(const struct proc *proc, enum fault fault, double share)
{
    return world_fault(proc->stage->world, fault, share, proc->what, proc->run);
}

/* The scheduler is told nothing of it any more; and who waited for its end, to take the task over, need not wait. */
static void let_go(struct proc *proc)
{
    struct world *world = proc->stage->world;
    proc->work = NULL;
    if (record_of(world, proc->id, strlen(proc->id))->holder == DEAD)
        store_left(world->store);
}

/* ---- the end, and how it is told ---- */

static struct lt_report report_of(const struct proc *proc)
{
    struct lt_report report = proc->end;
    if (report.status == LT_SUCCESS)
        report.output = text("output", proc);
    else if (report.snooze == 0)
        report.reason = text("failure", proc);
    return report;
}

static void tell_end(struct proc *proc)
{
    struct stage *stage = proc->stage;
    struct world *world = stage->world;
    struct lt_report report = report_of(proc);
    struct rng rng = rng_of(world->seed, 201, proc->what, proc->run);
    bool known = proc->work != NULL;
    bool direct = known && stage->open && stage->env.attach && rng_chance(&rng, 0.7);
    struct lt_push push = {.id = proc->id, .id_len = strlen(proc->id), .run = proc->run, .report = report};
    if (known && rng_chance(&rng, 0.1))
        push.run = 0;
    proc->reported = true;
    trace("stage    %s run %llu tells that it is %s", proc->id, (unsigned long long)proc->run,
          lt_status_name(report.status));
    if (direct)
        stage->env.notify.report(stage->env.notify.arg, proc->work, &report);
    else if (stage->receiver_open && world->options.receiver)
        stage->receiver_env.push(stage->receiver_env.push_arg, &push);
    else if (stage->open && stage->env.attach)
        stage->env.push(stage->env.push_arg, &push);
    else
        lt_report_clear(&report);
    if (!world->options.has_stored && !proc->starting && !proc->stopping && !proc->recovering)
        let_go(proc);
}

static bool pushes(const struct stage *stage)
{
    return stage->world->options.attach || stage->world->options.receiver;
}

static void on_tell(struct sim_event *event)
{
    struct proc *proc = sim_container_of(event, struct proc, tell_event);
    if (proc->stage->world->options.has_stored || !proc->reported)
        tell_end(proc);
}

static void proc_over(struct proc *proc)
{
    struct world *world = proc->stage->world;
    proc->alive = false;
    proc->ended_at = world_now(world);
    sim_event_cancel(&world->sim, &proc->chunk_event);
    sim_event_cancel(&world->sim, &proc->check_event);
    trace("stage    %s run %llu is over: %s", proc->id, (unsigned long long)proc->run,
          lt_status_name(proc->end.status));
    if (!pushes(proc->stage) || proc->work == NULL)
        return;
    if (world->options.poll && world->options.can_status && has(proc, FAULT_END_LOST, 0.2))
        return;
    struct rng rng = rng_of(world->seed, 202, proc->what, proc->run);
    if (has(proc, FAULT_END_LATE, 0.2)) {
        proc->end.ended_at = proc->ended_at;
        sim_event_in(&world->sim, &proc->tell_event, rng_between(&rng, 0, 3), on_tell);
        return;
    }
    tell_end(proc);
    if (proc->work != NULL && world->options.has_stored && has(proc, FAULT_END_TWICE, 0.2))
        sim_event_in(&world->sim, &proc->tell_event, rng_between(&rng, 0, 1), on_tell);
}

static void on_end(struct sim_event *event)
{
    proc_over(sim_container_of(event, struct proc, end_event));
}

/* How it will go, and for how long. */
static double plan_end(struct proc *proc)
{
    struct world *world = proc->stage->world;
    struct rng rng = rng_of(world->seed, 203, proc->what, proc->run);
    proc->end = LT_REPORT(LT_SUCCESS);
    if (has(proc, FAULT_WORK_FAILS, 0.4)) {
        proc->end.status = LT_FAILED;
        proc->end.no_retry = rng_chance(&rng, 0.1);
        if (rng_chance(&rng, 0.2))
            proc->end.retry_after = rng_between(&rng, 0, 5);
    } else if (has(proc, FAULT_WORK_SNOOZES, 0.2)) {
        proc->end.status = LT_FAILED;
        proc->end.snooze = rng_chance(&rng, 0.5) ? -1 : rng_between(&rng, 0.001, 20);
    } else if (has(proc, FAULT_NOT_BEGUN, 0.2)) {
        proc->end.status = LT_FAILED;
        proc->end.not_begun = true;
    } else if (has(proc, FAULT_WORK_KILLED, 0.1)) {
        proc->end.status = LT_STOPPED;
    }
    if (has(proc, FAULT_WORK_HANGS, 0.1))
        return world->quiet ? 20 : 1e5;
    return rng_chance(&rng, 0.2) ? 0 : rng_exponential(&rng, world->options.work);
}

/* ---- while it runs ---- */

static void on_check(struct sim_event *event)
{
    struct proc *proc = sim_container_of(event, struct proc, check_event);
    bool left = proc->stage->world->stopping && world_leaves(proc->stage->world);
    check_that(!proc->alive || proc->stops > proc->stops_seen || proc->work == NULL || left,
               "%s run %llu runs on though it should have been stopped", proc->id, (unsigned long long)proc->run);
}

/* From `at` on it must not run, but for what a stop takes. */
static void must_stop(struct proc *proc, double at)
{
    struct world *world = proc->stage->world;
    proc->stops_seen = proc->stops;
    sim_event_at(&world->sim, &proc->check_event, fmax(at, world_now(world)) + SLACK, on_check);
}

static void on_chunk(struct sim_event *event)
{
    struct proc *proc = sim_container_of(event, struct proc, chunk_event);
    struct stage *stage = proc->stage;
    struct world *world = stage->world;
    struct rng rng = rng_of(world->seed, 204, proc->what, proc->run + 1000 * ++proc->chunks);
    if (proc->work == NULL || !stage->open)
        return;
    if (world_has(world, FAULT_PROGRESS) && rng_chance(&rng, 0.5)) {
        struct lt_report report = LT_REPORT(LT_RUNNING);
        report.progress = text("progress", proc);
        world_count(world, FAULT_PROGRESS);
        if (stage->env.attach && rng_chance(&rng, 0.5))
            stage->env.notify.report(stage->env.notify.arg, proc->work, &report);
        else if (rng_chance(&rng, 0.5))
            stage->env.push(
                stage->env.push_arg,
                &(struct lt_push){.id = proc->id, .id_len = strlen(proc->id), .run = proc->run, .report = report});
        else
            lt_scheduler_progress(world->scheduler, proc->work, report.progress);
    }
    if (world_has(world, FAULT_LIVE_OUTPUT) && !proc->full && proc->alive) {
        world_count(world, FAULT_LIVE_OUTPUT);
        proc->full = !stage->env.notify.output(stage->env.notify.arg, proc->work,
                                               rng_chance(&rng, 0.5) ? LT_STDOUT : LT_STDERR, text("line", proc));
    }
    if (proc->alive && proc->chunks < 20)
        sim_event_in(&world->sim, event, rng_exponential(&rng, world->options.work / 4 + 0.01), on_chunk);
}

static void run_on(struct proc *proc)
{
    struct world *world = proc->stage->world;
    if (world_has(world, FAULT_PROGRESS) || world_has(world, FAULT_LIVE_OUTPUT)) {
        struct rng rng = rng_of(world->seed, 205, proc->what, proc->run);
        sim_event_in(&world->sim, &proc->chunk_event, rng_exponential(&rng, world->options.work / 4 + 0.01), on_chunk);
    }
}

static void op_more(struct lt_actuator *actuator, struct lt_work *work)
{
    struct stage *stage = stage_of(actuator);
    struct proc *proc = work->data;
    check_that(find(stage, work->run) == proc && proc->work == work, "more is called for a work that is over");
    proc->full = false;
}

/* ---- start ---- */

static void answer_start(struct proc *proc)
{
    struct stage *stage = proc->stage;
    struct lt_work *work = proc->work;
    struct rng rng = rng_of(stage->world->seed, 206, proc->what, proc->run);
    proc->starting = false;
    if (proc->failing) {
        proc->killed = true;
        proc->alive = false;
        if (has(proc, FAULT_WORK_SNOOZES, 0.2))
            work->said.snooze = rng_chance(&rng, 0.5) ? -1 : 3;
        else if (rng_chance(&rng, 0.5))
            work->said.reason = text("no start", proc);
        work->said.no_retry = rng_chance(&rng, 0.1);
        if (!stage->world->options.has_stored)
            let_go(proc);
        trace("stage    %s run %llu does not start", proc->id, (unsigned long long)proc->run);
        lt_reply_send(&work->reply, LT_ERROR, "no start");
        return;
    }
    if (rng_chance(&rng, 0.5))
        work->handle = text("handle", proc);
    if (work->deadline > 0)
        must_stop(proc, work->deadline);
    if (!proc->alive && proc->reported && !stage->world->options.has_stored)
        let_go(proc);
    else if (proc->alive)
        run_on(proc);
    lt_reply_ok(&work->reply);
}

static void on_start(struct sim_event *event)
{
    answer_start(sim_container_of(event, struct proc, start_event));
}

/* Whether it is a run that holds a slot, as far as an actuator can know. */
static bool is_live(const struct proc *proc)
{
    return proc->work != NULL && (proc->stage->world->options.has_stored || proc->alive);
}

uint32_t stage_live(const struct stage *stage)
{
    const struct proc *proc;
    uint32_t count = 0;
    TAILQ_FOREACH(proc, &stage->procs, link)
        count += is_live(proc);
    return count;
}

static uint32_t live_of_key(const struct stage *stage, const char *key)
{
    const struct proc *proc;
    uint32_t count = 0;
    TAILQ_FOREACH(proc, &stage->procs, link)
        count += is_live(proc) && key != NULL && proc->key != NULL && strcmp(proc->key, key) == 0;
    return count;
}

static void check_alone(const struct stage *stage, const struct proc *new)
{
    const struct proc *proc;
    TAILQ_FOREACH(proc, &stage->procs, link) {
        check_that(proc == new || !proc->alive || proc->work == NULL || strcmp(proc->id, new->id) != 0,
                   "%s starts as run %llu while run %llu is not dead", new->id, (unsigned long long)new->run,
                   (unsigned long long)proc->run);
    }
}

static void op_start(struct lt_actuator *actuator, struct lt_work *work)
{
    struct stage *stage = stage_of(actuator);
    struct world *world = stage->world;
    check_that(stage->open, "start is called on an actuator that is closed");
    check_that(find(stage, work->run) == NULL, "run %llu starts twice", (unsigned long long)work->run);
    struct lt_bytes *key = lt_task_key(work->task);
    struct proc *proc = proc_new(stage, lt_task_id(work->task), key != NULL ? key->data : NULL, work->run);
    proc->work = work;
    proc->starting = true;
    work->data = proc;
    trace("stage    start %s run %llu, deadline %g", proc->id, (unsigned long long)proc->run,
          work->deadline > 0 ? work->deadline - world_now(world) : 0);
    check_alone(stage, proc);
    checks_start(world, work, stage_live(stage), live_of_key(stage, proc->key));
    check_that(stage->capacity_changed || stage_live(stage) <= stage->base.capacity,
               "%u works run in an actuator for %u", stage_live(stage), stage->base.capacity);
    world->tally->runs++;

    struct rng rng = rng_of(world->seed, 207, proc->what, proc->run);
    bool late = !world->options.begins && has(proc, FAULT_START_LATE, 0.4);
    double delay = late ? rng_exponential(&rng, 1) : 0;
    proc->failing = has(proc, FAULT_START_FAILS, 0.15);
    double lasts = proc->lasts = plan_end(proc);
    proc->alive = proc->known = true;
    if (!proc->failing && world->options.begins) {
        proc->to_begin = true;
    } else if (!proc->failing) {
        bool early = has(proc, FAULT_END_EARLY, 0.5);
        if (early && rng_chance(&rng, 0.3))
            proc_over(proc); /* from within start */
        else
            sim_event_in(&world->sim, &proc->end_event, early ? lasts : fmax(lasts, delay) + 1e-6, on_end);
    }
    if (delay > 0)
        sim_event_in(&world->sim, &proc->start_event, delay, on_start);
    else
        answer_start(proc);
}

/* Some of those that were started, the others the next time. */
static bool op_begin(struct lt_actuator *actuator, double until)
{
    struct stage *stage = stage_of(actuator);
    struct world *world = stage->world;
    struct proc *proc;
    check_that(stage->open, "begin is called on an actuator that is closed");
    check_that(until >= world_now(world) - 1, "begin is called for a time long past");
    TAILQ_FOREACH(proc, &stage->procs, link) {
        if (!proc->to_begin)
            continue;
        struct rng rng = rng_of(world->seed, 217, ++stage->asked, proc->run);
        if (rng_chance(&rng, 0.2))
            return false;
        proc->to_begin = false;
        if (!lt_work_begins(proc->work)) {
            trace("stage    %s run %llu is to be stopped before it begins", proc->id, (unsigned long long)proc->run);
            continue;
        }
        trace("stage    %s run %llu begins", proc->id, (unsigned long long)proc->run);
        if (proc->work->deadline > 0)
            must_stop(proc, proc->work->deadline);
        if (has(proc, FAULT_END_EARLY, 0.5) && rng_chance(&rng, 0.3))
            proc_over(proc); /* from within begin */
        else
            sim_event_in(&world->sim, &proc->end_event, proc->lasts + 1e-6, on_end);
    }
    return true;
}

/* ---- stop ---- */

static bool asked_for(const struct world *world, const struct proc *proc, const struct record *record)
{
    const struct lt_work *work = proc->work;
    bool late = work->deadline > 0 && world_now(world) >= work->deadline - 1e-6;
    return late || record->stop_asked || record->lease_lost || !world->stopping;
}

static void answer_stop(struct proc *proc)
{
    struct stage *stage = proc->stage;
    struct world *world = stage->world;
    struct lt_work *work = proc->work;
    struct rng rng = rng_of(world->seed, 208, proc->what, proc->run + 1000 * proc->stops);
    proc->stopping = false;
    if (proc->alive && world_fault(world, FAULT_STOP_FAILS, 0.4, proc->what, proc->run + 1000 * proc->stops)) {
        trace("stage    %s run %llu cannot be stopped", proc->id, (unsigned long long)proc->run);
        sim_event_cancel(&world->sim, &proc->check_event);
        if (world->stopping) /* it may be the last try */
            record_of(world, proc->id, strlen(proc->id))->unstoppable_run = proc->run;
        else
            must_stop(proc, world_now(world) + 31);
        lt_reply_send(&work->reply, LT_ERROR, "it does not listen");
        return;
    }
    if (proc->alive) {
        proc->alive = false;
        proc->killed = true;
        if (rng_chance(&rng, 0.3))
            work->said.output = text("remains", proc);
        trace("stage    %s run %llu is dead", proc->id, (unsigned long long)proc->run);
    }
    sim_event_cancel(&world->sim, &proc->end_event);
    sim_event_cancel(&world->sim, &proc->chunk_event);
    sim_event_cancel(&world->sim, &proc->check_event);
    if (!world->options.has_stored) {
        sim_event_cancel(&world->sim, &proc->tell_event);
        let_go(proc);
    }
    lt_reply_ok(&work->reply);
}

static void on_stop(struct sim_event *event)
{
    answer_stop(sim_container_of(event, struct proc, stop_event));
}

static void op_stop(struct lt_actuator *actuator, struct lt_work *work)
{
    struct stage *stage = stage_of(actuator);
    struct world *world = stage->world;
    struct proc *proc = work->data;
    check_that(find(stage, work->run) == proc && proc->work == work, "stop is called for a work that is over");
    check_that(!proc->starting && !proc->stopping && !proc->fetching && !proc->recovering,
               "stop is called for %s run %llu while another call is under way", proc->id,
               (unsigned long long)proc->run);
    struct record *record = record_of(world, proc->id, strlen(proc->id));
    if (record->run == proc->run && !asked_for(world, proc, record)) {
        record->shutdown_run = proc->run;
        check_that(!world_leaves(world), "%s is stopped by the shutdown, which leaves it running", proc->id);
    }
    proc->stops++;
    proc->to_begin = false;
    proc->stopping = true;
    trace("stage    stop %s run %llu (%u)", proc->id, (unsigned long long)proc->run, proc->stops);
    struct rng rng = rng_of(world->seed, 209, proc->what, proc->run + 1000 * proc->stops);
    if (has(proc, FAULT_STOP_LATE, 0.5))
        sim_event_in(&world->sim, &proc->stop_event, rng_exponential(&rng, 3), on_stop);
    else
        answer_stop(proc);
}

/* ---- status ---- */

static void answer_status(struct status_call *call)
{
    struct stage *stage = call->stage;
    struct lt_status_op *op = call->op;
    for (uint32_t i = 0; i < op->count && !call->fails && !call->old; i++) {
        struct proc *proc = find(stage, call->runs[i]);
        if (proc == NULL || proc->alive || proc->killed || proc->work == NULL)
            continue;
        op->seen[i].report = report_of(proc);
        op->seen[i].report.ended_at = proc->ended_at;
        proc->reported = true;
        trace("stage    status of %s run %llu: %s", proc->id, (unsigned long long)proc->run,
              lt_status_name(proc->end.status));
    }
    bool fails = call->fails;
    stage->calls--;
    free(call->runs);
    free(call);
    lt_reply_send(&op->reply, fails ? LT_ERROR : LT_OK, "no status");
}

static void on_status(struct sim_event *event)
{
    answer_status(sim_container_of(event, struct status_call, event));
}

static void op_status(struct lt_actuator *actuator, struct lt_status_op *op)
{
    struct stage *stage = stage_of(actuator);
    struct world *world = stage->world;
    check_that(stage->open, "status is asked of an actuator that is closed");
    check_that(world->options.can_status, "status is asked of an actuator that has none");
    struct status_call *call = lt_zalloc(sizeof *call);
    call->event = SIM_EVENT_INIT;
    call->stage = stage;
    call->op = op;
    call->runs = lt_alloc((op->count + 1) * sizeof *call->runs);
    for (uint32_t i = 0; i < op->count; i++) {
        const struct proc *proc = op->seen[i].work->data;
        call->runs[i] = op->seen[i].work->run;
        check_that(find(stage, call->runs[i]) == proc, "status is asked of run %llu, which is over",
                   (unsigned long long)call->runs[i]);
    }
    stage->calls++;
    struct rng rng = rng_of(world->seed, 210, ++stage->asked, 0);
    if (!world_fault(world, FAULT_STATUS_BAD, 0.4, 210, stage->asked)) {
        answer_status(call);
        return;
    }
    call->fails = rng_chance(&rng, 0.3);
    call->old = rng_chance(&rng, 0.3);
    if (rng_chance(&rng, 0.3))
        answer_status(call);
    else
        sim_event_in(&world->sim, &call->event, rng_between(&rng, 0, 4), on_status);
}

/* ---- output ---- */

static void answer_output(struct proc *proc)
{
    struct world *world = proc->stage->world;
    struct lt_work *work = proc->work;
    uint64_t nth = proc->run + 1000 * proc->outputs;
    struct rng rng = rng_of(world->seed, 211, proc->what, nth);
    proc->fetching = false;
    if (world_fault(world, FAULT_OUTPUT_FAILS, 0.4, proc->what, nth)) {
        if (rng_chance(&rng, 0.3))
            work->said.retry_after = rng_between(&rng, 0, 3);
        else if (rng_chance(&rng, 0.2))
            work->said.snooze = rng_chance(&rng, 0.5) ? -1 : 2;
        else if (rng_chance(&rng, 0.2))
            work->said.no_retry = true;
        trace("stage    no output of %s run %llu", proc->id, (unsigned long long)proc->run);
        lt_reply_send(&work->reply, LT_ERROR, "no output");
        return;
    }
    work->said.output = text("fetched output", proc);
    lt_reply_ok(&work->reply);
}

static void on_output(struct sim_event *event)
{
    answer_output(sim_container_of(event, struct proc, output_event));
}

static void cancel_output(struct lt_reply *reply, void *arg)
{
    (void)reply;
    struct proc *proc = arg;
    trace("stage    output of %s is given up", proc->id);
    proc->fetching = false;
    sim_event_cancel(&proc->stage->world->sim, &proc->output_event);
}

static void op_output(struct lt_actuator *actuator, struct lt_work *work)
{
    struct stage *stage = stage_of(actuator);
    struct world *world = stage->world;
    struct proc *proc = work->data;
    check_that(find(stage, work->run) == proc, "output is asked of a work that is over");
    check_that(!world->options.has_stored || proc->work == work, "output is asked of a work whose end is stored");
    check_that(!proc->alive && !proc->killed && proc->end.status == LT_SUCCESS,
               "output is asked of %s run %llu, which has not succeeded", proc->id, (unsigned long long)proc->run);
    check_that(!proc->starting && !proc->stopping && !proc->fetching,
               "output is asked while another call is under way");
    proc->work = work;
    proc->fetching = true;
    uint64_t nth = proc->run + 1000 * ++proc->outputs;
    struct rng rng = rng_of(world->seed, 212, proc->what, nth);
    if (!world_fault(world, FAULT_OUTPUT_LATE, 0.5, proc->what, nth)) {
        answer_output(proc);
        return;
    }
    bool cancellable = rng_chance(&rng, 0.6);
    if (cancellable) {
        work->reply.cancel = cancel_output;
        work->reply.cancel_arg = proc;
    }
    sim_event_in(&world->sim, &proc->output_event, rng_exponential(&rng, cancellable ? 20 : 1), on_output);
}

/* ---- stored ---- */

static void op_stored(struct lt_actuator *actuator, struct lt_work *work)
{
    struct stage *stage = stage_of(actuator);
    struct world *world = stage->world;
    struct proc *proc = work->data;
    check_that(proc != NULL && find(stage, work->run) == proc && proc->work == work,
               "stored is called for run %llu, which is over, or unknown", (unsigned long long)work->run);
    check_that(!proc->starting && !proc->stopping && !proc->fetching && !proc->recovering,
               "stored is called for %s run %llu while a call is under way", proc->id, (unsigned long long)proc->run);
    const struct record *record = record_of(world, proc->id, strlen(proc->id));
    bool ours = record->known && record->run == proc->run && record->holder == US && !record->lease_lost &&
                (record->status == LT_RUNNING || record->status == LT_EXPORTING);
    trace("stage    stored %s run %llu", proc->id, (unsigned long long)proc->run);
    check_that(!ours || world->stopping, "stored is called for %s run %llu, whose end is not stored", proc->id,
               (unsigned long long)proc->run);
    check_that(!proc->alive || ours || !proc->known, "stored is called for %s run %llu, which is not dead", proc->id,
               (unsigned long long)proc->run);
    cancel_events(proc);
    let_go(proc);
    if (!ours) {
        proc_free(proc);
        return;
    }
    /* It was given up while the store was away; the next host will look for it. */
    if (proc->alive)
        sim_event_in(&world->sim, &proc->end_event, 5, on_end);
}

/* ---- recover ---- */

static void answer_recover(struct recover_call *call)
{
    struct stage *stage = call->stage;
    struct world *world = stage->world;
    struct lt_recover_work_op *op = call->op;
    stage->calls--;
    bool fails = world_fault(world, FAULT_RECOVER_FAILS, 0.5, 213, ++stage->asked);
    for (uint32_t i = 0; i < op->count; i++) {
        struct proc *proc = op->works[i].work->data;
        proc->recovering = false;
        if (fails)
            continue;
        if (proc->alive) {
            op->works[i].fate = LT_FATE_RUNS;
            run_on(proc);
        } else if (!proc->killed) {
            op->works[i].fate = LT_FATE_ENDED;
            op->works[i].report = report_of(proc);
            proc->reported = true;
        }
        trace("stage    recover %s run %llu: %s", proc->id, (unsigned long long)proc->run,
              proc->alive    ? "runs"
              : proc->killed ? "gone"
                             : lt_status_name(proc->end.status));
        if (!world->options.has_stored && !proc->alive)
            proc->work = NULL;
    }
    free(call);
    lt_reply_send(&op->reply, fails ? LT_ERROR : LT_OK, "cannot look");
}

static void on_recover(struct sim_event *event)
{
    answer_recover(sim_container_of(event, struct recover_call, event));
}

static void op_recover(struct lt_actuator *actuator, struct lt_recover_work_op *op)
{
    struct stage *stage = stage_of(actuator);
    struct world *world = stage->world;
    check_that(op->count > 0, "recover is asked of nothing");
    for (uint32_t i = 0; i < op->count; i++) {
        struct lt_work *work = op->works[i].work;
        struct lt_bytes *key = lt_task_key(work->task);
        struct proc *proc = find(stage, work->run);
        check_that(op->works[i].fate == LT_FATE_GONE && op->works[i].report.status == LT_RUNNING,
                   "recover is asked with an answer in it");
        if (proc == NULL) {
            proc = proc_new(stage, lt_task_id(work->task), key != NULL ? key->data : NULL, work->run);
            proc->killed = true;
        }
        bool here = proc->work != NULL && proc->work != work && (world->options.has_stored || proc->alive);
        check_that(!here, "%s run %llu is recovered while it is here", proc->id, (unsigned long long)proc->run);
        proc->work = work;
        proc->known = false;
        proc->recovering = true;
        work->data = proc;
    }
    struct recover_call *call = lt_zalloc(sizeof *call);
    *call = (struct recover_call){.event = SIM_EVENT_INIT, .stage = stage, .op = op};
    stage->calls++;
    struct rng rng = rng_of(world->seed, 214, ++stage->asked, 0);
    if (rng_chance(&rng, 0.5))
        answer_recover(call);
    else
        sim_event_in(&world->sim, &call->event, rng_between(&rng, 0, 3), on_recover);
}

/* Works that may have outlived their host: some run, some have ended, of some nothing is left. */
void stage_orphan(struct stage *stage, struct record *record)
{
    struct world *world = stage->world;
    if (!world->options.has_recover || find(stage, record->run) != NULL)
        return;
    struct rng rng = rng_of(world->seed, 215, rng_text(record->id), record->run);
    bool exports = record->status == LT_EXPORTING;
    if (rng_chance(&rng, 0.3))
        return;
    struct proc *proc = proc_new(stage, record->id, record->key, record->run);
    double lasts = plan_end(proc);
    if (exports)
        proc->end = LT_REPORT(LT_SUCCESS);
    proc->alive = !exports && rng_chance(&rng, 0.6);
    if (proc->alive)
        sim_event_in(&world->sim, &proc->end_event, lasts, on_end);
}

/* ---- init, open, close ---- */

struct init_call {
    struct sim_event event;
    struct stage *stage;
    struct lt_init_op *op;
    bool refuses;
};

static void answer_init(struct init_call *call)
{
    struct lt_init_op *op = call->op;
    bool refuses = call->refuses;
    call->stage->calls--;
    free(call);
    lt_reply_send(&op->reply, refuses ? LT_REFUSED : LT_OK, "not this one");
}

static void on_init(struct sim_event *event)
{
    answer_init(sim_container_of(event, struct init_call, event));
}

static void init_for(struct stage *stage, struct lt_init_op *op)
{
    struct world *world = stage->world;
    uint64_t what = rng_text(lt_task_id(op->task));
    struct rng rng = rng_of(world->seed, 216, what, 0);
    if (!world_fault(world, FAULT_INIT, 0.3, what, 0)) {
        lt_reply_ok(&op->reply);
        return;
    }
    if (rng_chance(&rng, 0.3)) { /* replaces it */
        struct lt_task *task = lt_task_restart(op->task);
        lt_task_unref(op->task);
        op->task = task;
    }
    struct init_call *call = lt_zalloc(sizeof *call);
    *call = (struct init_call){.event = SIM_EVENT_INIT, .stage = stage, .op = op, .refuses = rng_chance(&rng, 0.3)};
    stage->calls++;
    if (rng_chance(&rng, 0.5))
        answer_init(call);
    else
        sim_event_in(&world->sim, &call->event, rng_exponential(&rng, 1), on_init);
}

static void op_init(struct lt_actuator *actuator, struct lt_init_op *op)
{
    struct stage *stage = stage_of(actuator);
    check_that(!stage->world->options.has_front, "init is called though another actuator is in front");
    init_for(stage, op);
}

static void front_init(struct lt_actuator *actuator, struct lt_init_op *op)
{
    init_for(sim_container_of(actuator, struct stage, front), op);
}

static bool opens(struct stage *stage, const char *part, struct lt_error *error)
{
    if (!world_fault(stage->world, FAULT_OPEN_FAILS, 0.3, rng_text(part), stage->world->sessions))
        return true;
    trace("stage    %s cannot be opened", part);
    lt_fail(error, LT_ERROR, "the %s cannot be opened", part);
    return false;
}

static int op_open(struct lt_actuator *actuator, const struct lt_actuator_env *env, struct lt_error *error)
{
    struct stage *stage = stage_of(actuator);
    check_that(!stage->open, "the actuator is opened twice");
    if (!opens(stage, "actuator", error))
        return LT_ERROR;
    stage->open = true;
    stage->env = *env;
    return LT_OK;
}

static int front_open(struct lt_actuator *actuator, const struct lt_actuator_env *env, struct lt_error *error)
{
    (void)env;
    struct stage *stage = sim_container_of(actuator, struct stage, front);
    if (!opens(stage, "front", error))
        return LT_ERROR;
    stage->front_open = true;
    return LT_OK;
}

static int receiver_open(struct lt_receiver *receiver, const struct lt_actuator_env *env, struct lt_error *error)
{
    struct stage *stage = sim_container_of(receiver, struct stage, receiver);
    if (!opens(stage, "receiver", error))
        return LT_ERROR;
    stage->receiver_open = true;
    stage->receiver_env = *env;
    return LT_OK;
}

struct close_call {
    struct sim_event event;
    struct stage *stage;
    struct lt_reply *reply;
};

static void on_close(struct sim_event *event)
{
    struct close_call *call = sim_container_of(event, struct close_call, event);
    struct lt_reply *reply = call->reply;
    call->stage->calls--;
    free(call);
    lt_reply_ok(reply);
}

static void close_part(struct stage *stage, const char *part, bool *open, struct lt_reply *reply)
{
    check_that(*open, "the %s is closed, but not open", part);
    *open = false;
    trace("stage    the %s is closed", part);
    if (!world_fault(stage->world, FAULT_CLOSE_LATE, 0.3, rng_text(part), stage->world->sessions)) {
        lt_reply_ok(reply);
        return;
    }
    struct close_call *call = lt_zalloc(sizeof *call);
    *call = (struct close_call){.event = SIM_EVENT_INIT, .stage = stage, .reply = reply};
    stage->calls++;
    sim_event_in(&stage->world->sim, &call->event, 2, on_close);
}

/* What could not be stopped before the close, or was left: without a recovery nobody finds it again, and it goes with its actuator. */
static void let_go_of_given_up(struct stage *stage)
{
    struct proc *proc;
    TAILQ_FOREACH(proc, &stage->procs, link) {
        struct record *record = record_of(stage->world, proc->id, strlen(proc->id));
        if (proc->work != NULL && record->run == proc->run && world_leaves(stage->world)) {
            record->unstoppable_run = proc->run;
            sim_event_cancel(&stage->world->sim, &proc->check_event); /* by the next host's deadline, if it has one */
        }
        if (record->unstoppable_run != proc->run)
            continue;
        proc->work = NULL; /* also if it has ended by itself since */
        if (!proc->alive || stage->world->options.has_recover)
            continue;
        cancel_events(proc);
        proc->alive = false;
        proc->killed = true;
    }
}

static void op_close(struct lt_actuator *actuator, struct lt_reply *reply)
{
    struct stage *stage = stage_of(actuator);
    let_go_of_given_up(stage);
    stage_check_closed(stage);
    close_part(stage, "actuator", &stage->open, reply);
}

static void front_close(struct lt_actuator *actuator, struct lt_reply *reply)
{
    struct stage *stage = sim_container_of(actuator, struct stage, front);
    close_part(stage, "front", &stage->front_open, reply);
}

static void receiver_close(struct lt_receiver *receiver, struct lt_reply *reply)
{
    struct stage *stage = sim_container_of(receiver, struct stage, receiver);
    close_part(stage, "receiver", &stage->receiver_open, reply);
}

static void op_release(struct lt_actuator *actuator)
{
    (void)actuator;
}

static void receiver_release(struct lt_receiver *receiver)
{
    (void)receiver;
}

/* ---- what the world does ---- */

void stage_capacity(struct stage *stage, uint32_t capacity)
{
    bool more = capacity > stage->base.capacity;
    stage->capacity_changed = true;
    stage->base.capacity = capacity;
    trace("stage    capacity %u", capacity);
    if (more && stage->open)
        stage->env.capacity_changed(stage->env.push_arg);
}

void stage_push_stale(struct stage *stage, struct rng *rng)
{
    struct proc *proc;
    if (!stage->open)
        return;
    TAILQ_FOREACH(proc, &stage->procs, link) {
        if (!rng_chance(rng, 0.3))
            continue;
        struct lt_report report = LT_REPORT(rng_chance(rng, 0.5) ? LT_SUCCESS : LT_FAILED);
        report.reason = lt_bytes_printf("stale");
        report.output = lt_bytes_printf("stale");
        stage->env.push(
            stage->env.push_arg,
            &(struct lt_push){.id = proc->id,
                              .id_len = strlen(proc->id),
                              .run = proc->run > 1 && rng_chance(rng, 0.5) ? proc->run - 1 : proc->run + 100000,
                              .report = report});
        return;
    }
}

void stage_must_stop(struct stage *stage, const struct record *record, uint64_t run)
{
    struct proc *proc = NULL;
    TAILQ_FOREACH(proc, &stage->procs, link) {
        bool left = stage->world->closing && !stage->world->options.has_stored; /* it may be nobody's by now */
        if (proc->run == run && strcmp(proc->id, record->id) == 0 && proc->alive && proc->known && !left &&
            !proc->starting && !proc->recovering && proc->stops == 0 && proc->work != NULL)
            must_stop(proc, 0);
    }
}

bool stage_has(const struct stage *stage, const struct record *record)
{
    const struct proc *proc;
    TAILQ_FOREACH(proc, &stage->procs, link) {
        if (is_live(proc) && strcmp(proc->id, record->id) == 0)
            return true;
    }
    return false;
}

/* What the store is told of a run must be true of its work. */
void stage_check_change(struct stage *stage, const struct record *record, const struct lt_transition *made)
{
    const struct proc *proc = find(stage, made->run);
    if (proc == NULL)
        return; /* it never started */
    bool given_up = record->unstoppable_run == made->run && !stage->world->options.durable;
    check_that(!proc->alive || given_up, "%s run %llu becomes %s while its work lives", record->id,
               (unsigned long long)made->run, lt_status_name(made->to));
    bool succeeded = !proc->killed && proc->end.status == LT_SUCCESS;
    check_that(succeeded || (made->to != LT_SUCCESS && made->to != LT_EXPORTING),
               "%s run %llu becomes %s, and did not succeed", record->id, (unsigned long long)made->run,
               lt_status_name(made->to));
}

void stage_calm(struct stage *stage)
{
    struct proc *proc;
    TAILQ_FOREACH(proc, &stage->procs, link) {
        proc->lasts = fmin(proc->lasts, 20);
        bool far = proc->end_event.place != LT_HEAP_NONE && proc->end_event.due > world_now(stage->world) + 100;
        if (far)
            sim_event_in(&stage->world->sim, &proc->end_event, 20, on_end);
    }
    if (stage->capacity_changed)
        stage_capacity(stage, LT_ANY_NUMBER);
}

void stage_host_gone(struct stage *stage)
{
    struct proc *proc;
    TAILQ_FOREACH(proc, &stage->procs, link) {
        proc->work = NULL;
        if (!proc->to_begin)
            continue;
        proc->to_begin = proc->alive = false; /* it goes with its host */
        proc->killed = true;
    }
}

bool stage_idle(const struct stage *stage)
{
    return stage->calls == 0;
}

/* What the store still calls running or exporting, or did not answer about, is left to the next host: `stored` is not
 * called for that. */
static bool is_left(const struct stage *stage, const struct proc *proc)
{
    if (world_has(stage->world, FAULT_STORE_LOST) || world_has(stage->world, FAULT_STORE_DOWN) ||
        world_has(stage->world, FAULT_RECOVER_FAILS) || !proc->known)
        return true;
    const struct record *record = record_find(stage->world, proc->id, strlen(proc->id));
    return record != NULL && record->run == proc->run &&
           (record->status == LT_RUNNING || record->status == LT_EXPORTING);
}

void stage_check_closed(struct stage *stage)
{
    struct proc *proc;
    TAILQ_FOREACH(proc, &stage->procs, link) {
        if (!stage->world->options.has_stored)
            check_that(!proc->starting && !proc->stopping && !proc->fetching && !proc->recovering,
                       "the actuator is closed while a call is under way");
        else if (proc->work != NULL && is_left(stage, proc))
            proc->work = NULL; /* close lets go of it */
        else
            check_that(proc->work == NULL, "the actuator is closed, and stored was not called for %s run %llu",
                       proc->id, (unsigned long long)proc->run);
    }
}

struct stage *stage_new(struct world *world)
{
    const struct options *options = &world->options;
    struct stage *stage = lt_zalloc(sizeof *stage);
    stage->world = world;
    TAILQ_INIT(&stage->procs);
    stage->ops = (struct lt_actuator_ops){
        .name = "double",
        .open = op_open,
        .init = options->has_init ? op_init : NULL,
        .start = op_start,
        .begin = options->begins ? op_begin : NULL,
        .stop = op_stop,
        .status = op_status,
        .output = options->has_output ? op_output : NULL,
        .more = op_more,
        .stored = options->has_stored ? op_stored : NULL,
        .recover = options->has_recover ? op_recover : NULL,
        .close = op_close,
        .release = op_release,
    };
    stage->base = (struct lt_actuator){
        .ops = &stage->ops,
        .capacity = LT_ANY_NUMBER,
        .can_attach = true,
        .can_status = options->can_status,
        .has_output = options->has_output,
    };
    stage->front_ops = (struct lt_actuator_ops){
        .name = "front", .open = front_open, .init = front_init, .close = front_close, .release = op_release};
    stage->front.ops = &stage->front_ops;
    if (options->has_front)
        stage->base.front = &stage->front;
    stage->receiver_ops = (struct lt_receiver_ops){
        .name = "double", .open = receiver_open, .close = receiver_close, .release = receiver_release};
    stage->receiver.ops = &stage->receiver_ops;
    return stage;
}

struct lt_actuator *stage_actuator(struct stage *stage)
{
    return &stage->base;
}

struct lt_receiver *stage_receiver(struct stage *stage)
{
    return stage->world->options.receiver ? &stage->receiver : NULL;
}

void stage_free(struct stage *stage)
{
    struct proc *proc;
    while ((proc = TAILQ_FIRST(&stage->procs)) != NULL)
        proc_free(proc);
    free(stage);
}
