/* The inside of a container in Lua: shared by lua_container.c (its life and transitions), lua_lookup.c, lua_add.c and
 * lua_claim.c. */
#ifndef LTSH_SCRIPT_LUA_CONTAINER_H
#define LTSH_SCRIPT_LUA_CONTAINER_H

#include "script/adapter.h"
#include "script/records.h"

/* What was refused while a claim was under way, which may explain it: the claim may hold the task. Goes on when that is
 * over. */
struct lt_parked {
    void (*go_on)(struct lt_parked *parked);
    STAILQ_ENTRY(lt_parked) link;
};

struct lua_container {
    struct lt_container base;
    struct lt_container_ops ops; /* base.ops: what there is depends on the table */
    struct lt_adapter adapter;
    struct lt_container_env env;
    struct lt_records records;
    uint64_t last_run; /* the largest run number that was given or seen */
    double last_added;
    struct lt_map adding; /* struct newcomer: what is being added, by id */

    /* lua_claim.c */
    struct lt_claim_call *claiming; /* under way */
    struct lt_claim_call *held;     /* begins when nothing is being taken out again */
    uint32_t undoing;               /* adds that failed and are taken out again */
    STAILQ_HEAD(, lt_parked) parked;
    double next_at;          /* the table's: when something becomes due; 0: it did not say */
    double pause;            /* before a table is asked again that said nothing of what should be due; grows */
    bool unseen;             /* the table may have tasks that were never seen here */
    struct lt_tasks expired; /* to be delivered with the next claim */
    struct lt_log_gate too_many_log;

    /* What the table was to be told and could not be: told until it answers. */
    STAILQ_HEAD(, lt_debt) debts;
    struct lt_debt *paying;
    struct lt_timer pay_again;
    double pay_pause;
    bool in_pay;

    struct lt_tasks lent; /* objects that an answer refers to which may not be delivered yet */
    struct lt_tasks lent_before;
    struct lt_turn lent_turn;

    struct lt_adapter_call *attaching;
    struct lt_reply *closing;
    bool table_closing;
};

static inline struct lua_container *lua_container_of(struct lt_container *container)
{
    return (struct lua_container *)container;
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

/* Calls the to_... method for the status that `shown` has. */
void lua_container_tell(struct lt_adapter_call *call, struct lt_task *shown,
                        void (*done)(struct lt_adapter_call *call, int code, lua_State *L, int count,
                                     const char *message));

/* Goes on telling the table until it answers. `shown` is a reference that moves; `task`, also one, or NULL: what ends
 * with it, by expiring, and is delivered then. */
void lua_container_owe(struct lua_container *c, struct lt_task *shown, struct lt_task *task);

/* Whether it is owed something about this task. */
bool lua_container_owes(const struct lua_container *c, const struct lt_task *task);

/* Whether that is its deletion. */
bool lua_container_deletes(const struct lua_container *c, const struct lt_task *task);

/* A task was given back, with this run number: a deletion that is owed is one of that. */
void lua_container_owes_run(struct lua_container *c, const struct lt_task *task);

/* The table gave this task away (again): what it was owed is void. False if it is being told right now, of `run`, or if
 * it is to be deleted. */
bool lua_container_forgive(struct lua_container *c, const struct lt_task *task, uint64_t *run);

/* Something about the record was answered (record->busy is false again): the next in its queue. The record may be gone
 * then. */
void lua_container_settle(struct lua_container *c, struct lt_record *record);

/* The table has answered whether the task waits: a claim that got it early goes on. */
void lua_container_not_returning(struct lua_container *c, struct lt_record *record);

/* To be called while a claim is under way: `go_on` is when it is over. */
void lua_container_park(struct lua_container *c, struct lt_parked *parked, void (*go_on)(struct lt_parked *parked));

/* The claim is over: those that waited for it. */
void lua_container_unpark(struct lua_container *c);

/* Closes the table when nothing is under way any more. To be called at the end of every call that a closing scheduler
 * does not wait for; it may be the end of the container. */
void lua_container_go_on_closing(struct lua_container *c);

/* The reason of a task that expired, with a reference for the caller. */
struct lt_bytes *lua_container_expired_reason(void);

/* lua_lookup.c */
void lua_container_get(struct lt_container *container, struct lt_get_op *op);
void lua_container_list(struct lt_container *container, struct lt_list_op *op);
void lua_container_count(struct lt_container *container, struct lt_count_op *op);
uint64_t lua_container_pending(const struct lt_container *container);
double lua_container_oldest(const struct lt_container *container);

/* lua_add.c */
struct newcomer {
    const struct lt_task *task;
    struct lt_record *record;
    uint64_t run;    /* the table's number, if a claim gave it back: later transitions are checked with that */
    bool not_to_run; /* one of several, before the last is in, or to be taken out again: a claim gives it back */
};
void lua_container_add(struct lt_container *container, struct lt_add_op *op);
void lua_container_adding_open(struct lua_container *c);
struct newcomer *lua_container_find_newcomer(const struct lua_container *c, const struct lt_task *task);

/* lua_claim.c */
void lua_container_claim(struct lt_container *container, struct lt_claim_op *op);
void lua_container_begin_claim(struct lua_container *c); /* the one that was held, if there is one */
void lua_container_recover(struct lt_container *container, struct lt_recover_op *op);

#endif
