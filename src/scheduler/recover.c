/* Recovery: tasks that ran on a host which died are looked after. At the start, before anything else starts, the
 * container says which; later a claim may bring more. The actuator is asked about all of them in one call.
 *
 * What still runs takes its slot, and no token: it began long ago. So there may be more of them than `limit` says now;
 * nothing new starts until there are fewer. */
#include <stdlib.h>

#include "base/alloc.h"
#include "scheduler/state.h"

static const double FIRST_PAUSE = 1; /* seconds before a failed call is repeated; doubles */
static const double LONGEST_PAUSE = 30;

static void grow_pause(double *pause)
{
    *pause = *pause > 0 ? *pause * 2 : FIRST_PAUSE;
    if (*pause > LONGEST_PAUSE)
        *pause = LONGEST_PAUSE;
}

/* One call of the actuator. */
struct lt_recovery {
    struct lt_recover_work_op op;
    struct lt_scheduler *scheduler;
    struct lt_timer again;
    double pause;
    struct lt_log_gate log;
    TAILQ_ENTRY(lt_recovery) link;
};

static void free_recovery(struct lt_recovery *recovery)
{
    struct lt_scheduler *s = recovery->scheduler;
    TAILQ_REMOVE(&s->recoveries, recovery, link);
    lt_timer_stop(s->loop, &recovery->again);
    lt_reply_clear(&recovery->op.reply);
    free(recovery->op.works);
    free(recovery);
    lt_call_over(s);
}

static void tell_run(struct lt_recovered *found, bool known)
{
    static const enum lt_run_event events[] = {
        [LT_FATE_GONE] = LT_EV_FOUND_GONE,
        [LT_FATE_RUNS] = LT_EV_FOUND_RUNNING,
        [LT_FATE_ENDED] = LT_EV_FOUND_ENDED,
    };
    struct lt_run *run = lt_run_of(found->work);
    bool is_news = known && run->report.status == LT_RUNNING;
    if (is_news && found->fate == LT_FATE_ENDED) {
        lt_report_clear(&run->report);
        run->report = found->report;
        found->report = LT_REPORT(LT_RUNNING);
    } else if (is_news && found->fate == LT_FATE_RUNS && found->report.progress != NULL) {
        lt_bytes_set(&lt_task_extra(run->work.task)->progress, lt_bytes_ref(found->report.progress));
    }
    lt_report_clear(&found->report);
    lt_signal(run, known ? events[found->fate] : LT_EV_GIVEN_UP);
    lt_run_unref(run);
}

static void tell_all(struct lt_recovery *recovery, bool known)
{
    for (uint32_t i = 0; i < recovery->op.count; i++)
        tell_run(&recovery->op.works[i], known);
    free_recovery(recovery);
}

static void ask_actuator_again(struct lt_timer *timer);

static void on_recover(struct lt_reply *reply)
{
    struct lt_recovery *recovery = lt_container_of(reply, struct lt_recovery, op.reply);
    struct lt_scheduler *s = recovery->scheduler;
    if (reply->code == LT_OK) {
        tell_all(recovery, true);
        return;
    }
    lt_log_gated(&recovery->log, LT_LOG_ERROR, "the actuator could not say what became of tasks, it is asked again",
                 LT_S("scheduler", s->name), LT_S("actuator", s->config.actuator->ops->name),
                 LT_I("tasks", recovery->op.count), LT_S("error", lt_reply_message(reply)));
    if (s->stopping) {
        tell_all(recovery, false);
        return;
    }
    grow_pause(&recovery->pause);
    lt_timer_start(s->loop, &recovery->again, lt_loop_now(s->loop) + recovery->pause, ask_actuator_again);
}

static void ask_actuator(struct lt_recovery *recovery)
{
    struct lt_scheduler *s = recovery->scheduler;
    struct lt_actuator *actuator = s->config.actuator;
    for (uint32_t i = 0; i < recovery->op.count; i++) {
        lt_report_clear(&recovery->op.works[i].report);
        recovery->op.works[i].fate = LT_FATE_GONE;
        recovery->op.works[i].report = LT_REPORT(LT_RUNNING);
    }
    lt_reply_begin(&recovery->op.reply, s->loop, on_recover);
    if (actuator->ops->recover != NULL)
        actuator->ops->recover(actuator, &recovery->op);
    else
        lt_reply_ok(&recovery->op.reply); /* nothing outlives a host */
    lt_reply_end(&recovery->op.reply);
}

