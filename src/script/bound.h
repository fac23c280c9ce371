/* A scheduler as a script has it: shared by bind_scheduler.c and bind_requests.c. */
#ifndef LTSH_SCRIPT_BOUND_H
#define LTSH_SCRIPT_BOUND_H

#include "scheduler/scheduler.h"
#include "script/strand.h"

/* Who waits in `for task in scheduler:finished()`. */
struct lt_finished_wait {
    struct lt_wait wait;
    struct lt_bound *bound; /* NULL: woken */
    struct lt_strand *strand;
    TAILQ_ENTRY(lt_finished_wait) link;
};

/* Lives until the scheduler is closed and its object is collected. The object, a userdata, holds a pointer to it; its
 * user values are 1: the parts and functions of the configuration, 2: the event handlers. While the scheduler has work
 * the registry holds the object. */
struct lt_bound {
    struct lt_scheduler *scheduler; /* NULL: closed and freed */
    struct lt_script *script;
    char *name;
    int ref;        /* of the object, while busy */
    bool collected; /* the object is gone */
    bool busy;
    unsigned requests;    /* of this script, not answered yet: they point to the scheduler */
    void *spare_question; /* bind_requests.c: memory for the next request */
    double shutdown_grace;
    struct lt_turn closed; /* looks whether it can be freed */
    TAILQ_HEAD(, lt_finished_wait) iterators;
    TAILQ_ENTRY(lt_bound) link; /* in script->schedulers */
};

/* The scheduler of the object at index 1; raises if it is none. */
struct lt_bound *lt_bound_check(lua_State *L, const char *function);

/* Frees what may be freed now. */
void lt_bound_review(struct lt_bound *bound);

/* Sets the methods that may wait in the table on top of the stack. */
void lt_bind_requests(lua_State *L);

/* The metamethod __close. */
int lt_close_scope(lua_State *L);

#endif
