/* A run of a task's function: in a strand, with a task object that can report, until it returns. */
#ifndef LTSH_SCRIPT_TASK_TASK_RUN_H
#define LTSH_SCRIPT_TASK_TASK_RUN_H

#include "scheduler/actuator.h"
#include "script/flow/strand.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

/* Owned by who starts it, in place until `over`. */
struct lt_task_run {
    struct lt_reporter reporter; /* set by lt_task_run_start */
    struct lt_task *task;        /* borrowed */
    uint64_t run;
    /* It has ended, maybe before lt_task_run_start returns; takes over the report's bytes. */
    void (*over)(struct lt_task_run *run, struct lt_report *report);
    /* task:report: takes over the bytes; false: nobody wants to know any more. */
    bool (*progress)(struct lt_task_run *run, struct lt_bytes *progress);
    /* Which run begins in the same coroutine when this one is over, of the same function; NULL: none. Its fields above and
     * `bounds` are set. */
    struct lt_task_run *(*next)(void *source);
    void *source;
    int fn; /* set by lt_task_run_start, as `bounds` of the first */
    struct lt_bounds bounds;
    struct lt_strand *strand;      /* NULL: it is over */
    struct lt_task_object *object; /* what its function was given; NULL: that knows that it is over */
};

/* Runs the function that `fn` refers to in the registry, with the fields above set. */
LT_RUNS_LUA void lt_task_run_start(struct lt_task_run *run, struct lt_script *script, int fn, struct lt_bounds bounds);

/* Tells it to end: see lt_strand_tell. */
void lt_task_run_stop(struct lt_task_run *run);

#endif
