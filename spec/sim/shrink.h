/* Running simulations in processes of their own, so that a crash is a failure like any other; and making a failure
 * small. */
#ifndef LTSH_SIM_SHRINK_H
#define LTSH_SIM_SHRINK_H

#include <sys/types.h>

#include "world.h"

/* What a process that runs simulations shares with the one that started it. */
struct shared {
    struct failure failure;
    struct tally tally;
    uint64_t seed; /* that is being run */
};

struct shared *shared_new(void);

/* Starts a process that runs `count` seeds from `first` on, until `deadline` (seconds of the monotonic clock; 0: none). */
struct job {
    struct shared *shared;
    pid_t pid;  /* 0: none */
    int output; /* what it writes: a trace, a sanitizer's report */
    uint64_t first, count;
};
void job_start(struct job *job, const struct plan *plan, uint64_t count, double deadline);

/* After it was waited for: whether it went well; if not, shared->failure says what happened. */
bool job_ended(struct job *job, int status);

/* Runs one plan to its end. */
bool run_once(struct shared *shared, const struct plan *plan, int output);

/* Leaves out what the failure does not need. `failure` is what is to be kept, and what it became. */
void shrink(struct plan *plan, struct failure *failure);

/* What kind of failure it is: its message without numbers. */
void failure_kind(const struct failure *failure, char kind[REPORT_SIZE]);

#endif
