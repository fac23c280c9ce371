/* The script side: one Lua state on one loop, and the rules by which C enters it.
 *
 * - Lua runs in strands (strand.h): pooled coroutines that the host resumes. All waiting is done by strands.
 * - Everything that knows lua.h is in this folder. */
#ifndef LTSH_SCRIPT_SCRIPT_H
#define LTSH_SCRIPT_SCRIPT_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/log.h"
#include "loop/loop.h"
#include "script/watchdog.h"

struct lt_strand;
struct lt_bounds;
struct lt_preempt;

/* Where Lua runs now: one for each resume that is under way, innermost first. On the C stack. */
struct lt_frame {
    lua_State *L;
    struct lt_strand *strand; /* NULL: called by C, or in a callback of libuv */
    struct lt_bounds *bounds; /* where it cannot be preempted; NULL: not bounded */
    struct lt_frame *parent;
    bool can_yield; /* every resume between here and the strand's base can */
    bool preempted; /* it was cut, and did not yield by itself */
};

TAILQ_HEAD(lt_strand_list, lt_strand);
TAILQ_HEAD(lt_bound_list, lt_bound); /* the schedulers: bind_scheduler.c */

struct lt_script {
    lua_State *L; /* the main state: only for callbacks and set-up */
    struct lt_loop *loop;
    struct lt_frame *volatile frame; /* innermost; preempt.h: a signal handler looks at it */
    volatile unsigned ticks;         /* of the CPU timer, in this slice */
    int64_t arm_after_ns;            /* the handler's own */
    double stall_since;              /* monotonic: since when the slice is known not to be preemptible; 0: it may be */
    double max_stall;                /* seconds: what bounds Lua that belongs to no scheduler */
    void (*look_at_memory)(struct lt_script *script); /* to be called by the hook after a collection; NULL: no need */
    struct lt_watched watched;
    struct lt_preempt *preempt; /* NULL: there is none */
    struct lt_strand_list live;
    struct lt_strand_list spare;
    struct lt_strand_list dead;      /* over, but still posted on the loop */
    struct lt_strand_list preempted; /* in the order of their next slices, of which each turn of the loop runs one */
    struct lt_turn slice;
    unsigned passed;             /* rounds in which those that began or woke took the slice */
    struct lt_strand_list awake; /* tasks that were woken in a round in which another one had used up a slice */
    struct lt_turn wake;
    uint64_t cut_round;       /* of the loop: the last in which a task that began or woke did */
    uint64_t woken_cut_round; /* the last in which a task that woke did */
    unsigned spare_count;
    struct lt_log_gate finalizer_log;
    bool slow_finalizers;     /* some had to be ended */
    double last_time;         /* seconds that are left for finalizers that take too long, when the state is closed */
    struct lt_buffer scratch; /* for encoding; whoever uses it is through with it before Lua runs again */
    struct lt_bound_list schedulers;
    int small_task_meta; /* the metatables of task objects, as references: an index into an array */
    int holding_task_meta;
    const void *scheduler_meta; /* the metatable of scheduler objects, to know them by */
    lua_CFunction error;        /* the standard functions: an error that they raise was meant */
    lua_CFunction assert;
    unsigned scheduler_count;                         /* ever made: for their default names */
    void (*exit)(struct lt_script *script, int code); /* os.exit: close everything, then end the process */
    void (*closed)(struct lt_script *script);         /* no scheduler is left; again when no handler of theirs runs */
    unsigned asking; /* a function of a configuration runs, which must not call a scheduler */
    bool worker;     /* see lt_script_options */
    bool may_exit;
    bool closing;      /* the state is being closed: nothing new can be begun */
    unsigned handlers; /* event handlers that run */
    void *host;
};

/* The script that a Lua state belongs to. Every state and coroutine of it. */
static inline struct lt_script *lt_script_of(lua_State *L)
{
    uintptr_t word = *(uintptr_t *)lua_getextraspace(L);
    return (struct lt_script *)(word & ~(uintptr_t)1);
}

/* The lowest bit says that the coroutine is a strand's own: the script may hold it, but not resume or close it. */
static inline bool lt_is_strands(lua_State *L)
{
    return (*(uintptr_t *)lua_getextraspace(L) & 1) != 0;
}

/* What a state is for. Zero it for the host's own. */
struct lt_script_options {
    lua_Alloc alloc; /* NULL: malloc's */
    void *alloc_arg;
    bool worker;   /* tasks run in it and nothing else: no schedulers */
    bool may_exit; /* it has the process to itself: os.exit in a task ends that */
};

/* Opens a state with the standard libraries (ours in the place of coroutine, os.exit and what else could escape the
 * host) and `ltsh.core` ready to be required. NULL when out of memory. The loop is the caller's. It belongs to the
 * thread that opens it. */
struct lt_script *lt_script_open(struct lt_loop *loop, const struct lt_script_options *options);

/* Makes `open` the way to require `name`. */
void lt_script_preload(lua_State *L, const char *name, lua_CFunction open);

/* Ends what still runs in it. Then the loop's callbacks may come to an end: lt_loop_finish. */
void lt_script_end(struct lt_script *script);

/* Closes the state. Nothing may call into it any more. */
void lt_script_close(struct lt_script *script);

#endif
