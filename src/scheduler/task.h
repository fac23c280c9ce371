/* A task: what was asked for, and where it stands.
 *
 *     unstarted -> waiting -> running -> exporting -> success
 *                     ^          |           |
 *                     +- retry --+           +-> failed      waiting | running | exporting -> stopped
 *                                +-> failed                  waiting, any ended -> deleted; any ended -> waiting
 * (retry)
 *
 * This file owns the legal transitions. Containers apply them to their records with lt_task_check and lt_task_apply;
 * the run number in each change is the fencing token: a change meant for an earlier run is refused.
 *
 * An object belongs to one stay in the container: it is added, claimed, and ends, or is left to its run while the
 * container goes on with a new one (lt_task_next). Who asked for a change applies it to the object when the container
 * has said yes. An object whose task has ended never changes again, so it can be kept and shown for as long as one
 * likes. */
#ifndef LTSH_SCHEDULER_TASK_H
#define LTSH_SCHEDULER_TASK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/bytes.h"
#include "base/error.h"
#include "scheduler/backoff.h"

enum lt_status {
    LT_UNSTARTED,
    LT_WAITING,
    LT_RUNNING,
    LT_EXPORTING,
    LT_SUCCESS,
    LT_FAILED,
    LT_STOPPED,
    LT_DELETED,
    LT_STATUSES,
};

/* "waiting", ...; and back: -1 if there is none of this name. */
const char *lt_status_name(enum lt_status status);
int lt_status_parse(const char *name, size_t len);

static inline bool lt_status_ended(enum lt_status status)
{
    return status == LT_SUCCESS || status == LT_FAILED || status == LT_STOPPED;
}

/* Whether a run has it. */
static inline bool lt_status_under_way(enum lt_status status)
{
    return status == LT_RUNNING || status == LT_EXPORTING;
}

enum { LT_ID_MAX = 255, LT_ITEM_MAX = 256 << 20 };

/* What a task says beside its item, for the few that say anything. */
struct lt_task_options {
    struct lt_bytes *key; /* for key limits and rates; NULL: none */
    double timeout;       /* seconds; < 0: the scheduler's */
    double expires_at;    /* Unix seconds by which its first run must have begun; 0: never */
    int64_t max_retries;  /* < 0: the scheduler's */
    bool has_backoff;
    bool once; /* only for add: refused if its id is known at all */
    struct lt_backoff backoff;
    struct lt_task *task; /* this task, and its place in the container's heap of expiry times */
    uint32_t expiry_place;
};

/* A run of a task that is over and was not its last. Never changed: the objects of a task share its history. */
struct lt_past_run {
    uint32_t refs;
    uint32_t count;            /* of runs: this one and those before it */
    struct lt_past_run *older; /* with a reference; NULL: none is known */
    uint64_t run;
    double started_at;
    double ended_at;
    struct lt_bytes *reason;
    struct lt_bytes *version;
    struct lt_bytes *host; /* NULL: this one */
};

/* What most tasks never have. Values are encoded (see values.h). */
struct lt_task_extra {
    struct lt_bytes *progress;
    struct lt_bytes *handle;  /* the actuator's own */
    struct lt_bytes *version; /* of the module that ran it, as text */
    struct lt_bytes *host;    /* that runs or ran it, as text; NULL: this one */
    struct lt_past_run *past; /* the latest, with a reference; NULL: none */
};

struct lt_task {
    uint32_t refs;
    uint32_t hash;  /* of the id */
    uint8_t status; /* enum lt_status */
    uint8_t id_len;
    uint8_t place;   /* for its container: where it keeps it */
    uint8_t snoozes; /* in a row, for the growing delay */
    uint32_t attempts;
    uint16_t lost;
    uint8_t
        stored; /* for its container: the status that it has there, which is ahead of `status` until an answer comes */
    bool delayed; /* run_at was given as a time from then on: it goes by the monotonic clock where a container can */
    uint32_t heap_place;
    uint32_t item_len;
    uint64_t seq; /* for its container: the order in which it became ready */
    uint64_t run; /* of the present or latest run; 0: it never ran */
    int64_t priority;
    double added_at; /* this and all below: Unix seconds; 0: not yet */
    double run_at;   /* not to be claimed before; 0: at once */
    double started_at;
    double ended_at;
    struct lt_task_options *options; /* NULL: it gave none */
    struct lt_task_extra *extra;     /* NULL: it has none */
    struct lt_bytes *output;         /* encoded */
    struct lt_bytes *reason;         /* of the latest end or failure */
    union {
        uint64_t turn;             /* for its container, of a claimed one: the turn of its key that it used (fair) */
        TAILQ_ENTRY(lt_task) link; /* for its container, else */
    };
    char data[]; /* id, NUL, item (encoded) */
};

