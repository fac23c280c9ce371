/* Strands: the flows of Lua that the host runs.
 *
 * A strand is a coroutine with an owner in C: the main script, a task, a job of ltsh.spawn, an event handler, a method
 * of a module. It ends once, and then its owner is called. Coroutines are pooled: a new one costs ten times a used one.
 *
 * How a C function waits (see ltsh.sleep for the smallest case):
 *
 *     struct lt_strand *strand = lt_wait_check(L, "ltsh.sleep");        raises where one cannot wait
 *     op = ...; op->wait.cancel = ...; start the operation
 *     return lt_wait(L, strand, &op->wait, k);                          does not return
 *     ... later, from the operation's callback:  lt_wake(strand);       posts a turn; nothing of Lua is touched
 *     k(L):  op = lt_wait_over(L);                                      raises if the strand was told to end
 *            push the results; lt_wait_done(L); free(op); return n;
 *
 * A `lt_wait` is one pending operation with its one cancel function, which timeouts, stops and shutdown share. It is
 * called unless lt_wait_done was: also when k raised, so an operation is always let go of.
 *
 * A waiting call inside coroutines that the script made passes through them: script/lib/corolib.c. */
#ifndef LTSH_SCRIPT_FLOW_STRAND_H
#define LTSH_SCRIPT_FLOW_STRAND_H

#include "loop/loop.h"
#include "script/flow/preempt.h"
#include "script/flow/script.h"
#include "script/values/marks.h"

struct lt_wait {
    /* Gives up the operation and lets go of it; must not run Lua. */
    void (*cancel)(struct lt_wait *wait);
};

enum lt_strand_kind {
    LT_STRAND_SCRIPT,
    LT_STRAND_JOB,
    LT_STRAND_HANDLER,
    LT_STRAND_TASK,
    LT_STRAND_METHOD,
};

/* Where a strand is. These are all moves that there are (may_move in strand.c, which the debug build asserts):
 *
 *     spare -> made -> runs <-> waits                in a waiting call; woken, and told to end: as soon as it may
 *                      runs  -> queued -> runs       cut: its next slice comes in a later turn
 *              made -> put off -> runs               begins in the next round
 *     made, waits, queued -> deferred -> queued      its turn came while another of its group computes
 *     all of these -> ends -> spare, or dead         its variables are closed and its owner is told; dead: still posted */
enum lt_strand_state {
    LT_STRAND_SPARE,
    LT_STRAND_MADE,
    LT_STRAND_PUT_OFF,
    LT_STRAND_RUNS,
    LT_STRAND_WAITS,
    LT_STRAND_QUEUED,
    LT_STRAND_DEFERRED,
    LT_STRAND_ENDS,
    LT_STRAND_DEAD,
};

/* Whether it was told to end. */
enum lt_told {
    LT_TOLD_NOT,
    LT_TOLD,        /* its next waiting call raises */
    LT_TOLD_RAISED, /* one did: the next one ends it for good */
};

/* How a strand ended. */
enum lt_outcome {
    LT_DONE,   /* `count` results are on top of its stack */
    LT_RAISED, /* the error value is on top of its stack; see traceback and position */
    LT_ENDED, /* the host ended it: nothing on its stack; bounds.cut tells whether it was where it cannot be preempted */
};

/* Strands that share state, as the methods of a module share `self`: while one of them is cut in the middle of
 * computing, the others do not run. Zero with lt_group_init. */
struct lt_group {
    struct lt_strand *computing;
    struct lt_strand_list deferred;
};

void lt_group_init(struct lt_group *group);

