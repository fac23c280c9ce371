/* The container as a store that fails, is away for a while, and comes back.
 *
 *     a change or a claim fails ----> down: one line in the log, no claims, ends wait in `owed`
 *     down: one probe at a growing pause, an end that is owed or a claim, until one is answered
 *     any change or claim is answered ----> up: one line, all that is owed is tried at once, in order
 *
 * A container that tells of its availability is believed, whatever it answers, and not probed. What fails again although
 * the store came back in the meantime has a fault of its own: it no longer says anything about the store, and is tried by
 * itself, at a pause of its own. */
#include <stdlib.h>

#include "base/alloc.h"
#include "scheduler/state.h"

static const double FIRST_PAUSE = 0.05; /* seconds before a probe; doubles */
static const double LONGEST_PAUSE = 1;
static const double LONGEST_CLAIM_PAUSE = 30;

static double grow_pause(double *pause, double longest)
{
    *pause = *pause > 0 ? *pause * 2 : FIRST_PAUSE;
    if (*pause > longest)
        *pause = longest;
    return *pause;
}

/* Down and up. */

static void probe_store(struct lt_timer *timer);

static void plan_probe(struct lt_scheduler *s)
{
    struct lt_store *store = &s->store;
    if (!store->down || s->config.container->ops->tells_availability || lt_timer_active(&store->probe))
        return;
    lt_timer_start(s->loop, &store->probe, lt_loop_now(s->loop) + grow_pause(&store->pause, LONGEST_PAUSE),
                   probe_store);
}

static void try_store_again(struct lt_run *run, bool probing)
{
    run->probing = probing;
    lt_signal(run, LT_EV_TRY);
}

/* One that is owed and a claim take turns: each may have a fault of its own. */
static void probe_store(struct lt_timer *timer)
{
    struct lt_scheduler *s = lt_container_of(timer, struct lt_scheduler, store.probe);
    struct lt_store *store = &s->store;
    struct lt_run *run = TAILQ_FIRST(&store->owed);
    bool claims = (store->probe_claims || run == NULL) && !s->closing && s->recovered;
    store->probe_claims = !store->probe_claims;
    if (claims) {
        store->claim_probe = true;
        s->work = true;
        lt_pump_post(s);
    } else if (run != NULL) {
        TAILQ_REMOVE(&store->owed, run, owed_link); /* the next probe is another's */
        TAILQ_INSERT_TAIL(&store->owed, run, owed_link);
        try_store_again(run, true);
    }
    plan_probe(s); /* this one may say nothing: what it tries may be under way already, or be given up */
}

void lt_store_not_probed(struct lt_scheduler *s)
{
    s->store.claim_probe = false;
    plan_probe(s);
}

void lt_store_retry_all(struct lt_scheduler *s)
{
    struct lt_run *run;
    TAILQ_FOREACH(run, &s->store.owed, owed_link)
        try_store_again(run, true);
}

static void retry_updates(struct lt_scheduler *s)
{
    struct lt_run *run;
    TAILQ_FOREACH(run, &s->active, link) {
        if (run->extra != NULL && run->extra->update_again && !lt_reply_pending(&run->extra->update.reply))
            lt_store_update(run);
    }
}

static void store_came_up(struct lt_scheduler *s)
{
    struct lt_store *store = &s->store;
    if (!store->down)
        return;
    store->down = false;
    store->pause = 0;
    store->epoch++;
    store->claim_probe = false;
    lt_timer_stop(s->loop, &store->probe);
    lt_log(LT_LOG_WARN, "the store is back", LT_S("scheduler", s->name),
           LT_S("container", s->config.container->ops->name),
           LT_N("seconds", lt_loop_wall(s->loop) - store->down_since));
    lt_store_retry_all(s);
    retry_updates(s);
    s->work = s->unlooked = true;
    lt_room(s);
    lt_pump_post(s);
}

static void store_went_down(struct lt_scheduler *s, const char *why)
{
    struct lt_store *store = &s->store;
    if (store->down)
        return;
    store->down = true;
    store->down_since = lt_loop_wall(s->loop);
    store->probe_claims = false;
    plan_probe(s);
    lt_log(LT_LOG_ERROR, "the store is down, ends wait until it is back", LT_S("scheduler", s->name),
           LT_S("container", s->config.container->ops->name), LT_S("error", why));
}

