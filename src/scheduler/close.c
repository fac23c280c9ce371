/* Closing goes through these steps, each when the one before is through:
 *
 *     closing         nothing is taken, claimed or started any more; what runs may end by itself
 *     stopping        the time for that is over: all is stopped, nothing is repeated for ever; a stop that fails is tried
 *                     again for as long as that time was, and then the work is left alone
 *     leaving         all is through but work that goes on without its host, which is let go of
 *     abandoned       what waits in memory ends as stopped
 *     parts closing   receiver, actuator, persister, container, one after the other
 *     closed */
#include <string.h>

#include "scheduler/state.h"

static const double LEAST_FOR_STOPS = 1; /* seconds in which stops that fail are tried again, when all else is over */

static void close_next_part(struct lt_scheduler *s);

static void forget_given_up(struct lt_scheduler *s)
{
    struct lt_run_extra *extra;
    while ((extra = LIST_FIRST(&s->given_up)) != NULL) {
        LIST_REMOVE(extra, given_up_link);
        lt_run_unref(extra->run);
    }
}

/* The last step. From here on the scheduler may be freed at any time. */
static void finish_close(struct lt_scheduler *s)
{
    s->closed = true;
    forget_given_up(s);
    lt_waits_close(s);
    lt_finished_wake(s);
    struct lt_close_request *request;
    while ((request = STAILQ_FIRST(&s->closers)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->closers, link);
        if (request->holds)
            lt_loop_release(s->loop);
        lt_reply_ok(&request->reply);
    }
    lt_loop_unwatch_clock(s->loop, &s->clock);
    lt_claim_close(s);
    lt_poll_close(s);
    lt_store_close(s);
    lt_timer_stop(s->loop, &s->recover_again);
    lt_timer_stop(s->loop, &s->close_timer);
    lt_busy_review(s);
}

static void part_closed(struct lt_scheduler *s)
{
    if (s->close_reply.code != LT_OK)
        lt_log(LT_LOG_ERROR, "closing failed", LT_S("scheduler", s->name),
               LT_S("error", lt_reply_message(&s->close_reply)));
}

static void on_part_closed(struct lt_reply *reply)
{
    struct lt_scheduler *s = lt_container_of(reply, struct lt_scheduler, close_reply);
    part_closed(s);
    close_next_part(s);
}

/* Begins to close the part; false: there is none. A part may be gone when it is closed. */
static bool close_part(struct lt_scheduler *s, unsigned part)
{
    struct lt_scheduler_config *config = &s->config;
    struct lt_actuator *front = part == 1 ? config->actuator->front : NULL;
    switch (part) {
    case 0:
        if (config->receiver != NULL)
            config->receiver->ops->close(config->receiver, &s->close_reply);
        return config->receiver != NULL;
    case 1:
        if (front != NULL)
            front->ops->close(front, &s->close_reply);
        return front != NULL;
    case 2:
        config->actuator->ops->close(config->actuator, &s->close_reply);
        return true;
    case 3:
        if (config->persister != NULL)
            config->persister->ops->close(config->persister, &s->close_reply);
        return config->persister != NULL;
    default:
        config->container->ops->close(config->container, &s->close_reply);
        return true;
    }
}

static void close_next_part(struct lt_scheduler *s)
{
    enum { PARTS = 5 };
    while (s->closing_part < PARTS) {
        lt_reply_begin(&s->close_reply, s->loop, on_part_closed);
        if (!close_part(s, s->closing_part++))
            lt_reply_ok(&s->close_reply);
        if (!lt_reply_end_now(&s->close_reply))
            return;
        part_closed(s);
    }
    finish_close(s);
}

/* True: nothing is left. Else it goes on in the next turn. */
static bool abandon_waiting(struct lt_scheduler *s)
{
    enum { BATCH = 512 };
    struct lt_container *container = s->config.container;
    if (container->ops->abandon == NULL)
        return true;
    struct lt_tasks stopped = {0};
    bool all = container->ops->abandon(container, s->close_reason, lt_loop_wall(s->loop), BATCH, &stopped);
    for (uint32_t i = 0; i < stopped.count; i++)
        lt_tell_end(s, stopped.items[i]);
    lt_tasks_free(&stopped);
    return all;
}

/* It will be left running, if it does not end while others still do. */
static bool stays(const struct lt_run *run)
{
    bool works = run->state == LT_RUN_RUNNING || run->state == LT_RUN_STARTING || run->state == LT_RUN_RECOVERING;
    return works && lt_leaves_running(run->scheduler) && !run->scheduler->leaving;
}

