#include "actuators/process/process.h"

#include <stdlib.h>
#include <string.h>

#include "actuators/result.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/tree.h"

struct process {
    struct lt_actuator base;
    json_t *defaults;
    struct lt_actuator_env env;
    unsigned children;
    struct lt_reply *closing; /* waits for the last child */
    bool open, released;
};

/* One run; work->data points to it until its end was told. */
struct activity {
    struct lt_child child;
    struct process *process;
    struct lt_work *work;
    bool stopping; /* its end is the answer of stop */
};

static struct process *process_of(struct lt_actuator *actuator)
{
    return (struct process *)actuator;
}

static void free_process(struct process *process)
{
    json_decref(process->defaults);
    free(process);
}

static void close_now(struct process *process)
{
    struct lt_reply *reply = process->closing;
    process->closing = NULL;
    process->open = false;
    if (process->released)
        free_process(process);
    lt_reply_ok(reply);
}

static void free_activity(struct activity *activity)
{
    struct process *process = activity->process;
    activity->work->data = NULL;
    lt_child_free(&activity->child);
    free(activity);
    if (--process->children == 0 && process->closing != NULL)
        close_now(process);
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

json_t *lt_process_output(const struct lt_child *child)
{
    const struct lt_process_spec *spec = &child->spec;
    json_t *output = json_object();
    if (child->signal != 0)
        json_object_set_new(output, "signal", json_integer(child->signal));
    else
        json_object_set_new(output, "code", json_integer(child->code));
    if (spec->out == LT_STREAM_CAPTURE)
        lt_result_add(output, "stdout", &child->out);
    if (spec->err == LT_STREAM_CAPTURE && !spec->pty)
        lt_result_add(output, "stderr", &child->err);
    json_object_set_new(output, "usage",
                        json_pack("{s:f,s:f,s:I}", "user", seconds_of(child->usage.ru_utime), "system",
                                  seconds_of(child->usage.ru_stime), "max_rss",
                                  (json_int_t)child->usage.ru_maxrss * 1024));
    return output;
}

static void process_ended(struct lt_child *child)
{
    struct activity *activity = lt_container_of(child, struct activity, child);
    const struct lt_notify notify = activity->process->env.notify;
    struct lt_work *work = activity->work;
    bool stopping = activity->stopping;
    struct lt_report report = lt_result_report(&child->spec.codes, child->signal != 0, child->code,
                                               lt_process_output(child), lt_child_reason(child));
    free_activity(activity);
    if (stopping && report.status == LT_SUCCESS)
        report.status = LT_STOPPED; /* it heard, and ended well: not with the result of its work */
    if (stopping)
        lt_work_stopped(work, &report);
    else
        notify.report(notify.arg, work, &report);
}

static void process_started(struct lt_child *child, const char *failure)
{
    struct activity *activity = lt_container_of(child, struct activity, child);
    struct lt_work *work = activity->work;
    if (failure == NULL) {
        json_t *handle = json_integer(child->spawn.pid);
        work->handle = lt_tree_bytes(handle);
        json_decref(handle);
        lt_reply_ok(&work->reply);
        return;
    }
    work->said = LT_REPORT(LT_FAILED);
    work->said.reason = lt_bytes_new(failure, strlen(failure));
    free_activity(activity);
    lt_reply_send(&work->reply, LT_ERROR, failure);
}

static bool process_output(struct lt_child *child, int stream, const char *bytes, size_t len)
{
    struct activity *activity = lt_container_of(child, struct activity, child);
    const struct lt_notify *notify = &activity->process->env.notify;
    return notify->output(notify->arg, activity->work, stream == 1 ? LT_STDOUT : LT_STDERR, lt_bytes_new(bytes, len));
}

/* Operations. */

static int open_process(struct lt_actuator *actuator, const struct lt_actuator_env *env, struct lt_error *error)
{
    struct process *process = process_of(actuator);
    (void)error;
    process->env = *env;
    process->open = true;
    lt_child_prepare(env->loop);
    return LT_OK;
}

static int read_item(struct lt_process_spec *spec, const struct process *process, const struct lt_task *task,
                     struct lt_error *error)
{
    json_t *item = lt_tree_read(lt_task_item(task), task->item_len);
    int code = lt_process_spec_read(spec, item, process->defaults, "item", error);
    json_decref(item);
    return code;
}

/* A task whose item makes no sense is refused before it is stored. */
static void init_process(struct lt_actuator *actuator, struct lt_init_op *op)
{
    struct lt_process_spec spec;
    struct lt_error error;
    int code = read_item(&spec, process_of(actuator), op->task, &error);
    if (code == LT_OK)
        lt_process_spec_clear(&spec);
    lt_reply_send(&op->reply, code, code == LT_OK ? NULL : error.message);
}

static void start_process(struct lt_actuator *actuator, struct lt_work *work)
{
    struct process *process = process_of(actuator);
    struct activity *activity = lt_zalloc(sizeof *activity);
    struct lt_error error;
    if (read_item(&activity->child.spec, process, work->task, &error) != LT_OK) {
        free(activity);
        work->data = NULL;
        work->said = LT_REPORT(LT_FAILED);
        work->said.no_retry = true;
        lt_reply_send(&work->reply, LT_ERROR, error.message);
        return;
    }
    activity->process = process;
    activity->work = work;
    activity->child.loop = process->env.loop;
    activity->child.task = lt_task_id(work->task);
    activity->child.append = work->task->attempts > 1;
    activity->child.started = process_started;
    activity->child.output = process_output;
    activity->child.ended = process_ended;
    work->data = activity;
    process->children++;
    lt_child_start(&activity->child);
}

static void stop_process(struct lt_actuator *actuator, struct lt_work *work)
{
    struct activity *activity = work->data;
    (void)actuator;
    if (activity == NULL) { /* its end was reported */
        lt_reply_ok(&work->reply);
        return;
    }
    activity->stopping = true;
    lt_child_stop(&activity->child, false);
}

static void more_process(struct lt_actuator *actuator, struct lt_work *work)
{
    struct activity *activity = work->data;
    (void)actuator;
    if (activity != NULL)
        lt_child_more(&activity->child);
}

static void close_process(struct lt_actuator *actuator, struct lt_reply *reply)
{
    struct process *process = process_of(actuator);
    process->closing = reply;
    if (process->children == 0)
        close_now(process);
}

static void release_process(struct lt_actuator *actuator)
{
    struct process *process = process_of(actuator);
    process->released = true;
    if (!process->open)
        free_process(process);
}

static const struct lt_actuator_ops ops = {
    .name = "process",
    .open = open_process,
    .init = init_process,
    .start = start_process,
    .stop = stop_process,
    .more = more_process,
    .close = close_process,
    .release = release_process,
};

struct lt_actuator *lt_process_actuator_new(json_t *defaults)
{
    struct process *process = lt_zalloc(sizeof *process);
    process->base = (struct lt_actuator){.ops = &ops, .can_attach = true, .builtin = true, .capacity = LT_ANY_NUMBER};
    process->defaults = defaults;
    return &process->base;
}
