/* A task's function runs in a strand until it returns: its result is the output. It may wait; a stop or a timeout makes
 * its waiting calls raise, and ends it at the next one. Where ends are polled and not pushed, the report is kept until
 * somebody asks. */
#include "script/func_actuator.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "scheduler/scheduler.h"
#include "script/task_run.h"

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
    struct lt_task_run task_run; /* first */
    struct func *func;
    struct lt_work *work;
    struct lt_report report; /* its end, kept until it is polled */
    bool stopping;           /* its end is the answer of stop */
    struct activity *next;   /* of the spare ones */
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

static void over(struct lt_task_run *task_run, struct lt_report *report)
{
    struct activity *activity = (struct activity *)task_run;
    struct lt_work *work = activity->work;
    struct func *func = activity->func;
    if (activity->stopping) {
        lt_report_clear(report);
        free_activity(activity);
        lt_reply_ok(&work->stop);
    } else if (func->env.attach) {
        free_activity(activity);
        func->env.notify.report(func->env.notify.arg, work, report);
    } else {
        activity->report = *report;
    }
}

static bool progress(struct lt_task_run *task_run, struct lt_bytes *bytes)
{
    return lt_scheduler_progress(NULL, ((struct activity *)task_run)->work, bytes);
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
    *activity = (struct activity){
        .task_run = {.task = work->task, .run = work->run, .over = over, .progress = progress},
        .func = func,
        .work = work,
        .report = LT_REPORT(LT_RUNNING),
    };
    work->data = activity;
    lt_task_run_start(&activity->task_run, func->script, func->fn,
                      (struct lt_bounds){.deadline = work->deadline, .max_stall = func->env.call_limits.max_stall});
    lt_reply_ok(&work->start);
}

static void stop(struct lt_actuator *actuator, struct lt_work *work)
{
    (void)actuator;
    struct activity *activity = work->data;
    if (activity == NULL || activity->task_run.strand == NULL) { /* it has returned by itself */
        if (activity != NULL)
            free_activity(activity);
        lt_reply_ok(&work->stop);
        return;
    }
    activity->stopping = true;
    lt_task_run_stop(&activity->task_run);
}

static void status(struct lt_actuator *actuator, struct lt_status_op *op)
{
    (void)actuator;
    for (uint32_t i = 0; i < op->count; i++) {
        struct lt_work *work = op->works[i];
        struct activity *activity = work->data;
        if (activity == NULL || activity->task_run.strand != NULL)
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
    func->base = (struct lt_actuator){
        .ops = &ops, .can_attach = true, .can_status = true, .builtin = true, .capacity = LT_ANY_NUMBER};
    func->script = lt_script_of(L);
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
