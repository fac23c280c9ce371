/* The container interface: where tasks live and move between statuses.
 *
 * Who implements it: the built-in containers (src/containers/) and, for containers written in Lua, src/script/.
 * Who calls it: the scheduler alone, on the loop's thread.
 *
 * Operations. Each is a struct that the caller owns and that stays in place until its reply has come; it begins with the
 * reply, and carries all that is needed to do it: the task's id (lt_op_id: immutable, also for another thread), its
 * run and token, and bytes with references of the operation's own. So a container may take its time, on a thread or
 * behind a network, and answer in any order. Several operations may be under way at once; of one run there is at most
 * one change, and at most one update.
 *
 * Who changes what. A container keeps its own account of where each task is, and that alone decides: it never looks at
 * task->status, which may lag behind while an answer is under way. It does not touch the object that a change names:
 * the caller applies the transition to that once the container has said yes. A task that is made waiting goes on in
 * the container as an object of its own (lt_task_next); the run keeps the old one.
 *
 * Fencing. A claim gives each task a run number, never used before, and a token (the lease's; 0: this container has
 * none). Every later operation carries both, and is refused with LT_STALE when the task is at another run, or the run
 * has another token: a takeover may go on with the same run, under a new token.
 *
 * Answers. LT_OK; LT_STALE and LT_UNKNOWN: the store knows better, nothing was changed; LT_ERROR and LT_TIMEOUT: nobody
 * knows whether it was done. After those the same operation comes again, with `again` set: if it was done, it is
 * answered with LT_OK. */
#ifndef LTSH_SCHEDULER_CONTAINER_H
#define LTSH_SCHEDULER_CONTAINER_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/reply.h"
#include "scheduler/call_limits.h"
#include "scheduler/limiter.h"
#include "scheduler/task.h"

/* Stores new tasks, all or none: LT_EXISTS, LT_FULL, LT_REFUSED, LT_CLOSED. The container applies lt_task_apply_added to
 * each, and takes references of its own. */
struct lt_add_op {
    struct lt_reply reply;
    struct lt_task **tasks; /* borrowed */
    uint32_t count;
};

/* What a claim took. */
struct lt_claimed {
    struct lt_task *task; /* with a reference for the scheduler: running, at its new run */
    uint64_t token;
    bool taken_over; /* it ran on a host that died: the actuator is asked whether it still does */
    bool expired;    /* it never began, and its time to begin is over: it is not started, and fails as any run does. For
                        a store that cannot end it with the claim (see `expired` there) */
};

/* A growing array of them, each with a reference. Zero it to make one. */
struct lt_claims {
    struct lt_claimed *items;
    uint32_t count;
    uint32_t size;
};

/* Appends one, taking over the reference; and lets go of all, and of the memory. */
void lt_claims_push(struct lt_claims *claims, struct lt_claimed claimed);
void lt_claims_free(struct lt_claims *claims);

struct lt_change_op;

/* One that a claim by choice is to take. */
enum lt_choice_state {
    LT_CHOICE_WAITS, /* there was no room for it */
    LT_CHOICE_TAKEN,
    LT_CHOICE_GONE, /* it does not wait there any more, or not yet, or at another run */
};
struct lt_choice {
    struct lt_task
        *task; /* borrowed: an object of this container's, as it waited; who chooses applies the claim to it */
    enum lt_choice_state state;
    uint64_t run; /* of one that was taken, as all below */
    uint64_t token;
    double started_at; /* Unix seconds */
    bool expired;      /* as of one that was claimed */
    uint64_t turn;     /* fair: the turn that its key has from then on; 0: not known */
};

