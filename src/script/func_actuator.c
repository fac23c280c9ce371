/* A task's function runs in a strand until it returns: its result is the output. It may wait; a stop or a timeout makes
 * its waiting calls raise, and ends it at the next one. Where ends are polled and not pushed, the report is kept until
 * somebody asks. */
#include "script/func_actuator.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "script/call.h"
#include "script/strand.h"
#include "script/task_object.h"
#include "script/values.h"

struct func {
    struct lt_actuator base;
    struct lt_script *script;
    struct lt_actuator_env env;
    int fn; /* registry reference */
    struct activity *spare;
    bool open;
    bool released;
};

/* One run; work->data points to it. */
struct activity {
    struct func *func;
    struct lt_work *work;
    struct lt_strand *strand; /* NULL: it has returned */
    struct lt_report report;  /* its end, kept until it is polled */
    bool stopping;            /* its end is the answer of stop */
    struct activity *next;    /* of the spare ones */
};

static struct func *func_of(struct lt_actuator *actuator)
{
    return (struct func *)actuator;
}

static void free_activity(struct activity *activity)
{
    struct func *func = activity->func;
    activity->work->data = NULL;
    lt_report_clear(&activity->report);
    activity->next = func->spare;
    func->spare = activity;
}

bool lt_work_cancelled(const struct lt_work *work, const char **why)
{
    const struct activity *activity = work->data;
    bool told = activity != NULL && activity->strand != NULL && activity->strand->told;
    *why = told ? activity->strand->why : NULL;
    return told;
}

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

static void raised(struct lt_strand *strand, const struct lt_work *work, struct lt_report *report)
{
    struct lt_bytes *traceback;
    report->status = LT_FAILED;
    lt_failure_raised(strand, report, &traceback);
    if (traceback != NULL && !strand->told)
        lt_log(strand->position > 0 ? LT_LOG_DEBUG : LT_LOG_ERROR, "a task raised an error",
               LT_S("task", work->task->data), LT_I("run", (int64_t)work->run), LT_S("error", report->reason->data),
               LT_S("traceback", traceback->data));
    lt_bytes_unref(traceback);
}

static void held(const struct lt_strand *strand, const struct lt_work *work, struct lt_report *report)
{
    lt_log(LT_LOG_ERROR, "a task held the host where it cannot be preempted and was ended",
           LT_S("task", work->task->data), LT_I("run", (int64_t)work->run),
           LT_N("max_stall", strand->bounds.max_stall));
    report->reason = lt_bytes_printf("held the host");
}

static void closing(struct lt_strand *strand)
{
    lt_task_object_end(strand->L, 1);
}

static void ended(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    struct activity *activity = strand->owner;
    struct lt_work *work = activity->work;
    struct func *func = activity->func;
    struct lt_report report = LT_REPORT(LT_FAILED);
    activity->strand = NULL;
    if (outcome == LT_DONE) {
        lt_task_object_end(strand->L, 1);
        returned(func->script, strand->L, count, &report);
    } else if (outcome == LT_RAISED) {
        raised(strand, work, &report);
    } else if (strand->bounds.cut == LT_CUT_HELD) {
        held(strand, work, &report);
    }
    if (activity->stopping) {
        lt_report_clear(&report);
        free_activity(activity);
        lt_reply_ok(&work->stop);
        return;
    }
    report.ended_at = lt_loop_tick(func->env.loop);
    if (func->env.attach) {
        free_activity(activity);
        func->env.notify.report(func->env.notify.arg, work, &report);
    } else {
        activity->report = report;
    }
}

/* Operations. */

static void open_func(struct lt_actuator *actuator, const struct lt_actuator_env *env)
{
    struct func *func = func_of(actuator);
    func->env = *env;
    func->open = true;
}

static void start(struct lt_actuator *actuator, struct lt_work *work)
{
    struct func *func = func_of(actuator);
    struct activity *activity = func->spare;
    if (activity != NULL)
        func->spare = activity->next;
    else
        activity = lt_alloc(sizeof *activity);
    *activity = (struct activity){.func = func, .work = work, .report = LT_REPORT(LT_RUNNING)};
    work->data = activity;
    struct lt_strand *strand = lt_strand_new(func->script, LT_STRAND_TASK, activity, ended);
    activity->strand = strand;
    strand->closing = closing;
    strand->bounds = (struct lt_bounds){.deadline = work->deadline, .max_stall = func->env.call_limits.max_stall};
    strand->kept = 1; /* the task object, to be told when the run is over */
    lt_task_push_running(strand->L, work->task, work);
    lua_rawgeti(strand->L, LUA_REGISTRYINDEX, func->fn);
    lua_pushvalue(strand->L, 1);
    lt_strand_run(strand, 1);
    lt_reply_ok(&work->start);
}

static void stop(struct lt_actuator *actuator, struct lt_work *work)
{
    (void)actuator;
    struct activity *activity = work->data;
    if (activity == NULL || activity->strand == NULL) { /* it has returned by itself */
        if (activity != NULL)
            free_activity(activity);
        lt_reply_ok(&work->stop);
        return;
    }
    activity->stopping = true;
    lt_strand_tell(activity->strand, "the task was stopped");
}

static void status(struct lt_actuator *actuator, struct lt_status_op *op)
{
    (void)actuator;
    for (uint32_t i = 0; i < op->count; i++) {
        struct lt_work *work = op->works[i];
        struct activity *activity = work->data;
        if (activity == NULL || activity->strand != NULL)
            continue; /* `seen` says that it runs */
        work->seen = activity->report;
        activity->report = LT_REPORT(LT_RUNNING);
        free_activity(activity);
    }
    lt_reply_ok(&op->reply);
}

static void free_func(struct func *func)
{
    struct activity *activity;
    while ((activity = func->spare) != NULL) {
        func->spare = activity->next;
        free(activity);
    }
    luaL_unref(func->script->L, LUA_REGISTRYINDEX, func->fn);
    free(func);
}

static void close_func(struct lt_actuator *actuator)
{
    struct func *func = func_of(actuator);
    func->open = false;
    if (func->released)
        free_func(func);
}

static void release(struct lt_actuator *actuator)
{
    struct func *func = func_of(actuator);
    func->released = true;
    if (!func->open)
        free_func(func);
}

static const struct lt_actuator_ops ops = {
    .name = "func",
    .open = open_func,
    .start = start,
    .stop = stop,
    .status = status,
    .close = close_func,
    .release = release,
};

struct lt_actuator *lt_func_actuator_new(lua_State *L, int index)
{
    struct func *func = lt_zalloc(sizeof *func);
    func->base = (struct lt_actuator){.ops = &ops, .can_attach = true, .can_status = true, .builtin = true};
    func->script = lt_script_of(L);
    lua_pushvalue(L, index);
    func->fn = luaL_ref(L, LUA_REGISTRYINDEX);
    return &func->base;
}
