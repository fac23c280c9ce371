/* The event loop: libuv's, with turns, timers and a clock on top.
 *
 *     uv_run:  timers -> I/O -> [check: run the turns that were posted] -> ...
 *
 * A turn is a function to be called soon from a flat stack. Replies and wake-ups are posted as turns, so that
 * no layer is ever entered again from below. While turns wait, the loop does not block; when none do and
 * nothing is due, it sleeps in the kernel: nothing here polls.
 *
 * The loop ends by itself when nothing holds it. One loop belongs to one thread; nothing here is thread safe. */
#ifndef LTSH_LOOP_LOOP_H
#define LTSH_LOOP_LOOP_H

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/heap.h"

struct lt_turn {
    STAILQ_ENTRY(lt_turn) link;
    void (*fn)(struct lt_turn *turn);
    bool posted;
};

/* Who is to be told that the wall clock was set. */
struct lt_clock_watch {
    void (*fn)(struct lt_clock_watch *watch);
    TAILQ_ENTRY(lt_clock_watch) link;
};

struct lt_timer {
    void (*fn)(struct lt_timer *timer);
    double due;     /* monotonic seconds */
    uint32_t place; /* in the heap; LT_HEAP_NONE when not started */
};

STAILQ_HEAD(lt_turns, lt_turn);
TAILQ_HEAD(lt_clock_watches, lt_clock_watch);

struct lt_loop {
    uv_loop_t uv;
    uv_check_t check;  /* runs the turns; referenced while somebody holds the loop */
    uv_idle_t busy;    /* active while turns wait: keeps uv from blocking */
    uv_timer_t clock;  /* set to the first timer */
    uv_timer_t finish; /* of lt_loop_finish */
    struct lt_turns turns;
    struct lt_heap timers;
    uint64_t timer_order;
    uint64_t rounds;    /* how often it came around */
    int64_t armed_ms;   /* what `clock` is set to, in uv's time; -1: nothing */
    double now;         /* monotonic seconds, see lt_loop_now */
    double wall_offset; /* wall clock minus monotonic clock */
    struct lt_clock_watches clock_watches;
    uv_poll_t clock_set; /* a timerfd that becomes readable when the wall clock is set */
    int clock_fd;        /* -1: there is none */
    double tidy_again;   /* monotonic: not before, when memory is low */
    unsigned holds;
};

/* Opens a loop in place. 0 or a libuv error (negative). */
int lt_loop_open(struct lt_loop *loop);

/* Runs until nothing holds the loop or lt_loop_stop is called. */
void lt_loop_run(struct lt_loop *loop);

/* Makes lt_loop_run return after the present turn. */
void lt_loop_stop(struct lt_loop *loop);

/* Closes the handles that others opened on it and waits for their requests and callbacks: before what those callbacks
 * need goes. A handle of the core's own carries the loop as its data. */
void lt_loop_finish(struct lt_loop *loop);

/* Closes it and every handle that is still open on it (their close callbacks run). */
void lt_loop_close(struct lt_loop *loop);

/* While held, the loop goes on although no handle is active. Counted. */
void lt_loop_hold(struct lt_loop *loop);
void lt_loop_release(struct lt_loop *loop);

/* Calls turn->fn soon, once, in the order of posting; posting a posted turn does nothing. Costs no allocation. */
void lt_loop_post(struct lt_loop *loop, struct lt_turn *turn);

/* Starts a timer (or starts it anew) to call fn once when the monotonic clock has reached `due`; never before.
 * The resolution is a millisecond. A timer holds nothing: see lt_loop_hold. */
void lt_timer_start(struct lt_loop *loop, struct lt_timer *timer, double due, void (*fn)(struct lt_timer *timer));

/* Stops it; fine if it is not started, but `place` must have been set: see LT_TIMER_INIT. */
void lt_timer_stop(struct lt_loop *loop, struct lt_timer *timer);

/* The earlier of two times, of which 0 is none. */
static inline double lt_earlier(double a, double b)
{
    return a <= 0 ? b : b <= 0 ? a : a < b ? a : b;
}

/* Calls watch->fn after each step of the wall clock (a tenth of a second or more), from a flat stack, until it is removed. The
 * kernel tells at once; where it does not (a faked clock), the step is seen when the loop next comes around. */
void lt_loop_watch_clock(struct lt_loop *loop, struct lt_clock_watch *watch);
void lt_loop_unwatch_clock(struct lt_loop *loop, struct lt_clock_watch *watch);

#define LT_TIMER_INIT ((struct lt_timer){.place = LT_HEAP_NONE})

static inline bool lt_timer_active(const struct lt_timer *timer)
{
    return timer->place != LT_HEAP_NONE;
}

/* The monotonic clock as it was when it was last read: at the start of each turn, timer, and by lt_loop_tick. Seconds.
 */
static inline double lt_loop_now(const struct lt_loop *loop)
{
    return loop->now;
}

/* Reads the clock anew and returns it: before a deadline is set or checked after user code ran. 22 ns. */
double lt_loop_tick(struct lt_loop *loop);

/* The wall clock in Unix seconds that belongs to lt_loop_now. */
static inline double lt_loop_wall(const struct lt_loop *loop)
{
    return loop->now + loop->wall_offset;
}

#endif
