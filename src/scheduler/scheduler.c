/* A scheduler's life: open, busy or idle, closing, closed. */
#include "scheduler/scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "scheduler/state.h"

static const char *run_id(const void *object, size_t *len)
{
    const struct lt_run *run = object;
    *len = run->work.task->id_len;
    return run->work.task->data;
}

static void notified(void *arg, struct lt_work *work, struct lt_report *report)
{
    (void)arg;
    lt_run_report(lt_run_of(work), report);
}

static void pushed(void *arg, struct lt_push *push)
{
    lt_scheduler_push(arg, push);
}

static void capacity_changed(void *arg)
{
    struct lt_scheduler *s = arg;
    s->work = true;
    lt_pump_post(s);
}

struct lt_scheduler *lt_scheduler_open(struct lt_loop *loop, const struct lt_scheduler_config *config)
{
    struct lt_scheduler *s = lt_zalloc(sizeof *s);
    s->loop = loop;
    s->config = *config;
    s->name = lt_strdup(config->name);
    s->runs.key = run_id;
    s->close_timer = LT_TIMER_INIT;
    TAILQ_INIT(&s->to_start);
    TAILQ_INIT(&s->active);
    TAILQ_INIT(&s->reported);
    TAILQ_INIT(&s->spare);
    TAILQ_INIT(&s->for_room);
    TAILQ_INIT(&s->for_claim);
    STAILQ_INIT(&s->closers);
    for (int i = 0; i < RATE_SECONDS; i++)
        s->rate_second[i] = -1;
    lt_limiter_open(&s->limiter, &s->config.limits, lt_loop_now(loop));
    struct lt_actuator_env env = {
        .loop = loop,
        .call_limits = {s->config.callback_timeout, s->config.max_stall},
        .notify = {notified, s},
        .push = pushed,
        .push_arg = s,
        .capacity_changed = capacity_changed,
        .attach = s->config.attach,
    };
    if (s->config.persister != NULL)
        s->config.persister->ops->open(s->config.persister, loop,
                                       (struct lt_call_limits){s->config.callback_timeout, s->config.max_stall});
    struct lt_actuator *actuator = s->config.actuator;
    actuator->ops->open(actuator, &env);
    if (actuator->front != NULL)
        actuator->front->ops->open(actuator->front, &env);
    if (s->config.receiver != NULL)
        s->config.receiver->ops->open(s->config.receiver, &env);
    lt_pump_open(s);
    return s;
}

void lt_scheduler_free(struct lt_scheduler *s)
{
    lt_ends_close(s);
    lt_limiter_close(&s->limiter);
    lt_run_free_spare(s);
    lt_map_free(&s->runs);
    lt_tasks_free(&s->claim.claimed);
    lt_tasks_free(&s->claim.expired);
    lt_tasks_free(&s->recover.tasks);
    lt_reply_clear(&s->claim.reply);
    lt_reply_clear(&s->recover.reply);
    lt_reply_clear(&s->poll.reply);
    lt_reply_clear(&s->close_reply);
    lt_bytes_unref(s->close_reason);
    free(s->poll_works);
    free(s->name);
    free(s);
}

struct lt_scheduler_config *lt_scheduler_config(struct lt_scheduler *s)
{
    return &s->config;
}

void lt_scheduler_set(struct lt_scheduler *s)
{
    lt_limiter_set(&s->limiter, &s->config.limits, lt_loop_tick(s->loop));
    s->work = true;
    if (!TAILQ_EMPTY(&s->active))
        lt_pump_poll(s);
    lt_pump_post(s);
}

void lt_scheduler_pause(struct lt_scheduler *s, bool paused)
{
    if (s->closing)
        return;
    s->paused = paused;
    s->work = true;
    lt_pump_post(s);
}

bool lt_scheduler_idle(const struct lt_scheduler *s)
{
    return s->closed || (s->recovered && s->limiter.running == 0 && !lt_reply_pending(&s->claim.reply) &&
                         s->requests == 0 && s->config.container->ops->pending(s->config.container) == 0);
}

