/* The pump: the one place that drains what was signalled.
 *
 *     runs that something happened to -> tasks that expired -> requests to be looked at again -> who waits for room
 *     -> starts -> a claim -> ... until nothing is left, or the turn is over
 *
 * It is posted by whatever signals. A turn is bounded in time, so that I/O, timers and signals are never far away.
 * Between turns nothing runs: an idle host sleeps. */
#include "scheduler/pump.h"

#include "scheduler/state.h"

static const double TURN = 0.002; /* seconds of starts and ends in one turn of the loop */

/* The clock is read by what takes time: tasks that compute read it when they end. Of others a few go by on one reading. */
enum { UNREAD = 8 };

struct turn {
    struct lt_scheduler *s;
    double until;
    int unread;
};

static bool is_turn_over(struct turn *turn)
{
    if (++turn->unread >= UNREAD) {
        turn->unread = 0;
        lt_loop_tick(turn->s->loop);
    }
    return lt_loop_now(turn->s->loop) >= turn->until;
}

static bool drain_signals(struct turn *turn)
{
    struct lt_scheduler *s = turn->s;
    struct lt_run *run;
    while ((run = TAILQ_FIRST(&s->signalled)) != NULL) {
        if (is_turn_over(turn))
            return false;
        TAILQ_REMOVE(&s->signalled, run, signal_link);
        run->queued = false;
        lt_drive(run, LT_EV_NONE);
    }
    return true;
}

static bool drain_expired(struct turn *turn)
{
    struct lt_scheduler *s = turn->s;
    struct lt_tasks *expired = &s->expired;
    while (s->expired_next < expired->count) {
        if (is_turn_over(turn))
            return false;
        struct lt_task *task = expired->items[s->expired_next++];
        lt_tell_end(s, task);
        lt_task_unref(task);
    }
    s->expired_next = expired->count = 0;
    return true;
}

static bool drain_starts(struct turn *turn)
{
    struct lt_scheduler *s = turn->s;
    struct lt_run *run;
    while ((run = TAILQ_FIRST(&s->to_start)) != NULL && !s->paused && !s->paused_by_queue && !s->closing) {
        if (is_turn_over(turn))
            return false;
        if (run->queued) /* something came first */
            return true;
        lt_drive(run, LT_EV_START);
    }
    return true;
}

static bool begin_started(struct turn *turn)
{
    struct lt_scheduler *s = turn->s;
    struct lt_actuator *actuator = s->config.actuator;
    if (!s->to_begin || s->run_count == 0) { /* without runs there may be no actuator any more */
        s->to_begin = false;
        return true;
    }
    s->beginning = true;
    s->to_begin = !actuator->ops->begin(actuator, turn->until);
    s->beginning = false;
    return !s->to_begin;
}

/* True: all of it. */
static bool pump_drain(struct turn *turn)
{
    struct lt_scheduler *s = turn->s;
    if (!drain_signals(turn))
        return false;
    if (s->claimed) /* after the ends that came before it: it may count on their slots */
        lt_claim_handle(s);
    if (!drain_expired(turn))
        return false;
    if (!TAILQ_EMPTY(&s->again))
        lt_requests_drain(s);
    if (s->room) {
        s->room = false;
        lt_adds_room(s);
    }
    return drain_starts(turn) && begin_started(turn);
}

void lt_pump(struct lt_turn *posted)
{
    struct lt_scheduler *s = lt_container_of(posted, struct lt_scheduler, pump);
    if (s->closed)
        return;
    struct turn turn = {.s = s, .until = lt_loop_now(s->loop) + TURN};
    for (;;) {
        if (!pump_drain(&turn) || is_turn_over(&turn)) {
            lt_pump_post(s);
            break;
        }
        if (!TAILQ_EMPTY(&s->signalled))
            continue;
        if (!lt_claim(s))
            break;
    }
    if (!TAILQ_EMPTY(&s->for_room) && !s->room && !s->admitting && !lt_work_left(s))
        lt_room(s); /* nothing makes room any more: they are told so */
    lt_claim_plan(s);
    lt_busy_review(s);
    lt_close_advance(s); /* the last: it may be the end */
}