static void ask_actuator_again(struct lt_timer *timer)
{
    ask_actuator(lt_container_of(timer, struct lt_recovery, again));
}

static struct lt_run *take_recovered(struct lt_scheduler *s, const struct lt_claimed *claimed)
{
    struct lt_task *task = claimed->task;
    struct lt_run *run = lt_run_new(s, task, claimed->token);
    run->state = LT_RUN_RECOVERING;
    run->begun = s->config.actuator->ops->recover != NULL; /* else it never hears of it */
    run->has_slot = true;
    run->saved = task->status == LT_EXPORTING && s->config.persister != NULL;
    lt_limiter_adopt(&s->limiter, lt_task_key(task));
    lt_run_list(run, &s->active);
    lt_run_ref(run);
    if (s->stopping) /* it comes too late to be stopped with the others */
        lt_run_ask_stop(run, LT_WHY_SHUTDOWN, s->close_reason);
    lt_requests_elsewhere(s, task->data, task->id_len); /* who asked another host to stop it asks here */
    if (s->stopping)                                    /* all others have been told */
        lt_run_ask_stop(run, LT_WHY_SHUTDOWN, s->close_reason);
    return run;
}

void lt_recover_take(struct lt_scheduler *s, const struct lt_claimed *items, uint32_t count)
{
    struct lt_recovery *recovery = lt_zalloc(sizeof *recovery);
    recovery->scheduler = s;
    recovery->again = LT_TIMER_INIT;
    recovery->op.works = lt_zalloc(count * sizeof(struct lt_recovered));
    for (uint32_t i = 0; i < count; i++) {
        if (items[i].taken_over)
            recovery->op.works[recovery->op.count++].work = &take_recovered(s, &items[i])->work;
    }
    TAILQ_INSERT_TAIL(&s->recoveries, recovery, link);
    lt_call_under_way(s);
    ask_actuator(recovery);
}

/* The scheduler stops: what waits for a pause is asked once more. */
void lt_recover_hurry(struct lt_scheduler *s)
{
    struct lt_recovery *recovery;
    TAILQ_FOREACH(recovery, &s->recoveries, link) {
        if (lt_timer_active(&recovery->again))
            lt_timer_start(s->loop, &recovery->again, lt_loop_now(s->loop), ask_actuator_again);
    }
}

/* At the start: the container. */

static void recover_all(struct lt_timer *timer);

static void on_recover_container(struct lt_reply *reply)
{
    struct lt_scheduler *s = lt_container_of(reply, struct lt_scheduler, recover.reply);
    struct lt_claims *tasks = &s->recover.tasks;
    if (reply->code != LT_OK) {
        if (!s->store.down) /* which was said */
            lt_log_gated(&s->store.log, LT_LOG_ERROR, "recovery failed, nothing starts before it succeeds",
                         LT_S("scheduler", s->name), LT_S("container", s->config.container->ops->name));
        grow_pause(&s->recover_pause);
        lt_timer_start(s->loop, &s->recover_again, lt_loop_now(s->loop) + s->recover_pause, recover_all);
        lt_pump_post(s);
        return;
    }
    for (uint32_t i = 0; i < tasks->count; i++)
        tasks->items[i].taken_over = true;
    if (tasks->count > 0)
        lt_recover_take(s, tasks->items, tasks->count);
    tasks->count = 0; /* the references moved to the runs */
    lt_claims_free(tasks);
    lt_store_works(s);
    s->recovered = s->work = s->unlooked = true;
    lt_pump_post(s);
}

static void recover_all(struct lt_timer *timer)
{
    struct lt_scheduler *s = lt_container_of(timer, struct lt_scheduler, recover_again);
    if (s->closing)
        return;
    lt_reply_begin(&s->recover.reply, s->loop, on_recover_container);
    s->config.container->ops->recover(s->config.container, &s->recover);
    lt_reply_end(&s->recover.reply);
}

void lt_recover_at_once(struct lt_scheduler *s)
{
    if (lt_timer_active(&s->recover_again))
        lt_timer_start(s->loop, &s->recover_again, lt_loop_now(s->loop), recover_all);
}

void lt_recover_open(struct lt_scheduler *s)
{
    s->recover_again = LT_TIMER_INIT;
    if (s->config.container->ops->recover != NULL)
        recover_all(&s->recover_again);
    else
        s->recovered = s->work = s->unlooked = true;
}
