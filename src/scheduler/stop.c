/* How a run is ended from outside: by a stop, by shutdown, by its deadline. It is over when its work is dead. */
#include "scheduler/run.h"

static const double LAST_LOOK = 1; /* seconds that the status call before a timeout may take */

/* Stopping. */

static void stop_again(struct lt_timer *timer)
{
    lt_run_begin_stop(lt_container_of(timer, struct lt_run, timer));
}

static void on_stop(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run, work.stop);
    struct lt_scheduler *s = run->scheduler;
    if (reply->code == LT_OK) {
        run->pause = 0;
        lt_run_over(run);
        return;
    }
    lt_log_gated(&lt_run_extra(run)->log, LT_LOG_ERROR, "stop failed, it will be tried again",
                 LT_S("scheduler", s->name), LT_S("actuator", s->config.actuator->ops->name),
                 LT_S("task", run->work.task->data), LT_I("run", (int64_t)run->work.run),
                 LT_S("error", lt_reply_message(reply)));
    lt_run_pause_then(run, stop_again);
}

void lt_run_begin_stop(struct lt_run *run)
{
    struct lt_actuator *actuator = run->scheduler->config.actuator;
    run->state = RUN_STOPPING;
    lt_reply_begin(&run->work.stop, run->scheduler->loop, on_stop);
    actuator->ops->stop(actuator, &run->work);
    lt_reply_end(&run->work.stop);
}

void lt_run_stop(struct lt_run *run, enum run_why why, struct lt_bytes *reason)
{
    struct lt_scheduler *s = run->scheduler;
    if (run->reported && run->state <= RUN_RUNNING)
        return; /* it ended by itself; whoever asked looks again when that is stored */
    if (run->state == RUN_SETTLING || run->state == RUN_GONE || run->why >= WHY_STOP)
        return;
    run->why = why;
    lt_bytes_set(&run->stop_reason, lt_bytes_ref(reason));
    switch (run->state) {
    case RUN_CLAIMED:
        TAILQ_REMOVE(&s->to_start, run, link);
        TAILQ_INSERT_TAIL(&s->active, run, link);
        lt_run_over(run);
        break;
    case RUN_RUNNING:
        lt_timer_stop(s->loop, &run->timer);
        lt_run_begin_stop(run);
        break;
    case RUN_OUTPUT:
    case RUN_SAVING:
        if (lt_reply_cancel(run->state == RUN_SAVING ? &run->save.reply : &run->work.output))
            lt_run_ended_from_outside(run);
        break;
    case RUN_EXPORT_REST:
        lt_run_ended_from_outside(run);
        break;
    default: /* under way: looked at when that is answered */
        break;
    }
}

void lt_run_stop_claimed(struct lt_scheduler *s, struct lt_bytes *reason)
{
    struct lt_run *run;
    while ((run = TAILQ_FIRST(&s->to_start)) != NULL)
        lt_run_stop(run, WHY_SHUTDOWN, reason);
}

/* A stop may end a run at once, and the script may end others meanwhile: so each is taken from the head and put at the tail before. */
void lt_run_stop_all(struct lt_scheduler *s, struct lt_bytes *reason)
{
    lt_run_stop_claimed(s, reason);
    struct lt_run *run;
    for (uint32_t n = s->limiter.running; n > 0 && (run = TAILQ_FIRST(&s->active)) != NULL; n--) {
        TAILQ_REMOVE(&s->active, run, link);
        TAILQ_INSERT_TAIL(&s->active, run, link);
        bool paused = run->state == RUN_STOPPING || run->state == RUN_MARKING || run->state == RUN_SETTLING;
        if (paused && lt_timer_active(&run->timer)) /* before a repetition: at once, then */
            lt_timer_start(s->loop, &run->timer, lt_loop_now(s->loop), run->timer.fn);
        lt_run_stop(run, WHY_SHUTDOWN, reason);
    }
}

/* Deadlines. */

static void time_out(struct lt_run *run)
{
    run->why = WHY_TIMEOUT;
    if (run->state == RUN_RUNNING)
        lt_run_begin_stop(run);
}

static void look_over(struct lt_timer *timer)
{
    struct lt_run *run = lt_container_of(timer, struct lt_run, timer);
    if (run->state == RUN_RUNNING && !run->reported)
        time_out(run);
}

static void on_look(struct lt_reply *reply)
{
    struct lt_run *run = lt_container_of(reply, struct lt_run_extra, look.reply)->run;
    run->looking = false;
    bool waited_for = run->state == RUN_RUNNING && run->why == WHY_WORK && !run->reported;
    lt_run_polled(run, reply->code == LT_OK);
    if (waited_for && !run->reported) {
        lt_timer_stop(run->scheduler->loop, &run->timer);
        time_out(run);
    }
}

/* Where ends are polled, the work may have ended in time and nobody saw it yet: one look, so that the outcome is the
 * same in every mode. */
static void last_look(struct lt_run *run)
{
    struct lt_scheduler *s = run->scheduler;
    run->looking = true;
    run->refs++;
    struct lt_run_extra *own = lt_run_extra(run);
    own->look_work = &run->work;
    own->look.works = &own->look_work;
    own->look.count = 1;
    lt_timer_start(s->loop, &run->timer, lt_loop_now(s->loop) + LAST_LOOK, look_over);
    lt_reply_begin(&own->look.reply, s->loop, on_look);
    s->config.actuator->ops->status(s->config.actuator, &own->look);
    lt_reply_end(&own->look.reply);
}

static void deadline(struct lt_timer *timer)
{
    struct lt_run *run = lt_container_of(timer, struct lt_run, timer);
    struct lt_scheduler *s = run->scheduler;
    if (run->reported)
        return;
    bool polls = s->config.poll_interval > 0 && s->config.actuator->can_status;
    if (run->state == RUN_RUNNING && polls && lt_reply_pending(&s->poll.reply)) /* that is the last look, then */
        lt_timer_start(s->loop, &run->timer, lt_loop_now(s->loop) + LAST_LOOK, look_over);
    else if (run->state == RUN_RUNNING && polls && !run->looking)
        last_look(run);
    else
        time_out(run); /* while it is starting: stopped when it has started */
}

/* The run began at `started` on the monotonic clock, maybe on another host. */
void lt_run_set_deadline(struct lt_run *run, double started)
{
    struct lt_scheduler *s = run->scheduler;
    const struct lt_task *task = run->work.task;
    double timeout = task->options != NULL && task->options->timeout >= 0 ? task->options->timeout : s->config.timeout;
    run->started = started;
    if (timeout > 0) {
        run->work.deadline = started + timeout;
        lt_timer_start(s->loop, &run->timer, run->work.deadline, deadline);
    }
}
