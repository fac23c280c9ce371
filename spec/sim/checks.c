/* The account: what is true of each task, written down as the store does it; and what the scheduler tells, held against
 * it. Each check says what is wrong in its message. */
#include "world.h"

const char *holder_name(enum holder holder)
{
    static const char *const names[] = {"nobody", "us", "another host", "a dead host"};
    return names[holder];
}

/* ---- records ---- */

static const char *record_id(const void *object, size_t *len)
{
    const struct record *record = object;
    *len = record->id_len;
    return record->id;
}

struct record *record_find(struct world *world, const char *id, size_t id_len)
{
    return lt_map_find(&world->records, lt_hash(id, id_len), id, id_len);
}

struct record *record_of(struct world *world, const char *id, size_t id_len)
{
    struct record *record = record_find(world, id, id_len);
    if (record != NULL)
        return record;
    record = lt_zalloc(sizeof *record);
    record->hash = lt_hash(id, id_len);
    record->id = lt_zalloc(id_len + 1);
    memcpy(record->id, id, id_len);
    record->id_len = (uint32_t)id_len;
    lt_map_put(&world->records, record->hash, record);
    return record;
}

static bool runs(const struct record *record)
{
    return record->status == LT_RUNNING || record->status == LT_EXPORTING;
}

static void begin_life(struct record *record)
{
    record->known = true;
    record->status = LT_WAITING;
    record->holder = NOBODY;
    record->attempts = record->lost = 0;
    record->life++;
    record->was_success = record->was_success || record->success_run != 0;
    record->success_run = 0;
}

void record_added(struct world *world, struct record *record, const struct lt_task *task)
{
    const struct lt_task_options *options = task->options;
    check_that(!record->known || lt_status_ended(record->status), "%s is added while it is %s", record->id,
               lt_status_name(record->status));
    begin_life(record);
    record->run = 0;
    record->max_retries = options != NULL ? options->max_retries : -1;
    free(record->key);
    record->key = options != NULL && options->key != NULL ? lt_strdup(options->key->data) : NULL;
    record->due = task->delayed ? world_now(world) + (task->run_at - world_wall(world)) : 0;
    record->date = task->delayed ? 0 : task->run_at;
    world->tally->lives++;
    trace("account  %s is added", record->id);
}

static int64_t most_attempts(const struct world *world, const struct record *record)
{
    return (record->max_retries >= 0 ? record->max_retries : world->most_retries) + 1;
}

void record_claimed(struct world *world, struct record *record, const struct lt_task *task, uint64_t token,
                    enum holder holder)
{
    static const double HAIR = 1e-6;
    check_that(record->known && record->status == LT_WAITING, "%s is claimed, and is %s", record->id,
               lt_status_name(record->status));
    check_that(task->run > record->run, "%s is claimed as run %llu after run %llu", record->id,
               (unsigned long long)task->run, (unsigned long long)record->run);
    check_that(world_now(world) >= record->due - HAIR, "%s is claimed %g s before its delay is over", record->id,
               record->due - world_now(world));
    check_that(fmax(world_wall(world), world->sim.most_wall) >= record->date - HAIR,
               "%s is claimed %g s before its date", record->id, record->date - world_wall(world));
    record->status = LT_RUNNING;
    record->run = task->run;
    record->token = token;
    record->holder = (uint8_t)holder;
    record->lease_lost = false;
    record->attempts++;
    check_that(record->attempts <= most_attempts(world, record), "%s begins attempt %u of %lld", record->id,
               record->attempts, (long long)most_attempts(world, record));
    trace("account  %s is claimed as run %llu by %s, attempt %u", record->id, (unsigned long long)record->run,
          holder_name(holder), record->attempts);
}

void record_taken_over(struct world *world, struct record *record, uint64_t token, enum holder holder)
{
    (void)world;
    record->token = token;
    record->holder = (uint8_t)holder;
    record->shutdown_run = 0;
    if (holder == US)
        record->lease_lost = false;
    trace("account  %s run %llu is taken over by %s", record->id, (unsigned long long)record->run, holder_name(holder));
}

