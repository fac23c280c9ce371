/* The loop of the simulation: another implementation of loop/loop.h, with a clock that stands still while something is
 * done and jumps to the next thing that is due.
 *
 * Beside the timers of the code under test it has events, which are the world's: answers that come later, work that
 * ends, faults. The wall clock is the monotonic one and an offset that can be stepped. */
#ifndef LTSH_SIM_LOOP_H
#define LTSH_SIM_LOOP_H

#include "loop/loop.h"
#include "rng.h"

struct sim_event {
    void (*fn)(struct sim_event *event);
    double due;
    uint32_t place; /* LT_HEAP_NONE: not planned */
};

#define SIM_EVENT_INIT ((struct sim_event){.place = LT_HEAP_NONE})

struct sim_loop {
    struct lt_loop loop; /* first */
    struct lt_heap events;
    uint64_t event_order;
    uint64_t seed;
    double step;         /* of the wall clock, not seen yet */
    double tick_cost;    /* virtual seconds that pass between two readings of the clock */
    double most_offset;  /* how far the wall clock ever was ahead */
    double most_wall;    /* the latest time that it showed before it was set */
    uint64_t turns;      /* all that were run */
    uint64_t turns_here; /* since the clock last moved on */
};

void sim_loop_open(struct sim_loop *sim, uint64_t seed, double tick_cost);
void sim_loop_close(struct sim_loop *sim);

/* Plans an event, or plans it anew; and cancels it. */
void sim_event_at(struct sim_loop *sim, struct sim_event *event, double due, void (*fn)(struct sim_event *event));
void sim_event_in(struct sim_loop *sim, struct sim_event *event, double seconds, void (*fn)(struct sim_event *event));
void sim_event_cancel(struct sim_loop *sim, struct sim_event *event);

/* The wall clock is set. `at_once`: the kernel tells; else it is seen when the loop next comes around. */
void sim_loop_step_clock(struct sim_loop *sim, double seconds, bool at_once);

/* Runs until `done` says so (true), there is nothing left to do, or the clock is past `until` (false). */
bool sim_loop_run(struct sim_loop *sim, double until, bool (*done)(void *arg), void *arg);

/* What the code under test left behind. */
bool sim_loop_has_turns(const struct sim_loop *sim);
uint32_t sim_loop_timers(const struct sim_loop *sim);

#define sim_container_of(pointer_, type_, member_) ((type_ *)(void *)((char *)(pointer_)-offsetof(type_, member_)))

#endif
