/* A scheduler as a script has it: shared by the bind_ files of its methods. */
#ifndef LTSH_SCRIPT_BIND_BOUND_H
#define LTSH_SCRIPT_BIND_BOUND_H

#include "scheduler/scheduler.h"
#include "script/flow/strand.h"
#include "script/values/marks.h"

/* Who waits in `for task in scheduler:finished()`. */
struct lt_finished_wait {
    struct lt_wait wait;
    struct lt_bound *bound; /* NULL: woken */
    struct lt_strand *strand;
    TAILQ_ENTRY(lt_finished_wait) link;
};

/* The user values of the object: the parts and functions of the configuration, and the event handlers. */
enum { LT_BOUND_PARTS = 1, LT_BOUND_HANDLERS };

/* Lives until the scheduler is closed and its object is collected. The object, a userdata, holds a pointer to it. While
 * the scheduler has work the registry holds the object. */
struct lt_bound {
    struct lt_scheduler *scheduler; /* NULL: closed and freed */
    struct lt_script *script;
    char *name;
    int ref;        /* of the object, while busy */
    bool collected; /* the object is gone */
    bool busy;
    unsigned requests;    /* of this script, not answered yet: they point to the scheduler */
    void *spare_question; /* question.c: memory for the next one */
    double shutdown_grace;
    struct lt_log_gate functions_log; /* of the configuration's functions */
    struct lt_turn closed;            /* looks whether it can be freed */
    struct lt_observer observer;
    TAILQ_HEAD(, lt_finished_wait) iterators;
    struct lt_finished unread;  /* of the finished list, once the scheduler is freed */
    TAILQ_ENTRY(lt_bound) link; /* in script->schedulers */
};

/* Once, before all: the table of the objects. Then for each: the object on top of the stack is that of `bound`. */
void lt_bound_open(lua_State *L);
void lt_bound_register(struct lt_bound *bound, lua_State *L);

/* The scheduler of the object at index 1; raises if it is none. */
LT_RAISES struct lt_bound *lt_bound_check(lua_State *L, const char *function);

/* Pushes the object. False, and nil, when it was or is being collected: that is known here before its finalizer runs. */
bool lt_bound_push(struct lt_bound *bound, lua_State *L);

/* Pushes a list of the objects of all schedulers that are not closed and not being collected, in the order in which they were made. */
void lt_bound_push_all(lua_State *L);

/* Frees what may be freed now. */
void lt_bound_review(struct lt_bound *bound);

/* Set methods in the table on top of the stack. */
void lt_bind_add(lua_State *L);
void lt_bind_requests(lua_State *L);
void lt_bind_queue(lua_State *L);

/* The same with scheduler:on; and lets the handlers be called from now on. */
void lt_bind_events(lua_State *L);
void lt_bound_observe(struct lt_bound *bound);

/* The metamethod __close. */
int lt_close_scope(lua_State *L);

#endif
