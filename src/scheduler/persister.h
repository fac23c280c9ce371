/* The persister interface: where outputs are saved. */
#ifndef LTSH_SCHEDULER_PERSISTER_H
#define LTSH_SCHEDULER_PERSISTER_H

#include "loop/reply.h"
#include "scheduler/actuator.h"
#include "scheduler/task.h"

struct lt_save_op {
    struct lt_reply reply;
    struct lt_task *task;      /* borrowed */
    struct lt_bytes *data;     /* borrowed, encoded; NULL: nil */
    struct lt_report *failure; /* of the caller's, empty: may be filled before LT_ERROR, with when to try again */
};

struct lt_load_op {
    struct lt_reply reply;
    struct lt_task *task;
    struct lt_bytes *data; /* with a reference for the caller; NULL: nil */
};

struct lt_persister;

struct lt_persister_ops {
    const char *name;
    void (*open)(struct lt_persister *persister, struct lt_loop *loop, struct lt_call_limits call_limits);
    void (*save)(struct lt_persister *persister, struct lt_save_op *op); /* may be called twice for a run */
    void (*load)(struct lt_persister *persister, struct lt_load_op *op);
    void (*erase)(struct lt_persister *persister, struct lt_load_op *op); /* data is not used */
    void (*close)(struct lt_persister *persister);
    void (*release)(struct lt_persister *persister);
};

struct lt_persister {
    const struct lt_persister_ops *ops;
};

#endif
