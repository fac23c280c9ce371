/* The persister interface: where outputs are saved. */
#ifndef LTSH_SCHEDULER_PERSISTER_H
#define LTSH_SCHEDULER_PERSISTER_H

#include "loop/reply.h"
#include "scheduler/actuator.h"
#include "scheduler/task.h"

struct lt_save_op {
    struct lt_reply reply;
    struct lt_task *task; /* a reference of the operation's own */
    uint64_t run;
    struct lt_bytes *data;  /* encoded, a reference of the operation's own; NULL: nil */
    struct lt_report *said; /* of the caller's, empty: may be filled before LT_ERROR, with when to try again */
};

struct lt_load_op {
    struct lt_reply reply;
    struct lt_task *task;  /* borrowed */
    struct lt_bytes *data; /* with a reference for the caller; NULL: nil */
};

struct lt_container;
struct lt_persister;

struct lt_persister_ops {
    const char *name;
    /* First of all, once. Not LT_OK, with a message: the scheduler is not made, and close is not called. */
    int (*open)(struct lt_persister *persister, struct lt_loop *loop, struct lt_call_limits call_limits,
                struct lt_error *error);
    void (*save)(struct lt_persister *persister, struct lt_save_op *op); /* may be called twice for a run */
    void (*load)(struct lt_persister *persister, struct lt_load_op *op);
    /* Removes what may have been saved of the task: its deletion, and an export that was given up. `data` is not used. */
    void (*erase)(struct lt_persister *persister, struct lt_load_op *op);
    /* Whether it keeps its data in the store of this container. Then `save` is never called: the container stores the
     * output in the transaction of the success (transition.save), and there is no exporting write. NULL: no. */
    bool (*shares)(struct lt_persister *persister, struct lt_container *container);
    void (*close)(struct lt_persister *persister, struct lt_reply *reply);
    void (*release)(struct lt_persister *persister);
};

struct lt_persister {
    const struct lt_persister_ops *ops;
};

#endif
