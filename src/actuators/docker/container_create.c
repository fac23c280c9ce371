/* How a container comes to be: created, with its image pulled if that is missing and under a name of its own; attached, and
 * then started. An answer that does not come leaves open whether it was done: what was created and is nobody's is found and
 * removed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actuators/docker/docker_state.h"
#include "actuators/instance.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/tree.h"

static const double CALL_TIMEOUT = 120; /* seconds: to create it may take long on a busy machine */
static const double NAME_PAUSE = 0.2;   /* seconds, before a name is tried again that is about to be free */
enum { MOST_TRIES = 10 };

static void create_container(struct container *c);
static void image_there(struct container *c, const char *problem);

static void input_begun(struct lt_engine_call *call)
{
    struct container *c = call->user;
    if (call->status < 300 && c->state == CONTAINER_ATTACHING)
        container_begin(c);
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

static void stream_begun(struct lt_engine_call *call)
{
    struct container *c = call->user;
    if (call->status >= 300 || c->state != CONTAINER_ATTACHING)
        return;
    if (c->spec.stdin_bytes != NULL)
        attach_input(c);
    else
        container_begin(c);
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
                ((own != NULL && strcmp(instance, own) == 0) ||
                 lt_instance_is_dead(instance, json_string_value(json_object_get(labels, "ltsh.state"))));
    if (call->status == 0) {
        container_snooze(c, call->problem);
    } else if (call->status == 404) {
        create_container(c);
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
        c->docker->want_look(c->docker); /* it may be there: then it is nobody's */
        container_snooze(c, call->problem);
    } else if (call->status == 404 && strstr(call->problem, "image") != NULL && c->spec.pull == LT_PULL_MISSING &&
               !c->pulled) {
        pull_image(c, image_there);
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

static void create_container(struct container *c)
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

static void image_there(struct container *c, const char *problem)
{
    c->pulled = true;
    if (problem != NULL)
        container_fail(c, "%s", problem);
    else
        create_container(c);
}

/* The beginning of all. */

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
    if (c->spec.pull == LT_PULL_ALWAYS) {
        pull_image(c, image_there);
        container_answer_start(c);
    } else {
        create_container(c);
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
