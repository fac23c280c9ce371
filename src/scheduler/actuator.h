/* The actuator interface: what runs a task.
 *
 * Who implements it: functions in Lua and actuators written in Lua (src/script/), processes and containers
 * (src/actuators/). Who calls it: the scheduler alone, on the loop's thread.
 *
 * A `lt_work` is one run of one task as an actuator sees it. It lives from `start` (or `recover`) until the run has ended:
 * until the actuator has reported an end, or `stop` has answered LT_OK, or `start` has answered with a failure; with
 * ops->stored, until that was called, or close. After that the actuator must not touch it any more. */
#ifndef LTSH_SCHEDULER_ACTUATOR_H
#define LTSH_SCHEDULER_ACTUATOR_H

#include <stdbool.h>

#include "loop/reply.h"
#include "scheduler/call_limits.h"
#include "scheduler/task.h"

/* What is known of a run. Values are encoded; all bytes carry a reference that goes to who receives the report. */
struct lt_report {
    uint8_t status; /* LT_RUNNING, LT_SUCCESS, LT_FAILED or LT_STOPPED (its work was stopped from outside: a failure) */
    bool no_retry;  /* a failure: further attempts have no sense */
    bool not_begun; /* the work did not begin, and will not: as if the task had not been claimed */
    struct lt_bytes *reason;
    struct lt_bytes *output; /* of a failure too: it is kept */
    struct lt_bytes *progress;
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
    struct lt_task *task; /* shared with the scheduler: read only */
    uint64_t run;
    double deadline;         /* monotonic seconds at which the scheduler stops it; 0: none */
    void *data;              /* the actuator's own */
    struct lt_reply reply;   /* of start, stop and output: one at a time */
    struct lt_bytes *handle; /* filled by start: the actuator's own name of the work, encoded; NULL: none */
    /* Filled before the reply is sent. By start: why it failed (LT_ERROR). By stop: what is left of the work, its output
     * and progress (LT_OK), or why it cannot be stopped. By output: the output (LT_OK), or when to ask again (LT_ERROR). */
    struct lt_report said;
};

/* Called before anything is stored; may replace *task (the reference moves). LT_REFUSED with a message refuses it. */
struct lt_init_op {
    struct lt_reply reply;
    struct lt_task *task;
};

struct lt_seen {
    struct lt_work *work;
    struct lt_report report; /* to be filled; LT_RUNNING at first */
};

struct lt_status_op {
    struct lt_reply reply;
    struct lt_seen *seen; /* the works stay in place until the reply; some may have ended meanwhile */
    uint32_t count;
};

/* Tasks that ran when their host died, all in one call. */
enum lt_fate { LT_FATE_GONE, LT_FATE_RUNS, LT_FATE_ENDED };

struct lt_recovered {
    struct lt_work *work;
    enum lt_fate fate;       /* GONE at first */
    struct lt_report report; /* for ENDED; its progress for RUNNING too */
};

struct lt_recover_work_op {
    struct lt_reply reply; /* not LT_OK: nothing is known; it is asked again */
    struct lt_recovered *works;
    uint32_t count;
};

enum lt_stream { LT_STDOUT, LT_STDERR };

/* How an actuator reports changes of a run that it started. */
struct lt_notify {
    /* A change or the end, if it was attached; takes over the report's bytes. May come before start has answered. */
    void (*report)(void *arg, struct lt_work *work, struct lt_report *report);
    /* Bytes that the work put out (a reference moves). False: enough for now; ops->more is called when there may be more.
     * What comes nevertheless is delivered. */
    bool (*output)(void *arg, struct lt_work *work, enum lt_stream stream, struct lt_bytes *bytes);
    void *arg;
};

/* Pushes that name a task instead of a work: from Lua, from receivers. */
struct lt_push {
    const char *id;
    size_t id_len;
    uint64_t run; /* 0: not known, the present one is meant */
    struct lt_report report;
};

/* Whether a run is under way, by what the container knows: here, or on another host that may be about to ask for its work.
 * An actuator asks that before it removes what a dead host has left. Asked and answered on the loop's thread, and always
 * before the actuator is closed; id and op stay in place until then. */
struct lt_run_query_op {
    struct lt_reply reply; /* not LT_OK: it is not known */
    const char *id;
    size_t id_len;
    uint64_t run;
    bool under_way;
};

struct lt_actuator;

struct lt_actuator_env {
    struct lt_loop *loop;
    const char *name;                              /* the scheduler's; borrowed while the actuator is open */
    bool durable;                                  /* its tasks outlive the host: `recover` asks about them */
    struct lt_call_limits call_limits;             /* of one call, if it is written in Lua */
    struct lt_notify notify;                       /* for those that have the work at hand */
    void (*push)(void *arg, struct lt_push *push); /* for others; takes over the report's bytes */
    void *push_arg;
    void (*query_run)(void *arg, struct lt_run_query_op *op); /* with push_arg */
    void (*capacity_changed)(void *arg);                      /* of the actuator: it can take more; with push_arg */
    bool attach; /* changes are to be pushed as they happen; else they are asked for with status */
};

struct lt_actuator_ops {
    const char *name;
    /* First of all, once. Not LT_OK, with a message: the scheduler is not made, and close is not called. */
    int (*open)(struct lt_actuator *actuator, const struct lt_actuator_env *env, struct lt_error *error);
    /* NULL: every task is taken as it is. */
    void (*init)(struct lt_actuator *actuator, struct lt_init_op *op);
    /* Starts the work. LT_OK: it runs (or its end was reported already); LT_ERROR: it did not start, see work->said. */
    void (*start)(struct lt_actuator *actuator, struct lt_work *work);
    /* Begins what was started (lt_work_begins), one after the other, until the loop's clock is at `until`. False: there is
     * more. NULL: what was started has begun. */
    bool (*begin)(struct lt_actuator *actuator, double until);
    /* Ends the work, answers when it is dead. Not LT_OK: it is called again, after a pause. */
    void (*stop)(struct lt_actuator *actuator, struct lt_work *work);
    void (*status)(struct lt_actuator *actuator, struct lt_status_op *op);
    void (*output)(struct lt_actuator *actuator, struct lt_work *work); /* NULL: the output comes with the report */
    /* The listener of `output` has room again. NULL: it never puts out anything. */
    void (*more)(struct lt_actuator *actuator, struct lt_work *work);
    /* The end of the run is stored, or it is another's: what is left of the work can be removed. Not called for what could
     * not be stored before the close: the next host will ask. NULL: nothing is left. */
    void (*stored)(struct lt_actuator *actuator, struct lt_work *work);
    void (*recover)(struct lt_actuator *actuator, struct lt_recover_work_op *op); /* NULL: nothing outlives a host */
    /* How many of its workers did not come back. NULL: it has none. */
    uint32_t (*abandoned)(struct lt_actuator *actuator);
    /* After the last run: may take its time. */
    void (*close)(struct lt_actuator *actuator, struct lt_reply *reply);
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

/* Started work begins, and the time that it may take with it: work->deadline is set. False: it is about to be stopped, and
 * is not to begin. */
bool lt_work_begins(struct lt_work *work);

/* Answers a stop: the work is dead, and what it said last is left of it. Takes over the report's bytes. */
void lt_work_stopped(struct lt_work *work, struct lt_report *report);

#endif