TAILQ_HEAD(lt_task_list, lt_task);

/* A growing array of tasks, each with a reference. Zero it to make one. */
struct lt_tasks {
    struct lt_task **items;
    uint32_t count;
    uint32_t size;
};

static inline const char *lt_task_id(const struct lt_task *task)
{
    return task->data;
}

static inline const char *lt_task_item(const struct lt_task *task)
{
    return task->data + task->id_len + 1;
}

/* Whether `id` can be one: 1 to 255 bytes of UTF-8 without control characters. */
bool lt_task_id_valid(const char *id, size_t len);

/* A new task, status unstarted, with one reference. `id` must be valid; the bytes are copied. */
struct lt_task *lt_task_new(const char *id, size_t id_len, const char *item, size_t item_len);

/* The same, for who knows the hash of the id. */
struct lt_task *lt_task_new_hashed(uint32_t hash, const char *id, size_t id_len, const char *item, size_t item_len);

/* A new object for the same task as it was added: no attempts, reason, output, handle; its run number stays. */
struct lt_task *lt_task_restart(const struct lt_task *task);

static inline struct lt_task *lt_task_ref(struct lt_task *task)
{
    task->refs++;
    return task;
}

void lt_task_unref(struct lt_task *task);

/* Its options or extra fields, made if there are none yet. */
struct lt_task_options *lt_task_options(struct lt_task *task);
struct lt_task_extra *lt_task_extra(struct lt_task *task);

/* The key as bytes, or NULL. */
static inline struct lt_bytes *lt_task_key(const struct lt_task *task)
{
    return task->options != NULL ? task->options->key : NULL;
}

/* Since when it waits, in Unix seconds. */
static inline double lt_task_waiting_since(const struct lt_task *task)
{
    return task->run_at > task->added_at ? task->run_at : task->added_at;
}

/* The memory that it takes, references to what is shared (a reason) included. */
size_t lt_task_bytes(const struct lt_task *task);

/* Appends one, taking over the caller's reference; and empties the array, keeping its memory or not. */
void lt_tasks_push(struct lt_tasks *tasks, struct lt_task *task);
void lt_tasks_clear(struct lt_tasks *tasks);
void lt_tasks_free(struct lt_tasks *tasks);

/* A transition, other than into the first waiting and into running. */
struct lt_transition {
    enum lt_status to;
    uint64_t run;  /* the run that it is meant for: refused if the task is at another */
    double now;    /* Unix seconds */
    double run_at; /* to waiting: not before; 0: at once */
    double delay;  /* to waiting: > 0: run_at is so many seconds after now, by the monotonic clock where possible */
    uint32_t keep_runs; /* to waiting: how many earlier runs its history may have; 0: the default */
    bool uncounted;     /* to waiting: the run used no attempt (snoozed, or the host went away) */
    bool lost;          /* to waiting: it was lost with its host */
    bool not_begun;     /* to waiting: the run never began: as if it had not been claimed */
    bool save; /* to success: the persister shares the store: its output is to be saved in the same transaction */
    struct lt_bytes *reason; /* NULL: none. References of whose operation it is */
    struct lt_bytes *output; /* to an ended status: encoded */
};

/* Lets go of the bytes. */
void lt_transition_clear(struct lt_transition *transition);

/* Whether a task that is `status` at `run` allows this now: LT_OK, or LT_STALE with a message. */
int lt_transition_check(const struct lt_transition *transition, const struct lt_task *task, enum lt_status status,
                        struct lt_error *error);

/* The same, for who has no object. */
int lt_transition_check_row(const struct lt_transition *transition, const char *id, uint64_t run, enum lt_status status,
                            struct lt_error *error);

/* Applies a transition that was allowed. Not for an ended object, which never changes: see lt_task_next. */
void lt_task_apply(struct lt_task *task, const struct lt_transition *transition);

/* What the task is after a transition to waiting, or from an ended status to deleted: a new object with one reference,
 * its history with it. */
struct lt_task *lt_task_next(const struct lt_task *task, const struct lt_transition *transition);

/* A copy of the task as it is, with one reference; they share its history. */
struct lt_task *lt_task_clone(const struct lt_task *task);

/* Gives the task what only this host knows of it, and what it lacks, from an earlier object of the same task. */
void lt_task_inherit(struct lt_task *task, const struct lt_task *earlier);

/* unstarted -> waiting. */
void lt_task_apply_added(struct lt_task *task, double now);

/* waiting -> running: a new run with this number. */
void lt_task_apply_claimed(struct lt_task *task, uint64_t run, double now);

#endif