static void note_done(struct record *record, uint64_t run, enum lt_status to)
{
    struct done done = {run, record->token, (uint8_t)to};
    if (record->done_count == record->done_size) {
        record->done_size = record->done_size * 2 + 8;
        record->done = lt_realloc(record->done, record->done_size * sizeof *record->done);
    }
    record->done[record->done_count++] = done;
}

bool record_done(const struct record *record, uint64_t run, uint64_t token, enum lt_status to)
{
    for (uint32_t i = 0; i < record->done_count; i++) {
        const struct done *done = &record->done[i];
        if (done->run == run && (token == ANY_TOKEN || done->token == token) && done->to == to)
            return true;
    }
    return false;
}

static void note_end(struct world *world, struct record *record, uint64_t run, enum lt_status status)
{
    if (record->end_count == record->end_size) {
        record->end_size = record->end_size * 2 + 4;
        record->ends = lt_realloc(record->ends, record->end_size * sizeof *record->ends);
    }
    record->ends[record->end_count++] = (struct told_end){.run = run, .status = (uint8_t)status};
    world->tally->ends++;
}

void record_unclear(struct record *record, uint64_t run, enum lt_status status)
{
    for (uint32_t i = record->end_count; i > 0; i--) {
        struct told_end *end = &record->ends[i - 1];
        if (end->run == run && end->status == status && !end->unclear && !end->event) {
            end->unclear = true;
            return;
        }
    }
}

bool record_is_unclear(const struct record *record)
{
    for (uint32_t i = 0; i < record->end_count; i++) {
        if (record->ends[i].unclear && !record->ends[i].event)
            return true;
    }
    return record->unclear_deletion;
}

static void check_legal(const struct record *record, const struct lt_transition *made)
{
    static const unsigned legal[LT_STATUSES] = {
        [LT_WAITING] = 1 << LT_FAILED | 1 << LT_STOPPED | 1 << LT_DELETED,
        [LT_RUNNING] = 1 << LT_WAITING | 1 << LT_EXPORTING | 1 << LT_SUCCESS | 1 << LT_FAILED | 1 << LT_STOPPED,
        [LT_EXPORTING] = 1 << LT_WAITING | 1 << LT_SUCCESS | 1 << LT_FAILED | 1 << LT_STOPPED,
        [LT_SUCCESS] = 1 << LT_WAITING | 1 << LT_DELETED,
        [LT_FAILED] = 1 << LT_WAITING | 1 << LT_DELETED,
        [LT_STOPPED] = 1 << LT_WAITING | 1 << LT_DELETED,
    };
    check_that(record->known, "%s becomes %s, and is not known", record->id, lt_status_name(made->to));
    check_that(record->run == made->run, "%s becomes %s for run %llu, and is at run %llu", record->id,
               lt_status_name(made->to), (unsigned long long)made->run, (unsigned long long)record->run);
    check_that((legal[record->status] >> made->to & 1) != 0, "%s becomes %s, and was %s", record->id,
               lt_status_name(made->to), lt_status_name(record->status));
}

static void check_shutdown(const struct world *world, const struct record *record, const struct lt_transition *made)
{
    if (record->shutdown_run != made->run)
        return;
    if (world->options.durable)
        check_that(made->to == LT_WAITING && made->uncounted, "%s was stopped by shutdown alone, and becomes %s%s",
                   record->id, lt_status_name(made->to), made->uncounted ? "" : ", an attempt used");
    else
        check_that(made->to == LT_STOPPED, "%s was stopped by shutdown alone, and becomes %s", record->id,
                   lt_status_name(made->to));
}

static void run_waits_again(struct world *world, struct record *record, const struct lt_transition *made)
{
    if (made->uncounted && record->attempts > 0)
        record->attempts--;
    record->lost += made->lost;
    check_that(record->lost <= world->most_lost, "%s was lost %u times of %u", record->id, record->lost,
               world->most_lost);
    /* A delay is counted from when the run ended, however late that is stored. */
    record->due = made->delay > 0 ? world_now(world) + made->now + made->delay - world_wall(world) : 0;
    record->date = made->delay > 0 ? 0 : made->run_at;
}

