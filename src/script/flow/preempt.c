#include "script/flow/preempt.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "script/values/marks.h"

enum { TICK_NS = 2 * 1000 * 1000 }; /* of CPU time; the kernel may round it up to its own tick, mostly 4 ms */

struct lt_preempt {
    timer_t timer;
};

/* Of this thread; the handler runs on it. */
static _Thread_local struct lt_script *volatile current;

static void preempt_hook(lua_State *L, lua_Debug *event);

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

/* A hook of the script's, and ours in its place. */

/* Sets a hook where the handler could come in between. */
static void set_hook(lua_State *L, struct lt_script_hook own)
{
    struct lt_script *script = lt_script_of(L);
    script->hook_changes = true;
    atomic_signal_fence(memory_order_seq_cst);
    lua_sethook(L, own.fn, own.mask, own.count);
    atomic_signal_fence(memory_order_seq_cst);
    script->hook_changes = false;
}

BARE static bool is_armed(lua_State *L)
{
    return lua_gethook(L) == preempt_hook && (lua_gethookmask(L) & LUA_MASKCOUNT) != 0;
}

/* What arms the frame's state: our hook, at the next instruction. It passes on to the script's what that is to be told. If
 * that is lines, it comes with the next of them, as every loop has one: Lua does not take a count in the middle of it. */
BARE static struct lt_script_hook displace(struct lt_frame *frame)
{
    lua_State *L = frame->L;
    if (lua_gethook(L) != preempt_hook) {
        frame->displaced = (struct lt_script_hook){lua_gethook(L), lua_gethookmask(L), lua_gethookcount(L)};
        frame->begins = (frame->displaced.mask & LUA_MASKCALL) != 0;
    }
    struct lt_script_hook own = frame->displaced;
    if ((own.mask & LUA_MASKLINE) != 0)
        return (struct lt_script_hook){preempt_hook, own.mask, own.count};
    return (struct lt_script_hook){preempt_hook, own.mask | LUA_MASKCOUNT, 1};
}

/* Puts the script's hook back, if it has one. */
static void put_back(struct lt_frame *frame)
{
    struct lt_script_hook own = frame->displaced;
    frame->displaced = (struct lt_script_hook){0};
    set_hook(frame->L, own);
}

void lt_preempt_disarm(struct lt_script *script, lua_State *L)
{
    if (lua_gethook(L) != preempt_hook)
        return;
    struct lt_frame *frame = script->frame;
    while (frame != NULL && frame->L != L)
        frame = frame->parent;
    if (frame != NULL)
        put_back(frame);
    else
        set_hook(L, (struct lt_script_hook){0}); /* it was made by a state that was armed */
}

void lt_preempt_left(struct lt_frame *frame)
{
    if (lua_gethook(frame->L) == preempt_hook)
        put_back(frame);
}

/* lua_sethook walks over all calls in progress: a recursion of 200,000 levels takes longer than a tick. It gets as much
 * time to run as that took. Once a script has set hooks it is done at every tick: where Lua looks at one, it may have
 * missed the last. */
BARE static void arm(struct lt_script *script, struct lt_frame *frame)
{
    lua_State *L = frame->L;
    int64_t begin = clock_ns();
    if (begin < script->arm_after_ns)
        return;
    struct lt_script_hook ours = displace(frame);
    lua_sethook(L, ours.fn, ours.mask, ours.count);
    int64_t end = clock_ns();
    script->arm_after_ns = end + (end - begin);
}

/* What the watchdog is told. No function that a sanitizer takes for itself. */

BARE static void copy(char *to, const char *from, size_t size)
{
    size_t i = 0;
    for (; from != NULL && from[i] != '\0' && i + 1 < size; i++)
        to[i] = from[i];
    to[i] = '\0';
}

