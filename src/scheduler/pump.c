/* The pump: takes tasks from the container as long as the limits allow.
 *
 *     posted by: an end, an add, an announcement, a timer (delays, expiries, tokens, a container that cannot announce)
 *     each turn: ends that came -> starts -> claim -> starts -> ... until there is no room, no work, or the turn is
 * over
 *
 * A turn is bounded in time, so that I/O, timers and signals are never far away. Between turns nothing runs: an idle
 * host sleeps. */
#include <stdlib.h>

#include "base/alloc.h"
#include "scheduler/state.h"

static const double TURN = 0.002;       /* seconds of starts and ends in one turn of the loop */
static const double LONGEST_SLEEP = 60; /* the wall clock may be set while a delay is waited for */
enum { BATCH = 256 };

static void on_claim(struct lt_reply *reply)
{
    struct lt_scheduler *s = lt_container_of(reply, struct lt_scheduler, claim.reply);
    struct lt_claim_op *op = &s->claim;
    if (reply->code != LT_OK) {
        lt_log_gated(&s->claim_log, LT_LOG_ERROR, "claim failed", LT_S("scheduler", s->name),
                     LT_S("container", s->config.container->ops->name), LT_S("error", lt_reply_message(reply)));
        s->ask_at = lt_loop_now(s->loop) + s->config.schedule_interval;
    } else {
        s->work = s->work || op->more;
        s->next_at = op->next_at;
        if (!s->config.container->ops->announces && !op->more)
            s->ask_at = lt_loop_now(s->loop) + s->config.schedule_interval;
    }
    for (uint32_t i = 0; i < op->claimed.count; i++)
        lt_run_claimed(s, op->claimed.items[i]);
    op->claimed.count = 0; /* the references moved to the runs */
    if (s->closing)
        lt_run_stop_claimed(s, s->close_reason);
    struct lt_tasks expired = op->expired;
    op->expired = (struct lt_tasks){0};
    for (uint32_t i = 0; i < expired.count; i++)
        lt_end(s, expired.items[i]);
    lt_tasks_free(&expired);
    lt_requests_claimed(s);
    lt_pump_post(s);
}

/* Whether the container can be asked at all now. */
static bool may_claim(const struct lt_scheduler *s)
{
    return s->recovered && !s->closing && !lt_reply_pending(&s->claim.reply);
}

/* Claims, if there is room and may be work. True: it was answered at once, so look again. */
static bool claim(struct lt_scheduler *s)
{
    if (!may_claim(s))
        return false;
    double now = lt_loop_now(s->loop);
    if (s->ask_at > 0 && now >= s->ask_at) {
        s->ask_at = 0;
        s->work = true;
    }
    uint32_t room = lt_limiter_room(&s->limiter, now);
    uint32_t capacity = s->config.actuator->capacity;
    uint32_t free_capacity = capacity > s->limiter.running ? capacity - s->limiter.running : 0;
    if (free_capacity < room)
        room = free_capacity;
    if (s->paused)
        room = 0;
    bool due = s->look || (s->next_at > 0 && lt_loop_wall(s->loop) >= s->next_at);
    s->look = false;
    if (!due && (room == 0 || !s->work))
        return false;
    s->claim.limit = room < BATCH ? room : BATCH;
    s->next_at = 0;
    if (s->claim.limit > 0)
        s->work = false; /* what is announced from here on counts */
    lt_reply_begin(&s->claim.reply, s->loop, on_claim);
    s->config.container->ops->claim(s->config.container, &s->claim);
    lt_reply_end(&s->claim.reply);
    return !lt_reply_pending(&s->claim.reply);
}

static void wake(struct lt_timer *timer)
{
    lt_pump_post(lt_container_of(timer, struct lt_scheduler, wake));
}

static double earlier(double a, double b)
{
    return a <= 0 ? b : b <= 0 ? a : a < b ? a : b;
}

/* Sets the timer for whatever will come by time alone. */
static void plan_wake(struct lt_scheduler *s)
{
    if (!may_claim(s)) { /* what makes that possible posts the pump */
        lt_timer_stop(s->loop, &s->wake);
        return;
    }
    double now = lt_loop_now(s->loop);
    double at = s->ask_at;
    if (s->next_at > 0) {
        double in = s->next_at - lt_loop_wall(s->loop);
        at = earlier(at, now + (in < LONGEST_SLEEP ? in : LONGEST_SLEEP));
    }
    if (s->work || s->limiter.reopening.count > 0)
        at = earlier(at, lt_limiter_next(&s->limiter));
    if (at <= 0)
        lt_timer_stop(s->loop, &s->wake);
    else if (!lt_timer_active(&s->wake) || s->wake.due != at)
        lt_timer_start(s->loop, &s->wake, at, wake);
}

static void pump(struct lt_turn *turn)
{
    struct lt_scheduler *s = lt_container_of(turn, struct lt_scheduler, pump);
    if (s->closed)
        return;
    if (s->room_again) {
        s->room_again = false;
        lt_adds_room(s);
    }
    double until = lt_loop_now(s->loop) + TURN;
    for (;;) {
        if (!lt_run_some(s, until) || lt_loop_now(s->loop) >= until) {
            lt_pump_post(s);
            break;
        }
        if (!claim(s))
            break;
    }
    plan_wake(s);
    lt_scheduler_review(s);
}