void record_changed(struct world *world, struct record *record, const struct lt_transition *made, bool ours,
                    bool by_run)
{
    check_legal(record, made);
    trace("account  %s run %llu: %s -> %s%s", record->id, (unsigned long long)made->run, lt_status_name(record->status),
          lt_status_name(made->to), made->uncounted ? ", not counted" : "");
    if (by_run) {
        check_that(!record_done(record, made->run, ANY_TOKEN, made->to), "%s run %llu becomes %s twice", record->id,
                   (unsigned long long)made->run, lt_status_name(made->to));
        note_done(record, made->run, made->to);
        if (ours) {
            stage_check_change(world->stage, record, made);
            check_shutdown(world, record, made);
        }
        if (made->to == LT_WAITING)
            run_waits_again(world, record, made);
    } else if (made->to == LT_WAITING) {
        begin_life(record);
        record->due = record->date = 0;
    }
    if (ours && lt_status_ended(made->to))
        note_end(world, record, made->run, made->to);
    if (made->to == LT_SUCCESS)
        record->success_run = made->run;
    record->status = (uint8_t)made->to;
    if (made->to == LT_DELETED) {
        record->known = false;
        record->was_deleted = true;
    }
    if (!runs(record))
        record->holder = NOBODY;
}

void record_not_begun(struct record *record, uint64_t run)
{
    check_that(record->status == LT_WAITING, "%s did not begin, and is %s", record->id, lt_status_name(record->status));
    check_that(run == record->run || (run == 0 && record->attempts == 0),
               "%s did not begin its run %llu, and is at run %llu", record->id, (unsigned long long)record->run,
               (unsigned long long)run);
    record->run = run;
}

void record_expired(struct world *world, struct record *record, bool ours)
{
    check_that(record->known && record->status == LT_WAITING, "%s expires, and is %s", record->id,
               lt_status_name(record->status));
    record->status = LT_FAILED;
    if (ours)
        note_end(world, record, record->run, LT_FAILED);
    trace("account  %s expires", record->id);
}

/* ---- what is told ---- */

/* The end that is told: one that has to be, before one that may be. */
static struct told_end *untold(struct record *record, const struct lt_task *task, bool list)
{
    struct told_end *found = NULL;
    for (uint32_t i = 0; i < record->end_count; i++) {
        struct told_end *end = &record->ends[i];
        bool fits = end->run == task->run && end->status == task->status && !(list ? end->list : end->event);
        if (fits && (found == NULL || found->unclear))
            found = end;
    }
    return found;
}

static void on_finished(struct world *world, const struct lt_task *task)
{
    struct record *record = record_of(world, task->data, task->id_len);
    struct told_end *end = untold(record, task, false);
    check_that(end != NULL, "the end of %s run %llu (%s) is told, and was not made, or was told before", record->id,
               (unsigned long long)task->run, lt_status_name(task->status));
    end->event = true;
    world->told_events++;
    check_that(task->ended_at > 0, "%s has ended and does not say when", record->id);
}

void checks_finished(struct world *world, const struct lt_task *task)
{
    struct record *record = record_of(world, task->data, task->id_len);
    struct told_end *end = untold(record, task, true);
    check_that(end != NULL, "%s run %llu (%s) is in the finished list, and did not end so, or is there twice",
               record->id, (unsigned long long)task->run, lt_status_name(task->status));
    end->list = true;
    world->told_list++;
}

static void on_started(struct world *world, const struct lt_task *task)
{
    struct record *record = record_of(world, task->data, task->id_len);
    check_that(record->started_run < task->run, "`started` is told of %s run %llu after run %llu", record->id,
               (unsigned long long)task->run, (unsigned long long)record->started_run);
    check_that(task->status == LT_RUNNING, "`started` is told of %s, which is %s", record->id,
               lt_status_name(task->status));
    record->started_run = task->run;
}

