/* See sim_loop.h. What of loop.h is about libuv itself (running, finishing) is not here: nothing under test calls it. */
#include "sim_loop.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "report.h"

static const double WALL = 1.7e9; /* Unix seconds at the beginning */

/* So many turns without the clock moving on are a loop that spins. */
enum { MOST_TURNS_HERE = 50000 };

static struct sim_loop *sim_of(struct lt_loop *loop)
{
    return (struct sim_loop *)loop;
}

void sim_loop_open(struct sim_loop *sim, uint64_t seed, double tick_cost)
{
    *sim = (struct sim_loop){
        .loop.timers.place = offsetof(struct lt_timer, place),
        .loop.clock_fd = -1,
        .loop.now = 1000,
        .loop.wall_offset = WALL - 1000,
        .events.place = offsetof(struct sim_event, place),
        .seed = seed,
        .tick_cost = tick_cost,
        .most_offset = WALL - 1000,
    };
    STAILQ_INIT(&sim->loop.turns);
    TAILQ_INIT(&sim->loop.clock_watches);
}

void sim_loop_close(struct sim_loop *sim)
{
    lt_heap_free(&sim->loop.timers);
    lt_heap_free(&sim->events);
}

/* What the code under test calls. */

double lt_loop_tick(struct lt_loop *loop)
{
    struct sim_loop *sim = sim_of(loop);
    loop->now += sim->tick_cost;
    return loop->now;
}

void lt_timer_start(struct lt_loop *loop, struct lt_timer *timer, double due, void (*fn)(struct lt_timer *timer))
{
    check_that(isfinite(due), "a timer is set to %f", due);
    timer->fn = fn;
    timer->due = due;
    int64_t rank = lt_heap_time(due);
    if (lt_timer_active(timer))
        lt_heap_change(&loop->timers, timer->place, rank, loop->timer_order++);
    else
        lt_heap_push(&loop->timers, rank, loop->timer_order++, timer);
}

void lt_timer_stop(struct lt_loop *loop, struct lt_timer *timer)
{
    if (lt_timer_active(timer))
        lt_heap_remove(&loop->timers, timer->place);
}

void lt_loop_post(struct lt_loop *loop, struct lt_turn *turn)
{
    if (turn->posted)
        return;
    turn->posted = true;
    STAILQ_INSERT_TAIL(&loop->turns, turn, link);
}

void lt_loop_hold(struct lt_loop *loop)
{
    loop->holds++;
}

void lt_loop_release(struct lt_loop *loop)
{
    check_that(loop->holds > 0, "the loop is released more often than it was held");
    loop->holds--;
}

void lt_loop_watch_clock(struct lt_loop *loop, struct lt_clock_watch *watch)
{
    TAILQ_INSERT_TAIL(&loop->clock_watches, watch, link);
}

void lt_loop_unwatch_clock(struct lt_loop *loop, struct lt_clock_watch *watch)
{
    TAILQ_REMOVE(&loop->clock_watches, watch, link);
}

/* What the world calls. */

void sim_event_at(struct sim_loop *sim, struct sim_event *event, double due, void (*fn)(struct sim_event *event))
{
    event->fn = fn;
    event->due = due;
    if (event->place != LT_HEAP_NONE)
        lt_heap_remove(&sim->events, event->place);
    /* Of those that are due at the same time any may be the first. */
    lt_heap_push(&sim->events, lt_heap_time(due), rng_mix(sim->seed + sim->event_order++), event);
}

void sim_event_in(struct sim_loop *sim, struct sim_event *event, double seconds, void (*fn)(struct sim_event *event))
{
    sim_event_at(sim, event, sim->loop.now + seconds, fn);
}

void sim_event_cancel(struct sim_loop *sim, struct sim_event *event)
{
    if (event->place != LT_HEAP_NONE)
        lt_heap_remove(&sim->events, event->place);
}

/* Running. */