static void stop_list(struct lt_scheduler *s, const struct lt_run_list *list)
{
    struct lt_run *run;
    TAILQ_FOREACH(run, list, link) {
        if (!stays(run))
            lt_run_ask_stop(run, LT_WHY_SHUTDOWN, s->close_reason);
    }
}

/* What waits for a pause is tried at once: a stop, by asking again; a transition that is owed, for the last time. */
static void stop_all(struct lt_scheduler *s)
{
    s->stopping = true;
    if (s->config.container->ops->hurry != NULL)
        s->config.container->ops->hurry(s->config.container);
    stop_list(s, &s->to_start);
    stop_list(s, &s->active);
    lt_store_retry_all(s);
    lt_recover_hurry(s);
    lt_requests_close(s);
}

static bool calls_under_way(const struct lt_scheduler *s)
{
    return s->requests > 0 || s->calls > 0 || s->claimed || lt_reply_pending(&s->claim.reply) ||
           lt_reply_pending(&s->recover.reply) || lt_reply_pending(&s->poll.reply) ||
           s->expired_next < s->expired.count;
}

static bool only_stays(const struct lt_scheduler *s)
{
    const struct lt_run *run;
    uint32_t count = 0;
    if (!s->stopping)
        return false;
    TAILQ_FOREACH(run, &s->active, link) {
        if (run->state != LT_RUN_RUNNING || !stays(run))
            return false;
        count++;
    }
    return count == s->run_count;
}

/* Their ends were taken until now. */
static void leave_all(struct lt_scheduler *s)
{
    s->leaving = true;
    stop_list(s, &s->active);
}

void lt_close_advance(struct lt_scheduler *s)
{
    if (!s->closing || s->parts_closing)
        return;
    if (!s->stopping && !lt_timer_active(&s->close_timer))
        stop_all(s);
    if (calls_under_way(s))
        return;
    if (s->run_count > 0) {
        if (only_stays(s))
            leave_all(s);
        return;
    }
    if (!abandon_waiting(s)) {
        lt_pump_post(s);
        return;
    }
    if (s->requests > 0) /* a handler asked for something */
        return;
    s->parts_closing = true;
    if (s->left_running > 0)
        lt_log(LT_LOG_INFO, "tasks go on without this host, the next one takes them up", LT_S("scheduler", s->name),
               LT_I("tasks", (int64_t)s->left_running));
    close_next_part(s);
}

/* Stops that failed before are tried again at once. */
static void hurry_stops(struct lt_scheduler *s, double give_up_at)
{
    if (give_up_at >= s->give_up_at)
        return;
    s->give_up_at = give_up_at;
    if (s->stopping)
        stop_list(s, &s->active);
}

static void on_drain_over(struct lt_timer *timer)
{
    lt_pump_post(lt_container_of(timer, struct lt_scheduler, close_timer));
}

void lt_scheduler_close(struct lt_scheduler *s, double drain, const char *reason, struct lt_close_request *request)
{
    if (s->closed) {
        if (request != NULL)
            lt_reply_ok(&request->reply);
        return;
    }
    if (request != NULL && lt_scheduler_inside(s)) {
        lt_reply_send(&request->reply, LT_REFUSED, lt_inside_message);
        return;
    }
    if (request != NULL)
        STAILQ_INSERT_TAIL(&s->closers, request, link);
    double at = lt_loop_tick(s->loop) + drain;
    double stops_until = at + (drain > LEAST_FOR_STOPS ? drain : LEAST_FOR_STOPS);
    if (!s->closing)
        s->give_up_at = stops_until;
    hurry_stops(s, stops_until);
    if (!s->closing || at < s->close_at) {
        s->close_at = at;
        lt_timer_start(s->loop, &s->close_timer, at, on_drain_over);
    }
    if (!s->closing) {
        s->closing = true;
        s->close_reason = lt_bytes_new(reason, strlen(reason));
        stop_list(s, &s->to_start);
        lt_adds_close(s);
        if (s->unclear)
            lt_requests_again(s, &s->for_claim); /* it will not be asked again */
    }
    lt_pump_post(s);
}

static void leave_closers(struct lt_reply *reply, void *arg)
{
    struct lt_scheduler *s = arg;
    STAILQ_REMOVE(&s->closers, (struct lt_close_request *)reply, lt_close_request, link);
    lt_loop_release(s->loop);
}

void lt_scheduler_await_closed(struct lt_scheduler *s, struct lt_close_request *request)
{
    if (s->closed) {
        lt_reply_ok(&request->reply);
        return;
    }
    lt_loop_hold(s->loop);
    request->holds = true;
    request->reply.cancel = leave_closers;
    request->reply.cancel_arg = s;
    STAILQ_INSERT_TAIL(&s->closers, request, link);
}
