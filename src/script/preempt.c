#include "script/preempt.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "script/strand.h"

enum { TICK_NS = 2 * 1000 * 1000 }; /* of CPU time; the kernel may round it up to its own tick, mostly 4 ms */

struct lt_preempt {
    timer_t timer;
};

/* Of this thread; the handler runs on it. */
static _Thread_local struct lt_script *volatile current;

static void hook(lua_State *L, lua_Debug *event);

#if defined(__SANITIZE_THREAD__)
/* ThreadSanitizer would keep the signal back until the next call into libc, which an endless loop never makes: the
 * handler is installed behind its back, and is not instrumented. */
extern int __sigaction(int number, const struct sigaction *action, struct sigaction *old);
#define INSTALL __sigaction
#define BARE __attribute__((no_sanitize("thread")))
#else
#define INSTALL sigaction
#define BARE
#endif

/* The CPU time of this thread. By a system call, since a sanitizer takes clock_gettime for itself. */
BARE static int64_t clock_ns(void)
{
    struct timespec t;
    syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* lua_sethook walks over all calls in progress: a recursion of 200,000 levels takes longer than a tick. It gets as much
 * time to run as that took. */
BARE static void arm(struct lt_script *script, lua_State *L)
{
    int64_t begin = clock_ns();
    if (begin < script->arm_after_ns)
        return;
    lua_sethook(L, hook, LUA_MASKCOUNT, 1);
    int64_t end = clock_ns();
    script->arm_after_ns = end + (end - begin);
}

BARE static void on_tick(int number)
{
    (void)number;
    struct lt_script *script = current;
    if (script == NULL)
        return;
    int error = errno;
    if (atomic_load_explicit(&script->watched.asked, memory_order_relaxed) != 0)
        lt_watchdog_answer(&script->watched);
    script->ticks++;
    const struct lt_frame *frame = script->frame;
    if (frame != NULL && script->ticks >= LT_SLICE_TICKS && lua_gethookmask(frame->L) == 0)
        arm(script, frame->L);
    errno = error;
}

void lt_preempt_soon(struct lt_script *script)
{
    script->ticks = LT_SLICE_TICKS;
    if (script->frame != NULL)
        lua_sethook(script->frame->L, hook, LUA_MASKCOUNT, 1);
}

static bool is_past_last_words(struct lt_script *script, struct lt_bounds *bounds, double now)
{
    if (now < bounds->deadline)
        return false;
    if (bounds->moments++ < LT_MOMENTS) {
        bounds->deadline = now + LT_MOMENT;
        lua_sethook(script->frame->L, NULL, 0, 0);
    }
    return true;
}

/* Whether this cannot go on. Ended once, it may use its last words; then it is ended at every instruction until it has
 * come to its base, whatever it catches. */
static bool is_over(struct lt_script *script, struct lt_bounds *bounds)
{
    double now = lt_loop_tick(script->loop);
    if (script->stall_since <= 0)
        script->stall_since = now;
    if (bounds == NULL)
        return false;
    if (bounds->cut != LT_CUT_NOT)
        return is_past_last_words(script, bounds, now);
    bool stopped = bounds->stopped != NULL && atomic_load(bounds->stopped) == bounds->seq;
    if (stopped || (bounds->deadline > 0 && now >= bounds->deadline))
        bounds->cut = LT_CUT_LATE;
    else if (bounds->max_stall > 0 && now - script->stall_since >= bounds->max_stall)
        bounds->cut = LT_CUT_HELD;
    else
        return false;
    bounds->deadline = now + LT_LAST_WORDS;
    lua_State *L = script->frame->L;
    lua_sethook(L, NULL, 0, 0);
    return true;
}

/* The script itself is cut rarely: people expect that what it adds begins when it waits, and not in between. */
static bool has_had_its_slice(struct lt_script *script, const struct lt_strand *strand)
{
    if (strand == NULL || strand->kind != LT_STRAND_SCRIPT || strand->finalizers > 0)
        return true;
    double now = lt_loop_tick(script->loop);
    if (script->stall_since <= 0)
        script->stall_since = now;
    return now - script->stall_since >= LT_SCRIPT_SLICE;
}

static void hook(lua_State *L, lua_Debug *event)
{
    (void)event;
    struct lt_script *script = lt_script_of(L);
    struct lt_frame *frame = script->frame;
    if (frame == NULL || frame->L != L || script->ticks < LT_SLICE_TICKS) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    if (script->look_at_memory != NULL) {
        void (*look)(struct lt_script *) = script->look_at_memory;
        script->look_at_memory = NULL;
        lua_gc(L, LUA_GCCOLLECT);
        look(script);
    }
    bool yields = frame->can_yield && lua_isyieldable(L);
    bool ending = frame->bounds != NULL && frame->bounds->cut != LT_CUT_NOT;
    if ((ending || !yields) && is_over(script, frame->bounds))
        luaL_error(L, frame->bounds->cut == LT_CUT_HELD ? "held the host" : "timeout"); /* it may stay armed */
    lua_sethook(L, NULL, 0, 0);
    if (yields && has_had_its_slice(script, frame->strand)) {
        frame->preempted = true;
        lua_yield(L, 0);
    }
}

bool lt_was_preempted(lua_State *co)
{
    lua_Debug level;
    if (lua_status(co) != LUA_YIELD || !lua_getstack(co, 0, &level))
        return false;
    lua_getinfo(co, "f", &level);
    bool in_lua = !lua_iscfunction(co, -1); /* whoever yields by himself does it in a C function */
    lua_pop(co, 1);
    return in_lua;
}

int lt_guarded_call(struct lt_script *script, lua_State *L, int arguments, int results, int handler)
{
    struct lt_bounds bounds = {.max_stall = script->max_stall};
    struct lt_slice outer = lt_slice_begin(script);
    struct lt_frame frame;
    lt_frame_enter(script, &frame, L, NULL, &bounds, false);
    int status = lua_pcall(L, arguments, results, handler);
    lt_frame_leave(script, &frame);
    lt_slice_end(script, outer);
    return status;
}

/* The timer. */

static bool install_handler(void)
{
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    return INSTALL(SIGURG, &action, NULL) == 0;
}

static bool start_timer(struct lt_preempt *preempt)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGURG};
    event._sigev_un._tid = gettid();
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &preempt->timer) != 0)
        return false;
    const struct itimerspec interval = {.it_interval.tv_nsec = TICK_NS, .it_value.tv_nsec = TICK_NS};
    if (timer_settime(preempt->timer, 0, &interval, NULL) == 0)
        return true;
    timer_delete(preempt->timer);
    return false;
}

bool lt_preempt_open(struct lt_script *script)
{
    struct lt_preempt *preempt = lt_zalloc(sizeof *preempt);
    current = script;
    if (!install_handler() || !start_timer(preempt)) {
        lt_log(LT_LOG_WARN, "Lua that computes cannot be preempted: the system has no CPU timers for threads",
               LT_S("error", strerror(errno)));
        current = NULL;
        free(preempt);
        return false;
    }
    script->preempt = preempt;
    lt_watchdog_add(&script->watched, script);
    return true;
}

void lt_preempt_close(struct lt_script *script)
{
    if (script->preempt == NULL)
        return;
    lt_watchdog_remove(&script->watched);
    timer_delete(script->preempt->timer);
    free(script->preempt);
    script->preempt = NULL;
    current = NULL;
}