/* Takes up to `limit` due tasks from waiting to running, each with a new run number, in the container's order. */
struct lt_claim_op {
    struct lt_reply reply;
    uint64_t
        number;     /* a claim whose reply was lost (LT_ERROR, LT_TIMEOUT) is asked again with the same number: it gives
                        what it gave, and not more */
    uint32_t limit; /* 0: takes nothing, only says what waits */
    /* A container with ops->ordered: changes that were handed in just before. Each of them that is stored frees one
     * place more beyond `limit`; one that turns out stale frees none. Borrowed; NULL when there are none. */
    struct lt_change_op *const *ends;
    uint32_t end_count;
    /* What may start, beside `limit`: as data (lt_limiter_full_keys: a store that cannot ask leaves those keys out) and
     * as a function (lt_limiter_admit, to be asked in order for each task before it is claimed: that one is admitted).
     * A container that did not ask calls lt_limiter_admit when it has the tasks, and gives back what may not start.
     * One that was taken over is adopted by the scheduler, when the answer has come: nothing is asked for it, so a claim
     * that gives such tasks gives no others, lest a limit be passed. Of an ordered container all are admitted then. */
    struct lt_limiter *limiter;
    /* A container with ops->chooses: not the next ones, but these, in this order. NULL: there are none, `look` aside. What
     * has to come before, because it was left by a host that died, is claimed instead. */
    bool by_choice;
    struct lt_choice *choices; /* borrowed */
    uint32_t choice_count;
    uint32_t
        look; /* by choice: the first so many that are due after that, and might start, are to be shown in `seen` */
    struct lt_tasks seen;     /* fair: in the order of turns, the first of each key with its turn (lt_task.turn) */
    uint64_t due;             /* and how many are due in all; UINT64_MAX: it is not known */
    struct lt_claims claimed; /* admitted */
    struct lt_tasks
        expired;      /* with a reference each: they have failed, their time was over. A bounded number: see more */
    double next_at;   /* monotonic: when to ask again although nobody announced anything; 0: never */
    double next_date; /* the same by the wall clock, in Unix seconds, which may be set meanwhile; 0: none */
    /* Of a container with ops->keeps_limits, for people: why it gave no more. */
    double token_at;     /* monotonic: when the queue's rate lets the next start; 0: it does */
    uint32_t queue_full; /* as many run, on all hosts together, as this limit allows; 0: there is room */
    bool more;           /* there may be more that can be claimed, or has expired, now */
    bool waits;          /* at the end of this claim something was waiting: due, delayed, or held back */
};

/* Any other transition; and the retry and the deletion of a task. */
struct lt_change_op {
    struct lt_reply reply;
    struct lt_task *task; /* of which run and status are meant; a reference of the operation's own */
    uint64_t token;       /* of the run; 0: it has none */
    bool again;           /* it may have been done already: its last answer was LT_ERROR or LT_TIMEOUT */
    struct lt_transition transition;
    struct lt_task *
        *next; /* to waiting: gets the object that goes on, with a reference, if one is here; NULL: nobody asks */
};

/* Stores handle and progress of a running task. */
struct lt_update_op {
    struct lt_reply reply;
    struct lt_task *task; /* a reference of the operation's own */
    uint64_t run;
    uint64_t token;
    struct lt_bytes *handle; /* references of the operation's own; NULL: none */
    struct lt_bytes *progress;
};

/* One task by its id. LT_UNKNOWN when there is none. */
struct lt_get_op {
    struct lt_reply reply;
    const char *id; /* borrowed */
    size_t id_len;
    bool waits;           /* who asks waits for its end: if that comes elsewhere, he is to be told (LT_NEWS_ENDED) */
    struct lt_task *task; /* with a reference for the caller, or NULL */
};

struct lt_list_op {
    struct lt_reply reply;
    int status;            /* < 0: any */
    struct lt_bytes *key;  /* NULL: any */
    struct lt_bytes *text; /* is part of the id, as it stands there; NULL: any */
    uint64_t
        after; /* from behind the place that an earlier answer named in `next`; 0: from the beginning. The container's
                         to move on */
    uint64_t offset;
    uint64_t limit;
    bool descending; /* newest first; else in the order of adding */
    struct lt_tasks tasks;
    uint64_t next; /* the place of the last of them; 0: there are none */
};

/* For containers that look at each task: whether it is one of those, its status aside; by its time of adding, which is its
 * place. And the place. */
bool lt_list_wants(const struct lt_list_op *op, const struct lt_task *task);
uint64_t lt_list_place(const struct lt_task *task);

