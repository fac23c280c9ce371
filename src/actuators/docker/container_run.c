/* How a container runs and ends: it is started; it ends by itself, as the engine tells; or by a signal, after its grace by KILL.
 * Either way it is inspected when it is dead. A start whose answer is lost is asked for again. */
#include <stdio.h>
#include <string.h>

#include "actuators/docker/docker_state.h"
#include "base/container_of.h"

static const double START_TIMEOUT = 120; /* seconds: it may take long on a busy machine */
static const double KILL_PAUSE = 10;     /* seconds after KILL, before the engine is asked whether it is dead */

/* Starting. */

/* The program is not there, or may not be executed: said as of a process. The engine's words are those of its runtime. */
static void fail_start(struct container *c, const char *problem)
{
    char name[256];
    const char *quoted = strstr(problem, "exec: \"");
    bool missing = strstr(problem, "executable file not found") != NULL || strstr(problem, "no such file or directory");
    bool found = quoted != NULL && sscanf(quoted, "exec: \"%255[^\"]", name) == 1;
    if (found && missing)
        container_fail(c, "not found: %s", name);
    else if (found && strstr(problem, "permission denied") != NULL)
        container_fail(c, "permission denied: %s", name);
    else
        container_fail(c, "%s", problem);
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
        c->docker->want_look(c->docker);
    } else if (c->stream == NULL) {
        container_follow_log(c);
    }
    if (c->died)
        container_inspect(c);
    else if (c->stopping)
        container_stop(c);
}

void container_begin(struct container *c)
{
    c->state = CONTAINER_STARTING;
    c->call = container_call(c, "POST", NULL, "/containers/%s/start", c->id);
    c->call->timeout = START_TIMEOUT;
    c->call->done = start_done;
    lt_engine_call_start(c->call);
}

/* Its end. */

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
        c->docker->want_look(c->docker);
    } else if (json_is_true(json_object_get(state, "Running"))) {
        c->state = CONTAINER_RUNNING;
        container_runs(c);
        if (c->died) /* meanwhile */
            container_inspect(c);
        else if (c->stopping && c->kill == NULL && !lt_timer_active(&c->grace))
            container_stop(c);
    } else {
        c->code = json_integer_value(json_object_get(state, "ExitCode"));
        c->limited = json_integer_value(json_object_get(json_object_get(call->answer, "HostConfig"), "Memory")) > 0;
        c->oom = c->oom || json_is_true(json_object_get(state, "OOMKilled"));
        const char *status = json_string_value(json_object_get(state, "Status"));
        if (status != NULL && strcmp(status, "created") == 0)
            container_begin(c); /* nobody knew whether it was started: that does nothing if it was */
        else if (error != NULL && error[0] != '\0' && c->seen[0] + c->seen[1] == 0 && c->code != 0)
            container_fail(c, "%s", error);
        else
            container_drain(c);
    }
}

void container_inspect(struct container *c)
{
    c->state = CONTAINER_INSPECTING;
    c->died = false;
    lt_timer_stop(c->docker->env.loop, &c->timer);
    c->call = container_call(c, "GET", NULL, "/containers/%s/json", c->id);
    c->call->done = inspect_done;
    lt_engine_call_start(c->call);
}

void container_is_dead(struct container *c)
{
    c->died = true;
    if (c->state == CONTAINER_RUNNING)
        container_inspect(c);
}

void container_vanished(struct container *c)
{
    container_fail(c, "the container has vanished: %s", c->name != NULL ? c->name : c->id);
}

/* Stopping. */

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
        container_inspect(c);
}

static void refuse_stop(struct container *c, const char *problem)
{
    lt_timer_stop(c->docker->env.loop, &c->grace);
    c->stopping = false;
    lt_reply_send(&c->work->reply, LT_ERROR, problem);
}

static void unpaused(struct lt_engine_call *call)
{
    struct container *c = call->user;
    c->kill = NULL;
    send_signal(c, "SIGKILL");
}

static void signal_sent(struct lt_engine_call *call)
{
    struct container *c = call->user;
    c->kill = NULL;
    if (call->status == 0 || call->status >= 500) {
        refuse_stop(c, call->problem);
    } else if (call->status == 409 && strstr(call->problem, "paused") != NULL) { /* some engines do not signal those */
        c->kill = container_call(c, "POST", NULL, "/containers/%s/unpause", c->id);
        c->kill->done = unpaused;
        lt_engine_call_start(c->kill);
    } else if (call->status >= 400 && c->state == CONTAINER_RUNNING) { /* it does not run, or is not there */
        container_inspect(c);
    }
}

static void send_signal(struct container *c, const char *signal)
{
    struct lt_loop *loop = c->docker->env.loop;
    bool last = strcmp(signal, "SIGKILL") == 0;
    container_cancel(&c->kill);
    c->kill = container_call(c, "POST", NULL, "/containers/%s/kill?signal=%s", c->id, signal);
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
        container_end_unbegun(c);
        break;
    case CONTAINER_CREATING: /* as soon as that is answered */
    case CONTAINER_STARTING:
    case CONTAINER_INSPECTING:
    case CONTAINER_DRAINING:
    case CONTAINER_DOUBTED: /* it ends by itself */
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
            c->kill = container_call(c, "GET", NULL, "/containers/%s/json", c->id);
            c->kill->done = signal_looked_up;
            lt_engine_call_start(c->kill);
        }
        break;
    }
}
