#include "script/task/task_run.h"

#include <string.h>

#include "base/container_of.h"
#include "base/log.h"
#include "script/flow/call.h"
#include "script/values/marks.h"
#include "script/values/values.h"

/* What a function's end means. */

static struct lt_bytes *describe_error(const struct lt_error *error)
{
    return lt_bytes_new(error->message, strlen(error->message));
}

static void run_returned(struct lt_script *script, lua_State *L, int count, struct lt_report *report)
{
    struct lt_error error;
    int first = lua_gettop(L) - count + 1;
    if (count >= 2 && lua_isnil(L, first) && !lua_isnil(L, first + 1)) {
        report->status = LT_FAILED;
        if (!lt_failure_read(L, first + 1, report, &error))
            lt_bytes_set(&report->reason, describe_error(&error));
        return;
    }
    report->status = LT_SUCCESS;
    if (count == 0 || lua_isnil(L, first))
        return;
    report->output = lt_value_bytes(L, first, &script->scratch, "output", &error);
    if (report->output != NULL)
        return;
    report->status = LT_FAILED;
    report->no_retry = true; /* it would return the same again */
    lt_bytes_set(&report->reason, describe_error(&error));
}

LT_RUNS_LUA static void run_raised(struct lt_strand *strand, const struct lt_task_run *run, struct lt_report *report)
{
    struct lt_bytes *traceback;
    report->status = LT_FAILED;
    lt_failure_raised(strand, report, &traceback);
    if (traceback != NULL && !strand->told)
        lt_log(strand->position > 0 ? LT_LOG_DEBUG : LT_LOG_ERROR, "a task raised an error",
               LT_S("task", run->task->data), LT_I("run", (int64_t)run->run),
               LT_S("error", report->reason != NULL ? report->reason->data : "failed"),
               LT_S("traceback", traceback->data));
    lt_bytes_unref(traceback);
}

static void run_held(const struct lt_strand *strand, const struct lt_task_run *run, struct lt_report *report)
{
    lt_log(LT_LOG_ERROR, "a task held the host where it cannot be preempted and was ended",
           LT_S("task", run->task->data), LT_I("run", (int64_t)run->run), LT_N("max_stall", strand->bounds.max_stall));
    report->reason = lt_bytes_printf("held the host");
}

/* Before its variables are closed: they work in vain, and the object may be collected with the stack. */
static void run_closing(struct lt_strand *strand)
{
    struct lt_task_run *run = strand->owner;
    if (run->object != NULL)
        lt_task_object_end(run->object);
    run->object = NULL;
}

LT_RUNS_LUA static void run_ended(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    struct lt_task_run *run = strand->owner;
    struct lt_report report = LT_REPORT(LT_FAILED);
    run_closing(strand);
    run->strand = NULL;
    if (outcome == LT_DONE)
        run_returned(strand->script, strand->L, count, &report);
    else if (outcome == LT_RAISED)
        run_raised(strand, run, &report);
    else if (strand->bounds.cut == LT_CUT_HELD)
        run_held(strand, run, &report);
    else if (strand->bounds.cut == LT_CUT_MEMORY)
        report.reason = lt_bytes_printf("memory limit");
    report.ended_at = lt_loop_tick(strand->script->loop);
    run->over(run, &report);
}

static bool run_report(struct lt_reporter *reporter, struct lt_bytes *progress)
{
    struct lt_task_run *run = lt_container_of(reporter, struct lt_task_run, reporter);
    return run->progress(run, progress);
}

static const char *run_cancelled(struct lt_reporter *reporter)
{
    const struct lt_task_run *run = lt_container_of(reporter, struct lt_task_run, reporter);
    return run->strand != NULL && run->strand->told ? run->strand->why : NULL;
}

/* Pushes what runs: the task object, which stays there until it was told of the end, and the function with it. */
LT_RUNS_LUA static void push_run_object(struct lt_strand *strand, struct lt_task_run *run, int fn)
{
    run->reporter = (struct lt_reporter){run_report, run_cancelled};
    run->fn = fn;
    run->strand = strand;
    strand->owner = run;
    strand->bounds = run->bounds;
    strand->label = lt_task_id(run->task);
    run->object = lt_task_push_running(strand->L, run->task, &run->reporter);
    lua_rawgeti(strand->L, LUA_REGISTRYINDEX, fn);
    lua_pushvalue(strand->L, -2);
}

/* One has returned: the next one. */
LT_RUNS_LUA static bool follow_run(struct lt_strand *strand, int count)
{
    struct lt_task_run *run = strand->owner;
    struct lt_task_run *(*next)(void *) = run->next;
    void *source = run->source;
    int fn = run->fn;
    run_ended(strand, LT_DONE, count); /* and `run` is gone */
    run = next(source);
    if (run == NULL)
        return false;
    lua_settop(strand->L, 1);
    push_run_object(strand, run, fn);
    return true;
}

LT_RUNS_LUA void lt_task_run_start(struct lt_task_run *run, struct lt_script *script, int fn, struct lt_bounds bounds)
{
    struct lt_strand *strand = lt_strand_new(script, LT_STRAND_TASK, run, run_ended);
    strand->closing = run_closing;
    strand->follow = run->next != NULL ? follow_run : NULL;
    run->bounds = bounds;
    push_run_object(strand, run, fn);
    lt_strand_run(strand, 1);
}

void lt_task_run_stop(struct lt_task_run *run)
{
    if (run->strand != NULL)
        lt_strand_tell(run->strand, "the task was stopped");
}
