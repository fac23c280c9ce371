/* What a container puts out: a stream that is attached before it starts, taken apart into stdout and stderr; where its
 * connection broke, the engine's log from its beginning, of which what was seen is left out. When it is dead the rest is
 * read, and what came of it is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actuators/docker/docker_state.h"
#include "actuators/result.h"
#include "base/container_of.h"

static const double DRAIN = 5;     /* seconds for the output of a container that is dead */
static const double OOM_PAUSE = 1; /* seconds for an event of its memory, after its end */
static const int64_t KILLED = 137; /* the exit code of a SIGKILL */
static const double OUTPUT_PAUSE =
    0.5; /* seconds between the end of the output and that of the container, before it is asked for */

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

void container_stream_data(struct lt_engine_call *call, const char *bytes, size_t len)
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

static void output_read(struct container *c);

void container_runs(struct container *c)
{
    if (c->stream == NULL)
        container_follow_log(c);
}

/* Its output ended a while ago, and nothing was said of its end. It may be dead: of one that died while there was no connection
 * for events nothing comes, and the list that was asked for afterwards may have had it as running. If it runs on, its log is
 * followed. */
static void output_missing(struct lt_timer *timer)
{
    struct docker *docker = lt_container_of(timer, struct container, timer)->docker;
    docker->want_look(docker);
}

void container_stream_done(struct lt_engine_call *call)
{
    struct container *c = call->user;
    struct lt_loop *loop = c->docker->env.loop;
    c->stream = NULL;
    c->whole = call->status >= 101 && call->status < 300 && call->problem[0] == '\0';
    if (c->state == CONTAINER_RUNNING)
        lt_timer_start(loop, &c->timer, lt_loop_tick(loop) + OUTPUT_PAUSE, output_missing);
    if (c->state == CONTAINER_ATTACHING) {
        if (call->status == 0)
            container_snooze(c, call->problem);
        else
            container_fail(c, "%s", call->problem[0] != '\0' ? call->problem : "Docker ended the stream of the output");
    } else if (c->state == CONTAINER_DRAINING) {
        output_read(c);
    }
}

/* From the engine's log, from its beginning: what was seen already is left out. */
void container_follow_log(struct container *c)
{
    c->whole = false;
    c->breaks = c->docker->breaks;
    c->frames = (struct frames){.raw = c->spec.tty};
    c->skip[0] = c->seen[0];
    c->skip[1] = c->seen[1];
    c->stream = container_call(c, "GET", NULL, "/containers/%s/logs?follow=1&stdout=1&stderr=1", c->id);
    c->stream->timeout = 0;
    c->stream->data = container_stream_data;
    c->stream->done = container_stream_done;
    lt_engine_call_start(c->stream);
}

/* What came of it. */

static json_t *make_output(const struct container *c)
{
    json_t *output = json_object();
    json_object_set_new(output, "code", json_integer(c->code));
    if (c->oom)
        json_object_set_new(output, "oom", json_true());
    if (!c->spec.discard_out)
        lt_result_add(output, "stdout", &c->out);
    if (!c->spec.discard_err && !c->spec.one_stream && !c->spec.tty)
        lt_result_add(output, "stderr", &c->err);
    return output;
}

/* Killed, and by nobody of ours, with a limit of memory: that this was used up is told by the engine apart from its end, now
 * and then after it, and now and then never. */
static bool is_doubtful(const struct container *c)
{
    return c->code == KILLED && c->limited && !c->oom && !c->stopping;
}

static void conclude(struct container *c)
{
    char code[80];
    lt_timer_stop(c->docker->env.loop, &c->timer);
    snprintf(code, sizeof code, "exit code %lld%s", (long long)c->code,
             is_doubtful(c) ? " (killed, perhaps for its memory)" : "");
    bool apart = !c->spec.one_stream && !c->spec.tty;
    struct lt_bytes *reason = lt_result_reason(c->oom ? "out of memory" : code, apart ? &c->err : &c->out);
    struct lt_report report = lt_result_report(&c->spec.codes, false, c->code, make_output(c), reason);
    container_tell_end(c, &report);
}

static void doubt_over(struct lt_timer *timer)
{
    conclude(lt_container_of(timer, struct container, timer));
}

void container_out_of_memory(struct container *c)
{
    c->oom = true;
    if (c->state == CONTAINER_DOUBTED)
        conclude(c);
}

/* It is dead, and its output is read. */
static void output_read(struct container *c)
{
    struct lt_loop *loop = c->docker->env.loop;
    if (!is_doubtful(c)) {
        conclude(c);
        return;
    }
    c->state = CONTAINER_DOUBTED;
    lt_timer_start(loop, &c->timer, lt_loop_tick(loop) + OOM_PAUSE, doubt_over);
}

static void drain_over(struct lt_timer *timer)
{
    struct container *c = lt_container_of(timer, struct container, timer);
    container_cancel(&c->stream);
    output_read(c);
}

void container_drain(struct container *c)
{
    struct lt_loop *loop = c->docker->env.loop;
    c->state = CONTAINER_DRAINING;
    if (c->stream == NULL && c->whole && c->breaks == c->docker->breaks) {
        output_read(c);
        return;
    }
    if (c->stream == NULL)
        container_follow_log(c);
    lt_timer_start(loop, &c->timer, lt_loop_tick(loop) + DRAIN, drain_over);
}
