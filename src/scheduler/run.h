/* What the files that make up a run share: run.c (its life, and its start), report.c, stop.c, settle.c, export.c. */
#ifndef LTSH_SCHEDULER_RUN_H
#define LTSH_SCHEDULER_RUN_H

#include "scheduler/state.h"

/* run.c */
void lt_run_unref(struct lt_run *run);
struct lt_run_extra *lt_run_extra(struct lt_run *run);           /* made when it is needed first */
void lt_run_set_state(struct lt_run *run, enum run_state state); /* keeps count of those that export */
void lt_run_gone(struct lt_run *run);                            /* its end is stored: frees the slot */

/* report.c */
void lt_run_store_update(struct lt_run *run); /* handle or progress changed */

/* stop.c */
void lt_run_set_deadline(struct lt_run *run, double started);
void lt_run_begin_stop(struct lt_run *run);

/* settle.c */
void lt_run_over(struct lt_run *run);   /* its work is dead: what now? */
void lt_run_submit(struct lt_run *run); /* stores run->change.transition, as often as it takes */
void lt_run_succeed(struct lt_run *run);
void lt_run_settle(struct lt_run *run, enum lt_status to, struct lt_bytes *reason);
void lt_run_wait_again(struct lt_run *run, double delay, struct lt_bytes *reason, bool uncounted, bool lost);
void lt_run_ended_from_outside(struct lt_run *run);
struct lt_bytes *lt_run_reason(struct lt_run *run, const char *text); /* kept as its report's; borrowed */
double lt_run_backoff(struct lt_run *run, struct lt_bytes *reason, uint32_t tries);
int64_t lt_run_max_retries(const struct lt_run *run);
double lt_run_grow_pause(struct lt_run *run);
void lt_run_pause_then(struct lt_run *run, void (*fn)(struct lt_timer *timer));

/* export.c */
void lt_run_export(struct lt_run *run);

#endif
