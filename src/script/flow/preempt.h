/* Preemption: Lua that computes without waiting is cut into slices, at no cost while it is not.
 *
 *     CPU timer of the thread, every 2 ms of computing --signal--> handler: arms a hook on the innermost Lua state
 *     hook, at the next instruction:
 *         every function up to the strand's base can yield:  yields; the strand goes on in a later turn (strand.c)
 *         it cannot (a comparator called by C):              goes on, until its bounds are over; then raises
 *
 * No hook is set while nothing was interrupted, so Lua runs at its full speed. The handler does what lua(1) does for
 * Ctrl-C: lua_sethook is made for that. What it takes, each learnt from a case that hung without it:
 *
 * - The handler must know the state that runs: a frame is entered and left around every resume and call from C.
 * - It arms at every tick, not once: the state that was armed may have ended, or may not have been able to yield.
 * - The hook decides by the frame's bounds and never by having been armed, and the mask is cleared around each resume:
 *   a stale hook would cut the next task of a pooled coroutine.
 * - An error raised by the hook leaves hooks disabled in its coroutine until a pcall recovers it, so strands run under
 *   lua_pcallk; in a coroutine of the script's that died of it nothing more may run, its `<close>` variables included.
 * - The message handler of an xpcall is called inside the hook that raises: it must not be the script's (baselib.c).
 * - Lua calls finalizers with hooks disabled: they get a coroutine of their own (finalizer.c).
 * - A hook that the script has set is displaced while ours is armed, for an instruction. Its function runs with hooks
 *   disabled: nothing cuts that; so it goes when its strand is ended.
 *
 * It depends on the inside of Lua 5.4: spec/preempt_spec.lua holds these cases. */
#ifndef LTSH_SCRIPT_FLOW_PREEMPT_H
#define LTSH_SCRIPT_FLOW_PREEMPT_H

#include <stdatomic.h>

#include "script/flow/script.h"
#include "script/values/marks.h"

/* Why Lua was ended by the hook. */
enum lt_cut { LT_CUT_NOT, LT_CUT_LATE, LT_CUT_HELD, LT_CUT_MEMORY };

/* What bounds Lua where it cannot be preempted. Where it can, timers do. */
struct lt_bounds {
    double deadline;                 /* monotonic seconds; 0: none */
    double max_stall;                /* seconds that it may hold the loop; 0: any time */
    double max_computing;            /* seconds of processor time that it may take; 0: any */
    int64_t computing_until;         /* of the thread's processor time, in nanoseconds; 0: no tick has come yet */
    unsigned moments;                /* that were given away */
    const _Atomic uint64_t *stopped; /* another thread wants the run of this number to end; NULL: nobody would */
    uint64_t seq;                    /* the number of this run */
    enum lt_cut cut; /* it was over, and an error was raised; whatever came of it, this is how it ended */
};

/* A slice is over at its second tick: what is shorter than a tick is never cut, handlers and small tasks above all. A
 * strand that was cut begins its next one as if it had seen the first. */
enum { LT_SLICE_TICKS = 2 };

/* Seconds after which the main script is cut. */
#define LT_SCRIPT_SLICE 0.5

/* Seconds that code which was told to end may go on computing, and as many for its `<close>` variables. When one of them
 * had to be ended too, what remains may have a moment; after LT_MOMENTS of these nothing more runs. */
#define LT_LAST_WORDS 0.01
#define LT_MOMENT 0.005
enum { LT_MOMENTS = 4 };

/* Starts and ends preemption for this thread, whose script this is. False if the system has no such timer. */
bool lt_preempt_open(struct lt_script *script);
void lt_preempt_close(struct lt_script *script);

/* Takes the host's hook off a state where it is armed, and puts that of the script back. */
void lt_preempt_disarm(struct lt_script *script, lua_State *L);

/* The same of a frame that was left. */
void lt_preempt_left(struct lt_frame *frame);

/* Enters Lua: from here on the frame's state is the one that runs. `bounds` of NULL: not bounded. */
static inline void lt_frame_enter(struct lt_script *script, struct lt_frame *frame, lua_State *L,
                                  struct lt_strand *strand, struct lt_bounds *bounds, bool can_yield)
{
    struct lt_frame *parent = script->frame;
    *frame = (struct lt_frame){.L = L, .strand = strand, .bounds = bounds, .parent = parent, .can_yield = can_yield};
    if (parent != NULL && parent->strand == strand) { /* a coroutine of the script's */
        frame->label = parent->label;
        frame->slice = parent->slice;
    }
    if (lua_gethookmask(L) != 0)
        lt_preempt_disarm(script, L);
    atomic_signal_fence(memory_order_seq_cst); /* the handler may look at it from now on */
    script->frame = frame;
    if (frame->parent == NULL)
        lt_watchdog_beat(&script->watched);
}

static inline void lt_frame_leave(struct lt_script *script, struct lt_frame *frame)
{
    script->frame = frame->parent;
    if (frame->parent == NULL)
        lt_watchdog_beat(&script->watched);
    atomic_signal_fence(memory_order_seq_cst);
    if (lua_gethookmask(frame->L) != 0)
        lt_preempt_left(frame);
}

/* A stretch of Lua begins that is entered from C, maybe inside another one, whose slice it does not use up; to be given
 * to lt_slice_end. */
struct lt_slice {
    unsigned ticks;
    double since;
};

static inline struct lt_slice lt_slice_begin(struct lt_script *script)
{
    struct lt_slice outer = {.ticks = script->ticks, .since = script->stall_since};
    script->ticks = 0;
    script->stall_since = 0;
    return outer;
}

static inline void lt_slice_end(struct lt_script *script, struct lt_slice outer)
{
    script->ticks = outer.ticks;
    script->stall_since = outer.since;
}

/* Makes the state that runs now yield as soon as it can. */
void lt_preempt_soon(struct lt_script *script);

/* Lets `look` see what is left after a collection, at the next instruction. */
void lt_look_at_memory_soon(struct lt_script *script, void (*look)(struct lt_script *script));

/* As lua_pcall, for C that calls Lua for its own sake on any state of the script: bounded by the script's max_stall. */
LT_RUNS_LUA int lt_guarded_call(struct lt_script *script, lua_State *L, int arguments, int results, int handler);

#endif
