/* The world around one scheduler: what the seed decided, the parts that misbehave, and the account of what is true.
 *
 *     shrink    runs simulations in processes of their own, finds the few steps that a failure needs
 *     world     makes a world from a seed, lets it go its way, calms it, closes it
 *     clients   the steps: requests, and what befalls the world
 *     store, stage, vault    the doubles of container, actuator (and receiver), persister
 *     checks    the account: what the store says of each task; each thing told is held against it
 *     sim_loop, report, rng */
#ifndef LTSH_SIM_WORLD_H
#define LTSH_SIM_WORLD_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "report.h"
#include "scheduler/scheduler.h"

/* What can be on or off. Each is decided by the seed, and the shrinker turns them off one by one. */
#define FAULTS(F)                                                                                                      \
    F(STORE_LATE, "store-late")       /* the container answers later */                                                \
    F(STORE_LOST, "store-lost")       /* answers are lost, what was asked for is done or not */                        \
    F(STORE_DOWN, "store-down")       /* nothing works for a while */                                                  \
    F(LEASE_LOST, "lease-lost")       /* leases are lost */                                                            \
    F(OTHER_HOST, "other-host")       /* another host takes, ends and leaves tasks */                                  \
    F(STOP_ASKED, "stop-asked")       /* another host asks to stop a task */                                           \
    F(PAUSE_ALL, "pause-all")         /* somebody pauses the queue */                                                  \
    F(ORPHANS, "orphans")             /* tasks ran on a host that died */                                              \
    F(RECOVER_FAILS, "recover-fails") /* recovery fails, of container or actuator */                                   \
    F(CLOSE_LATE, "close-late")       /* parts take time to close */                                                   \
    F(START_LATE, "start-late")                                                                                        \
    F(START_FAILS, "start-fails")                                                                                      \
    F(WORK_FAILS, "work-fails")                                                                                        \
    F(WORK_SNOOZES, "work-snoozes")                                                                                    \
    F(WORK_HANGS, "work-hangs")   /* takes very long */                                                                \
    F(WORK_KILLED, "work-killed") /* from outside */                                                                   \
    F(END_EARLY, "end-early")     /* is reported before start has answered */                                          \
    F(END_TWICE, "end-twice")     /* is reported again */                                                              \
    F(END_LATE, "end-late")       /* is reported late, with the time at which it was */                                \
    F(END_LOST, "end-lost")       /* is not reported; polling sees it */                                               \
    F(PUSH_STALE, "push-stale")   /* reports of runs that are over */                                                  \
    F(PROGRESS, "progress")                                                                                            \
    F(LIVE_OUTPUT, "live-output")                                                                                      \
    F(STOP_LATE, "stop-late")                                                                                          \
    F(STOP_FAILS, "stop-fails")                                                                                        \
    F(STATUS_BAD, "status-bad") /* late, fails, or is old */                                                           \
    F(OUTPUT_LATE, "output-late")                                                                                      \
    F(OUTPUT_FAILS, "output-fails")                                                                                    \
    F(CAPACITY, "capacity") /* of the actuator changes */                                                              \
    F(INIT, "init")         /* is late, refuses, replaces */                                                           \
    F(OPEN_FAILS, "open-fails")                                                                                        \
    F(SAVE_LATE, "save-late")                                                                                          \
    F(SAVE_FAILS, "save-fails")                                                                                        \
    F(SAVE_HANGS, "save-hangs") /* until it is given up */                                                             \
    F(ERASE_FAILS, "erase-fails")                                                                                      \
    F(ADD_ODD, "add-odd") /* duplicates, once, many, expiring */                                                       \
    F(STOPS, "stops")     /* clients stop tasks */                                                                     \
    F(RETRIES, "retries") /* clients retry ended tasks, and delete */                                                  \
    F(LOOKS, "looks")     /* get, list, count, explain, output, stats */                                               \
    F(WAITS, "waits")                                                                                                  \
    F(CANCELS, "cancels") /* requests are given up */                                                                  \
    F(SETS, "sets")       /* the configuration changes */                                                              \
    F(PAUSES, "pauses")                                                                                                \
    F(MEDDLERS, "meddlers")       /* handlers that call back into the scheduler */                                     \
    F(CLOSE_EARLY, "close-early") /* it is closed in the middle */                                                     \
    F(CLOCK, "clock")             /* the wall clock is set */                                                          \
    F(NOT_BEGUN, "not-begun")     /* what was started is given back, and never began */                                \
    F(SLOW, "slow")               /* time passes while things are done */

enum fault {
#define FAULT_ENUM(name_, text_) FAULT_##name_,
    FAULTS(FAULT_ENUM)
#undef FAULT_ENUM
        FAULT_COUNT
};

extern const char *const fault_names[FAULT_COUNT];

/* What is run: a seed, and what of it is left out. */
enum { STEPS_MOST = 400 };
struct plan {
    uint64_t seed;
    uint64_t off; /* faults, as bits, that are not to be, though the seed has them */
    bool skipped[STEPS_MOST];
    bool tracing;
};

