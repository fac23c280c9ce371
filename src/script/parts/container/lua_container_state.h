/* The inside of a container in Lua: shared by lua_container.c (its life, and how it all fits together), lua_order.c,
 * lua_untold.c, lua_change.c, lua_lookup.c, lua_add.c and lua_claim.c. */
#ifndef LTSH_SCRIPT_PARTS_CONTAINER_LUA_CONTAINER_STATE_H
#define LTSH_SCRIPT_PARTS_CONTAINER_LUA_CONTAINER_STATE_H

#include <stddef.h>

#include "script/parts/adapter.h"
#include "script/parts/container/records.h"
#include "script/values/marks.h"

/* What is asked of the table in its order: first in the struct of each such call. */
struct lua_op {
    struct lt_adapter_call call;
    struct lua_container *c;
    struct lt_task *task;     /* borrowed: a transition or an update of this one; NULL: it is called alone */
    struct lt_record *record; /* of that task */
    void (*begin)(struct lua_op *op);
    STAILQ_ENTRY(lua_op) link;
};
STAILQ_HEAD(lua_op_queue, lua_op);

/* What the table is still to be told. */
struct lua_untold {
    struct lt_task *shown; /* the task as it is to be there, with a reference */
    bool asked;            /* an answer was lost: a no means that it was done */
    bool unwanted;         /* it was not added: deleted in the end */
    STAILQ_ENTRY(lua_untold) link;
};

struct lua_container {
    struct lt_container base;
    struct lt_container_ops ops; /* base.ops: what there is depends on the table */
    struct lt_adapter adapter;
    struct lt_container_env env;
    struct lt_records records;
    uint64_t last_run; /* the largest run number that was given or seen */
    double last_added;

    /* lua_order.c */
    struct lua_op *alone;      /* under way; NULL: nobody who is called alone is */
    uint32_t side_by_side;     /* how many others are */
    struct lua_op_queue queue; /* in the order of coming */
    bool beginning;

    /* lua_untold.c */
    STAILQ_HEAD(, lua_untold) untold;
    double tell_at; /* monotonic: not before */
    double tell_pause;
    struct lt_tasks ended; /* with that; to be delivered with the next claim */

    /* lua_claim.c */
    struct claim_call *claiming; /* under way */
    uint64_t claims;             /* how often the table was asked */
    double next_at;              /* the table's: when something becomes due; 0: it did not say */
    double pause;                /* before a table is asked again that said nothing of what should be due; grows */
    bool unseen;                 /* the table may have tasks that were never seen here */
    bool announced;              /* from within the claim under way */

    struct lt_turn news; /* tells the scheduler that there is work: not from within one of its operations */
    struct lt_adapter_call *attaching;
    struct lt_reply *closing;
    bool all_told; /* what it was to be told before it is closed */
};

static inline struct lua_container *lua_container_of(struct lt_container *container)
{
    return (struct lua_container *)container;
}

static inline struct lua_container *lua_container_of_adapter(struct lt_adapter *adapter)
{
    return (struct lua_container *)((char *)adapter - offsetof(struct lua_container, adapter));
}

static inline double lua_container_wall(const struct lua_container *c)
{
    return lt_loop_wall(c->env.loop);
}

/* A failure of the call or of the table: nothing is known of what became of it. Other codes: the table said no. */
static inline bool lua_container_trouble(int code)
{
    return code == LT_ERROR || code == LT_TIMEOUT || code == LT_CANCELLED;
}

/* lua_container.c */

/* Tells the scheduler, soon, that there may be work. */
void lua_container_announce(struct lua_container *c);

/* lua_order.c */

/* A call of `size` bytes that begins with a lua_op. */
void *lua_op_new(struct lua_container *c, size_t size, struct lt_reply *reply, void (*begin)(struct lua_op *op));

/* Calls op->begin as soon as the order allows, maybe at once. */
void lua_op_enter(struct lua_op *op);

/* It is over: answers, frees it, and begins what waited for it. */
void lua_op_end(struct lua_op *op, int code, const char *message);

/* Whether the caller is a method of the table that others wait for. */
bool lua_container_inside(const struct lt_container *container);

/* lua_untold.c */

/* Calls the to_... method for the status that `shown` has. */
LT_RUNS_LUA void lua_container_tell(struct lt_adapter_call *call, struct lt_task *shown,
                                    void (*done)(struct lt_adapter_call *call, int code, lua_State *L, int count,
                                                 const char *message));

/* Adds to what the table is still to be told; takes over the reference. */
struct lua_untold *lua_untold_add(struct lua_container *c, struct lt_task *shown);
struct lua_untold *lua_untold_find(const struct lua_container *c, const struct lt_task *task);
void lua_untold_drop(struct lua_container *c, struct lua_untold *untold);

/* The table has claimed it: it is at this run now. */
void lua_untold_claimed(struct lua_container *c, struct lua_untold *untold, const struct lt_task *task);

/* The next step of an operation that is alone: tells the first of it, if it is time. True: that call is under way. */
LT_RUNS_LUA bool lua_untold_tell(struct lua_op *op);

/* lua_change.c */
void lua_container_change(struct lt_container *container, struct lt_change_op *op);
void lua_container_update(struct lt_container *container, struct lt_update_op *op);

/* lua_lookup.c */
LT_RUNS_LUA void lua_container_get(struct lt_container *container, struct lt_get_op *op);
LT_RUNS_LUA void lua_container_list(struct lt_container *container, struct lt_list_op *op);
LT_RUNS_LUA void lua_container_count(struct lt_container *container, struct lt_count_op *op);
double lua_container_oldest(const struct lt_container *container);
uint64_t lua_container_ahead(const struct lt_container *container, const struct lt_task *task);

/* lua_add.c */
void lua_container_add(struct lt_container *container, struct lt_add_op *op);

/* lua_claim.c */
LT_RUNS_LUA void lua_container_claim(struct lt_container *container, struct lt_claim_op *op);
void lua_container_recover(struct lt_container *container, struct lt_recover_op *op);

/* A copy of a task that was claimed, as it waits; and the record shows it so: here it still does. */
struct lt_task *lua_container_unstarted(const struct lt_task *claimed);
void lua_container_show_claimed(struct lua_container *c, struct lt_record *record);

#endif
