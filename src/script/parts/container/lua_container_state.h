/* The inside of a container in Lua: shared by lua_container.c (its life, and how it all fits together), lua_order.c,
 * lua_owed.c, lua_change.c, lua_lookup.c, lua_add.c and lua_claim.c. */
#ifndef LTSH_SCRIPT_PARTS_CONTAINER_LUA_CONTAINER_STATE_H
#define LTSH_SCRIPT_PARTS_CONTAINER_LUA_CONTAINER_STATE_H

#include <stddef.h>

#include "script/parts/adapter.h"
#include "script/parts/container/records.h"
#include "script/values/marks.h"

typedef void lua_op_done(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message);

/* What is asked of the table in its order: first in the struct of each such call. */
struct lua_op {
    struct lt_adapter_call call;
    struct lua_container *c;
    struct lt_task *task;     /* borrowed: a transition or an update of this one; NULL: it is called alone */
    struct lt_record *record; /* of that task, in use */
    uint64_t number;          /* of the call under way */
    void (*begin)(struct lua_op *op);
    STAILQ_ENTRY(lua_op) link;
};
STAILQ_HEAD(lua_op_queue, lua_op);

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
    uint64_t calls; /* how often the table was asked in this order */

    /* lua_owed.c */
    double tell_at; /* monotonic: not before */
    double tell_pause;
    struct lt_tasks ended; /* with that; to be delivered with the next claim */

    /* lua_claim.c */
    double next_at; /* the table's: when something becomes due; 0: it did not say */
    double pause;   /* before a table is asked again that said nothing of what should be due; grows */
    bool unseen;    /* the table may have tasks that were never seen here */
    bool announced; /* from within the claim under way */

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

/* lua_container.c: tells the scheduler, soon, that there may be work. */
void lua_container_announce(struct lua_container *c);

/* lua_order.c */

/* A call of `size` bytes that begins with a lua_op; `task` as there. */
void *lua_op_new(struct lua_container *c, size_t size, struct lt_task *task, struct lt_reply *reply,
                 void (*begin)(struct lua_op *op));

/* Calls op->begin as soon as the order allows, maybe at once. */
void lua_op_enter(struct lua_op *op);

/* Begins a call of `function`, which is the table's or one of lua/ltsh/container_calls.lua; messages name it `method`. */
lua_State *lua_op_call(struct lua_op *op, const char *function, const char *method, lua_op_done *done);

/* Calls the to_... method for the status that `shown` has. */
LT_RUNS_LUA void lua_op_tell(struct lua_op *op, struct lt_task *shown, lua_op_done *done);

/* It is over: answers, frees it, and begins what waited for it. */
void lua_op_end(struct lua_op *op, int code, const char *message);

/* A function for the call of an operation that is alone; and in it: that operation, NULL when the call is over. */
void lua_op_push_function(struct lua_op *op, lua_State *L, lua_CFunction function);
struct lua_op *lua_op_of_function(lua_State *L);

/* Whether the caller is a method of the table that others wait for. */
bool lua_container_inside(const struct lt_container *container);

/* lua_owed.c: the next step of an operation that is alone: tells the table what it is owed, if there is anything and it
 * is time. True: that call is under way. */
LT_RUNS_LUA bool lua_container_pay(struct lua_op *op);

/* lua_change.c */
void lua_container_change(struct lt_container *container, struct lt_change_op *op);
void lua_container_update(struct lt_container *container, struct lt_update_op *op);

/* lua_lookup.c */
LT_RUNS_LUA void lua_container_get(struct lt_container *container, struct lt_get_op *op);
LT_RUNS_LUA void lua_container_list(struct lt_container *container, struct lt_list_op *op);
LT_RUNS_LUA void lua_container_count(struct lt_container *container, struct lt_count_op *op);

/* Reads a task of a list of the table's: with one reference; NULL, and an error in the log: it is none. */
struct lt_task *lua_container_read_task(struct lt_adapter_call *call, lua_State *L, int index);

/* Reads the list that a method returned first. What is no task is left out. Returns its length, or -1 with an error. */
int64_t lua_container_read_tasks(struct lt_adapter_call *call, lua_State *L, int count, struct lt_tasks *tasks,
                                 struct lt_error *error);

/* lua_add.c */
void lua_container_add(struct lt_container *container, struct lt_add_op *op);
void lua_container_add_running(struct lt_container *container, struct lt_update_op *op);

/* lua_claim.c */
void lua_container_claim(struct lt_container *container, struct lt_claim_op *op);
void lua_container_recover(struct lt_container *container, struct lt_recover_op *op);

#endif