static void on_retried(struct world *world, const struct lt_task *task)
{
    struct record *record = record_of(world, task->data, task->id_len);
    check_that(record_done(record, task->run, ANY_TOKEN, LT_WAITING),
               "`retried` is told of %s run %llu, which does not wait again", record->id,
               (unsigned long long)task->run);
}

static void audit(struct lt_observer *observer, enum lt_event event, struct lt_task *task,
                  const struct lt_event_data *data)
{
    struct world *world = sim_container_of(observer, struct world, auditor);
    static const char *const names[] = {"added", "started", "progress", "output", "retried", "finished"};
    (void)data;
    trace("event    %s %s run %llu", names[event], task->data, (unsigned long long)task->run);
    if (event == LT_EVENT_STARTED)
        on_started(world, task);
    else if (event == LT_EVENT_FINISHED)
        on_finished(world, task);
    else if (event == LT_EVENT_RETRIED)
        on_retried(world, task);
}

void checks_observe(struct world *world)
{
    world->auditor = (struct lt_observer){.events = (1 << LT_EVENTS) - 1, .fn = audit};
    if (!world_has(world, FAULT_LIVE_OUTPUT))
        world->auditor.events &= ~(1u << LT_EVENT_OUTPUT);
    lt_scheduler_observe(world->scheduler, &world->auditor);
}

/* ---- limits ---- */

static uint32_t limit_of_key(const struct world *world, const char *key)
{
    const struct lt_limits *limits = &world->config.limits;
    if (key == NULL)
        return 0;
    if (limits->key_limit_fn == NULL)
        return limits->key_limit;
    struct lt_bytes *bytes = lt_bytes_new(key, strlen(key));
    uint32_t limit = limits->key_limit_fn(limits->key_limit_arg, bytes);
    lt_bytes_unref(bytes);
    return limit < LT_NO_KEY_LIMIT ? limit : 0;
}

/* A bucket that has some slack: a start may be admitted a little before it is made. */
static void check_rate(struct world *world)
{
    const struct lt_rate *rate = &world->config.limits.rate;
    if (rate->per <= 0 || world_has(world, FAULT_SETS) || world_has(world, FAULT_PAUSES) ||
        world_has(world, FAULT_PAUSE_ALL))
        return;
    double most = rate->burst + world->config.limits.slots, now = world_now(world);
    if (world->rate_at == 0)
        world->rate_tokens = most;
    world->rate_tokens = fmin(most, world->rate_tokens + (now - world->rate_at) * rate->burst / rate->per);
    world->rate_at = now;
    world->rate_tokens -= 1;
    check_that(world->rate_tokens >= -1e-6, "more than %g starts in %g s", rate->burst, rate->per);
}

void checks_start(struct world *world, const struct lt_work *work, uint32_t live, uint32_t live_of_key)
{
    struct lt_task *task = work->task;
    const struct record *record = record_of(world, task->data, task->id_len);
    const char *key = lt_task_key(task) != NULL ? lt_task_key(task)->data : NULL;
    uint32_t limit = limit_of_key(world, key);
    check_that(live <= world->config.limits.slots || world->limits_lowered, "%u run, and the limit is %u", live,
               world->config.limits.slots);
    check_that(limit == 0 || live_of_key <= limit || world->limits_lowered, "%u of key %s run, and the limit is %u",
               live_of_key, key, limit);
    check_that(task->status == LT_RUNNING && task->run == work->run, "%s starts as run %llu, and is %s at run %llu",
               task->data, (unsigned long long)work->run, lt_status_name(task->status), (unsigned long long)task->run);
    check_that(record->started_run == work->run, "%s run %llu starts, and `started` was not told", record->id,
               (unsigned long long)work->run);
    check_that(record->run >= work->run, "%s starts as run %llu, and the store knows run %llu", record->id,
               (unsigned long long)work->run, (unsigned long long)record->run);
    check_that(!world->closing, "%s starts while the scheduler is closing", record->id);
    check_that(!world->paused || world_now(world) < world->paused_at + 1e-9 + world->sim.tick_cost * 10,
               "%s starts while the scheduler is paused", record->id);
    check_rate(world);
}

/* ---- idle, and the end ---- */

