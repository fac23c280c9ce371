/* The actuator's life, and what the scheduler asks of it. */
#include "actuators/docker/docker.h"

#include <stdlib.h>
#include <string.h>

#include "actuators/docker/docker_state.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "base/tree.h"

static const double PATIENCE = 10; /* seconds that close waits for containers to be removed */

static struct docker *docker_of(struct lt_actuator *actuator)
{
    return (struct docker *)actuator;
}

static const char *id_of(const void *object, size_t *len)
{
    const struct container *c = object;
    *len = strlen(c->id);
    return c->id;
}

static int open_docker(struct lt_actuator *actuator, const struct lt_actuator_env *env, struct lt_error *error)
{
    struct docker *docker = docker_of(actuator);
    docker->env = *env;
    docker->engine = lt_engine_open(env->loop, &docker->place, error);
    if (docker->engine == NULL)
        return error->code;
    docker->open = true;
    return LT_OK;
}

/* A task whose item makes no sense is refused before it is stored. */
static void init_docker(struct lt_actuator *actuator, struct lt_init_op *op)
{
    struct lt_docker_spec spec;
    struct lt_error error;
    json_t *item = lt_tree_read(lt_task_item(op->task), op->task->item_len);
    int code = lt_docker_spec_read(&spec, item, docker_of(actuator)->defaults, &error);
    json_decref(item);
    if (code == LT_OK)
        lt_docker_spec_clear(&spec);
    lt_reply_send(&op->reply, code, code == LT_OK ? NULL : error.message);
}

static void start_docker(struct lt_actuator *actuator, struct lt_work *work)
{
    watch_begin(docker_of(actuator));
    container_start(docker_of(actuator), work);
}

static void stop_docker(struct lt_actuator *actuator, struct lt_work *work)
{
    (void)actuator;
    if (work->data != NULL)
        container_stop(work->data);
    else
        lt_reply_ok(&work->reply); /* it was not found, or its end is stored */
}

static void more_docker(struct lt_actuator *actuator, struct lt_work *work)
{
    (void)actuator;
    if (work->data != NULL)
        container_more(work->data);
}

static void docker_stored(struct lt_actuator *actuator, struct lt_work *work)
{
    struct container *c = work->data;
    if (c == NULL)
        return;
    work->data = NULL;
    if (c->id[0] != '\0' && !(c->spec.keep && c->state == CONTAINER_TOLD))
        remove_container(docker_of(actuator), c->id);
    container_free(c);
}

/* Recovery: one list for all. */

static void take_up(struct docker *docker, struct lt_recovered *found, const json_t *list)
{
    size_t i;
    json_t *entry;
    json_array_foreach(list, i, entry) {
        const json_t *labels = json_object_get(entry, "Labels");
        const char *task = json_string_value(json_object_get(labels, "ltsh.task"));
        const char *queue = json_string_value(json_object_get(labels, "ltsh.queue"));
        const char *run = json_string_value(json_object_get(labels, "ltsh.run"));
        const char *id = json_string_value(json_object_get(entry, "Id"));
        const char *state = json_string_value(json_object_get(entry, "State"));
        if (task == NULL || queue == NULL || run == NULL || id == NULL || state == NULL ||
            strcmp(task, lt_task_id(found->work->task)) != 0 || strcmp(queue, docker->env.name) != 0 ||
            strtoull(run, NULL, 10) != found->work->run || strcmp(state, "created") == 0)
            continue;
        found->fate = LT_FATE_RUNS; /* or it has ended, and that is told next */
        container_resume(docker, found->work, id);
        return;
    }
}

static void end_recovery(struct recovery *recovery)
{
    if (recovery->call != NULL)
        lt_engine_call_cancel(recovery->call);
    LIST_REMOVE(recovery, link);
    free(recovery);
}

static void recover_done(struct lt_engine_call *call)
{
    struct recovery *recovery = call->user;
    struct docker *docker = recovery->docker;
    struct lt_recover_work_op *op = recovery->op;
    recovery->call = NULL;
    end_recovery(recovery);
    if (call->status != 200) {
        lt_reply_send(&op->reply, LT_ERROR, call->problem);
        return;
    }
    for (uint32_t i = 0; i < op->count; i++)
        take_up(docker, &op->works[i], call->answer);
    lt_reply_ok(&op->reply);
    watch_begin(docker);
    watch_look(docker); /* what nobody took up is removed */
}

