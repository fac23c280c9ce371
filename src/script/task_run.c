#include "script/task_run.h"

#include <string.h>

#include "base/log.h"
#include "script/call.h"
#include "script/task_object.h"
#include "script/values.h"

/* What a function's end means. */

static struct lt_bytes *describe_error(const struct lt_error *error)
{
    return lt_bytes_new(error->message, strlen(error->message));
}

static void returned(struct lt_script *script, lua_State *L, int count, struct lt_report *report)
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
    script->scratch.len = 0;
    if (lt_value_encode(L, first, &script->scratch, "output", &error) == LT_OK) {
        report->output = lt_bytes_new(script->scratch.data, script->scratch.len);
        return;
    }
    report->status = LT_FAILED;
    report->no_retry = true; /* it would return the same again */
    lt_bytes_set(&report->reason, describe_error(&error));
}

static void raised(struct lt_strand *strand, const struct lt_task_run *run, struct lt_report *report)
{
    struct lt_bytes *traceback;
    report->status = LT_FAILED;
    lt_failure_raised(strand, report, &traceback);
    if (traceback != NULL && !strand->told)
        lt_log(strand->position > 0 ? LT_LOG_DEBUG : LT_LOG_ERROR, "a task raised an error",
               LT_S("task", run->task->data), LT_I("run", (int64_t)run->run), LT_S("error", report->reason->data),
               LT_S("traceback", traceback->data));
    lt_bytes_unref(traceback);
}

static void held(const struct lt_strand *strand, const struct lt_task_run *run, struct lt_report *report)
{
    lt_log(LT_LOG_ERROR, "a task held the host where it cannot be preempted and was ended",
           LT_S("task", run->task->data), LT_I("run", (int64_t)run->run), LT_N("max_stall", strand->bounds.max_stall));
    report->reason = lt_bytes_printf("held the host");
}

static void closing(struct lt_strand *strand)
{
    lt_task_object_end(strand->L, 1);
}

static void ended(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    struct lt_task_run *run = strand->owner;
    struct lt_report report = LT_REPORT(LT_FAILED);
    run->strand = NULL;
    if (outcome != LT_ENDED)
        lt_task_object_end(strand->L, 1);
    if (outcome == LT_DONE)
        returned(strand->script, strand->L, count, &report);
    else if (outcome == LT_RAISED)
        raised(strand, run, &report);
    else if (strand->bounds.cut == LT_CUT_HELD)
        held(strand, run, &report);
    else if (strand->bounds.cut == LT_CUT_MEMORY)
        report.reason = lt_bytes_printf("memory limit");
    report.ended_at = lt_loop_tick(strand->script->loop);
    run->over(run, &report);
}

void lt_task_run_start(struct lt_task_run *run, struct lt_script *script, int fn, struct lt_bounds bounds)
{
    struct lt_strand *strand = lt_strand_new(script, LT_STRAND_TASK, run, ended);
    run->strand = strand;
    strand->closing = closing;
    strand->bounds = bounds;
    strand->kept = 1; /* the task object, to be told when the run is over */
    lt_task_push_running(strand->L, run->task, run);
    lua_rawgeti(strand->L, LUA_REGISTRYINDEX, fn);
    lua_pushvalue(strand->L, 1);
    lt_strand_run(strand, 1);
}

void lt_task_run_stop(struct lt_task_run *run)
{
    if (run->strand != NULL)
        lt_strand_tell(run->strand, "the task was stopped");
}

bool lt_task_run_cancelled(const struct lt_task_run *run, const char **why)
{
    bool told = run->strand != NULL && run->strand->told;
    *why = told ? run->strand->why : NULL;
    return told;
}