struct lt_strand {
    lua_State *L;
    struct lt_script *script;
    int ref; /* of L in the registry */
    enum lt_strand_kind kind;
    enum lt_strand_state state;
    enum lt_told told;
    void (*done)(struct lt_strand *strand, enum lt_outcome outcome, int count);
    /* Called before the stack of a strand that was killed is given up; NULL: nobody cares. */
    void (*closing)(struct lt_strand *strand);
    /* Called in its coroutine when its function has simply returned, in place of `done`: tells the owner of the `count`
     * results. True: above the message handler alone it has pushed what runs next, as before lt_strand_run and with as many
     * arguments. NULL: the strand ends with its function. */
    bool (*follow)(struct lt_strand *strand, int count);
    void *owner;
    const char *label;       /* what it is called in the log, valid while it runs; NULL: nothing */
    struct lt_group *group;  /* NULL: none */
    struct lt_bounds bounds; /* where it cannot be preempted */
    struct lt_timer ending;  /* it was told to end: when it is killed */
    int arguments;           /* for its next resume */
    int kept;                /* values that were pushed under its function: they stay while it runs */
    unsigned cuts;           /* in a row: how often it was cut since it began or waited */
    struct lt_wait *wait;    /* what it waits for; NULL: nothing */
    struct lt_turn wake;
    struct lt_timer timer; /* of ltsh.sleep */
    struct lt_wait sleep;
    lua_State **passing; /* the script's coroutines that the present suspension passed through, innermost first */
    unsigned passing_count, passing_size;
    bool failed;                /* its function raised, and the error is its result */
    bool guest;                 /* a task, a module, or a job of one: it cannot end the host */
    const char *why;            /* static text: the error that a waiting call raises */
    struct lt_bytes *traceback; /* of LT_RAISED; NULL when a table was raised */
    size_t position;            /* of LT_RAISED with a text: how much of it is the position that error() put in front */
    TAILQ_ENTRY(lt_strand) link;
    TAILQ_ENTRY(lt_strand) next; /* while it is queued or deferred */
};

/* Makes the lists of a new script. */
void lt_strands_open(struct lt_script *script);

/* A strand from the pool. Push the function and its arguments on strand->L (and under them what is to stay there while
 * it runs), then lt_strand_run. */
struct lt_strand *lt_strand_new(struct lt_script *script, enum lt_strand_kind kind, void *owner,
                                void (*done)(struct lt_strand *strand, enum lt_outcome outcome, int count));

/* Frees the memory of one that is over and in no list (script.c, at the end). */
void lt_strand_free(struct lt_strand *strand);

/* Whether so many arguments, and the function, can be pushed on strand->L. Few, as C pushes them, always can. */
bool lt_strand_has_room(struct lt_strand *strand, int arguments);

/* Ends one that cannot be run, or has come to nonsense: as if it had raised `why`. */
void lt_strand_fail(struct lt_strand *strand, const char *why);

/* Runs it until it waits or ends. `done` may be called before this returns; after `done` the strand is back in the
 * pool. */
LT_RUNS_LUA void lt_strand_run(struct lt_strand *strand, int arguments);

/* The same in a turn of its own, as a slice of those that compute. */
void lt_strand_run_later(struct lt_strand *strand, int arguments);

/* The same in the next round, with all others that were put off, in their order. */
void lt_strand_put_off(struct lt_strand *strand, int arguments);

/* Tells a strand to end: what it waits for is cancelled, and its waiting calls raise `why` (static text); if it makes
 * another one after that, or has not ended after LT_LAST_WORDS, it is killed. Its end is reported as usual. */
void lt_strand_tell(struct lt_strand *strand, const char *why);

/* Ends a strand that is not running, now: no more of its code runs but its to-be-closed variables. `done` is called
 * with LT_ENDED. */
LT_RUNS_LUA void lt_strand_kill(struct lt_strand *strand);

/* Takes it out of its group, which may be about to go. */
void lt_strand_ungroup(struct lt_strand *strand);

/* The strand that runs L, if the caller may wait here; else raises an error that names `function` and ltsh.spawn. Also
 * where a strand that was told to end is made to. */
LT_RAISES LT_RUNS_LUA struct lt_strand *lt_wait_check(lua_State *L, const char *function);

/* Whether the caller may wait here. */
bool lt_wait_possible(lua_State *L);

/* Whether lt_wait_check would return. */
bool lt_wait_ready(lua_State *L);

/* Suspends; k is called when it was woken. To be returned from a lua_CFunction. */
LT_RAISES LT_RUNS_LUA int lt_wait(lua_State *L, struct lt_strand *strand, struct lt_wait *wait, lua_KFunction k);

/* Wakes a suspended strand: it goes on in a turn of its own. */
void lt_wake(struct lt_strand *strand);

/* In k: what was waited for. Raises if the strand was told to end. */
LT_RAISES LT_RUNS_LUA struct lt_wait *lt_wait_over(lua_State *L);

/* In k: the operation has been let go of, do not cancel it. */
void lt_wait_done(lua_State *L);

/* Passes a suspension on to the next resume outwards; k continues the inner one, in the coroutine `inner` (NULL: none). */
LT_RAISES LT_RUNS_LUA int lt_pass_suspension(lua_State *L, lua_State *inner, lua_KFunction k);

/* The strand that runs now, or NULL. */
static inline struct lt_strand *lt_strand_now(const struct lt_script *script)
{
    return script->frame != NULL ? script->frame->strand : NULL;
}

#endif
