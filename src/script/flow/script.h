/* The script side: one Lua state on one loop, and the rules by which C enters it.
 *
 * - Lua runs in strands (strand.h): pooled coroutines that the host resumes. All waiting is done by strands.
 * - Everything that knows lua.h is in this folder. */
#ifndef LTSH_SCRIPT_FLOW_SCRIPT_H
#define LTSH_SCRIPT_FLOW_SCRIPT_H

#include <lauxlib.h>
#include <lua.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/log.h"
#include "loop/loop.h"
#include "script/flow/watchdog.h"

struct lt_strand;
struct lt_bounds;
struct lt_preempt;

/* A hook that a script has set, by debug.sethook. */
struct lt_script_hook {
    lua_Hook fn; /* NULL: none */
    int mask;
    int count;
};

/* A field of tasks by its name (task_fields.c): where in Lua's memory that string is. */
struct lt_field_slot {
    const void *name; /* NULL: there is none */
    int field;
};
enum { LT_FIELD_SLOTS = 128 };

/* Where Lua runs now: one for each resume that is under way, innermost first. On the C stack. */
struct lt_frame {
    lua_State *L;
    struct lt_strand *strand; /* NULL: called by C, or in a callback of libuv */
    struct lt_bounds *bounds; /* where it cannot be preempted; NULL: not bounded */
    struct lt_frame *parent;
    const char *label;               /* what the strand is called in the log (a task's id); NULL: nothing */
    double slice;                    /* seconds that the strand may compute before it is cut; 0: the usual slice */
    struct lt_script_hook displaced; /* of L, while the host's hook is armed */
    bool begins;                     /* L may be at the first instruction of a function, as far as the hook knows */
    bool can_yield;                  /* every resume between here and the strand's base can */
    bool preempted;                  /* it was cut, and did not yield by itself */
    bool waits;                      /* it yielded because a call of ours waits, and not by itself */
    bool in_core; /* the core works for it, where nothing catches an error: no memory may be refused */
};

TAILQ_HEAD(lt_strand_list, lt_strand);
TAILQ_HEAD(lt_bound_list, lt_bound); /* the schedulers: bind_scheduler.c */

/* What must be told before the loop comes to its end, such as a database that is open: then it leaves the list. */
struct lt_opened {
    void (*end)(struct lt_opened *opened); /* runs no Lua */
    void (*stop)(
        struct lt_opened *opened); /* the process is told to end: it begins nothing new. NULL: it need not be told */
    LIST_ENTRY(lt_opened) link;
};

struct lt_script {
    lua_State *L; /* the main state: only for callbacks and set-up */
    struct lt_loop *loop;
    struct lt_frame *volatile frame; /* innermost; preempt.h: a signal handler looks at it */
    volatile unsigned ticks;         /* of the CPU timer, in this slice */
    int64_t arm_after_ns;            /* the handler's own */
    volatile sig_atomic_t hurry;     /* the process is to end: the script itself is cut as soon as tasks are */
    bool hooked;                     /* the script has ever set a hook */
    volatile bool hook_changes;      /* the script sets a hook just now: the handler keeps out of that, for a tick */
    double stall_since;              /* monotonic: since when the slice is known not to be preemptible; 0: it may be */
    double max_stall;                /* seconds: what bounds Lua that belongs to no scheduler */
    void (*look_at_memory)(struct lt_script *script); /* to be called by the hook after a collection; NULL: no need */
    bool memory_low;                                  /* what was kept was given up: to be looked at by the hook */
    struct lt_watched watched;
    struct lt_preempt *preempt; /* NULL: there is none */
    struct lt_strand_list live;
    struct lt_strand_list spare;
    struct lt_strand_list dead; /* over, but still posted on the loop */
    struct lt_strand_list
        queued; /* those that were cut, in the order of their next slices, one in a round of the loop */
    struct lt_turn slice;
    unsigned passed;          /* rounds in which those that began or woke took the slice */
    uint64_t cut_round;       /* of the loop: the last in which a task that began or woke used up a slice */
    uint64_t woken_cut_round; /* the last in which a task that woke did */
    unsigned put_off;         /* event handlers that begin in the next round */
    unsigned spare_count;
    struct lt_log_gate finalizer_log;
    double finalizers_rest;   /* monotonic: until when they have less time, as one had to be ended; 0: none was */
    struct lt_buffer scratch; /* for encoding; whoever uses it is through with it before Lua runs again */
    struct lt_bound_list schedulers;
    LIST_HEAD(, lt_opened) opened; /* ended when the strands are */
    struct lt_field_slot field_slots[LT_FIELD_SLOTS];
    int small_task_meta; /* the metatables of task objects, as references: an index into an array */
    int holding_task_meta;
    const void *scheduler_meta; /* the metatable of scheduler objects, to know them by */
    lua_CFunction error;        /* the standard functions: an error that they raise was meant */
    lua_CFunction assert;
    unsigned scheduler_count;                         /* ever made: for their default names */
    void (*exit)(struct lt_script *script, int code); /* os.exit: close everything, then end the process */
    void (*closed)(struct lt_script *script);         /* no scheduler is left; again when no handler of theirs runs */
    unsigned asking; /* a function of a configuration runs, which must not call a scheduler */
    bool worker;     /* see lt_script_options (open.h) */
    bool may_exit;
    bool closing;      /* the state is being closed: nothing new can be begun */
    unsigned handlers; /* event handlers that run, and requests to servers that are answered */
    bool telling;      /* one of them is being called */
    void *host;
};

/* Marks of a coroutine that the script may hold, but not resume or close. */
enum {
    LT_MARK_STRAND = 1,  /* it is a strand's own */
    LT_MARK_PASSING = 2, /* the host waits in it, or has cut it: a suspension passed through it */
    LT_MARKS = LT_MARK_STRAND | LT_MARK_PASSING,
};

static inline bool lt_is_marked(lua_State *L, uintptr_t mark)
{
    return (*(uintptr_t *)lua_getextraspace(L) & mark) != 0;
}

static inline void lt_mark(lua_State *L, uintptr_t mark)
{
    *(uintptr_t *)lua_getextraspace(L) |= mark;
}

static inline void lt_unmark(lua_State *L, uintptr_t mark)
{
    *(uintptr_t *)lua_getextraspace(L) &= ~mark;
}

/* The script that a Lua state belongs to. Every state and coroutine of it. */
static inline struct lt_script *lt_script_of(lua_State *L)
{
    uintptr_t word = *(uintptr_t *)lua_getextraspace(L);
    return (struct lt_script *)(word & ~(uintptr_t)LT_MARKS);
}

#endif
