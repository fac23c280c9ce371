/* The container interface: where tasks live and move between statuses.
 *
 * Who implements it: the built-in containers (src/containers/) and, for containers written in Lua, src/script/.
 * Who calls it: the scheduler alone, on the loop's thread.
 *
 * Each operation is a struct that the caller owns and that stays in place until its reply has come; it begins with the
 * reply. Several operations may be under way at once. Every transition is atomic, carries the run number that it is
 * meant for, and answers LT_STALE when the task is elsewhere by now. A container applies a transition to op->task
 * before it answers LT_OK. */
#ifndef LTSH_SCHEDULER_CONTAINER_H
#define LTSH_SCHEDULER_CONTAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/reply.h"
#include "scheduler/call_limits.h"
#include "scheduler/limiter.h"
#include "scheduler/task.h"

/* Stores new tasks, all or none: LT_EXISTS, LT_FULL, LT_REFUSED, LT_CLOSED. */
struct lt_add_op {
    struct lt_reply reply;
    struct lt_task **tasks; /* borrowed; the container takes references of its own */
    uint32_t count;
};

/* Takes up to `limit` due tasks from waiting to running, each with a new run number, in the container's order. */
struct lt_claim_op {
    struct lt_reply reply;
    uint32_t limit; /* 0: only looks after what expired and when to come again */
    /* To be asked, in order, for each task before it is claimed (a store that cannot ask gets the full keys with
     * lt_limiter_full_keys, and lt_limiter_admit is asked afterwards; what is not admitted goes back, uncounted). */
    struct lt_limiter *limiter;
    struct lt_tasks claimed; /* with a reference each, running, admitted */
    struct lt_tasks expired; /* with a reference each: they failed, their time was over */
    double next_at;          /* Unix seconds at which to ask again although nobody announced anything; 0: never */
    bool more;               /* there may be more that is due */
};

/* Any other transition; and the retry of an ended task. */
struct lt_change_op {
    struct lt_reply reply;
    struct lt_task *task; /* borrowed; after a retry, replaced by the new object (borrowed from the container) */
    struct lt_transition transition;
};

/* Stores extra->handle and extra->progress of a running task. */
struct lt_update_op {
    struct lt_reply reply;
    struct lt_task *task; /* borrowed */
    uint64_t run;
};

/* One task by its id. LT_UNKNOWN when there is none. */
struct lt_get_op {
    struct lt_reply reply;
    const char *id; /* borrowed */
    size_t id_len;
    struct lt_task *task; /* with a reference for the caller, or NULL */
};

struct lt_list_op {
    struct lt_reply reply;
    int status;           /* < 0: any */
    struct lt_bytes *key; /* NULL: any */
    uint64_t offset;
    uint64_t limit;
    bool descending; /* newest first; else in the order of adding */
    struct lt_tasks tasks;
};

struct lt_count_op {
    struct lt_reply reply;
    uint64_t counts[LT_STATUSES];
    uint64_t delayed; /* of those waiting */
};

/* Tasks that a host left running or exporting when it died. */
struct lt_recover_op {
    struct lt_reply reply;
    struct lt_tasks tasks;
};

/* What a container gets from its scheduler when it is opened. */
struct lt_container_env {
    struct lt_loop *loop;
    uint64_t keep_tasks; /* memory containers: ended tasks that `get` still knows, and their bytes */
    uint64_t keep_bytes;
    struct lt_call_limits call_limits; /* of one call, if it is written in Lua */
    void (*announce)(void *arg);       /* to be called when there may be work that a claim did not give; never from an
                                    operation of the scheduler's own */
    void *announce_arg;
};

struct lt_container;

struct lt_container_ops {
    const char *name;
    bool durable;    /* tasks outlive the host: what is unfinished at shutdown waits again */
    bool announces;  /* says when there is work; else it is asked every schedule_interval */
    bool priorities; /* takes tasks with a priority */

    /* First of all, once. */
    void (*open)(struct lt_container *container, const struct lt_container_env *env);
    void (*add)(struct lt_container *container, struct lt_add_op *op);
    void (*claim)(struct lt_container *container, struct lt_claim_op *op);
    void (*change)(struct lt_container *container, struct lt_change_op *op);
    void (*update)(struct lt_container *container, struct lt_update_op *op);
    void (*get)(struct lt_container *container, struct lt_get_op *op);
    void (*list)(struct lt_container *container, struct lt_list_op *op);
    void (*count)(struct lt_container *container, struct lt_count_op *op);
    void (*recover)(struct lt_container *container, struct lt_recover_op *op); /* NULL: nothing outlives a host */
    /* How many tasks have not ended, as far as is known without asking a store. */
    uint64_t (*pending)(const struct lt_container *container);
    /* The time (Unix seconds) since which the oldest due task waits; 0: none, or not known. */
    double (*oldest)(const struct lt_container *container);
    /* A key that was full has room again. NULL if the container keeps nothing back. */
    void (*key_open)(struct lt_container *container, const struct lt_bytes *key);
    /* Ends all that wait as stopped, appended to `stopped` with a reference each. NULL for durable ones. */
    void (*abandon)(struct lt_container *container, struct lt_bytes *reason, double now, struct lt_tasks *stopped);
    /* After the last operation has been answered: lets go of everything, and of the container itself when nobody else
     * refers to it (its owner, a script's object, calls release). */
    void (*close)(struct lt_container *container, struct lt_reply *reply);
    void (*release)(struct lt_container *container);
};

struct lt_container {
    const struct lt_container_ops *ops;
    bool in_use; /* by a scheduler: an object serves one */
};

#endif
