/* How a container begins: created, with its image pulled if that is missing and under a name of its own; attached; started.
 * An answer that does not come leaves open whether it was done: what was created and is nobody's is found and removed, and
 * a start is asked for again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actuators/docker/docker_state.h"
#include "actuators/instance.h"
#include "base/alloc.h"
#include "base/container_of.h"

static const double CALL_TIMEOUT = 120; /* seconds: to create or to start may take long on a busy machine */
static const double NAME_PAUSE = 0.2;   /* seconds, before a name is tried again that is about to be free */
enum { MOST_TRIES = 10 };

static void attach_container(struct container *c);

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
        watch_look(c->docker);
    } else if (c->stream == NULL) {
        container_follow_log(c);
    }
    if (c->died)
        container_inspect(c);
    else if (c->stopping)
        container_stop(c);
}

static void start_container(struct container *c)
{
    c->state = CONTAINER_STARTING;
    c->call = container_call(c, "POST", NULL, "/containers/%s/start", c->id);
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
        container_snooze(c, call->problem);
    else
        container_fail(c, "%s", call->problem[0] != '\0' ? call->problem : "Docker did not take the input");
}

static void attach_input(struct container *c)
{
    c->input = container_call(c, "POST", NULL, "/containers/%s/attach?stream=1&stdin=1", c->id);
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
    c->stream = container_call(c, "POST", NULL, "/containers/%s/attach?stream=1&stdout=1&stderr=1", c->id);
    c->stream->timeout = 0;
    c->stream->begun = stream_begun;
    c->stream->data = container_stream_data;
    c->stream->done = container_stream_done;
    lt_engine_call_start(c->stream);
}

/* Creating. */

static void name_removed(struct lt_engine_call *call);

static void try_name_again(struct lt_timer *timer)
{
    container_create(lt_container_of(timer, struct container, timer));
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
                ((own != NULL && strcmp(instance, own) == 0) ||
                 lt_instance_is_dead(instance, json_string_value(json_object_get(labels, "ltsh.state"))));
    if (call->status == 0) {
        container_snooze(c, call->problem);
    } else if (call->status == 404) {
        container_create(c);
    } else if (!ours || id == NULL || container_find(c->docker, id) != NULL) {
        container_fail(c, "name already in use: %s", c->name);
    } else {
        c->call = container_call(c, "DELETE", NULL, "/containers/%s?force=1&v=1", id);
        c->call->timeout = CALL_TIMEOUT;
        c->call->done = name_removed;
        lt_engine_call_start(c->call);
    }
}

static void look_up_name(struct container *c)
{
    c->call = container_call(c, "GET", NULL, "/containers/%s/json", c->name);
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
        container_snooze(c, call->problem);
    } else if (call->status == 404 && strstr(call->problem, "image") != NULL && c->spec.pull == LT_PULL_MISSING &&
               !c->pulled) {
        pull_image(c);
        container_answer_start(c); /* it may take long, and is to be stopped meanwhile */
    } else if (call->status == 404 && strstr(call->problem, "image") != NULL) {
        container_fail(c, "image not found: %s", c->spec.image);
    } else if (call->status == 409 && c->tries < MOST_TRIES) {
        look_up_name(c);
    } else if (call->status >= 400 || id == NULL || strlen(id) != CONTAINER_ID) {
        container_fail(c, "%s", call->status == 409 ? "the name is in use" : call->problem);
    } else {
        memcpy(c->id, id, CONTAINER_ID + 1);
        lt_map_put(&c->docker->by_id, lt_hash(c->id, CONTAINER_ID), c);
        container_answer_start(c); /* with its id, before any output */
        if (c->stopping)
            container_end_unbegun(c);
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
    char *state = lt_instance_folder();
    json_object_set_new(labels, "ltsh.host", json_string(host));
    json_object_set_new(labels, "ltsh.instance", json_string(own != NULL ? own : ""));
    json_object_set_new(labels, "ltsh.state", json_string(state));
    json_object_set_new(labels, "ltsh.queue", json_string(c->docker->env.name));
    json_object_set_new(labels, "ltsh.durable", json_string(c->docker->env.durable ? "yes" : "no"));
    json_object_set_new(labels, "ltsh.task", json_string(lt_task_id(c->work->task)));
    json_object_set_new(labels, "ltsh.run", json_string(run));
    if (c->spec.keep)
        json_object_set_new(labels, "ltsh.keep", json_string("yes"));
    free(state);
    return body;
}

void container_create(struct container *c)
{
    c->state = CONTAINER_CREATING;
    if (c->name == NULL)
        c->name = c->spec.name != NULL ? lt_strdup(c->spec.name) : make_name(c);
    c->tries++;
    c->call = container_call(c, "POST", create_body(c), "/containers/create?name=%s", c->name);
    c->call->timeout = CALL_TIMEOUT;
    c->call->done = create_done;
    lt_engine_call_start(c->call);
}

void container_image_there(struct container *c, const char *problem)
{
    c->pulled = true;
    if (problem != NULL)
        container_fail(c, "%s", problem);
    else
        container_create(c);
}
