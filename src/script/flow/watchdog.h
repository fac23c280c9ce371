/* The watchdog: one thread of the process that looks after the others, and names in the log what holds one of them up:
 * a function of C that computes or blocks, which nothing can interrupt.
 *
 *     thread:    enters and leaves Lua, and counts that (a store each)
 *     watchdog:  every half a second, while any thread is busy: the same count, odd, for a second?
 *                asks that thread, by a signal, where it is; logs it; asks again after twice the time
 *
 * While all threads are idle it sleeps until one of them enters Lua. */
#ifndef LTSH_SCRIPT_FLOW_WATCHDOG_H
#define LTSH_SCRIPT_FLOW_WATCHDOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>

struct lt_watched {
    _Atomic unsigned beat; /* odd: in Lua */
    pid_t thread;
    _Atomic int asked; /* for the answer below, by the thread's signal handler: SIGURG */
    LIST_ENTRY(lt_watched) link;
    /* The watchdog's own. */
    unsigned seen;
    double since;  /* monotonic: when this beat was seen first */
    double remind; /* seconds after which it is logged */
    /* The answer; no place: it is not in Lua. */
    char function[64];
    char place[128];
    char task[256];
    bool in_c;
};

extern _Atomic bool lt_watchdog_sleeps;

/* From the script's own thread. */
void lt_watchdog_add(struct lt_watched *watched);
void lt_watchdog_remove(struct lt_watched *watched);

void lt_watchdog_wake(void);

/* In the signal handler of the thread: the answer is there. */
void lt_watchdog_answered(struct lt_watched *watched);

/* Lua is entered from C, or left to it. */
static inline void lt_watchdog_beat(struct lt_watched *watched)
{
    unsigned beat = atomic_load_explicit(&watched->beat, memory_order_relaxed);
    atomic_store_explicit(&watched->beat, beat + 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); /* the other half is the watchdog's membarrier */
    if (atomic_load_explicit(&lt_watchdog_sleeps, memory_order_relaxed))
        lt_watchdog_wake();
}

#endif
