/* What is to go: containers whose end is stored, and leftovers: those that were created and whose answer was lost, and
 * those of hosts that are dead, by the lock that each host holds (instance.h). What may belong to a living host, or to a
 * task that outlives its host and is taken up again, is never touched: the store says whether a run is under way.
 *
 * A removal that fails is tried again a few times; what is left then is found by a later host. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actuators/docker/docker_state.h"
#include "actuators/instance.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"

static const double REMOVE_TIMEOUT = 60; /* seconds */
static const double PAUSE = 1;           /* doubles */
enum { MOST_TRIES = 5 };

static void free_removal(struct removal *removal)
{
    struct docker *docker = removal->docker;
    lt_timer_stop(docker->env.loop, &removal->again);
    if (removal->call != NULL)
        lt_engine_call_cancel(removal->call);
    TAILQ_REMOVE(&docker->removals, removal, link);
    free(removal);
}

static void try_removal(struct lt_timer *timer);

static void removal_done(struct lt_engine_call *call)
{
    struct removal *removal = call->user;
    struct docker *docker = removal->docker;
    bool gone = (call->status >= 200 && call->status < 300) || call->status == 404 || call->status == 409;
    removal->call = NULL;
    if (!gone && (removal->tries < MOST_TRIES || docker->closing != NULL)) {
        struct lt_loop *loop = docker->env.loop;
        double pause = docker->closing != NULL ? PAUSE : PAUSE * (double)(1u << (removal->tries - 1));
        lt_timer_start(loop, &removal->again, lt_loop_tick(loop) + pause, try_removal);
        return;
    }
    if (!gone)
        lt_log(LT_LOG_WARN, "a container could not be removed", LT_S("container", removal->id),
               LT_S("error", call->problem));
    free_removal(removal);
    docker->removed(docker);
}

static void try_removal(struct lt_timer *timer)
{
    struct removal *removal = lt_container_of(timer, struct removal, again);
    char path[128];
    removal->tries++;
    snprintf(path, sizeof path, "/containers/%s?force=1&v=1", removal->id);
    removal->call = lt_engine_call_new(removal->docker->engine, "DELETE", path, NULL);
    removal->call->user = removal;
    removal->call->timeout = REMOVE_TIMEOUT;
    removal->call->done = removal_done;
    lt_engine_call_start(removal->call);
}

static bool is_being_removed(const struct docker *docker, const char *id)
{
    const struct removal *removal;
    TAILQ_FOREACH(removal, &docker->removals, link) {
        if (strcmp(removal->id, id) == 0)
            return true;
    }
    return false;
}

void remove_container(struct docker *docker, const char *id)
{
    struct removal *removal = lt_zalloc(sizeof *removal);
    removal->docker = docker;
    removal->again = LT_TIMER_INIT;
    snprintf(removal->id, sizeof removal->id, "%s", id);
    TAILQ_INSERT_TAIL(&docker->removals, removal, link);
    try_removal(&removal->again);
}

void removals_cancel(struct docker *docker)
{
    struct removal *removal;
    while ((removal = TAILQ_FIRST(&docker->removals)) != NULL)
        free_removal(removal); /* NOLINT(clang-analyzer-unix.Malloc): it does not see that this one is off the list */
}

/* Doubts. */

static bool is_doubted(const struct docker *docker, const char *id)
{
    const struct doubt *doubt;
    TAILQ_FOREACH(doubt, &docker->doubts, link) {
        if (strcmp(doubt->id, id) == 0)
            return true;
    }
    return false;
}

static void remove_leftover(struct docker *docker, const char *id)
{
    lt_log(LT_LOG_INFO, "removing a container that no task needs any more", LT_S("container", id));
    remove_container(docker, id);
}

static void doubt_over(struct lt_reply *reply)
{
    struct doubt *doubt = lt_container_of(reply, struct doubt, query.reply);
    struct docker *docker = doubt->docker;
    bool known = reply->code == LT_OK; /* else the next look asks again */
    TAILQ_REMOVE(&docker->doubts, doubt, link);
    if (known && !doubt->query.under_way && docker->closing == NULL && container_find(docker, doubt->id) == NULL)
        remove_leftover(docker, doubt->id);
    lt_reply_clear(reply);
    free(doubt->task);
    free(doubt);
    docker->removed(docker);
}

static void ask_whether_needed(struct docker *docker, const char *id, const char *task, uint64_t run)
{
    struct doubt *doubt = lt_zalloc(sizeof *doubt);
    doubt->docker = docker;
    snprintf(doubt->id, sizeof doubt->id, "%s", id);
    doubt->task = lt_strdup(task);
    doubt->query = (struct lt_run_query_op){.id = doubt->task, .id_len = strlen(task), .run = run};
    TAILQ_INSERT_TAIL(&docker->doubts, doubt, link);
    lt_reply_begin(&doubt->query.reply, docker->env.loop, doubt_over);
    docker->env.query_run(docker->env.push_arg, &doubt->query);
    lt_reply_end(&doubt->query.reply);
}

bool removals_are_over(const struct docker *docker)
{
    return TAILQ_EMPTY(&docker->removals) && TAILQ_EMPTY(&docker->doubts);
}

/* Removes it, if no task needs it: ours whose run is not known, or a dead host's. One of a task that outlives its host may
 * have been taken up by another host, or be about to be. */
static void judge(struct docker *docker, const json_t *entry)
{
    const json_t *labels = json_object_get(entry, "Labels");
    const char *id = json_string_value(json_object_get(entry, "Id"));
    const char *instance = json_string_value(json_object_get(labels, "ltsh.instance"));
    const char *host = json_string_value(json_object_get(labels, "ltsh.host"));
    const char *queue = json_string_value(json_object_get(labels, "ltsh.queue"));
    const char *task = json_string_value(json_object_get(labels, "ltsh.task"));
    const char *run = json_string_value(json_object_get(labels, "ltsh.run"));
    const char *durable = json_string_value(json_object_get(labels, "ltsh.durable"));
    const char *own = lt_instance_id();
    char name[256] = "";
    if (id == NULL || instance == NULL || host == NULL || queue == NULL || task == NULL || run == NULL ||
        json_object_get(labels, "ltsh.keep") != NULL || own == NULL)
        return;
    gethostname(name, sizeof name - 1);
    if (strcmp(host, name) != 0 || container_find(docker, id) != NULL || is_being_removed(docker, id) ||
        is_doubted(docker, id))
        return;
    uint64_t number = strtoull(run, NULL, 10);
    bool same_queue = strcmp(queue, docker->env.name) == 0;
    bool outlives = durable != NULL && strcmp(durable, "yes") == 0;
    if (same_queue && container_of_task(docker, task, number) != NULL)
        return; /* it is just being created, or taken up */
    bool is_own = strcmp(instance, own) == 0;
    if (!same_queue && (is_own || outlives))
        return; /* another scheduler's */
    if (!is_own && !lt_instance_is_dead(instance, json_string_value(json_object_get(labels, "ltsh.state"))))
        return;
    if (outlives)
        ask_whether_needed(docker, id, task, number);
    else
        remove_leftover(docker, id);
}

void remove_leftovers(struct docker *docker, const json_t *list)
{
    size_t i;
    json_t *entry;
    if (!LIST_EMPTY(&docker->recoveries))
        return; /* whose they are is just being found out */
    json_array_foreach(list, i, entry)
        judge(docker, entry);
}
