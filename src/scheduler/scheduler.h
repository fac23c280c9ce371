/* The scheduler: the fixed flow between a container, an actuator and a persister.
 *
 *     add      add.c       init -> container.add
 *     claim    claim.c     slots, rate, keys? -> container.claim -> a run for each task
 *     run      machine.c   the table: state x event -> next state and action
 *              drive.c     the driver, which does what the table says
 *              start.c recover.c stop.c settle.c export.c    the actions; what comes of them later is signalled
 *     end      ends.c      events, finished list, those who wait
 *     pump     pump.c      the one place that drains what was signalled
 *
 * Everything happens on the loop's thread. No function here calls back into its caller but through the replies, the
 * hooks and the observers; those may call any function of this header. */
#ifndef LTSH_SCHEDULER_SCHEDULER_H
#define LTSH_SCHEDULER_SCHEDULER_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/reply.h"
#include "scheduler/actuator.h"
#include "scheduler/container.h"
#include "scheduler/limiter.h"
#include "scheduler/persister.h"
#include "scheduler/receiver.h"

struct lt_scheduler;
struct lt_flow;

enum lt_event {
    LT_EVENT_ADDED,
    LT_EVENT_STARTED,
    LT_EVENT_PROGRESS,
    LT_EVENT_OUTPUT,
    LT_EVENT_RETRIED,
    LT_EVENT_FINISHED,
    LT_EVENTS
};

struct lt_event_data {
    const struct lt_bytes *reason; /* of `retried` */
    double delay;
    enum lt_stream stream; /* of `output` */
    struct lt_bytes *bytes;
    struct lt_flow *flow; /* of `output`: see lt_flow_hold */
};

/* Who wants to know of events. Owned by whom it informs, in place from lt_scheduler_observe to lt_scheduler_unobserve or the
 * end of the scheduler. */
struct lt_observer {
    unsigned events; /* which: bits 1 << enum lt_event; after a change call lt_scheduler_observe_again */
    /* A change, after it was made. */
    void (*fn)(struct lt_observer *observer, enum lt_event event, struct lt_task *task,
               const struct lt_event_data *data);
    TAILQ_ENTRY(lt_observer) link; /* private */
};

/* What the owner is told and asked. All may be NULL. */
struct lt_scheduler_hooks {
    void *arg;
    /* The scheduler got its first unfinished task or request (true), or has none any more (false). */
    void (*busy)(void *arg, bool busy);
    /* There is an end in the finished list, or there will be none. Only after lt_scheduler_await_finished. */
    void (*finished)(void *arg);
    /* The backoff as a function of the script; seconds. */
    double (*backoff)(void *arg, uint32_t attempt, const struct lt_bytes *reason, struct lt_task *task);
};

struct lt_scheduler_config {
    const char *name;
    struct lt_container *container;
    struct lt_actuator *actuator;
    struct lt_persister *persister; /* NULL: none */
    struct lt_receiver *receiver;   /* NULL: none */
    struct lt_limits limits;
    double timeout;        /* seconds; 0: none */
    double export_timeout; /* seconds; 0: none */
    int64_t max_retries;
    struct lt_backoff backoff;
    bool backoff_fn; /* ask the hook */
    uint32_t max_lost;
    double schedule_interval;
    double poll_interval; /* 0: off */
    bool attach;          /* the actuator pushes changes */
    uint64_t finished_size;
    uint64_t keep_tasks;
    uint64_t keep_bytes;
    double container_timeout;
    double callback_timeout;
    double max_stall; /* seconds that Lua may hold the loop where it cannot be preempted */
    double shutdown_grace;
    bool leave; /* when it is closed, work that the next host can take up goes on */
    bool
        go_on_without_lease; /* when a lease is lost, work that has begun goes on; else it is stopped, its end not stored */
    struct lt_scheduler_hooks hooks;
};

/* Opens one. Takes the container, actuator, persister and receiver into use until it is closed; their owner releases
 * them after that. NULL with an error if one of them could not be opened: then none of them is in use. What can be wrong
 * with a config is checked by who reads it from the script. */
struct lt_scheduler *lt_scheduler_open(struct lt_loop *loop, const struct lt_scheduler_config *config,
                                       struct lt_error *error);

/* Frees it. It must be closed (see lt_scheduler_closed). */
void lt_scheduler_free(struct lt_scheduler *scheduler);