/* An answer may have been given before what a container that tells of its availability has told since. */
void lt_store_works(struct lt_scheduler *s)
{
    if (!s->config.container->ops->tells_availability)
        store_came_up(s);
}

void lt_store_available(struct lt_scheduler *s, bool available, const char *why)
{
    if (available)
        store_came_up(s);
    else
        store_went_down(s, why);
}

/* Whether this failure says something about the store, and not about what failed: it had not failed before the store
 * last came up. `epoch` remembers. */
static bool is_news(struct lt_scheduler *s, uint32_t *epoch)
{
    uint32_t now = s->store.epoch + 1;
    bool own = *epoch != 0 && *epoch != now;
    if (!own)
        *epoch = now;
    return !own && !s->config.container->ops->tells_availability;
}

/* Transitions. */

static bool is_trouble(int code)
{
    return code != LT_OK && code != LT_STALE && code != LT_UNKNOWN;
}

/* Where the store keeps limits, an end may make room there that this scheduler cannot know of: it asks. */
static bool may_open(const struct lt_scheduler *s, const struct lt_run *run)
{
    const struct lt_limits *limits = &s->limiter.limits;
    return limits->global_slots > 0 || (limits->shared_key_limit > 0 && lt_task_key(run->work.task) != NULL);
}

/* Changes under way that free a slot, of a container that applies operations in their order: a claim may have those. */
static void add_end(struct lt_scheduler *s, struct lt_run *run)
{
    s->work = s->work || (run->change.transition.to != LT_EXPORTING && may_open(s, run));
    if (!s->config.container->ops->ordered || run->change.transition.to == LT_EXPORTING)
        return;
    if (s->end_count == s->end_size) {
        s->end_size = s->end_size > 0 ? s->end_size * 2 : 64;
        s->ends = lt_realloc(s->ends, s->end_size * sizeof(struct lt_change_op *));
    }
    run->end_place = s->end_count;
    s->ends[s->end_count++] = &run->change;
}

/* The last one takes its place. */
static void remove_end(struct lt_scheduler *s, const struct lt_run *run)
{
    uint32_t place = run->end_place;
    if (place >= s->end_count || s->ends[place] != &run->change)
        return;
    s->ends[place] = s->ends[--s->end_count];
    lt_container_of(s->ends[place], struct lt_run, change)->end_place = place;
}

static enum lt_run_event answer_end(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    const struct lt_reply *reply = &run->change.reply;
    run->probing = false;
    if (run->scheduler->end_count > 0)
        remove_end(run->scheduler, run);
    if (!is_trouble(reply->code)) {
        if (s->store.down)
            lt_store_works(s);
        return reply->code == LT_OK ? LT_EV_STORED : LT_EV_REFUSED;
    }
    run->change.again = true;
    if (s->stopping)
        return LT_EV_GIVEN_UP;
    if (is_news(s, &run->failed_epoch))
        store_went_down(s, lt_reply_message(reply));
    return LT_EV_NOT_STORED;
}

static void on_end_stored(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, change.reply);
    lt_signal(run, answer_end(run));
}

enum lt_run_event lt_store_submit(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_container *container = s->config.container;
    if (s->store.down && !run->probing && !s->stopping)
        return LT_EV_NOT_STORED;
    if (run->owing) /* the wall clock may have been set since */
        run->change.transition.now = lt_loop_wall(s->loop) - (lt_loop_now(s->loop) - run->decided);
    run->change.task = run->work.task;
    run->change.token = run->token;
    run->change.transition.run = run->work.run;
    lt_reply_begin(&run->change.reply, s->loop, on_end_stored);
    container->ops->change(container, &run->change);
    if (lt_reply_end_now(&run->change.reply))
        return answer_end(run);
    add_end(s, run);
    return LT_EV_NONE;
}

