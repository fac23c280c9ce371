/* The way of one container; the states are in docker_state.h.
 *
 * What the engine says is taken as it comes: the answer of each call moves the container to its next state, and an answer
 * that does not come (status 0) leaves its state as it was: when the engine is there again, all of ours are looked at
 * (watch.c), and that tells. So nothing is started twice, and nothing is called dead that may run. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actuators/docker/docker_state.h"
#include "actuators/instance.h"
#include "actuators/item.h"
#include "actuators/tree.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"

static const double CALL_TIMEOUT = 120; /* seconds: to create or to start may take long on a busy machine */
static const double SHORT_TIMEOUT = 30;
static const double DRAIN = 5;        /* seconds for the output of a container that is dead */
static const double NAME_PAUSE = 0.2; /* before a name is tried again that is about to be free */
static const double OUTPUT_PAUSE =
    0.5;                             /* between the end of the output and that of the container, before it is doubted */
static const double KILL_PAUSE = 10; /* after KILL, before the engine is asked whether it is dead */
enum { MOST_TRIES = 10 };

static void create_container(struct container *c);
static void inspect_container(struct container *c);
static void follow_log(struct container *c);
static void end_unbegun(struct container *c);

/* Calls. */

static struct lt_engine_call *new_call(struct container *c, const char *method, json_t *body, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static struct lt_engine_call *new_call(struct container *c, const char *method, json_t *body, const char *format, ...)
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

static void cancel_call(struct lt_engine_call **call)
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
static void tell_end(struct container *c, struct lt_report *report)
{
    struct lt_work *work = c->work;
    c->state = CONTAINER_TOLD;
    stop_timers(c);
    cancel_call(&c->call);
    cancel_call(&c->kill);
    cancel_call(&c->stream);
    cancel_call(&c->input);
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

static void fail(struct container *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void fail(struct container *c, const char *format, ...)
{
    char reason[640];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    struct lt_report report = LT_REPORT(LT_FAILED);
    report.reason = lt_bytes_new(reason, strlen(reason));
    tell_end(c, &report);
}

/* The engine is not there, which is not the task's fault. */
static void snooze(struct container *c, const char *problem)
{
    struct lt_report report = LT_REPORT(LT_FAILED);
    report.reason = lt_bytes_new(problem, strlen(problem));
    report.snooze = -1;
    tell_end(c, &report);
}

static void answer_start(struct container *c)
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

/* Output. */

/* Bytes of one stream, in their order. */
static void take_output(struct container *c, int stream, const char *bytes, size_t len)
{
    if (c->skip[stream] > 0) {
        size_t known = c->skip[stream] < len ? (size_t)c->skip[stream] : len;
        c->skip[stream] -= known;
        bytes += known;
        len -= known;
    }
    if (len == 0)
        return;
    c->seen[stream] += len;
    if (stream == 1 && c->spec.one_stream)
        stream = 0;
    if (stream == 0 ? c->spec.discard_out : c->spec.discard_err)
        return;
    lt_capture_add(stream == 0 ? &c->out : &c->err, bytes, len);
    const struct lt_notify *notify = &c->docker->env.notify;
    if (!notify->output(notify->arg, c->work, stream == 0 ? LT_STDOUT : LT_STDERR, lt_bytes_new(bytes, len)))
        c->held_back = true;
}

static void take_frames(struct container *c, const char *bytes, size_t len)
{
    struct frames *f = &c->frames;
    if (f->raw) {
        take_output(c, 0, bytes, len);
        return;
    }
    while (len > 0) {
        if (f->left == 0 && f->head_len < sizeof f->head) {
            f->head[f->head_len++] = (unsigned char)*bytes++;
            len--;
            if (f->head_len == sizeof f->head)
                f->left =
                    (uint32_t)f->head[4] << 24 | (uint32_t)f->head[5] << 16 | (uint32_t)f->head[6] << 8 | f->head[7];
        } else {
            size_t part = len < f->left ? len : f->left;
            take_output(c, f->head[0] == 2, bytes, part);
            bytes += part;
            len -= part;
            f->left -= (uint32_t)part;
        }
        if (f->left == 0 && f->head_len == sizeof f->head)
            f->head_len = 0;
    }
}

static void stream_data(struct lt_engine_call *call, const char *bytes, size_t len)
{
    struct container *c = call->user;
    take_frames(c, bytes, len);
    if (c->held_back && c->stream != NULL)
        lt_engine_call_hold_back(c->stream, true);
}

void container_more(struct container *c)
{
    c->held_back = false;
    if (c->stream != NULL)
        lt_engine_call_hold_back(c->stream, false);
}

static void conclude(struct container *c);

void container_runs(struct container *c)
{
    if (c->stream == NULL)
        follow_log(c);
}

/* Its output ended a while ago, and it runs on: the engine's log tells whether that was the end. */
static void output_missing(struct lt_timer *timer)
{
    container_runs(lt_container_of(timer, struct container, timer));
}

static void stream_done(struct lt_engine_call *call)
{
    struct container *c = call->user;
    struct lt_loop *loop = c->docker->env.loop;
    c->stream = NULL;
    c->whole = call->status >= 101 && call->status < 300 && call->problem[0] == '\0';
    if (c->state == CONTAINER_RUNNING)
        lt_timer_start(loop, &c->timer, lt_loop_tick(loop) + OUTPUT_PAUSE, output_missing);
    if (c->state == CONTAINER_ATTACHING) {
        if (call->status == 0)
            snooze(c, call->problem);
        else
            fail(c, "%s", call->problem[0] != '\0' ? call->problem : "Docker ended the stream of the output");
    } else if (c->state == CONTAINER_DRAINING) {
        conclude(c);
    }
}

/* From the engine's log, from its beginning: what was seen already is left out. */
static void follow_log(struct container *c)
{
    c->whole = false;
    c->breaks = c->docker->breaks;
    c->frames = (struct frames){.raw = c->spec.tty};
    c->skip[0] = c->seen[0];
    c->skip[1] = c->seen[1];
    c->stream = new_call(c, "GET", NULL, "/containers/%s/logs?follow=1&stdout=1&stderr=1", c->id);
    c->stream->timeout = 0;
    c->stream->data = stream_data;
    c->stream->done = stream_done;
    lt_engine_call_start(c->stream);
}

/* The end. */

static void add_text(json_t *output, const char *name, const struct lt_capture *capture)
{
    size_t len;
    char *text = lt_capture_text(capture, &len);
    json_object_set_new_nocheck(output, name, json_stringn_nocheck(text, len));
    free(text);
}

static struct lt_bytes *make_output(const struct container *c)
{
    json_t *output = json_object();
    json_object_set_new(output, "code", json_integer(c->code));
    if (c->oom)
        json_object_set_new(output, "oom", json_true());
    if (!c->spec.discard_out)
        add_text(output, "stdout", &c->out);
    if (!c->spec.discard_err && !c->spec.one_stream && !c->spec.tty)
        add_text(output, "stderr", &c->err);
    struct lt_bytes *bytes = lt_tree_bytes(output);
    json_decref(output);
    return bytes;
}

static struct lt_bytes *make_reason(const struct container *c)
{
    const struct lt_capture *last = c->spec.one_stream || c->spec.tty ? &c->out : &c->err;
    char code[32];
    snprintf(code, sizeof code, "exit code %lld", (long long)c->code);
    char *line = lt_capture_last_line(last);
    struct lt_bytes *reason =
        lt_bytes_printf("%s%s%s", c->oom ? "out of memory" : code, line[0] != '\0' ? ": " : "", line);
    free(line);
    return reason;
}

/* It is dead, and its output is read. */
static void conclude(struct container *c)
{
    bool success = c->spec.success_codes != NULL ? lt_item_has_code(c->spec.success_codes, c->code) : c->code == 0;
    struct lt_report report = LT_REPORT(success ? LT_SUCCESS : LT_FAILED);
    report.output = make_output(c);
    if (!success) {
        report.reason = make_reason(c);
        report.no_retry = lt_item_has_code(c->spec.no_retry_codes, c->code);
    }
    tell_end(c, &report);
}

static void drain_over(struct lt_timer *timer)
{
    struct container *c = lt_container_of(timer, struct container, timer);
    cancel_call(&c->stream);
    conclude(c);
}

static void drain_output(struct container *c)
{
    struct lt_loop *loop = c->docker->env.loop;
    c->state = CONTAINER_DRAINING;
    if (c->stream == NULL && c->whole && c->breaks == c->docker->breaks) {
        conclude(c);
        return;
    }
    if (c->stream == NULL)
        follow_log(c);
    lt_timer_start(loop, &c->timer, lt_loop_tick(loop) + DRAIN, drain_over);
}

static void inspect_done(struct lt_engine_call *call)
{
    struct container *c = call->user;
    const json_t *state = json_object_get(call->answer, "State");
    const char *error = json_string_value(json_object_get(state, "Error"));
    c->call = NULL;
    if (call->status == 404) {
        container_vanished(c);
    } else if (call->status != 200 || state == NULL) { /* when the engine is there again, it is looked at again */
        c->state = CONTAINER_RUNNING;
        watch_look(c->docker);
    } else if (json_is_true(json_object_get(state, "Running"))) {
        c->state = CONTAINER_RUNNING;
        container_runs(c);
    } else {
        c->code = json_integer_value(json_object_get(state, "ExitCode"));
        c->oom = c->oom || json_is_true(json_object_get(state, "OOMKilled"));
        const char *status = json_string_value(json_object_get(state, "Status"));
        if (status != NULL && strcmp(status, "created") == 0)
            container_not_started(c);
        else if (error != NULL && error[0] != '\0' && c->seen[0] + c->seen[1] == 0 && c->code != 0)
            fail(c, "%s", error);
        else
            drain_output(c);
    }
}

static void inspect_container(struct container *c)
{
    c->state = CONTAINER_INSPECTING;
    lt_timer_stop(c->docker->env.loop, &c->timer);
    c->call = new_call(c, "GET", NULL, "/containers/%s/json", c->id);
    c->call->done = inspect_done;
    lt_engine_call_start(c->call);
}

void container_is_dead(struct container *c)
{
    c->died = true;
    if (c->state == CONTAINER_RUNNING)
        inspect_container(c);
}

void container_vanished(struct container *c)
{
    fail(c, "the container has vanished: %s", c->name != NULL ? c->name : c->id);
}

/* Starting. */

/* The program is not there, or may not be executed: said as of a process. The engine's words are those of its runtime. */
static void fail_start(struct container *c, const char *problem)
{
    char name[256];
    const char *quoted = strstr(problem, "exec: \"");
    bool missing = strstr(problem, "executable file not found") != NULL || strstr(problem, "no such file or directory");
    bool found = quoted != NULL && sscanf(quoted, "exec: \"%255[^\"]", name) == 1;
    if (found && missing)
        fail(c, "not found: %s", name);
    else if (found && strstr(problem, "permission denied") != NULL)
        fail(c, "permission denied: %s", name);
    else
        fail(c, "%s", problem);
}

static void start_done(struct lt_engine_call *call)
{
    struct container *c = call->user;
    c->call = NULL;
    if (call->status >= 400) {
        fail_start(c, call->problem);
        return;
    }
    c->state = CONTAINER_RUNNING;
    if (call->status == 0) {
        watch_look(c->docker);
    } else if (c->stream == NULL) {
        follow_log(c);
    }
    if (c->died)
        inspect_container(c);
    else if (c->stopping)
        container_stop(c);
}

static void start_container(struct container *c)
{
    c->state = CONTAINER_STARTING;
    c->call = new_call(c, "POST", NULL, "/containers/%s/start", c->id);
    c->call->timeout = CALL_TIMEOUT;
    c->call->done = start_done;
    lt_engine_call_start(c->call);
}

static void input_begun(struct lt_engine_call *call)
{
    struct container *c = call->user;
    if (call->status < 300 && c->state == CONTAINER_ATTACHING)
        start_container(c);
}

/* The end of the connection is the end of its input. */
static void input_sent(struct lt_engine_call *call)
{
    struct container *c = call->user;
    c->input = NULL;
    lt_engine_call_cancel(call);
}

static void input_data(struct lt_engine_call *call, const char *bytes, size_t len)
{
    (void)call;
    (void)bytes;
    (void)len;
}

static void input_done(struct lt_engine_call *call)
{
    struct container *c = call->user;
    c->input = NULL;
    if (c->state != CONTAINER_ATTACHING)
        return; /* it read no more */
    if (call->status == 0)
        snooze(c, call->problem);
    else
        fail(c, "%s", call->problem[0] != '\0' ? call->problem : "Docker did not take the input");
}

static void attach_input(struct container *c)
{
    c->input = new_call(c, "POST", NULL, "/containers/%s/attach?stream=1&stdin=1", c->id);
    c->input->timeout = 0;
    c->input->upload = c->spec.stdin_bytes;
    c->input->upload_len = c->spec.stdin_len;
    c->input->begun = input_begun;
    c->input->sent = input_sent;
    c->input->data = input_data;
    c->input->done = input_done;
    lt_engine_call_start(c->input);
}

/* Whether it was started is not known: it is asked for again, which does nothing if it was. */
void container_not_started(struct container *c)
{
    start_container(c);
}

static void stream_begun(struct lt_engine_call *call)
{
    struct container *c = call->user;
    if (call->status >= 300 || c->state != CONTAINER_ATTACHING)
        return;
    if (c->spec.stdin_bytes != NULL)
        attach_input(c);
    else
        start_container(c);
}

/* Before it is started, so that no byte is missed. */
static void attach_container(struct container *c)
{
    c->state = CONTAINER_ATTACHING;
    c->breaks = c->docker->breaks;
    c->frames.raw = c->spec.tty;
    c->stream = new_call(c, "POST", NULL, "/containers/%s/attach?stream=1&stdout=1&stderr=1", c->id);
    c->stream->timeout = 0;
    c->stream->begun = stream_begun;
    c->stream->data = stream_data;
    c->stream->done = stream_done;
    lt_engine_call_start(c->stream);
}

/* Creating. */

static void name_removed(struct lt_engine_call *call);

static void try_name_again(struct lt_timer *timer)
{
    create_container(lt_container_of(timer, struct container, timer));
}

static void name_removed(struct lt_engine_call *call)
{
    struct container *c = call->user;
    struct lt_loop *loop = c->docker->env.loop;
    c->call = NULL;
    lt_timer_start(loop, &c->timer, lt_loop_tick(loop) + NAME_PAUSE, try_name_again);
}

/* Whose is the container that has the name already? One's own earlier one is in the way of nobody else. */
static void name_looked_up(struct lt_engine_call *call)
{
    struct container *c = call->user;
    const json_t *labels = json_object_get(json_object_get(call->answer, "Config"), "Labels");
    const char *instance = json_string_value(json_object_get(labels, "ltsh.instance"));
    const char *task = json_string_value(json_object_get(labels, "ltsh.task"));
    const char *id = json_string_value(json_object_get(call->answer, "Id"));
    const char *own = lt_instance_id();
    c->call = NULL;
    bool ours = instance != NULL && task != NULL && strcmp(task, lt_task_id(c->work->task)) == 0 &&
                ((own != NULL && strcmp(instance, own) == 0) || lt_instance_is_dead(instance));
    if (call->status == 0) {
        snooze(c, call->problem);
    } else if (call->status == 404) {
        create_container(c);
    } else if (!ours || id == NULL || container_find(c->docker, id) != NULL) {
        fail(c, "name already in use: %s", c->name);
    } else {
        c->call = new_call(c, "DELETE", NULL, "/containers/%s?force=1&v=1", id);
        c->call->timeout = CALL_TIMEOUT;
        c->call->done = name_removed;
        lt_engine_call_start(c->call);
    }
}

static void look_up_name(struct container *c)
{
    c->call = new_call(c, "GET", NULL, "/containers/%s/json", c->name);
    c->call->done = name_looked_up;
    lt_engine_call_start(c->call);
}

static void create_done(struct lt_engine_call *call)
{
    struct container *c = call->user;
    const char *id = json_string_value(json_object_get(call->answer, "Id"));
    c->call = NULL;
    if (call->status == 0) {
        watch_look(c->docker); /* it may be there: then it is nobody's */
        snooze(c, call->problem);
    } else if (call->status == 404 && strstr(call->problem, "image") != NULL && c->spec.pull == LT_PULL_MISSING &&
               !c->pulled) {
        pull_image(c);
        answer_start(c); /* it may take long, and is to be stopped meanwhile */
    } else if (call->status == 404 && strstr(call->problem, "image") != NULL) {
        fail(c, "image not found: %s", c->spec.image);
    } else if (call->status == 409 && c->tries < MOST_TRIES) {
        look_up_name(c);
    } else if (call->status >= 400 || id == NULL || strlen(id) != CONTAINER_ID) {
        fail(c, "%s", call->status == 409 ? "the name is in use" : call->problem);
    } else {
        memcpy(c->id, id, CONTAINER_ID + 1);
        lt_map_put(&c->docker->by_id, lt_hash(c->id, CONTAINER_ID), c);
        answer_start(c); /* with its id, before any output */
        if (c->stopping)
            end_unbegun(c);
        else
            attach_container(c);
    }
}

/* Legal and unique, whatever the task's id is. */
static char *make_name(const struct container *c)
{
    const char *id = lt_task_id(c->work->task);
    const char *own = lt_instance_id();
    char readable[33];
    size_t len = 0;
    for (; id[len] != '\0' && len < sizeof readable - 1; len++) {
        bool legal = strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-", id[len]) != NULL;
        readable[len] = legal ? id[len] : '_';
    }
    readable[len] = '\0';
    char *all = lt_format("%s/%s/%s", own != NULL ? own : "", c->docker->env.name, id);
    uint64_t hash = 14695981039346656037u;
    for (const char *at = all; *at != '\0'; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    free(all);
    return lt_format("ltsh-%s-%llu-%08x", readable, (unsigned long long)c->work->run, (unsigned)(hash ^ hash >> 32));
}

static json_t *create_body(const struct container *c)
{
    json_t *body = json_deep_copy(c->spec.create);
    json_t *labels = json_object_get(body, "Labels");
    char host[256] = "", run[32];
    const char *own = lt_instance_id();
    if (labels == NULL) {
        labels = json_object();
        json_object_set_new(body, "Labels", labels);
    }
    gethostname(host, sizeof host - 1);
    snprintf(run, sizeof run, "%llu", (unsigned long long)c->work->run);
    json_object_set_new(labels, "ltsh.host", json_string(host));
    json_object_set_new(labels, "ltsh.instance", json_string(own != NULL ? own : ""));
    json_object_set_new(labels, "ltsh.queue", json_string(c->docker->env.name));
    json_object_set_new(labels, "ltsh.durable", json_string(c->docker->env.durable ? "yes" : "no"));
    json_object_set_new(labels, "ltsh.task", json_string(lt_task_id(c->work->task)));
    json_object_set_new(labels, "ltsh.run", json_string(run));
    if (c->spec.keep)
        json_object_set_new(labels, "ltsh.keep", json_string("yes"));
    return body;
}

static void create_container(struct container *c)
{
    c->state = CONTAINER_CREATING;
    c->tries++;
    c->call = new_call(c, "POST", create_body(c), "/containers/create?name=%s", c->name);
    c->call->timeout = CALL_TIMEOUT;
    c->call->done = create_done;
    lt_engine_call_start(c->call);
}

void container_image_there(struct container *c, const char *problem)
{
    c->pulled = true;
    if (problem != NULL)
        fail(c, "%s", problem);
    else
        create_container(c);
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
        tell_end(c, &report);
        return;
    }
    c->name = c->spec.name != NULL ? lt_strdup(c->spec.name) : make_name(c);
    watch_begin(docker);
    if (c->spec.pull == LT_PULL_ALWAYS) {
        pull_image(c);
        answer_start(c);
    } else {
        create_container(c);
    }
}

void container_resume(struct docker *docker, struct lt_work *work, const char *id)
{
    struct container *c = new_container(docker, work);
    struct lt_error error;
    c->answered = true;
    c->recovered = true;
    snprintf(c->id, sizeof c->id, "%s", id);
    lt_map_put(&docker->by_id, lt_hash(c->id, strlen(c->id)), c);
    if (!read_spec(c, &error)) { /* the defaults are others now: it is taken as it is */
        json_t *item = json_pack("{s:s}", "image", "-");
        lt_docker_spec_read(&c->spec, item, NULL, &error);
        json_decref(item);
        lt_capture_init(&c->out, c->spec.max_output);
        lt_capture_init(&c->err, c->spec.max_output);
    }
    inspect_container(c);
}

/* Stopping. */

static void end_unbegun(struct container *c)
{
    struct lt_report report = LT_REPORT(LT_STOPPED);
    tell_end(c, &report);
}

static void send_signal(struct container *c, const char *signal);

static void grace_over(struct lt_timer *timer)
{
    struct container *c = lt_container_of(timer, struct container, grace);
    send_signal(c, "SIGKILL");
}

/* KILL was sent, and no event came: it is asked for. */
static void ask_after_kill(struct lt_timer *timer)
{
    struct container *c = lt_container_of(timer, struct container, grace);
    if (c->state == CONTAINER_RUNNING)
        inspect_container(c);
}

static void refuse_stop(struct container *c, const char *problem)
{
    lt_timer_stop(c->docker->env.loop, &c->grace);
    c->stopping = false;
    lt_reply_send(&c->work->reply, LT_ERROR, problem);
}

static void signal_sent(struct lt_engine_call *call)
{
    struct container *c = call->user;
    c->kill = NULL;
    if (call->status == 0 || call->status >= 500) {
        refuse_stop(c, call->problem);
    } else if (call->status >= 400 && c->state == CONTAINER_RUNNING) { /* it does not run, or is not there */
        inspect_container(c);
    }
}

static void send_signal(struct container *c, const char *signal)
{
    struct lt_loop *loop = c->docker->env.loop;
    bool last = strcmp(signal, "SIGKILL") == 0;
    cancel_call(&c->kill);
    c->kill = new_call(c, "POST", NULL, "/containers/%s/kill?signal=%s", c->id, signal);
    c->kill->done = signal_sent;
    lt_engine_call_start(c->kill);
    lt_timer_start(loop, &c->grace, lt_loop_tick(loop) + (last ? KILL_PAUSE : c->spec.stop_grace),
                   last ? ask_after_kill : grace_over);
}

/* The image may say which signal. */
static void signal_looked_up(struct lt_engine_call *call)
{
    struct container *c = call->user;
    const json_t *config = json_object_get(call->answer, "Config");
    const char *signal = json_string_value(json_object_get(config, "StopSignal"));
    c->kill = NULL;
    if (call->status == 0 || call->status >= 500) {
        refuse_stop(c, call->problem);
        return;
    }
    send_signal(c, signal != NULL && signal[0] != '\0' ? signal : "SIGTERM");
}

void container_stop(struct container *c)
{
    char number[16];
    c->stopping = true;
    switch (c->state) {
    case CONTAINER_TOLD:
        c->stopping = false;
        lt_reply_ok(&c->work->reply);
        break;
    case CONTAINER_PULLING:
    case CONTAINER_ATTACHING: /* what was created is removed when its end is stored */
        end_unbegun(c);
        break;
    case CONTAINER_CREATING: /* as soon as that is answered */
    case CONTAINER_STARTING:
    case CONTAINER_INSPECTING:
    case CONTAINER_DRAINING: /* it ends by itself */
        break;
    case CONTAINER_RUNNING:
        if (c->kill != NULL)
            break;
        if (c->spec.stop_grace <= 0) {
            send_signal(c, "SIGKILL");
        } else if (c->spec.stop_signal != 0) {
            snprintf(number, sizeof number, "%d", c->spec.stop_signal);
            send_signal(c, number);
        } else {
            c->kill = new_call(c, "GET", NULL, "/containers/%s/json", c->id);
            c->kill->done = signal_looked_up;
            lt_engine_call_start(c->kill);
        }
        break;
    }
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
    cancel_call(&c->call);
    cancel_call(&c->kill);
    cancel_call(&c->stream);
    cancel_call(&c->input);
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