struct lt_count_op {
    struct lt_reply reply;
    uint64_t counts[LT_STATUSES];
    uint64_t delayed; /* of those waiting */
};

/* A process that has schedulers on the queue. */
struct lt_queue_host {
    char *name; /* of its machine, and the version of ltsh (NULL: not known): the list's */
    char *version;
    int64_t pid;      /* 0: not known */
    double heartbeat; /* when it last showed that it lives, in Unix seconds by this host's clock */
    double lease_end; /* until when that is believed; 0: there are no leases */
    uint64_t running; /* tasks of the queue that it runs or exports */
    bool self;        /* it is this process */
};

/* A growing array of them. Zero it to make one. */
struct lt_queue_hosts {
    struct lt_queue_host *items;
    uint32_t count;
};

/* Appends one, taking over its texts; and lets go of all. */
struct lt_queue_host *lt_queue_hosts_push(struct lt_queue_hosts *hosts, struct lt_queue_host host);
void lt_queue_hosts_free(struct lt_queue_hosts *hosts);

struct lt_hosts_op {
    struct lt_reply reply;
    struct lt_queue_hosts hosts; /* in the order in which they came */
};

/* Tasks that a host left running or exporting when it died, all taken over. */
struct lt_recover_op {
    struct lt_reply reply;
    struct lt_claims tasks;
};

/* Asks the host that runs a task to stop it. Answered when the wish is stored; the end comes as news. */
struct lt_ask_stop_op {
    struct lt_reply reply;
    struct lt_task *task; /* a reference of the operation's own */
    struct lt_bytes *reason;
};

/* What a container tells its scheduler unasked, at any time but from within an operation of the scheduler's own. */
enum lt_news_kind {
    LT_NEWS_WORK,       /* there may be work that a claim did not give */
    LT_NEWS_LEASE_LOST, /* (id, run, token) is not ours any more, or will not be by the time its work is dead */
    LT_NEWS_STOP,       /* another host asks to stop (id, run); `reason` */
    LT_NEWS_FORGOTTEN,  /* `task` ended long ago, and is not kept any more: what was saved of it goes too */
    LT_NEWS_ENDED,  /* `task` ended on another host, or was deleted: who waits for it is answered; `on`: it was added by
                           this scheduler, which shows its end as its own */
    LT_NEWS_PAUSED, /* the queue was paused (`on`) or resumed for all hosts */
    LT_NEWS_AVAILABLE, /* the store is there (`on`) or not; `why` says more */
};

struct lt_news {
    enum lt_news_kind kind;
    const char *id; /* borrowed, as all below */
    size_t id_len;
    uint64_t run;
    uint64_t token;
    struct lt_bytes *reason;
    struct lt_task *task;
    bool on;
    const char *why;
};

/* What a container gets from its scheduler when it is opened. */
struct lt_container_env {
    struct lt_loop *loop;
    uint64_t keep_tasks; /* memory containers: ended tasks that `get` still knows, and their bytes */
    uint64_t keep_bytes;
    struct lt_call_limits call_limits; /* of one call, if it is written in Lua */
    bool goes_on;                      /* work whose lease is lost is not ended, and its end is handed in */
    void (*tell)(void *arg, const struct lt_news *news);
    void *tell_arg;
};

struct lt_container;

/* Where a field is marked (optional) it may be NULL, and then nobody asks for it. */
struct lt_container_ops {
    const char *name;
    bool durable;            /* tasks outlive the host: what is unfinished at shutdown waits again */
    bool announces;          /* tells LT_NEWS_WORK; else it is asked every schedule_interval */
    bool tells_one;          /* of what others add it tells one host that has room, and not all */
    bool tells_availability; /* tells LT_NEWS_AVAILABLE; else it is found out from calls that fail, and probes */
    bool ordered;      /* applies operations in the order in which they come, and answers in it; then the scheduler
                                admits what was claimed, when the answer has come: the ends before it make room */
    bool priorities;   /* takes tasks with a priority */
    bool chooses;      /* does claims by choice */
    bool keeps_limits; /* of the limiter's, the rate and a limit of keys that is a number: they hold for the queue */