/* What a simulation was. */
struct tally {
    uint64_t seeds;
    uint64_t lives; /* tasks added, or left by a dead host */
    uint64_t runs;
    uint64_t ends;
    uint64_t turns;
    double seconds; /* virtual */
    uint64_t faults[FAULT_COUNT];
};

/* What the actuator is a double of. */
enum shape { ANY_SHAPE, ANY_SHAPE_TOO, PROCESS_SHAPE, DOCKER_SHAPE, SHAPES };

/* Who has a task that is running or exporting. */
enum holder { NOBODY, US, OTHER, DEAD };

/* An end that this scheduler made in the store, and has to tell. */
struct told_end {
    uint64_t run;
    uint8_t status;
    bool unclear; /* its answer was lost to a client: it may be told or not */
    bool event;
    bool list;
};

/* A transition that a run made, under this lease. */
struct done {
    uint64_t run, token;
    uint8_t to;
};
#define ANY_TOKEN UINT64_MAX

/* What the store says of a task. */
struct record {
    uint32_t hash;
    uint32_t id_len;
    char *id;
    char *key; /* or NULL */
    bool known;
    uint8_t status;
    uint8_t holder;
    bool once;
    bool stop_wished;         /* by us, while another host had it */
    bool stop_asked;          /* by anybody, ever */
    uint64_t shutdown_run;    /* whose work was stopped by shutdown alone */
    uint64_t unstoppable_run; /* at the end: its last stop failed, or it was left running */
    bool lease_lost;          /* the present run's lease was lost here; its end must not be stored by us */
    bool erase_failed;
    bool was_lost; /* a lease was, and its export may have gone on until that was known */
    bool was_deleted;
    bool unclear_deletion; /* the answer to a deletion was lost */
    bool was_success;      /* once, before it was added or retried: what it saved then may be there */
    uint64_t run;
    uint64_t token;
    uint32_t life; /* how often it was added, or retried */
    uint32_t attempts;
    uint32_t lost;
    int64_t max_retries;  /* its own; < 0: the scheduler's */
    double due;           /* monotonic: not to be claimed before */
    double date;          /* by the wall clock: the same */
    uint64_t success_run; /* whose output is to be saved */
    uint32_t calls;       /* of its operations, for chance */
    struct done *done;    /* transitions made by runs */
    uint32_t done_count, done_size;
    struct told_end *ends;
    uint32_t end_count, end_size;
    uint64_t started_run; /* of the last event `started` */
};

struct world;
struct store;
struct stage;
struct vault;
struct clients;

/* Choices of the seed that are not faults. */
struct options {
    bool priorities;
    bool fair; /* keys take turns */
    bool durable;
    bool announces;
    bool tells; /* of its availability */
    bool ordered;
    bool batches; /* what comes while it is at work is done and answered together, and fails together */
    bool remote;  /* objects of its own: no task is shared with the scheduler */
    bool asks;    /* the limiter, before it claims; else when it has the tasks */
    bool leases;
    bool hosts; /* several share it */
    bool recovers;
    uint64_t size;
    bool attach, poll, receiver;
    enum shape shape;
    bool can_status, has_output, has_stored, has_front, has_init, has_recover;
    bool begins;    /* what was started begins when the actuator is told to let it */
    int persister;  /* 0: none, 1: its own, 2: shared with the container */
    double latency; /* mean, of the store */
    double work;    /* mean, of a run */
    uint32_t keys;
    double rate_slack;
};

struct world {
    struct sim_loop sim;
    uint64_t seed;
    uint64_t on; /* faults as bits */
    bool quiet;  /* no faults any more */
    bool closing, stopping;
    struct options options;
    struct lt_scheduler_config config;
    struct lt_scheduler *scheduler; /* NULL: none is open */
    struct lt_observer auditor;
    struct store *store;
    struct stage *stage;
    struct vault *vault;
    struct clients *clients;
    struct tally *tally;
    uint32_t sessions;
    uint32_t flows; /* held by clients */
    uint32_t later; /* what world_later has in hand */
    bool is_closed;
    struct lt_close_request close_request;
    struct sim_event stopping_event;
    uint64_t told_before, listed_before; /* in earlier sessions */

    /* checks.c */
    struct lt_map records;
    uint64_t told_events, told_list;
    int64_t most_retries; /* that were ever allowed by the configuration */
    uint32_t most_lost;
    bool busy;
    bool paused;
    bool limits_lowered; /* what was claimed before may start beyond them */
    double rate_tokens, rate_at;
    double paused_at;
};

/* Whether a fault of this kind is to be now; `what` and `nth` are what it is about. Counted. */
bool world_fault(struct world *world, enum fault fault, double share, uint64_t what, uint64_t nth);
bool world_has(const struct world *world, enum fault fault); /* it may be */
bool world_leaves(const struct world *world);                /* at a shutdown its work goes on */
void world_count(struct world *world, enum fault fault);     /* one that was decided elsewhere */
static inline double world_now(const struct world *world)
{
    return world->sim.loop.now;
}
static inline double world_wall(const struct world *world)
{
    return lt_loop_wall(&world->sim.loop);
}

