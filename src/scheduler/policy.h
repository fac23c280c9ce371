/* What a run is entitled to: its task's own options, or the scheduler's. */
#ifndef LTSH_SCHEDULER_POLICY_H
#define LTSH_SCHEDULER_POLICY_H

#include "scheduler/state.h"

/* The reason of its end, kept with its report; borrowed. */
struct lt_bytes *lt_run_reason(struct lt_run *run, const char *text);

/* Seconds before the next try, after so many; `retry_after` of the report comes first. */
double lt_run_backoff(struct lt_run *run, struct lt_bytes *reason, uint32_t tries);

int64_t lt_run_max_retries(const struct lt_run *run);

/* Seconds; 0: none. */
double lt_run_timeout(const struct lt_run *run);

/* Whether its output is stored in the transaction of its success. */
bool lt_run_shares_store(const struct lt_run *run);

#endif
