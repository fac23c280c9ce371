/* Polling: the status of all that runs, at a steady rate, while anything runs; and the last look at one whose time is
 * over, so that the outcome is the same in every mode: its work may have ended in time and nobody saw it yet. */
#include "base/alloc.h"
#include "scheduler/state.h"

static const double LAST_LOOK = 1; /* seconds that it may take */

/* What was seen of a run. True: it has ended. A poll is no second opinion: what is decided stands. */
static bool take_seen(struct lt_run *run, struct lt_report *seen, bool valid)
{
    bool wanted = valid && (run->state == LT_RUN_RUNNING || run->state == LT_RUN_LOOKING) &&
                  run->report.status == LT_RUNNING && run->why == LT_WHY_WORK;
    struct lt_report report = *seen;
    *seen = LT_REPORT(LT_RUNNING);
    if (!wanted) {
        lt_report_clear(&report);
        return false;
    }
    bool ended = report.status != LT_RUNNING;
    if (ended || report.progress != NULL)
        lt_run_take_report(run, &report);
    else
        lt_report_clear(&report);
    return ended;
}

static void runs_polled(struct lt_run *run, struct lt_report *seen, bool valid)
{
    run->polled = false;
    if (!take_seen(run, seen, valid) && run->state == LT_RUN_LOOKING)
        lt_signal(run, LT_EV_LOOKED);
    lt_run_unref(run);
}

static void on_poll(struct lt_reply *reply)
{
    struct lt_scheduler *s = lt_container_of(reply, struct lt_scheduler, poll.reply);
    if (reply->code != LT_OK)
        lt_log_gated(&s->poll_log, LT_LOG_ERROR, "status failed", LT_S("scheduler", s->name),
                     LT_S("actuator", s->config.actuator->ops->name), LT_S("error", lt_reply_message(reply)));
    for (uint32_t i = 0; i < s->poll.count; i++)
        runs_polled(lt_run_of(s->poll.seen[i].work), &s->poll.seen[i].report, reply->code == LT_OK);
    s->poll.count = 0;
    lt_pump_post(s);
}

static void collect_running(struct lt_scheduler *s)
{
    struct lt_run *run;
    s->poll.count = 0;
    if (s->poll_size < s->run_count) {
        s->poll_size = s->run_count;
        s->poll.seen = lt_realloc(s->poll.seen, s->poll_size * sizeof(struct lt_seen));
    }
    TAILQ_FOREACH(run, &s->active, link) {
        if (run->state != LT_RUN_RUNNING)
            continue;
        run->polled = true;
        lt_run_ref(run);
        s->poll.seen[s->poll.count++] = (struct lt_seen){.work = &run->work, .report = LT_REPORT(LT_RUNNING)};
    }
}

static void poll_runs(struct lt_timer *timer)
{
    struct lt_scheduler *s = lt_container_of(timer, struct lt_scheduler, poll_timer);
    if (TAILQ_EMPTY(&s->active) || s->config.poll_interval <= 0)
        return; /* the next run starts it again */
    double now = lt_loop_now(s->loop);
    s->poll_at += s->config.poll_interval;
    if (s->poll_at < now)
        s->poll_at = now + s->config.poll_interval;
    lt_timer_start(s->loop, &s->poll_timer, s->poll_at, poll_runs);
    if (lt_reply_pending(&s->poll.reply))
        return;
    collect_running(s);
    if (s->poll.count == 0)
        return;
    lt_reply_begin(&s->poll.reply, s->loop, on_poll);
    s->config.actuator->ops->status(s->config.actuator, &s->poll);
    lt_reply_end(&s->poll.reply);
}

static void plan_poll(struct lt_scheduler *s)
{
    s->poll_at = lt_loop_now(s->loop) + s->config.poll_interval;
    lt_timer_start(s->loop, &s->poll_timer, s->poll_at, poll_runs);
}

void lt_poll_begin(struct lt_scheduler *s)
{
    if (s->config.poll_interval > 0 && !lt_timer_active(&s->poll_timer))
        plan_poll(s);
}

void lt_poll_set(struct lt_scheduler *s)
{
    lt_timer_stop(s->loop, &s->poll_timer);
    if (s->config.poll_interval > 0 && !TAILQ_EMPTY(&s->active))
        plan_poll(s);
}

void lt_poll_close(struct lt_scheduler *s)
{
    lt_timer_stop(s->loop, &s->poll_timer);
}

/* The last look. One that is in the poll under way waits for that. */

static void on_look(struct lt_reply *reply)
{
    struct lt_run_extra *extra = lt_container_of(reply, struct lt_run_extra, look.reply);
    struct lt_run *run = extra->run;
    if (!take_seen(run, &extra->look_seen.report, reply->code == LT_OK))
        lt_signal(run, LT_EV_LOOKED);
    lt_call_over(run->scheduler);
    lt_run_unref(run);
}

enum lt_run_event lt_act_look(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_actuator *actuator = s->config.actuator;
    struct lt_run_extra *extra = lt_run_extra(run);
    bool polls = s->config.poll_interval > 0 && actuator->can_status;
    if (!polls || lt_reply_pending(&extra->look.reply))
        return LT_EV_LOOKED;
    lt_run_arm(run, LAST_LOOK, LT_EV_PAUSE_OVER);
    if (run->polled)
        return LT_EV_NONE;
    lt_run_ref(run);
    lt_call_under_way(s);
    extra->look_seen.work = &run->work;
    extra->look.seen = &extra->look_seen;
    extra->look.count = 1;
    lt_reply_begin(&extra->look.reply, s->loop, on_look);
    actuator->ops->status(actuator, &extra->look);
    lt_reply_end(&extra->look.reply);
    return LT_EV_NONE;
}