void lt_pump_post(struct lt_scheduler *s)
{
    if (!s->closed) /* from then on it may be freed at any time */
        lt_loop_post(s->loop, &s->pump);
}

static void announce(void *arg)
{
    struct lt_scheduler *s = arg;
    s->work = true;
    lt_pump_post(s);
}

static void key_open(void *arg, struct lt_bytes *key)
{
    struct lt_scheduler *s = arg;
    if (s->config.container->ops->key_open != NULL)
        s->config.container->ops->key_open(s->config.container, key);
    announce(s);
}

/* Recovery: before anything starts, the tasks of a host that died are looked after. */

static void recover(struct lt_timer *timer);

static void on_recover(struct lt_reply *reply)
{
    struct lt_scheduler *s = lt_container_of(reply, struct lt_scheduler, recover.reply);
    if (reply->code != LT_OK) {
        lt_log_gated(&s->claim_log, LT_LOG_ERROR, "recovery failed, nothing starts before it succeeds",
                     LT_S("scheduler", s->name), LT_S("container", s->config.container->ops->name),
                     LT_S("error", lt_reply_message(reply)));
        lt_timer_start(s->loop, &s->recover_again, lt_loop_now(s->loop) + s->config.schedule_interval, recover);
        return;
    }
    struct lt_tasks *tasks = &s->recover.tasks;
    for (uint32_t i = 0; i < tasks->count; i++)
        lt_run_recovered(s, tasks->items[i]);
    tasks->count = 0;
    lt_tasks_free(tasks);
    s->recovered = true;
    announce(s);
}

static void recover(struct lt_timer *timer)
{
    struct lt_scheduler *s = lt_container_of(timer, struct lt_scheduler, recover_again);
    if (s->closing)
        return;
    lt_reply_begin(&s->recover.reply, s->loop, on_recover);
    s->config.container->ops->recover(s->config.container, &s->recover);
    lt_reply_end(&s->recover.reply);
}

void lt_pump_open(struct lt_scheduler *s)
{
    s->pump.fn = pump;
    s->wake = s->poll_timer = s->recover_again = LT_TIMER_INIT;
    s->limiter.key_open = key_open;
    s->limiter.key_open_arg = s;
    s->claim.limiter = &s->limiter;
    struct lt_container *container = s->config.container;
    container->in_use = true;
    container->ops->open(container, &(struct lt_container_env){
                                        .loop = s->loop,
                                        .keep_tasks = s->config.keep_tasks,
                                        .keep_bytes = s->config.keep_bytes,
                                        .call_limits = {s->config.container_timeout, s->config.max_stall},
                                        .announce = announce,
                                        .announce_arg = s,
                                    });
    if (container->ops->recover != NULL)
        recover(&s->recover_again);
    else
        s->recovered = s->work = true;
    lt_pump_post(s);
}

void lt_pump_close(struct lt_scheduler *s)
{
    lt_timer_stop(s->loop, &s->wake);
    lt_timer_stop(s->loop, &s->poll_timer);
    lt_timer_stop(s->loop, &s->recover_again);
}

/* Polling: the status of all that runs, at a steady rate, while anything runs. */

static void on_poll(struct lt_reply *reply)
{
    struct lt_scheduler *s = lt_container_of(reply, struct lt_scheduler, poll.reply);
    if (reply->code != LT_OK)
        lt_log_gated(&s->poll_log, LT_LOG_ERROR, "status failed", LT_S("scheduler", s->name),
                     LT_S("actuator", s->config.actuator->ops->name), LT_S("error", lt_reply_message(reply)));
    for (uint32_t i = 0; i < s->poll.count; i++)
        lt_run_polled(lt_run_of(s->poll.works[i]), reply->code == LT_OK);
    lt_pump_post(s);
}

static void poll(struct lt_timer *timer)
{
    struct lt_scheduler *s = lt_container_of(timer, struct lt_scheduler, poll_timer);
    if (TAILQ_EMPTY(&s->active) || s->config.poll_interval <= 0)
        return; /* the next run starts it again */
    double now = lt_loop_now(s->loop);
    s->poll_at += s->config.poll_interval;
    if (s->poll_at < now)
        s->poll_at = now + s->config.poll_interval;
    lt_timer_start(s->loop, &s->poll_timer, s->poll_at, poll);
    if (lt_reply_pending(&s->poll.reply))
        return;
    s->poll.count = lt_run_collect(s);
    s->poll.works = s->poll_works;
    if (s->poll.count == 0)
        return;
    lt_reply_begin(&s->poll.reply, s->loop, on_poll);
    s->config.actuator->ops->status(s->config.actuator, &s->poll);
    lt_reply_end(&s->poll.reply);
}

void lt_pump_poll(struct lt_scheduler *s)
{
    if (s->config.poll_interval <= 0 || lt_timer_active(&s->poll_timer))
        return;
    s->poll_at = lt_loop_now(s->loop) + s->config.poll_interval;
    lt_timer_start(s->loop, &s->poll_timer, s->poll_at, poll);
}