/* Adds tasks, all or none. Codes as lt_add_op, and LT_CLOSED. */
struct lt_add_request {
    struct lt_reply reply;
    struct lt_task **tasks; /* the array is the caller's; init may replace its elements (references move) */
    uint32_t count;
    bool waits; /* for room, until the reply is cancelled */
    /* private */
    struct lt_scheduler *scheduler;
    uint32_t next;
    bool waited;    /* for room */
    uint64_t rooms; /* how often there was room when it was handed in */
    union {         /* one after the other */
        struct lt_init_op init;
        struct lt_add_op add;
    };
    TAILQ_ENTRY(lt_add_request) link;
};
void lt_scheduler_add(struct lt_scheduler *scheduler, struct lt_add_request *request);

/* Adds one task at once, if that can be: false if the answer is not known at once, and nothing was done. */
bool lt_scheduler_add_now(struct lt_scheduler *scheduler, struct lt_task *task, int *code, struct lt_error *error);

/* A task whose id has this hash will be added as soon as its item is read: the container's memory may be fetched meanwhile. */
void lt_scheduler_expect(const struct lt_scheduler *scheduler, uint32_t hash);

/* Requests that name one task. */
enum lt_request_kind {
    LT_REQUEST_GET,
    LT_REQUEST_STOP,
    LT_REQUEST_RETRY,
    LT_REQUEST_DELETE,
    LT_REQUEST_OUTPUT,
    LT_REQUEST_EXPLAIN
};

struct lt_task_request {
    struct lt_reply reply; /* LT_UNKNOWN; LT_STALE with a message that names the status; driver errors */
    const char *id;        /* borrowed */
    size_t id_len;
    struct lt_bytes *reason; /* of a stop; borrowed, NULL: "stopped" */
    struct lt_task *task;    /* the answer: with a reference for the caller, or NULL */
    struct lt_bytes *output; /* the answer of OUTPUT: encoded, with a reference; NULL: nil. Of EXPLAIN: the sentence */
    const char *why;         /* the answer of EXPLAIN: the code; static */
    /* private */
    enum lt_request_kind kind;
    struct lt_scheduler *scheduler;
    uint32_t tries; /* how often the task moved on meanwhile */
    bool was_alive; /* it had not ended when it was asked for first */
    bool asking;    /* ask_stop is under way */
    bool moved;     /* and the task is somewhere else by now */
    union {         /* one after the other */
        struct lt_get_op get;
        struct lt_change_op change;
        struct lt_load_op load;
        struct lt_ask_stop_op ask_stop;
    };
    TAILQ_ENTRY(lt_task_request) link; /* among those who wait for a run, for a claim, or to be looked at again */
};
void lt_scheduler_request(struct lt_scheduler *scheduler, enum lt_request_kind kind, struct lt_task_request *request);

/* Waits until a task has ended. LT_UNKNOWN if there is none. The reply can be cancelled. */
struct lt_wait_request {
    struct lt_reply reply;
    const char *id;
    size_t id_len;
    struct lt_task *task; /* the answer, with a reference */
    /* private */
    struct lt_scheduler *scheduler;
    struct lt_get_op get;
    uint32_t hash;
    bool asking; /* get is under way */
    bool inside; /* the caller is at work for the container */
    bool in_map;
    int code; /* of an answer that came while it was */
    const char *message;
    struct lt_wait_request *next; /* who waits for the same id */
};
void lt_scheduler_wait(struct lt_scheduler *scheduler, struct lt_wait_request *request);

/* Straight to the container, while it is open: LT_CLOSED after. */
struct lt_list_request {
    struct lt_reply reply;
    struct lt_list_op op;           /* its fields are the caller's, its reply is not */
    struct lt_scheduler *scheduler; /* private */
};
void lt_scheduler_list(struct lt_scheduler *scheduler, struct lt_list_request *request);

struct lt_count_request {
    struct lt_reply reply;
    struct lt_count_op op;
    struct lt_scheduler *scheduler;
};
void lt_scheduler_count(struct lt_scheduler *scheduler, struct lt_count_request *request);

struct lt_hosts_request {
    struct lt_reply reply;
    struct lt_hosts_op op; /* the answer is the caller's to free */
    struct lt_scheduler *scheduler;
};
void lt_scheduler_hosts(struct lt_scheduler *scheduler, struct lt_hosts_request *request);