static void recover_docker(struct lt_actuator *actuator, struct lt_recover_work_op *op)
{
    static const double TIMEOUT = 30; /* seconds */
    struct docker *docker = docker_of(actuator);
    struct recovery *recovery = lt_zalloc(sizeof *recovery);
    for (uint32_t i = 0; i < op->count; i++)
        op->works[i].work->data = NULL;
    char *path = watch_query("/containers/json?all=1&filters=", "{\"label\":[\"ltsh.instance\"]}");
    recovery->docker = docker;
    recovery->op = op;
    recovery->call = lt_engine_call_new(docker->engine, "GET", path, NULL);
    recovery->call->user = recovery;
    recovery->call->timeout = TIMEOUT;
    recovery->call->done = recover_done;
    LIST_INSERT_HEAD(&docker->recoveries, recovery, link);
    free(path);
    lt_engine_call_start(recovery->call);
}

/* The end. */

static void free_docker(struct docker *docker)
{
    lt_map_free(&docker->by_id);
    json_decref(docker->defaults);
    free((char *)(uintptr_t)docker->place.host);
    free((char *)(uintptr_t)docker->place.ca);
    free((char *)(uintptr_t)docker->place.cert);
    free((char *)(uintptr_t)docker->place.key);
    free((char *)(uintptr_t)docker->place.version);
    free(docker);
}

static void close_now(struct docker *docker)
{
    struct lt_reply *reply = docker->closing;
    struct container *c;
    lt_timer_stop(docker->env.loop, &docker->patience);
    watch_end(docker);
    removals_cancel(docker);
    while ((c = TAILQ_FIRST(&docker->containers)) != NULL) { /* left alone: they could not be stored */
        c->work->data = NULL;
        container_free(c);
    }
    struct recovery *recovery;
    while ((recovery = LIST_FIRST(&docker->recoveries)) != NULL)
        end_recovery(recovery); /* NOLINT(clang-analyzer-unix.Malloc): it does not see that this one is off the list */
    lt_engine_close(docker->engine);
    docker->engine = NULL;
    docker->closing = NULL;
    docker->open = false;
    if (docker->released)
        free_docker(docker);
    lt_reply_ok(reply);
}

static void docker_removed(struct docker *docker)
{
    if (docker->closing != NULL && removals_are_over(docker))
        close_now(docker);
}

static void patience_over(struct lt_timer *timer)
{
    struct docker *docker = lt_container_of(timer, struct docker, patience);
    lt_log(LT_LOG_WARN, "containers are not removed yet, a later host will", LT_S("scheduler", docker->env.name));
    close_now(docker);
}

static void close_docker(struct lt_actuator *actuator, struct lt_reply *reply)
{
    struct docker *docker = docker_of(actuator);
    struct lt_loop *loop = docker->env.loop;
    docker->closing = reply;
    if (removals_are_over(docker))
        close_now(docker);
    else
        lt_timer_start(loop, &docker->patience, lt_loop_tick(loop) + PATIENCE, patience_over);
}

static void release_docker(struct lt_actuator *actuator)
{
    struct docker *docker = docker_of(actuator);
    docker->released = true;
    if (!docker->open)
        free_docker(docker);
}

static const struct lt_actuator_ops ops = {
    .name = "docker",
    .open = open_docker,
    .init = init_docker,
    .start = start_docker,
    .stop = stop_docker,
    .more = more_docker,
    .stored = docker_stored,
    .recover = recover_docker,
    .close = close_docker,
    .release = release_docker,
};

static const char *copy(const char *text)
{
    return text != NULL ? lt_strdup(text) : NULL;
}

struct lt_actuator *lt_docker_actuator_new(const struct lt_engine_place *place, json_t *defaults)
{
    struct docker *docker = lt_zalloc(sizeof *docker);
    docker->base = (struct lt_actuator){.ops = &ops, .can_attach = true, .builtin = true, .capacity = LT_ANY_NUMBER};
    docker->place = (struct lt_engine_place){copy(place->host), copy(place->ca), copy(place->cert), copy(place->key),
                                             copy(place->version)};
    docker->defaults = defaults;
    docker->want_look = watch_look;
    docker->removed = docker_removed;
    docker->again = docker->look_later = docker->patience = LT_TIMER_INIT;
    LIST_INIT(&docker->recoveries);
    docker->by_id.key = id_of;
    TAILQ_INIT(&docker->containers);
    TAILQ_INIT(&docker->pulls);
    TAILQ_INIT(&docker->removals);
    TAILQ_INIT(&docker->doubts);
    return &docker->base;
}
