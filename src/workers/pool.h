/* The actuator that runs a module's function in workers: threads or processes with a Lua state each.
 *
 *     start -> an idle worker, or one that is made: START -> ENDED -> report
 *     stop  -> STOP -> ENDED; or it does not come back in time: a process is killed, a thread is abandoned and replaced
 *
 * A worker runs one task at a time, so one that is thrown away takes nothing else with it; workers are made when they
 * are needed first. */
#ifndef LTSH_WORKERS_POOL_H
#define LTSH_WORKERS_POOL_H

#include "scheduler/actuator.h"
#include "workers/load.h"

struct lt_pool_options {
    struct lt_load load; /* copied */
    uint32_t workers;
    uint32_t max_abandoned; /* threads that did not come back; with so many nothing is started any more */
    bool processes;
};

struct lt_actuator *lt_pool_new(const struct lt_pool_options *options);

/* Another version of the module: a worker tries to load it. `done` is called once: with NULL if it could, or the pool was
 * closed meanwhile, and lt_pool_use is to follow; or with the reason why not. */
void lt_pool_try(struct lt_actuator *actuator, const char *source, size_t source_len,
                 void (*done)(void *arg, const char *error), void *arg);

/* All runs that start from now on use what was tried; or not, and it is forgotten. */
void lt_pool_use(struct lt_actuator *actuator, bool use);

/* The same with a version that was not tried here, since other pools of the module have. */
void lt_pool_adopt(struct lt_actuator *actuator, const char *source, size_t source_len);

#endif
