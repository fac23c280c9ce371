/* A run of a task's function: in a strand, with a task object that can report, until it returns. */
#ifndef LTSH_SCRIPT_TASK_RUN_H
#define LTSH_SCRIPT_TASK_RUN_H

#include "scheduler/actuator.h"
#include "script/strand.h"

/* Owned by who starts it, in place until `over`. */
struct lt_task_run {
    struct lt_task *task; /* borrowed */
    uint64_t run;
    /* It has ended, maybe before lt_task_run_start returns; takes over the report's bytes. */
    void (*over)(struct lt_task_run *run, struct lt_report *report);
    /* task:report: takes over the bytes; false: nobody wants to know any more. */
    bool (*progress)(struct lt_task_run *run, struct lt_bytes *progress);
    struct lt_strand *strand; /* NULL: it is over */
};

/* Runs the function that `fn` refers to in the registry, with the fields above set. */
void lt_task_run_start(struct lt_task_run *run, struct lt_script *script, int fn, struct lt_bounds bounds);

/* Tells it to end: see lt_strand_tell. */
void lt_task_run_stop(struct lt_task_run *run);

/* Whether it was told to, and why (static text). */
bool lt_task_run_cancelled(const struct lt_task_run *run, const char **why);

#endif
