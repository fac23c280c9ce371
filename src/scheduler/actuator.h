/* The actuator interface: what runs a task.
 *
 * Who implements it: functions in Lua and actuators written in Lua (src/script/), processes and containers
 * (src/actuators/). Who calls it: the scheduler alone, on the loop's thread.
 *
 * A `lt_work` is one run of one task as an actuator sees it. It lives from `start` until the run has ended: until
 * the actuator has reported an end, or `stop` has answered LT_OK, or `start` has answered with a failure. After that
 * the actuator must not touch it any more. */
#ifndef LTSH_SCHEDULER_ACTUATOR_H
#define LTSH_SCHEDULER_ACTUATOR_H

#include <stdbool.h>

#include "loop/reply.h"
#include "scheduler/call_limits.h"
#include "scheduler/task.h"

/* What is known of a run. Values are encoded; all bytes carry a reference that goes to who receives the report. */
struct lt_report {
    enum lt_status
        status; /* LT_RUNNING, LT_SUCCESS, LT_FAILED or LT_STOPPED (its work was stopped from outside: a failure) */
    struct lt_bytes *reason;
    struct lt_bytes *output;
    struct lt_bytes *progress;
    bool no_retry;      /* a failure: further attempts have no sense */
    double retry_after; /* a failure: this delay instead of the backoff's; < 0: not given */
    double
        ended_at; /* monotonic seconds at which the work ended, if known better than by the report's arrival; 0: not */
    double
        snooze; /* > 0: no failure: try again after so many seconds, no attempt used; 0: no; < 0: the growing default */
};

#define LT_REPORT(status_) ((struct lt_report){.status = (status_), .retry_after = -1})

/* Lets go of the bytes. */
void lt_report_clear(struct lt_report *report);

struct lt_work {
    struct lt_task *task; /* shared with the scheduler: read only, but for handle and progress in start and status */
    uint64_t run;
    double deadline;           /* monotonic seconds at which the scheduler stops it; 0: none */
    void *data;                /* the actuator's own */
    struct lt_reply start;     /* answer of start */
    struct lt_reply stop;      /* answer of stop */
    struct lt_reply output;    /* answer of output */
    struct lt_report failure;  /* filled by start, and may be by output, before LT_ERROR is answered */
    struct lt_bytes *handle;   /* filled by start: the actuator's own name of the work, encoded; NULL: none */
    struct lt_bytes *data_out; /* filled by output: encoded, with a reference for the scheduler */
    struct lt_report seen;     /* filled by status */
};

/* Called before anything is stored; may replace *task (the reference moves). LT_REFUSED with a message refuses it. */
struct lt_init_op {
    struct lt_reply reply;
    struct lt_task *task;
};

struct lt_status_op {
    struct lt_reply reply;
    struct lt_work **works; /* each one's `seen` is to be filled; one may end meanwhile: skipped by its generation */
    uint32_t count;
};

/* The task ran when its host died. */
struct lt_recover_work_op {
    struct lt_reply reply;
    struct lt_work *work;
    enum { LT_RECOVER_GONE, LT_RECOVER_RUNS, LT_RECOVER_ENDED } found;
    struct lt_report report; /* for ENDED */
};

/* How an actuator reports a change of a run that it started, if it was attached. */
struct lt_notify {
    void (*report)(void *arg, struct lt_work *work, struct lt_report *report); /* takes over the report's bytes */
    void *arg;
};

/* Pushes that name a task instead of a work: from Lua, from receivers. */
struct lt_push {
    const char *id;
    size_t id_len;
    uint64_t run; /* 0: not known, the present one is meant */
    struct lt_report report;
};

struct lt_actuator;

struct lt_actuator_env {
    struct lt_loop *loop;
    struct lt_call_limits call_limits;             /* of one call, if it is written in Lua */
    struct lt_notify notify;                       /* for those that have the work at hand */
    void (*push)(void *arg, struct lt_push *push); /* for others; takes over the report's bytes */
    void *push_arg;
    void (*capacity_changed)(void *arg); /* of the actuator: it can take more; with push_arg */
    bool attach; /* changes are to be pushed as they happen; else they are asked for with status */
};

struct lt_actuator_ops {
    const char *name;
    /* First of all, once. LT_REFUSED etc. with a message fails the construction of the scheduler. */
    void (*open)(struct lt_actuator *actuator, const struct lt_actuator_env *env);
    /* NULL: every task is taken as it is. */
    void (*init)(struct lt_actuator *actuator, struct lt_init_op *op);
    /* Starts the work. LT_OK: it runs (or its end was reported already); LT_ERROR: it did not start, see work->failure.
     */
    void (*start)(struct lt_actuator *actuator, struct lt_work *work);
    /* Ends the work, answers when it is dead. */
    void (*stop)(struct lt_actuator *actuator, struct lt_work *work);
    void (*status)(struct lt_actuator *actuator, struct lt_status_op *op);
    void (*output)(struct lt_actuator *actuator, struct lt_work *work); /* NULL: the output comes with the report */
    void (*recover)(struct lt_actuator *actuator, struct lt_recover_work_op *op); /* NULL: nothing outlives a host */
    /* How many of its workers did not come back. NULL: it has none. */
    uint32_t (*abandoned)(struct lt_actuator *actuator);
    /* The scheduler is done with a work that no report or stop ended (it was found gone). */
    void (*close)(struct lt_actuator *actuator);
    void (*release)(struct lt_actuator *actuator);
};

#define LT_ANY_NUMBER UINT32_MAX

struct lt_actuator {
    const struct lt_actuator_ops *ops;
    struct lt_actuator
        *front; /* another one, whose init is called in its place; NULL: none. Opened and closed with it */
    struct lt_bytes *version; /* of the module that a run which starts now will run; NULL: none is known. A reference */
    uint32_t capacity;        /* runs that it takes at once; LT_ANY_NUMBER: any number. It may change */
    bool can_attach;
    bool can_status;
    bool has_output;
    bool builtin; /* poll_interval's default is off */
};

#endif
