/* The receiver interface: where changes of tasks come from, when not from their actuator. */
#ifndef LTSH_SCHEDULER_RECEIVER_H
#define LTSH_SCHEDULER_RECEIVER_H

#include "scheduler/actuator.h"

struct lt_receiver;

struct lt_receiver_ops {
    const char *name;
    /* Starts to receive: every change goes to env->push, until close. Not LT_OK, with a message: the scheduler is not made,
     * and close is not called. */
    int (*open)(struct lt_receiver *receiver, const struct lt_actuator_env *env, struct lt_error *error);
    void (*close)(struct lt_receiver *receiver, struct lt_reply *reply);
    void (*release)(struct lt_receiver *receiver);
};

struct lt_receiver {
    const struct lt_receiver_ops *ops;
};

#endif
