/* The way of one container; the states are in docker_state.h.
 *
 * What the engine says is taken as it comes: the answer of each call moves the container to its next state, and an answer
 * that does not come (status 0) leaves its state as it was: when the engine is there again, all of ours are looked at
 * (watch.c), and that tells. So nothing is started twice, and nothing is called dead that may run. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actuators/docker/docker_state.h"
#include "actuators/tree.h"
#include "base/alloc.h"

static const double SHORT_TIMEOUT = 30; /* seconds */

/* Calls. */

struct lt_engine_call *container_call(struct container *c, const char *method, json_t *body, const char *format, ...)
{
    char path[512];
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof path, format, args);
    va_end(args);
    struct lt_engine_call *call = lt_engine_call_new(c->docker->engine, method, path, body);
    call->user = c;
    call->timeout = SHORT_TIMEOUT;
    return call;
}

void container_cancel(struct lt_engine_call **call)
{
    if (*call != NULL)
        lt_engine_call_cancel(*call);
    *call = NULL;
}

static void stop_timers(struct container *c)
{
    lt_timer_stop(c->docker->env.loop, &c->timer);
    lt_timer_stop(c->docker->env.loop, &c->grace);
}

/* Telling. */

/* Its end, or that it did not begin; takes over the report's bytes. The work is not touched after that until `stored`. */
void container_tell_end(struct container *c, struct lt_report *report)
{
    struct lt_work *work = c->work;
    c->state = CONTAINER_TOLD;
    stop_timers(c);
    container_cancel(&c->call);
    container_cancel(&c->kill);
    container_cancel(&c->stream);
    container_cancel(&c->input);
    pull_leave(c);
    if (!c->answered) {
        c->answered = true;
        work->said = *report;
        lt_reply_send(&work->reply, LT_ERROR, report->reason != NULL ? report->reason->data : NULL);
    } else if (c->stopping) {
        c->stopping = false;
        if (report->status == LT_SUCCESS)
            report->status = LT_STOPPED; /* it heard, and ended well: not with the result of its work */
        lt_work_stopped(work, report);
    } else {
        c->docker->env.notify.report(c->docker->env.notify.arg, work, report);
    }
}

void container_fail(struct container *c, const char *format, ...)
{
    char reason[640];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    struct lt_report report = LT_REPORT(LT_FAILED);
    report.reason = lt_bytes_new(reason, strlen(reason));
    container_tell_end(c, &report);
}

/* The engine is not there, which is not the task's fault. */
void container_snooze(struct container *c, const char *problem)
{
    struct lt_report report = LT_REPORT(LT_FAILED);
    report.reason = lt_bytes_new(problem, strlen(problem));
    report.snooze = -1;
    container_tell_end(c, &report);
}

void container_answer_start(struct container *c)
{
    if (c->answered)
        return;
    c->answered = true;
    if (c->id[0] != '\0') {
        json_t *id = json_string(c->id);
        c->work->handle = lt_tree_bytes(id);
        json_decref(id);
    }
    lt_reply_ok(&c->work->reply);
}

static struct container *new_container(struct docker *docker, struct lt_work *work)
{
    struct container *c = lt_zalloc(sizeof *c);
    c->docker = docker;
    c->work = work;
    c->timer = c->grace = LT_TIMER_INIT;
    work->data = c;
    TAILQ_INSERT_TAIL(&docker->containers, c, link);
    return c;
}

static bool read_spec(struct container *c, struct lt_error *error)
{
    const struct lt_task *task = c->work->task;
    json_t *item = lt_tree_read(lt_task_item(task), task->item_len);
    int code = lt_docker_spec_read(&c->spec, item, c->docker->defaults, error);
    json_decref(item);
    if (code != LT_OK)
        return false;
    lt_capture_init(&c->out, c->spec.max_output);
    lt_capture_init(&c->err, c->spec.max_output);
    return true;
}

void container_start(struct docker *docker, struct lt_work *work)
{
    struct container *c = new_container(docker, work);
    struct lt_error error;
    if (!read_spec(c, &error)) {
        struct lt_report report = LT_REPORT(LT_FAILED);
        report.reason = lt_bytes_new(error.message, strlen(error.message));
        report.no_retry = true;
        container_tell_end(c, &report);
        return;
    }
    watch_begin(docker);
    if (c->spec.pull == LT_PULL_ALWAYS) {
        pull_image(c);
        container_answer_start(c);
    } else {
        container_create(c);
    }
}

void container_resume(struct docker *docker, struct lt_work *work, const char *id)
{
    struct container *c = new_container(docker, work);
    struct lt_error error;
    c->answered = true;
    snprintf(c->id, sizeof c->id, "%s", id);
    lt_map_put(&docker->by_id, lt_hash(c->id, strlen(c->id)), c);
    if (!read_spec(c, &error)) { /* the defaults are others now: it is taken as it is */
        json_t *item = json_pack("{s:s}", "image", "-");
        lt_docker_spec_read(&c->spec, item, NULL, &error);
        json_decref(item);
        lt_capture_init(&c->out, c->spec.max_output);
        lt_capture_init(&c->err, c->spec.max_output);
    }
    container_inspect(c);
}

/* Life. */

struct container *container_find(const struct docker *docker, const char *id)
{
    return lt_map_find(&docker->by_id, lt_hash(id, strlen(id)), id, strlen(id));
}

struct container *container_of_task(const struct docker *docker, const char *task, uint64_t run)
{
    struct container *c;
    TAILQ_FOREACH(c, &docker->containers, link) {
        if (c->work->run == run && strcmp(lt_task_id(c->work->task), task) == 0)
            return c;
    }
    return NULL;
}

void container_free(struct container *c)
{
    struct docker *docker = c->docker;
    stop_timers(c);
    container_cancel(&c->call);
    container_cancel(&c->kill);
    container_cancel(&c->stream);
    container_cancel(&c->input);
    pull_leave(c);
    if (c->id[0] != '\0')
        lt_map_remove(&docker->by_id, lt_hash(c->id, strlen(c->id)), c);
    TAILQ_REMOVE(&docker->containers, c, link);
    lt_docker_spec_clear(&c->spec);
    lt_capture_clear(&c->out);
    lt_capture_clear(&c->err);
    free(c->name);
    free(c);
}