void lt_store_owe(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    run->probing = false;
    if (!run->owing) {
        run->owing = true;
        TAILQ_INSERT_TAIL(&s->store.owed, run, owed_link);
    }
    if (s->store.down) {
        plan_probe(s);
        return;
    }
    if (run->pause > 0) /* not the first time: the store may come and go */
        lt_log_gated(&lt_run_extra(run)->log, LT_LOG_ERROR, "a transition was not stored, it will be tried again",
                     LT_S("scheduler", s->name), LT_S("task", run->work.task->data),
                     LT_I("run", (int64_t)run->work.run), LT_S("to", lt_status_name(run->change.transition.to)),
                     LT_S("error", lt_reply_message(&run->change.reply)));
    lt_run_arm(run, lt_run_grow_pause(run), LT_EV_TRY);
}

void lt_store_forget(struct lt_run *run)
{
    if (!run->owing)
        return;
    run->owing = false;
    TAILQ_REMOVE(&run->scheduler->store.owed, run, owed_link);
}

/* Handle and progress: one write at a time, what changes meanwhile is stored with the next. */

static void on_update(struct lt_reply *reply)
{
    struct lt_run_extra *extra = lt_container_of(reply, struct lt_run_extra, update.reply);
    struct lt_run *run = extra->run;
    struct lt_scheduler *s = run->scheduler;
    lt_bytes_set(&extra->update.handle, NULL);
    lt_bytes_set(&extra->update.progress, NULL);
    bool failed = is_trouble(reply->code);
    if (failed)
        lt_log_gated(&extra->log, LT_LOG_ERROR, "handle or progress was not stored", LT_S("scheduler", s->name),
                     LT_S("task", run->work.task->data), LT_S("error", lt_reply_message(reply)));
    bool lives = run->state == LT_RUN_RUNNING || run->state == LT_RUN_LOOKING;
    bool again = extra->update_again && lives;
    extra->update_again = failed && lives; /* with the next, or when the store is back */
    if (again)
        lt_store_update(run);
    lt_call_over(s);
    lt_run_unref(run);
}

void lt_store_update(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_run_extra *extra = lt_run_extra(run);
    const struct lt_task_extra *shown = run->work.task->extra;
    if (lt_reply_pending(&extra->update.reply)) {
        extra->update_again = true;
        return;
    }
    lt_run_ref(run);
    lt_call_under_way(s);
    extra->update_again = false;
    extra->update.task = run->work.task;
    extra->update.run = run->work.run;
    extra->update.token = run->token;
    extra->update.handle = shown != NULL ? lt_bytes_ref(shown->handle) : NULL;
    extra->update.progress = shown != NULL ? lt_bytes_ref(shown->progress) : NULL;
    lt_reply_begin(&extra->update.reply, s->loop, on_update);
    s->config.container->ops->update(s->config.container, &extra->update);
    lt_reply_end(&extra->update.reply);
}

/* Claims. */

bool lt_store_claim_ok(struct lt_scheduler *s)
{
    const struct lt_store *store = &s->store;
    return store->down ? store->claim_probe : lt_loop_now(s->loop) >= store->claim_not_before;
}

void lt_store_claimed(struct lt_scheduler *s, const struct lt_reply *reply)
{
    struct lt_store *store = &s->store;
    store->claim_probe = false;
    if (reply->code == LT_OK) {
        store->claim_pause = store->claim_not_before = 0;
        store->claim_failed_epoch = 0;
        lt_store_works(s);
        return;
    }
    s->work = s->unlooked = true;
    if (is_news(s, &store->claim_failed_epoch) || store->down) {
        store_went_down(s, lt_reply_message(reply));
        plan_probe(s);
        return;
    }
    store->claim_not_before = lt_loop_now(s->loop) + grow_pause(&store->claim_pause, LONGEST_CLAIM_PAUSE);
    lt_log_gated(&store->log, LT_LOG_ERROR, "claim failed, it will be tried again", LT_S("scheduler", s->name),
                 LT_S("container", s->config.container->ops->name));
}

void lt_store_close(struct lt_scheduler *s)
{
    lt_timer_stop(s->loop, &s->store.probe);
    free(s->ends);
}