/* Who is idle has nothing that waits or runs, as long as nobody else puts in anything and no answer was lost. */
void checks_idle(struct world *world)
{
    if (world->scheduler == NULL || world->options.hosts || world_has(world, FAULT_STORE_LOST) ||
        world_has(world, FAULT_STORE_DOWN) || lt_scheduler_closed(world->scheduler) ||
        !lt_scheduler_idle(world->scheduler))
        return;
    uint32_t position = 0;
    const struct record *record;
    while ((record = lt_map_next(&world->records, &position)) != NULL)
        check_that(!record->known || lt_status_ended(record->status), "the scheduler says it is idle, and %s is %s",
                   record->id, lt_status_name(record->status));
}

static void check_saved(struct world *world, const struct record *record)
{
    uint64_t run;
    if (world->vault == NULL)
        return;
    bool has = vault_has(world->vault, record->id, &run);
    if (record->unclear_deletion || record->was_lost)
        return; /* who deleted it would have to ask again; who had it last is not who saved last */
    bool store_fails = world_has(world, FAULT_STORE_LOST) || world_has(world, FAULT_STORE_DOWN);
    if (record->was_deleted && (world->options.persister == 2 || store_fails || world_has(world, FAULT_OTHER_HOST)))
        return; /* see docs/reliability.md: what is known */
    if (record->known && record->status == LT_SUCCESS)
        check_that(has && run == record->success_run, "%s has succeeded as run %llu, and run %llu is saved", record->id,
                   (unsigned long long)record->success_run, (unsigned long long)run);
    else if (!record->erase_failed && !record->was_success)
        check_that(!has, "%s is %s, and run %llu is saved", record->id, lt_status_name(record->status),
                   (unsigned long long)run);
}

static void check_told(struct world *world, const struct record *record)
{
    for (uint32_t i = 0; i < record->end_count; i++) {
        const struct told_end *end = &record->ends[i];
        check_that(end->event || end->unclear, "%s run %llu has become %s, and that is not told", record->id,
                   (unsigned long long)end->run, lt_status_name(end->status));
    }
    (void)world;
}

void checks_settled(struct world *world)
{
    uint32_t position = 0;
    const struct record *record;
    while ((record = lt_map_next(&world->records, &position)) != NULL) {
        check_that(!record->known || lt_status_ended(record->status), "%s is still %s, held by %s", record->id,
                   lt_status_name(record->status), holder_name(record->holder));
        check_told(world, record);
        check_saved(world, record);
    }
    store_check_kept(world->store);
    struct lt_stats stats;
    lt_scheduler_stats(world->scheduler, &stats);
    check_that(stats.running == 0 && stats.exporting == 0, "nothing runs, and stats say %u and %u", stats.running,
               stats.exporting);
    check_that(stats.oldest_waiting <= 0, "nothing waits, and stats say for %g s", stats.oldest_waiting);
}

void checks_closed(struct world *world)
{
    uint32_t position = 0;
    const struct record *record;
    bool store_fails = world_has(world, FAULT_STORE_LOST) || world_has(world, FAULT_STORE_DOWN);
    while ((record = lt_map_next(&world->records, &position)) != NULL) {
        check_told(world, record);
        bool left = runs(record) && record->holder == US && record->known;
        bool alive = world->options.durable && record->unstoppable_run == record->run;
        check_that(!left || store_fails || world_has(world, FAULT_RECOVER_FAILS) || record->lease_lost || alive,
                   "the scheduler is closed, and %s is %s", record->id, lt_status_name(record->status));
        check_that(!record->known || record->status != LT_WAITING || world->options.durable || store_fails,
                   "the scheduler is closed, and %s waits in memory", record->id);
    }
}

void checks_open(struct world *world)
{
    world->records.key = record_id;
}

void checks_close(struct world *world)
{
    uint32_t position = 0;
    struct record *record;
    while ((record = lt_map_next(&world->records, &position)) != NULL) {
        free(record->id);
        free(record->key);
        free(record->done);
        free(record->ends);
        free(record);
    }
    lt_map_free(&world->records);
}
