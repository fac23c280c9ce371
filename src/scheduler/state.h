/* The scheduler's state, shared by the files of this folder and by nobody else. */
#ifndef LTSH_SCHEDULER_STATE_H
#define LTSH_SCHEDULER_STATE_H

#include "base/histogram.h"
#include "base/log.h"
#include "scheduler/scheduler.h"

/* A run's way. Only the files of run.h change it. */
enum run_state {
    RUN_CLAIMED,    /* has its slot; not started yet */
    RUN_RECOVERING, /* taken over from a dead host; the actuator is asked */
    RUN_STARTING,   /* actuator.start is under way */
    RUN_RUNNING,
    RUN_STOPPING,    /* actuator.stop is under way, or will be repeated */
    RUN_MARKING,     /* running -> exporting is being stored */
    RUN_OUTPUT,      /* actuator.output is under way */
    RUN_SAVING,      /* persister.save is under way */
    RUN_EXPORT_REST, /* waits to try output and save again */
    RUN_SETTLING,    /* its last transition is being stored, or will be repeated */
    RUN_GONE,
};

/* What ends a run, if not the work itself. */
enum run_why { WHY_WORK, WHY_TIMEOUT, WHY_STOP, WHY_SHUTDOWN };

TAILQ_HEAD(lt_run_list, lt_run);
TAILQ_HEAD(lt_request_list, lt_task_request);

/* What few runs need. */
struct lt_run_extra {
    struct lt_run *run;
    struct lt_update_op update;
    bool update_again;
    struct lt_status_op look; /* the last look before a timeout */
    struct lt_work *look_work;
    struct lt_log_gate log;
};

struct lt_run {
    struct lt_work work; /* first: an actuator's lt_work is its run */
    struct lt_scheduler *scheduler;
    enum run_state state;
    enum run_why why;
    uint32_t refs;         /* the scheduler's, and those of polls under way */
    uint32_t tries;        /* of output and save */
    double started;        /* monotonic */
    double pause;          /* before a failed stop or transition is tried again; grows */
    struct lt_timer timer; /* the deadline; later the pause */
    struct lt_bytes *stop_reason;
    bool listed; /* in `runs` */
    bool reported;
    bool looking; /* the last look before a timeout */
    struct lt_report report;
    union { /* one at a time */
        struct lt_change_op change;
        struct lt_save_op save;
        struct lt_recover_work_op recover;
    };
    struct lt_run_extra *extra;     /* NULL: never needed */
    struct lt_request_list waiters; /* stops that wait for its end */
    TAILQ_ENTRY(lt_run) link;
};

enum { RATE_SECONDS = 10 };

struct lt_scheduler {
    struct lt_loop *loop;
    struct lt_scheduler_config config;
    char *name;
    struct lt_limiter limiter;

    /* pump.c */
    struct lt_turn pump;
    struct lt_claim_op claim;
    struct lt_timer wake; /* the next thing that comes by time alone */
    double next_at;       /* Unix seconds: the container's */
    double ask_at;        /* monotonic: a container that cannot announce is asked again; 0: not planned */
    bool work;            /* there may be something to claim */
    bool look;            /* a task with an expiry came: ask when it is due, though there may be no room */
    bool paused;
    bool recovered; /* starts nothing before */
    struct lt_recover_op recover;
    struct lt_timer recover_again;
    struct lt_timer poll_timer;
    struct lt_status_op poll;
    struct lt_work **poll_works;
    uint32_t poll_size;
    double poll_at;
    struct lt_log_gate claim_log;
    struct lt_log_gate poll_log;

    /* run.c */
    struct lt_map runs; /* by task id: those that did not end as soon as they started */
    struct lt_run *starting;
    struct lt_run_list to_start;
    struct lt_run_list active;   /* all other */
    struct lt_run_list reported; /* with an end to be handled in the next turn */
    struct lt_run_list spare;
    uint32_t exporting;

