/* A task's function runs in a strand until it returns: its result is the output. It may wait; a stop or a timeout makes
 * its waiting calls raise, and ends it at the next one. Where ends are polled and not pushed, the report is kept until
 * somebody asks. */
#include "script/parts/func_actuator.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "scheduler/scheduler.h"
#include "script/task/task_run.h"
#include "script/values/marks.h"

STAILQ_HEAD(activities, activity);

struct func {
    struct lt_actuator base;
    struct lt_script *script;
    struct lt_actuator_env env;
    int fn; /* registry reference */
    struct activities spare;
    struct activities started; /* their functions are called in turn, in one coroutine while they simply return */
    double until;              /* when that is to be left to the next turn */
    bool open;
    bool released;
};

/* One run; work->data points to it. */
struct activity {
    struct lt_task_run task_run; /* first */
    struct func *func;
    struct lt_work *work;
    struct lt_report report; /* its end, kept until it is polled */
    bool started;            /* it is among func->started */
    bool stopping;           /* its end is the answer of stop */
    STAILQ_ENTRY(activity) link;
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
    STAILQ_INSERT_HEAD(&func->spare, activity, link);
}

static void func_run_over(struct lt_task_run *task_run, struct lt_report *report)
{
    struct activity *activity = (struct activity *)task_run;
    struct lt_work *work = activity->work;
    struct func *func = activity->func;
    if (activity->stopping) {
        free_activity(activity);
        lt_work_stopped(work, report);
    } else if (func->env.attach) {
        free_activity(activity);
        func->env.notify.report(func->env.notify.arg, work, report);
    } else {
        activity->report = *report;
    }
}

static bool func_progress(struct lt_task_run *task_run, struct lt_bytes *bytes)
{
    return lt_scheduler_progress(NULL, ((struct activity *)task_run)->work, bytes);
}

static struct lt_task_run *next_to_begin(void *source)
{
    struct func *func = source;
    struct activity *activity;
    while ((activity = STAILQ_FIRST(&func->started)) != NULL && lt_loop_now(func->script->loop) < func->until) {
        STAILQ_REMOVE_HEAD(&func->started, link);
        activity->started = false;
        if (!lt_work_begins(activity->work))
            continue;
        activity->task_run.bounds =
            (struct lt_bounds){.deadline = activity->work->deadline, .max_stall = func->env.call_limits.max_stall};
        return &activity->task_run;
    }
    return NULL;
}

/* Operations. */

static int open_func(struct lt_actuator *actuator, const struct lt_actuator_env *env, struct lt_error *error)
{
    (void)error;
    struct func *func = func_of(actuator);
    func->env = *env;
    func->open = true;
    return LT_OK;
}

static void func_start(struct lt_actuator *actuator, struct lt_work *work)
{
    struct func *func = func_of(actuator);
    struct activity *activity = STAILQ_FIRST(&func->spare);
    if (activity != NULL)
        STAILQ_REMOVE_HEAD(&func->spare, link);
    else
        activity = lt_alloc(sizeof *activity);
    *activity = (struct activity){
        .task_run = {.task = work->task,
                     .run = work->run,
                     .over = func_run_over,
                     .progress = func_progress,
                     .next = next_to_begin,
                     .source = func},
        .func = func,
        .work = work,
        .report = LT_REPORT(LT_RUNNING),
        .started = true,
    };
    work->data = activity;
    STAILQ_INSERT_TAIL(&func->started, activity, link);
    lt_reply_ok(&work->reply);
}

LT_RUNS_LUA static bool func_begin(struct lt_actuator *actuator, double until)
{
    struct func *func = func_of(actuator);
    struct lt_task_run *run;
    func->until = until;
    while ((run = next_to_begin(func)) != NULL)
        lt_task_run_start(run, func->script, func->fn, run->bounds);
    return STAILQ_EMPTY(&func->started);
}

static void func_stop(struct lt_actuator *actuator, struct lt_work *work)
{
    struct activity *activity = work->data;
    if (activity == NULL) { /* its end was reported */
        lt_reply_ok(&work->reply);
        return;
    }
    if (activity->task_run.strand == NULL) { /* it has returned by itself, or has not begun */
        struct lt_report report = activity->report;
        activity->report = LT_REPORT(LT_RUNNING);
        if (activity->started)
            STAILQ_REMOVE(&func_of(actuator)->started, activity, activity, link);
        free_activity(activity);
        lt_work_stopped(work, &report);
        return;
    }
    activity->stopping = true;
    lt_task_run_stop(&activity->task_run);
}

static void func_status(struct lt_actuator *actuator, struct lt_status_op *op)
{
    (void)actuator;
    for (uint32_t i = 0; i < op->count; i++) {
        struct activity *activity = op->seen[i].work->data;
        if (activity == NULL || activity->report.status == LT_RUNNING)
            continue; /* the report says that it runs */
        op->seen[i].report = activity->report;
        activity->report = LT_REPORT(LT_RUNNING);
        free_activity(activity);
    }
    lt_reply_ok(&op->reply);
}

static void free_func(struct func *func)
{
    struct activity *activity;
    while ((activity = STAILQ_FIRST(&func->spare)) != NULL) {
        STAILQ_REMOVE_HEAD(&func->spare, link);
        free(activity);
    }
    luaL_unref(func->script->L, LUA_REGISTRYINDEX, func->fn);
    free(func);
}

static void close_func(struct lt_actuator *actuator, struct lt_reply *reply)
{
    struct func *func = func_of(actuator);
    func->open = false;
    if (func->released)
        free_func(func);
    lt_reply_ok(reply);
}

static void func_release(struct lt_actuator *actuator)
{
    struct func *func = func_of(actuator);
    func->released = true;
    if (!func->open)
        free_func(func);
}

static const struct lt_actuator_ops ops = {
    .name = "func",
    .open = open_func,
    .start = func_start,
    .begin = func_begin,
    .stop = func_stop,
    .status = func_status,
    .close = close_func,
    .release = func_release,
};

struct lt_actuator *lt_func_actuator_new(lua_State *L, int index)
{
    struct func *func = lt_zalloc(sizeof *func);
    func->base = (struct lt_actuator){
        .ops = &ops, .can_attach = true, .can_status = true, .builtin = true, .capacity = LT_ANY_NUMBER};
    func->script = lt_script_of(L);
    STAILQ_INIT(&func->spare);
    STAILQ_INIT(&func->started);
    lua_pushvalue(L, index);
    func->fn = luaL_ref(L, LUA_REGISTRYINDEX);
    return &func->base;
}

void lt_func_actuator_set(struct lt_actuator *actuator, lua_State *L, int index)
{
    struct func *func = func_of(actuator);
    lua_pushvalue(L, index);
    lua_rawseti(L, LUA_REGISTRYINDEX, func->fn);
}