BARE static void copy_place(struct lt_watched *watched, const lua_Debug *frame)
{
    size_t i = 0, digits = 0;
    char line[12];
    copy(watched->place, frame->short_src, sizeof watched->place - sizeof line - 1);
    while (watched->place[i] != '\0')
        i++;
    for (int n = frame->currentline; n > 0; n /= 10)
        line[digits++] = (char)('0' + n % 10);
    if (digits > 0)
        watched->place[i++] = ':';
    while (digits > 0)
        watched->place[i++] = line[--digits];
    watched->place[i] = '\0';
}

BARE static void describe(struct lt_watched *watched, const struct lt_frame *frame)
{
    lua_Debug level;
    watched->function[0] = watched->place[0] = '\0';
    copy(watched->task, frame != NULL ? frame->label : NULL, sizeof watched->task);
    if (frame == NULL || frame->L == NULL || !lua_getstack(frame->L, 0, &level))
        return;
    lua_getinfo(frame->L, "nSl", &level);
    watched->in_c = level.what[0] == 'C';
    copy(watched->function, level.name, sizeof watched->function);
    for (int i = 1; level.currentline <= 0 && lua_getstack(frame->L, i, &level); i++)
        lua_getinfo(frame->L, "Sl", &level);
    copy_place(watched, &level);
}

BARE static void on_tick(int number)
{
    (void)number;
    struct lt_script *script = current;
    if (script == NULL)
        return;
    int error = errno;
    struct lt_frame *frame = script->frame;
    if (atomic_load_explicit(&script->watched.asked, memory_order_relaxed) != 0) {
        describe(&script->watched, frame);
        lt_watchdog_answered(&script->watched);
    }
    script->ticks++;
    if (script->hook_changes)
        script->hook_changes = false;
    else if (frame != NULL && script->ticks >= LT_SLICE_TICKS && (script->hooked || !is_armed(frame->L)))
        arm(script, frame);
    errno = error;
}

static void arm_now(struct lt_script *script)
{
    if (script->frame != NULL)
        set_hook(script->frame->L, displace(script->frame));
}

void lt_preempt_soon(struct lt_script *script)
{
    script->ticks = LT_SLICE_TICKS;
    arm_now(script);
}

void lt_look_at_memory_soon(struct lt_script *script, void (*look)(struct lt_script *script))
{
    script->look_at_memory = look;
    arm_now(script);
}

static bool is_past_last_words(struct lt_script *script, struct lt_bounds *bounds, double now)
{
    if (now < bounds->deadline)
        return false;
    if (bounds->moments++ < LT_MOMENTS) {
        bounds->deadline = now + LT_MOMENT;
        put_back(script->frame);
    }
    return true;
}

static bool has_computed_enough(struct lt_bounds *bounds)
{
    if (bounds->max_computing <= 0)
        return false;
    if (bounds->computing_until == 0)
        bounds->computing_until = clock_ns() + (int64_t)(bounds->max_computing * 1e9);
    return clock_ns() >= bounds->computing_until;
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
    if (stopped || (bounds->deadline > 0 && now >= bounds->deadline) || has_computed_enough(bounds))
        bounds->cut = LT_CUT_LATE;
    else if (bounds->max_stall > 0 && now - script->stall_since >= bounds->max_stall)
        bounds->cut = LT_CUT_HELD;
    else
        return false;
    bounds->deadline = now + LT_LAST_WORDS;
    script->frame->displaced = (struct lt_script_hook){0}; /* nothing is to hold up the end */
    put_back(script->frame);
    return true;
}

/* The script itself is cut rarely: people expect that what it adds begins when it waits, and not in between. */
static bool has_had_its_slice(struct lt_script *script, const struct lt_frame *frame)
{
    if (frame->slice <= 0 || script->hurry)
        return true;
    double now = lt_loop_tick(script->loop);
    if (script->stall_since <= 0)
        script->stall_since = now;
    return now - script->stall_since >= frame->slice;
}