/* Calls fn(arg) later, from a flat stack. */
void world_later(struct world *world, double seconds, void (*fn)(void *arg), void *arg);

/* Runs one simulation. Returns only if nothing was wrong. */
void world_run(const struct plan *plan, struct tally *tally);

/* The faults that a seed has on, as bits; and how many steps it has. */
uint64_t world_faults(uint64_t seed);
uint32_t world_steps(uint64_t seed);

/* Closes the scheduler; again, too. */
void world_close(struct world *world, double drain);

/* checks.c: the account. */
struct record *record_of(struct world *world, const char *id, size_t id_len); /* made if need be */
struct record *record_find(struct world *world, const char *id, size_t id_len);
void record_added(struct world *world, struct record *record, const struct lt_task *task);
void record_claimed(struct world *world, struct record *record, const struct lt_task *task, uint64_t token,
                    enum holder holder);
void record_taken_over(struct world *world, struct record *record, uint64_t token, enum holder holder);
/* A transition was made. `ours`: asked for by our scheduler; `by_run`: for a run of its own. */
void record_changed(struct world *world, struct record *record, const struct lt_transition *made, bool ours,
                    bool by_run);
void record_unclear(struct record *record, uint64_t run, enum lt_status status); /* the answer to this end is lost */
bool record_is_unclear(const struct record *record); /* it has an end that was lost and not told */
bool record_done(const struct record *record, uint64_t run, uint64_t token, enum lt_status to);
/* It waits as if it had not been claimed, and says that it is at this run. */
void record_not_begun(struct record *record, uint64_t run);
void record_expired(struct world *world, struct record *record, bool ours);
void checks_open(struct world *world);
void checks_observe(struct world *world);
void checks_finished(struct world *world, const struct lt_task *task); /* read from the finished list */
void checks_start(struct world *world, const struct lt_work *work, uint32_t live, uint32_t live_of_key);
void checks_idle(struct world *world);    /* at any time */
void checks_settled(struct world *world); /* all is quiet */
void checks_closed(struct world *world);  /* the scheduler is */
void checks_close(struct world *world);
const char *holder_name(enum holder holder);

/* store.c, the container. */
struct store *store_new(struct world *world);
struct lt_container *store_container(struct store *store);
void store_orphans(struct store *store, uint32_t count); /* before the scheduler opens: tasks of a dead host */
void store_set_down(struct store *store, double seconds);
void store_other_host(struct store *store, struct rng *rng); /* does something */
void store_lose_lease(struct store *store, struct rng *rng);
void store_ask_stop_here(struct store *store, struct rng *rng);
void store_pause_all(struct store *store, bool paused);
void store_calm(struct store *store);       /* up, not paused; the other host gives back what it has */
void store_left(struct store *store);       /* a task of a dead host has become free to be taken */
bool store_idle(const struct store *store); /* no call is under way, and nobody else has a task */
void store_left_by_us(struct store *store); /* our host is gone: what it ran is a dead host's */
void store_free(struct store *store);
void store_check_kept(struct store *store);

/* stage.c, the actuator and the receiver. */
struct stage *stage_new(struct world *world);
struct lt_actuator *stage_actuator(struct stage *stage);
struct lt_receiver *stage_receiver(struct stage *stage);
void stage_orphan(struct stage *stage, struct record *record); /* work that may have outlived a host */
void stage_capacity(struct stage *stage, uint32_t capacity);
void stage_push_stale(struct stage *stage, struct rng *rng);
void stage_kill(struct stage *stage, struct rng *rng);
void stage_must_stop(struct stage *stage, const struct record *record,
                     uint64_t run); /* soon: its lease is lost, somebody wants it */
void stage_check_change(struct stage *stage, const struct record *record, const struct lt_transition *made);
void stage_calm(struct stage *stage);
bool stage_has(const struct stage *stage, const struct record *record); /* a work of this task lives here */
void stage_host_gone(struct stage *stage);                              /* works are nobody's */
bool stage_idle(const struct stage *stage);
uint32_t stage_live(const struct stage *stage);
void stage_check_closed(struct stage *stage);
void stage_free(struct stage *stage);

/* vault.c, the persister. */
struct vault *vault_new(struct world *world);
struct lt_persister *vault_persister(struct vault *vault);
void vault_store(struct vault *vault, const char *id, uint64_t run); /* by the container, or another host */
bool vault_has(const struct vault *vault, const char *id, uint64_t *run);
bool vault_idle(const struct vault *vault);
void vault_free(struct vault *vault);

/* clients.c */
struct clients *clients_new(struct world *world, const struct plan *plan);
void clients_begin(struct clients *clients);
uint32_t clients_count(const struct clients *clients); /* of steps */
bool clients_stepped(const struct clients *clients);   /* all were made */
bool clients_answered(const struct clients *clients);  /* all requests */
void clients_check_answered(struct clients *clients);
void clients_calm(struct clients *clients);
void clients_read_finished(struct clients *clients);
void clients_finished(struct clients *clients); /* the hook */
void clients_forget_observers(struct clients *clients);
void clients_free(struct clients *clients);

#endif
