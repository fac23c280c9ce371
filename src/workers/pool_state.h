/* The inside of a pool, by file, each of which calls only those before it:
 *
 *     pool_edition.c    what workers run, and a worker that loads it
 *     pool_run.c        runs: waiting, handed to a worker, ended
 *     pool_worker.c     workers: making and hearing them, and doing without
 *     pool_trial.c      another version of the module
 *     pool.c            the operations of the actuator */
#ifndef LTSH_WORKERS_POOL_STATE_H
#define LTSH_WORKERS_POOL_STATE_H

#include "base/log.h"
#include "workers/pool.h"
#include "workers/worker.h"

enum { POOL_LOAD_TIME = 10 /* seconds that a module may take to be loaded */ };

struct activity;
TAILQ_HEAD(activities, activity);

/* What the workers run. Those that began with an older one go on with it until their task has ended. */
struct edition {
    struct lt_load load; /* owns its texts */
};

struct slot {
    struct pool *pool;
    struct lt_worker *worker; /* NULL: none */
    struct activity *activity;
    struct activities ahead; /* what was handed ahead of its turn, behind the activity */
    uint32_t ahead_count;
    struct lt_timer loading;
    bool loaded;
    bool outdated; /* it ends with its task */
};

/* A thread that did not come back. */
struct abandoned {
    struct pool *pool;
    struct lt_worker *worker;
    LIST_ENTRY(abandoned) link;
};

enum trial_state {
    TRIAL_NONE,
    TRIAL_LOADING,
    TRIAL_READY, /* it can be used: lt_pool_use decides */
};

/* A worker that tries a new edition. */
struct trial {
    enum trial_state state;
    struct edition edition;
    struct lt_worker *worker; /* NULL when ready: none was needed, or it has died since */
    struct lt_timer loading;
    void (*done)(void *arg, const char *error);
    void *arg;
};

struct pool {
    struct lt_actuator base;
    struct lt_actuator_env env;
    struct edition edition;
    struct trial trial;
    struct slot *slots;
    struct activities waiting; /* for a worker; with those that have one never more than there are workers */
    uint32_t quick;            /* runs in a row that were */
    struct lt_timer look;      /* at those that were handed ahead, as long as there are any */
    double looked;             /* when it came last */
    struct lt_timer pause;     /* started: no worker is made until then */
    double pause_length;       /* of the last pause; 0: there was none */
    bool one_by_one;           /* they are made, since one did not come */
    LIST_HEAD(, abandoned) abandoned;
    uint32_t abandoned_count;
    uint32_t workers;
    uint32_t max_abandoned;
    uint64_t seq;
    struct lt_log_gate log;
    void (*assign)(struct pool *pool);          /* pool_assign_waiting, */
    void (*grace_over)(struct lt_timer *timer); /* and pool_grace_over: for pool_run.c */
    bool processes;
    bool open;
    bool released;
};

/* One run; work->data points to it. */
struct activity {
    struct pool *pool;
    struct lt_work *work;
    struct slot *slot; /* NULL: it waits for one, or has ended */
    uint64_t seq;
    double begin_by; /* handed ahead: its worker begins it until then, or never; 0: it was not */
    struct lt_timer grace;
    struct lt_report report; /* its end, kept until it is polled */
    bool ended;
    bool stopping;   /* its end is the answer of stop */
    bool given_back; /* once: by a worker that ended before it began */
    TAILQ_ENTRY(activity) link;
};

static inline struct pool *pool_of(struct lt_actuator *actuator)
{
    return (struct pool *)actuator;
}

/* pool_edition.c */

/* Copies the load; and lets go of it. */
void pool_make_edition(struct edition *edition, const struct lt_load *load);
void pool_free_edition(struct edition *edition);

/* A worker that is told to load it. */
struct lt_worker *pool_make_worker(struct pool *pool, const struct edition *edition, void *owner,
                                   void (*on_message)(struct lt_worker *, const struct lt_message *),
                                   void (*on_gone)(struct lt_worker *, const char *));

/* Asks it to end, and does not care any more. */
void pool_retire_worker(struct lt_worker *worker);

extern const char pool_load_late[]; /* why one is given up that does not load */

/* pool_run.c */

void pool_free_activity(struct activity *activity);

/* It has ended: takes over the report's bytes; or has failed; or no worker can run those that wait. */
void pool_end_activity(struct activity *activity, struct lt_report *report);
void pool_fail_activity(struct activity *activity, const char *reason);
void pool_fail_waiting(struct pool *pool, const char *reason);

/* To an idle worker. */
void pool_give_activity(struct slot *slot, struct activity *activity);

/* Its worker is told, and has a while to come back. */
void pool_ask_to_stop(struct activity *activity);

/* Whether it was handed ahead of its turn; and whether a worker can have some so. */
bool pool_is_ahead(const struct activity *activity);
bool pool_takes_ahead(const struct slot *slot);

enum { POOL_AHEAD = 3 /* runs that a worker may have so, beside the one that it runs */ };

/* It has not begun: another worker may have it. */
void pool_take_back(struct slot *slot, struct activity *activity);

/* Hands ahead those that wait beyond as many as there are workers, or gives them back to the scheduler. */
void pool_place_excess(struct pool *pool);

/* Of a run that its worker has ended, as that has measured it: how long a worker takes to be woken is not what counts. */
void pool_note_time(struct pool *pool, double took);

/* It has no worker any more; or is to have none, and its worker ends. */
void pool_clear_slot(struct slot *slot);
void pool_empty_slot(struct slot *slot);

/* pool_worker.c */

/* Gives the tasks that wait to workers, and makes some for those that get none. */
void pool_assign_waiting(struct pool *pool);

/* Those that wait have all got a worker: from now on workers are made at once again. */
void pool_end_shortage(struct pool *pool);

/* Of a worker whose owner is a slot. */
void pool_worker_spoke(struct lt_worker *worker, const struct lt_message *message);
void pool_worker_gone(struct lt_worker *worker, const char *how);

/* The time of activity->grace is over. */
void pool_grace_over(struct lt_timer *timer);

/* pool_trial.c: what is tried is not wanted any more. Who waits for it is told why, or NULL. */
void pool_end_trial(struct pool *pool, const char *why);

#endif
