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
#include "base/tree.h"

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

/* Nothing is under way any more. */
static void cancel_all(struct container *c)
{
    lt_timer_stop(c->docker->env.loop, &c->timer);
    lt_timer_stop(c->docker->env.loop, &c->grace);
    container_cancel(&c->call);
    container_cancel(&c->kill);
    container_cancel(&c->stream);
    container_cancel(&c->input);
    pull_leave(c);
}

/* Telling. */

/* Its end, or that it did not begin; takes over the report's bytes. The work is not touched after that until `stored`. */
void container_tell_end(struct container *c, struct lt_report *report)
{
    struct lt_work *work = c->work;
    c->state = CONTAINER_TOLD;
    cancel_all(c);
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

void container_end_unbegun(struct container *c)
{
    struct lt_report report = LT_REPORT(LT_STOPPED);
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
    cancel_all(c);
    if (c->id[0] != '\0')
        lt_map_remove(&docker->by_id, lt_hash(c->id, strlen(c->id)), c);
    TAILQ_REMOVE(&docker->containers, c, link);
    lt_docker_spec_clear(&c->spec);
    lt_capture_clear(&c->out);
    lt_capture_clear(&c->err);
    free(c->name);
    free(c);
}