    /* First of all, once. */
    void (*open)(struct lt_container *container, const struct lt_container_env *env);
    void (*add)(struct lt_container *container, struct lt_add_op *op);
    /* The same for one task, answered with the code and its message: what most adds are, at a third less cost. (optional:
     * it does not know at once) */
    int (*add_now)(struct lt_container *container, struct lt_task *task, struct lt_error *error);
    /* A task whose id has this hash will be added soon: what that needs may be fetched into the cache. (optional) */
    void (*expect)(const struct lt_container *container, uint32_t hash);
    void (*claim)(struct lt_container *container, struct lt_claim_op *op);
    void (*change)(struct lt_container *container, struct lt_change_op *op);
    void (*update)(struct lt_container *container, struct lt_update_op *op);
    /* A task that runs, or is exported, and was not claimed from this container: it is told where it is. (optional) */
    void (*add_running)(struct lt_container *container, struct lt_update_op *op);
    void (*get)(struct lt_container *container, struct lt_get_op *op);
    void (*list)(struct lt_container *container, struct lt_list_op *op);
    void (*count)(struct lt_container *container, struct lt_count_op *op);
    /* The hosts on the queue. (optional: there is this one alone) */
    void (*hosts)(struct lt_container *container, struct lt_hosts_op *op);
    /* (optional: nothing outlives a host) */
    void (*recover)(struct lt_container *container, struct lt_recover_op *op);
    /* Stops a task that runs on another host. (optional: only this host runs its tasks) */
    void (*ask_stop)(struct lt_container *container, struct lt_ask_stop_op *op);
    /* Pauses or resumes the queue for all hosts; every host is told by news. (optional) */
    void (*pause_all)(struct lt_container *container, bool paused, struct lt_reply *reply);
    /* The time (Unix seconds) since which the oldest due task waits; 0: none, or not known. */
    double (*oldest)(const struct lt_container *container);
    /* How many tasks are before this one, which waits, among those that are due. (optional: not known) */
    uint64_t (*ahead)(const struct lt_container *container, const struct lt_task *task);
    /* Whether the caller is at work for this container, so that what he waits for must not wait for him. (optional) */
    bool (*inside)(const struct lt_container *container);
    /* Limits were set while the scheduler is open: those that are named (enum lt_limit_named) hold for all schedulers on the
     * queue from now on. (optional: none does) */
    void (*set_limits)(struct lt_container *container, const struct lt_limits *limits, unsigned named);
    /* Of one in memory, before a store: what waits of this key is not claimed until `key_open`. (optional) */
    void (*key_full)(struct lt_container *container, const struct lt_bytes *key);
    /* A key that was full has room again. (optional: it keeps nothing back) */
    void (*key_open)(struct lt_container *container, const struct lt_bytes *key);
    /* Of a fair one in memory, before a store: the key (NULL: those without one) has this turn there, where it waits here;
     * smaller ones come first. (optional) */
    void (*key_turn)(struct lt_container *container, const struct lt_bytes *key, uint64_t turn);
    /* Ends up to `limit` tasks that wait as stopped, appended to `stopped` with a reference each; false: there are more.
     * NULL for durable ones. */
    bool (*abandon)(struct lt_container *container, struct lt_bytes *reason, double now, uint32_t limit,
                    struct lt_tasks *stopped);
    /* The scheduler stops: what waits for others is not to wait for more than a moment any longer, and fails. (optional) */
    void (*hurry)(struct lt_container *container);
    /* After the last operation has been answered: lets go of everything, and of the container itself when nobody else
     * refers to it (its owner, a script's object, calls release). */
    void (*close)(struct lt_container *container, struct lt_reply *reply);
    void (*release)(struct lt_container *container);
};

struct lt_container {
    const struct lt_container_ops *ops;
    bool in_use;                 /* by a scheduler: an object serves one */
    bool fair;                   /* keys take turns: order and priorities are within a key */
    struct lt_container *behind; /* what has the tasks, if this one only stands before it; NULL: itself */
};

#endif