bool lt_scheduler_closing(const struct lt_scheduler *s)
{
    return s->closing;
}

bool lt_scheduler_closed(const struct lt_scheduler *s)
{
    return s->closed;
}

/* Closing goes through these steps, each when the one before is through. */

static void on_container_closed(struct lt_reply *reply)
{
    struct lt_scheduler *s = lt_container_of(reply, struct lt_scheduler, close_reply);
    if (reply->code != LT_OK)
        lt_log(LT_LOG_ERROR, "closing the container failed", LT_S("scheduler", s->name),
               LT_S("error", lt_reply_message(reply)));
    s->closed = true;
    lt_waits_close(s);
    lt_ends_wake(s);
    struct lt_close_request *request;
    while ((request = STAILQ_FIRST(&s->closers)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->closers, link);
        if (request->holds)
            lt_loop_release(s->loop);
        lt_reply_ok(&request->reply);
    }
    lt_pump_close(s);
    lt_timer_stop(s->loop, &s->close_timer);
    if (s->busy && s->config.hooks.busy != NULL) {
        s->busy = false;
        s->config.hooks.busy(s->config.hooks.arg, false);
    }
}

static void close_parts(struct lt_scheduler *s)
{
    s->container_closing = true;
    if (s->config.receiver != NULL)
        s->config.receiver->ops->close(s->config.receiver);
    struct lt_actuator *front = s->config.actuator->front;
    s->config.actuator->ops->close(s->config.actuator);
    if (front != NULL)
        front->ops->close(front);
    if (s->config.persister != NULL)
        s->config.persister->ops->close(s->config.persister);
    lt_reply_begin(&s->close_reply, s->loop, on_container_closed);
    s->config.container->ops->close(s->config.container, &s->close_reply);
    lt_reply_end(&s->close_reply);
}

static void abandon_waiting(struct lt_scheduler *s)
{
    struct lt_container *container = s->config.container;
    if (container->ops->abandon == NULL)
        return;
    struct lt_tasks stopped = {0};
    container->ops->abandon(container, s->close_reason, lt_loop_wall(s->loop), &stopped);
    for (uint32_t i = 0; i < stopped.count; i++)
        lt_end(s, stopped.items[i]);
    lt_tasks_free(&stopped);
}

static void advance_close(struct lt_scheduler *s)
{
    if (s->container_closing)
        return;
    bool over = !lt_timer_active(&s->close_timer);
    if (s->limiter.running > 0 && over && !s->stopping) {
        s->stopping = true;
        lt_run_stop_all(s, s->close_reason);
    }
    bool calls =
        lt_reply_pending(&s->claim.reply) || lt_reply_pending(&s->recover.reply) || lt_reply_pending(&s->poll.reply);
    if (s->limiter.running > 0 || s->requests > 0 || calls)
        return;
    abandon_waiting(s);
    if (s->requests == 0 && !s->container_closing)
        close_parts(s);
}

static void drained(struct lt_timer *timer)
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
    if (request != NULL)
        STAILQ_INSERT_TAIL(&s->closers, request, link);
    double at = lt_loop_tick(s->loop) + drain;
    if (!s->closing || at < s->close_at) {
        s->close_at = at;
        lt_timer_start(s->loop, &s->close_timer, at, drained);
    }
    if (!s->closing) {
        s->closing = true;
        s->close_reason = lt_bytes_new(reason, strlen(reason));
        lt_adds_close(s);
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

void lt_scheduler_review(struct lt_scheduler *s)
{
    if (s->closing && !s->closed) {
        if (!s->busy && s->config.hooks.busy != NULL) {
            s->busy = true;
            s->config.hooks.busy(s->config.hooks.arg, true);
        }
        advance_close(s);
        return;
    }
    bool busy = !lt_scheduler_idle(s);
    if (!busy)
        lt_ends_wake(s);
    if (busy == s->busy)
        return;
    s->busy = busy;
    if (s->config.hooks.busy != NULL)
        s->config.hooks.busy(s->config.hooks.arg, busy);
}
