/* A scheduler as a script has it: shared by bind_scheduler.c, bind_requests.c and bind_events.c. */
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
    void *spare_question; /* bind_requests.c: memory for the next request */
    double shutdown_grace;
    struct lt_turn closed; /* looks whether it can be freed */
    TAILQ_HEAD(, lt_finished_wait) iterators;
    TAILQ_ENTRY(lt_bound) link; /* in script->schedulers */
};

/* The scheduler of the object at index 1; raises if it is none. */
struct lt_bound *lt_bound_check(lua_State *L, const char *function);

/* Pushes the object, or nil when it was collected. */
void lt_bound_push(struct lt_bound *bound, lua_State *L);

/* Frees what may be freed now. */
void lt_bound_review(struct lt_bound *bound);

/* Sets the methods that may wait in the table on top of the stack. */
void lt_bind_requests(lua_State *L);

/* The same with scheduler:on; and the hook that calls the handlers (`arg` is a struct lt_bound). */
void lt_bind_events(lua_State *L);
void lt_bound_on_event(void *arg, enum lt_event event, struct lt_task *task, const struct lt_event_data *data);

/* The metamethod __close. */
int lt_close_scope(lua_State *L);

#endif
