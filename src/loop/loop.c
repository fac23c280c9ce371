#include "loop/loop.h"

#include <math.h>
#include <stddef.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

static double clock_read(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double lt_loop_tick(struct lt_loop *loop)
{
    loop->now = clock_read(CLOCK_MONOTONIC);
    return loop->now;
}

static void tell_watches(struct lt_loop *loop)
{
    struct lt_clock_watch *watch, *next;
    for (watch = TAILQ_FIRST(&loop->clock_watches); watch != NULL; watch = next) {
        next = TAILQ_NEXT(watch, link);
        watch->fn(watch);
    }
}

/* Once a turn of the loop: the wall clock may have been set. It also drifts a little, which is no step. */
static void read_clocks(struct lt_loop *loop)
{
    static const double STEP = 0.1; /* seconds */
    double before = loop->wall_offset;
    lt_loop_tick(loop);
    loop->wall_offset = clock_read(CLOCK_REALTIME) - loop->now;
    if (fabs(loop->wall_offset - before) >= STEP)
        tell_watches(loop);
}

/* The kernel cancels a timer on the wall clock when that is set: this one would never fire by itself. */
static void arm_clock(int fd)
{
    struct itimerspec far = {.it_value.tv_sec = INT64_C(253402300799)}; /* the end of the year 9999 */
    timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

static void clock_was_set(uv_poll_t *handle, int status, int events)
{
    struct lt_loop *loop = handle->data;
    uint64_t count;
    (void)status;
    (void)events;
    if (read(loop->clock_fd, &count, sizeof count) < 0) /* ECANCELED */
        arm_clock(loop->clock_fd);
    read_clocks(loop);
}

static void open_clock(struct lt_loop *loop)
{
    loop->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->clock_fd < 0)
        return; /* the steps are seen when the loop comes around */
    uv_poll_init(&loop->uv, &loop->clock_set, loop->clock_fd);
    loop->clock_set.data = loop;
    arm_clock(loop->clock_fd);
    uv_poll_start(&loop->clock_set, UV_READABLE, clock_was_set);
    uv_unref((uv_handle_t *)&loop->clock_set);
}

void lt_loop_watch_clock(struct lt_loop *loop, struct lt_clock_watch *watch)
{
    if (loop->clock_fd < 0)
        open_clock(loop);
    TAILQ_INSERT_TAIL(&loop->clock_watches, watch, link);
}

void lt_loop_unwatch_clock(struct lt_loop *loop, struct lt_clock_watch *watch)
{
    TAILQ_REMOVE(&loop->clock_watches, watch, link);
}

static void keep_awake(uv_idle_t *handle)
{
    (void)handle;
}

/* So that some memory is kept again as soon as it can be. */
static void look_at_memory(struct lt_loop *loop)
{
    static const double PAUSE = 0.1; /* seconds */
    if (!lt_memory_low() || loop->now < loop->tidy_again)
        return;
    lt_memory_tidy();
    loop->tidy_again = loop->now + PAUSE;
}

/* Runs the turns that are there now; those posted meanwhile come after the next look at I/O. */
static void run_turns(uv_check_t *check)
{
    struct lt_loop *loop = check->data;
    read_clocks(loop);
    loop->rounds++;
    look_at_memory(loop);
    struct lt_turns now = STAILQ_HEAD_INITIALIZER(now);
    STAILQ_CONCAT(&now, &loop->turns);
    while (!STAILQ_EMPTY(&now)) {
        struct lt_turn *turn = STAILQ_FIRST(&now);
        STAILQ_REMOVE_HEAD(&now, link);
        turn->posted = false;
        turn->fn(turn);
    }
    if (STAILQ_EMPTY(&loop->turns))
        uv_idle_stop(&loop->busy);
}

static void timers_due(uv_timer_t *clock);

/* Sets uv's timer to the first of ours. Rounded up, so that none fires early. */
static void arm_timers(struct lt_loop *loop)
{
    const struct lt_heap_entry *first = lt_heap_first(&loop->timers);
    if (first == NULL)
        return; /* a wake-up for nothing is cheaper than stopping and starting it for each task */
    int64_t due_ms = first->rank / 1000000 + (first->rank % 1000000 > 0);
    if (loop->armed_ms >= 0 && loop->armed_ms <= due_ms)
        return;
    loop->armed_ms = due_ms;
    int64_t from_ms = (int64_t)uv_now(&loop->uv);
    uv_timer_start(&loop->clock, timers_due, due_ms > from_ms ? (uint64_t)(due_ms - from_ms) : 0, 0);
}

static void timers_due(uv_timer_t *clock)
{
    struct lt_loop *loop = clock->data;
    loop->armed_ms = -1;
    read_clocks(loop);
    int64_t now = lt_heap_time(loop->now);
    const struct lt_heap_entry *first;
    while ((first = lt_heap_first(&loop->timers)) != NULL && first->rank <= now) {
        struct lt_timer *timer = first->object;
        lt_heap_remove(&loop->timers, timer->place);
        timer->fn(timer);
    }
    arm_timers(loop);
}

void lt_timer_start(struct lt_loop *loop, struct lt_timer *timer, double due, void (*fn)(struct lt_timer *timer))
{
    timer->fn = fn;
    timer->due = due;
    int64_t rank = lt_heap_time(due);
    if (lt_timer_active(timer))
        lt_heap_change(&loop->timers, timer->place, rank, loop->timer_order++);
    else
        lt_heap_push(&loop->timers, rank, loop->timer_order++, timer);
    arm_timers(loop);
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
    if (STAILQ_EMPTY(&loop->turns))
        uv_idle_start(&loop->busy, keep_awake);
    STAILQ_INSERT_TAIL(&loop->turns, turn, link);
}

void lt_loop_hold(struct lt_loop *loop)
{
    if (loop->holds++ == 0)
        uv_ref((uv_handle_t *)&loop->check);
}

void lt_loop_release(struct lt_loop *loop)
{
    if (--loop->holds == 0)
        uv_unref((uv_handle_t *)&loop->check);
}

int lt_loop_open(struct lt_loop *loop)
{
    *loop = (struct lt_loop){.timers.place = offsetof(struct lt_timer, place), .armed_ms = -1, .clock_fd = -1};
    STAILQ_INIT(&loop->turns);
    TAILQ_INIT(&loop->clock_watches);
    int err = uv_loop_init(&loop->uv);
    if (err != 0)
        return err;
    uv_check_init(&loop->uv, &loop->check);
    uv_idle_init(&loop->uv, &loop->busy);
    uv_timer_init(&loop->uv, &loop->clock);
    uv_timer_init(&loop->uv, &loop->finish);
    loop->check.data = loop->busy.data = loop->clock.data = loop->finish.data = loop;
    uv_check_start(&loop->check, run_turns);
    uv_unref((uv_handle_t *)&loop->check);
    uv_unref((uv_handle_t *)&loop->clock);
    read_clocks(loop);
    return 0;
}

void lt_loop_run(struct lt_loop *loop)
{
    uv_update_time(&loop->uv);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void lt_loop_stop(struct lt_loop *loop)
{
    uv_stop(&loop->uv);
}

static void close_foreign(uv_handle_t *handle, void *arg)
{
    if (handle->data != arg && !uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void look_again(uv_timer_t *clock)
{
    (void)clock;
}

void lt_loop_finish(struct lt_loop *loop)
{
    static const double LONGEST = 5; /* seconds: callbacks may open new handles, and so on; a request may hang */
    enum { PAUSE_MS = 50 };
    uv_unref((uv_handle_t *)&loop->check);
    double until = lt_loop_tick(loop) + LONGEST;
    while (lt_loop_tick(loop) < until) {
        uv_walk(&loop->uv, close_foreign, loop);
        if (!uv_loop_alive(&loop->uv))
            break;
        uv_timer_start(&loop->finish, look_again, PAUSE_MS, 0); /* so that this returns */
        uv_run(&loop->uv, UV_RUN_ONCE);
        uv_timer_stop(&loop->finish);
    }
}

static void close_open(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void lt_loop_close(struct lt_loop *loop)
{
    /* More than once: a pending stop ends the first run before it began, and a close callback may have work for
     * another. */
    do {
        uv_walk(&loop->uv, close_open, NULL);
        uv_run(&loop->uv, UV_RUN_DEFAULT);
    } while (uv_loop_close(&loop->uv) == UV_EBUSY);
    if (loop->clock_fd >= 0)
        close(loop->clock_fd);
    lt_heap_free(&loop->timers);
}