LT_RUNS_LUA static void look_at_memory(struct lt_script *script, lua_State *L)
{
    void (*look)(struct lt_script *) = script->look_at_memory;
    script->look_at_memory = NULL;
    lua_gc(L, LUA_GCCOLLECT);
    look(script);
}

/* What was kept was given up for what runs. */
LT_RAISES LT_RUNS_LUA static void collect_or_raise(struct lt_script *script, lua_State *L)
{
    script->memory_low = false;
    lua_gc(L, LUA_GCCOLLECT);
    if (!lt_memory_low())
        return;
    lua_pushliteral(L, "not enough memory");
    lua_error(L);
}

/* Whether nearly as many calls of C are in progress as Lua allows (LUAI_MAXCCALLS, 200), metamethods and pcall among them.
 * Resuming begins that count anew: a recursion without end that is cut again and again would not overflow before it had
 * filled the whole stack of Lua, at whatever it keeps for each of its levels. */
static bool is_deep_in_c(lua_State *L)
{
    enum { DEEP = 150, SAMPLE = 30 };
    lua_Debug call;
    int of_c = 0;
    for (int level = 0; of_c < DEEP && lua_getstack(L, level, &call); level++) {
        lua_getinfo(L, "Sn", &call);
        of_c += call.what[0] == 'C' || strcmp(call.namewhat, "metamethod") == 0;
        if (level >= SAMPLE && of_c < level / 3)
            return false;
    }
    return of_c == DEEP;
}

/* Ends what runs if it is over, else lets others run if it can. */
LT_RAISES LT_RUNS_LUA static void cut_or_raise(lua_State *L, struct lt_script *script, struct lt_frame *frame)
{
    bool yields = frame->can_yield && lua_isyieldable(L) && !is_deep_in_c(L);
    struct lt_bounds *bounds = frame->bounds;
    bool ending = bounds != NULL && bounds->cut != LT_CUT_NOT;
    if ((ending || !yields) && is_over(script, bounds) && bounds != NULL)
        luaL_error(L, bounds->cut == LT_CUT_HELD ? "held the host" : "timeout"); /* it may stay armed */
    put_back(frame);
    if (yields && has_had_its_slice(script, frame)) {
        frame->preempted = true;
        lua_yield(L, 0);
    }
}

/* A function that is cut as it begins is told to the script's hook a second time, when it goes on: better the next
 * instruction, unless none comes. */
static bool is_beginning(const struct lt_script *script, struct lt_frame *frame)
{
    bool begins = frame->begins && script->ticks < 3 * LT_SLICE_TICKS;
    frame->begins = false;
    return begins;
}

static void preempt_hook(lua_State *L, lua_Debug *event)
{
    struct lt_script *script = lt_script_of(L);
    struct lt_frame *frame = script->frame;
    if (frame == NULL || frame->L != L) {
        lt_preempt_disarm(script, L);
        return;
    }
    struct lt_script_hook own = frame->displaced;
    bool has_lines = (own.mask & LUA_MASKLINE) != 0;
    if (own.fn != NULL && (has_lines || event->event != LUA_HOOKCOUNT))
        own.fn(L, event);
    if (event->event == LUA_HOOKCALL || event->event == LUA_HOOKTAILCALL)
        frame->begins = true;
    bool may_cut = event->event == (has_lines ? LUA_HOOKLINE : LUA_HOOKCOUNT);
    if (!may_cut || lua_gethook(L) != preempt_hook || is_beginning(script, frame))
        return;
    if (script->look_at_memory != NULL)
        look_at_memory(script, L);
    if (script->memory_low)
        collect_or_raise(script, L);
    if (script->ticks >= LT_SLICE_TICKS)
        cut_or_raise(L, script, frame);
    else
        put_back(frame);
}

LT_RUNS_LUA int lt_guarded_call(struct lt_script *script, lua_State *L, int arguments, int results, int handler)
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
    lt_watchdog_add(&script->watched);
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