/* The next of the finished list with a reference, or NULL when it is empty. */
struct lt_task *lt_scheduler_next_finished(struct lt_scheduler *scheduler);

/* The list itself, which outlives the scheduler then. It gets no more ends when that is closed. */
struct lt_finished {
    struct lt_task **tasks; /* a ring */
    uint64_t first, count, room;
};
struct lt_finished lt_scheduler_take_finished(struct lt_scheduler *scheduler);
struct lt_task *lt_finished_next(struct lt_finished *list); /* as lt_scheduler_next_finished */
void lt_finished_free(struct lt_finished *list);

/* Whether nothing is unfinished, so that the finished list gets no more. */
bool lt_scheduler_idle(const struct lt_scheduler *scheduler);

/* Asks for one call of the hook `finished`. */
void lt_scheduler_await_finished(struct lt_scheduler *scheduler);

/* Adds and removes an observer, or takes note that its `events` have changed. It may be removed while it is being told. */
void lt_scheduler_observe(struct lt_scheduler *scheduler, struct lt_observer *observer);
void lt_scheduler_observe_again(struct lt_scheduler *scheduler);
void lt_scheduler_unobserve(struct lt_scheduler *scheduler, struct lt_observer *observer);

/* Back-pressure of live output: an observer that needs time for what it was told holds the flow, and lets go of it once,
 * later. While it is held the actuator is asked to wait. Valid until then, also when the run is over meanwhile. */
void lt_flow_hold(struct lt_flow *flow);
void lt_flow_release(struct lt_flow *flow);

/* A change that came from outside, by id: attach's notify of actuators in Lua, and receivers. */
void lt_scheduler_push(struct lt_scheduler *scheduler, struct lt_push *push);

/* Progress of a task that runs here (encoded; a reference moves). False: `run` is not its run any more. */
bool lt_scheduler_progress(struct lt_scheduler *scheduler, struct lt_work *work, struct lt_bytes *progress);

void lt_scheduler_pause(struct lt_scheduler *scheduler, bool paused);

/* Whether nothing starts: here, or on the whole queue. */
bool lt_scheduler_paused(const struct lt_scheduler *scheduler);

/* The same for all hosts on the queue. LT_UNSUPPORTED for a container that has no others. */
struct lt_pause_request {
    struct lt_reply reply;
    struct lt_reply inner; /* private */
    struct lt_scheduler *scheduler;
};
void lt_scheduler_pause_all(struct lt_scheduler *scheduler, bool paused, struct lt_pause_request *request);

/* The configuration, to be changed in place and put into force with lt_scheduler_set. Of what may change while it runs:
 * limits, timeout, export_timeout, max_retries, backoff, max_lost, intervals, shutdown_grace, leave. `named`: the limits that are
 * meant for the whole queue as well, where that keeps them (enum lt_limit_named). */
struct lt_scheduler_config *lt_scheduler_config(struct lt_scheduler *scheduler);
void lt_scheduler_set(struct lt_scheduler *scheduler, unsigned named);

struct lt_stats {
    uint64_t success, failed, stopped, retried, finished_dropped, stale;
    uint32_t running, exporting;
    uint32_t abandoned;                          /* workers of the actuator that did not come back */
    double oldest_waiting;                       /* seconds */
    double wait_p50, wait_p99, run_p50, run_p99; /* seconds */
    double rate;                                 /* ends a second over the last ten seconds */
};
void lt_scheduler_stats(struct lt_scheduler *scheduler, struct lt_stats *stats);

/* Closes: takes nothing more, gives what runs `drain` seconds to end, then stops it; waiting tasks in memory end as
 * stopped, with this reason. May be called again, also with a shorter drain. `done` (may be NULL) is called when it is
 * closed. */
struct lt_close_request {
    struct lt_reply reply;
    STAILQ_ENTRY(lt_close_request) link; /* private */
    bool holds;
};
void lt_scheduler_close(struct lt_scheduler *scheduler, double drain, const char *reason,
                        struct lt_close_request *request);

/* Answers the request when it is closed; until then the loop is held. The reply can be cancelled. */
void lt_scheduler_await_closed(struct lt_scheduler *scheduler, struct lt_close_request *request);

bool lt_scheduler_closing(const struct lt_scheduler *scheduler);
bool lt_scheduler_closed(const struct lt_scheduler *scheduler);

#endif