    /* requests.c */
    TAILQ_HEAD(, lt_add_request) for_room;
    bool admitting;                   /* the first of them is being stored */
    bool room_again;                  /* the first of them is to be tried again */
    struct lt_request_list for_claim; /* stops of tasks whose claim is not answered yet */
    uint32_t requests;                /* under way */
    struct lt_map waits;              /* by task id */

    /* ends.c */
    struct lt_task **finished; /* a ring */
    uint64_t finished_first, finished_count, finished_room;
    bool finished_awaited;
    unsigned events;
    struct lt_histogram wait_times;
    struct lt_histogram run_times;
    struct lt_stats stats;
    int64_t rate_second[RATE_SECONDS];
    uint32_t rate_count[RATE_SECONDS];

    /* scheduler.c */
    bool busy;
    bool closing;
    bool stopping; /* closing, and the time to drain is over */
    bool container_closing;
    bool closed;
    double close_at;
    struct lt_timer close_timer;
    struct lt_bytes *close_reason;
    struct lt_reply close_reply;
    STAILQ_HEAD(, lt_close_request) closers;
};

/* pump.c */
void lt_pump_open(struct lt_scheduler *s);
void lt_pump_post(struct lt_scheduler *s);
void lt_pump_poll(struct lt_scheduler *s); /* something runs: polls it, if polling is on */
void lt_pump_close(struct lt_scheduler *s);

/* run.c */
void lt_run_claimed(struct lt_scheduler *s, struct lt_task *task); /* takes over the reference; the slot is taken */
void lt_run_recovered(struct lt_scheduler *s,
                      struct lt_task *task); /* the same, for one that ran on a host that died */
bool lt_run_some(struct lt_scheduler *s,
                 double until); /* handles ends and starts runs until then; false: more is to be done */
struct lt_run *lt_run_find(struct lt_scheduler *s, const char *id, size_t id_len);
void lt_run_stop(struct lt_run *run, enum run_why why, struct lt_bytes *reason);
void lt_run_report(struct lt_run *run, struct lt_report *report);          /* takes over the report's bytes */
void lt_run_stop_claimed(struct lt_scheduler *s, struct lt_bytes *reason); /* those that have not started */
void lt_run_stop_all(struct lt_scheduler *s, struct lt_bytes *reason);
uint32_t lt_run_collect(struct lt_scheduler *s);   /* fills poll_works with all that run, each with a reference */
void lt_run_polled(struct lt_run *run, bool seen); /* takes the reference back; seen: its status was filled in */
void lt_run_free_spare(struct lt_scheduler *s);

/* ends.c */
void lt_end(struct lt_scheduler *s, struct lt_task *task); /* a task ended: tells everybody */
void lt_emit(struct lt_scheduler *s, enum lt_event event, struct lt_task *task, const struct lt_event_data *data);
void lt_ends_wake(struct lt_scheduler *s);
void lt_ends_close(struct lt_scheduler *s);

/* requests.c */
void lt_request_begin(struct lt_scheduler *s); /* something was asked that keeps the scheduler from being idle */
void lt_request_end(struct lt_scheduler *s);
void lt_requests_ended(struct lt_scheduler *s, struct lt_task *task); /* answers those who wait for it, and for room */
void lt_requests_claimed(struct lt_scheduler *s);
void lt_requests_run_gone(struct lt_scheduler *s, struct lt_request_list *waiters, struct lt_task *task);

/* add.c */
void lt_adds_room(struct lt_scheduler *s);  /* lets in the first of those who wait for room; its answer the next */
void lt_adds_close(struct lt_scheduler *s); /* closing: nobody waits for room any more */

/* wait.c */
void lt_waits_ended(struct lt_scheduler *s, struct lt_task *task);
void lt_waits_close(struct lt_scheduler *s); /* closed: nobody waits for an end any more */

/* scheduler.c */
void lt_scheduler_review(struct lt_scheduler *s); /* after something changed: busy or idle? may it be closed now? */

static inline struct lt_run *lt_run_of(struct lt_work *work)
{
    return (struct lt_run *)work;
}

#define lt_container_of(pointer_, type_, member_) ((type_ *)((char *)(pointer_)-offsetof(type_, member_)))

#endif