static void tell_watches(struct lt_loop *loop)
{
    struct lt_clock_watch *watch, *next;
    for (watch = TAILQ_FIRST(&loop->clock_watches); watch != NULL; watch = next) {
        next = TAILQ_NEXT(watch, link);
        watch->fn(watch);
    }
}

/* The loop came around: it sees that the clock was set. */
static void see_clock(struct sim_loop *sim)
{
    if (sim->step == 0)
        return;
    sim->most_wall = fmax(sim->most_wall, lt_loop_wall(&sim->loop));
    sim->loop.wall_offset += sim->step;
    sim->most_offset = fmax(sim->most_offset, sim->loop.wall_offset);
    sim->step = 0;
    tell_watches(&sim->loop);
}

void sim_loop_step_clock(struct sim_loop *sim, double seconds, bool at_once)
{
    sim->step += seconds;
    if (at_once)
        see_clock(sim);
}

static void run_turns(struct sim_loop *sim)
{
    struct lt_loop *loop = &sim->loop;
    lt_loop_tick(loop);
    see_clock(sim);
    loop->rounds++;
    struct lt_turns now = STAILQ_HEAD_INITIALIZER(now);
    STAILQ_CONCAT(&now, &loop->turns);
    while (!STAILQ_EMPTY(&now)) {
        struct lt_turn *turn = STAILQ_FIRST(&now);
        STAILQ_REMOVE_HEAD(&now, link);
        turn->posted = false;
        sim->turns++;
        check_that(++sim->turns_here < MOST_TURNS_HERE, "%d turns were run while the clock stood still",
                   MOST_TURNS_HERE);
        turn->fn(turn);
    }
}

static const struct lt_heap_entry *first_due(const struct lt_heap *heap, int64_t now)
{
    const struct lt_heap_entry *first = lt_heap_first(heap);
    return first != NULL && first->rank <= now ? first : NULL;
}

/* Runs the timers that are due and one event. */
static void run_due(struct sim_loop *sim)
{
    struct lt_loop *loop = &sim->loop;
    int64_t now = lt_heap_time(loop->now);
    const struct lt_heap_entry *first;
    if (first_due(&loop->timers, now) != NULL)
        see_clock(sim);
    while ((first = first_due(&loop->timers, now)) != NULL) {
        struct lt_timer *timer = first->object;
        if (timer->due > loop->now)
            break; /* in the same nanosecond, and not yet */
        lt_heap_remove(&loop->timers, timer->place);
        check_that(++sim->turns_here < MOST_TURNS_HERE, "timers fire again and again while the clock stands still");
        timer->fn(timer);
    }
    first = first_due(&sim->events, now);
    if (first != NULL) {
        struct sim_event *event = first->object;
        lt_heap_remove(&sim->events, event->place);
        event->fn(event);
    }
}

/* Moves the clock to what is due next; false: nothing is. */
static bool jump(struct sim_loop *sim)
{
    const struct lt_heap_entry *first = lt_heap_first(&sim->loop.timers), *event = lt_heap_first(&sim->events);
    if (first == NULL && event == NULL)
        return false;
    bool is_timer = event == NULL || (first != NULL && first->rank <= event->rank);
    double due =
        is_timer ? ((const struct lt_timer *)first->object)->due : ((const struct sim_event *)event->object)->due;
    if (due > sim->loop.now) {
        sim->loop.now = due + 1e-9; /* as in life, nothing is on time to the last bit */
        sim->turns_here = 0;
    }
    return true;
}

bool sim_loop_run(struct sim_loop *sim, double until, bool (*done)(void *arg), void *arg)
{
    while (!done(arg)) {
        if (!STAILQ_EMPTY(&sim->loop.turns))
            run_turns(sim);
        else if (!jump(sim) || sim->loop.now > until)
            return false;
        run_due(sim);
    }
    return true;
}

bool sim_loop_has_turns(const struct sim_loop *sim)
{
    return !STAILQ_EMPTY(&sim->loop.turns);
}

uint32_t sim_loop_timers(const struct sim_loop *sim)
{
    return sim->loop.timers.count;
}
