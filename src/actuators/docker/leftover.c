/* What is to go: containers whose end is stored, and leftovers: those that were created and whose answer was lost, and
 * those of hosts that are dead, by the lock that each host holds (instance.h). What may belong to a living host, or to a
 * task that outlives its host and is taken up again, is never touched.
 *
 * A removal that fails is tried again a few times; what is left then is found by a later host. */
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

/* Whether no task needs it: ours whose run is not known, or a dead host's. */
static bool is_leftover(const struct docker *docker, const json_t *entry)
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
        return false;
    gethostname(name, sizeof name - 1);
    if (strcmp(host, name) != 0 || container_find(docker, id) != NULL || is_being_removed(docker, id))
        return false;
    bool same_queue = strcmp(queue, docker->env.name) == 0;
    if (container_of_task(docker, task, strtoull(run, NULL, 10)) != NULL && same_queue)
        return false; /* it is just being created, or taken up */
    if (strcmp(instance, own) == 0)
        return same_queue;
    bool outlives = durable != NULL && strcmp(durable, "yes") == 0;
    return (same_queue || !outlives) &&
           lt_instance_is_dead(instance, json_string_value(json_object_get(labels, "ltsh.state")));
}

void remove_leftovers(struct docker *docker, const json_t *list)
{
    size_t i;
    json_t *entry;
    if (!LIST_EMPTY(&docker->recoveries))
        return; /* whose they are is just being found out */
    json_array_foreach(list, i, entry) {
        if (!is_leftover(docker, entry))
            continue;
        const char *id = json_string_value(json_object_get(entry, "Id"));
        lt_log(LT_LOG_INFO, "removing a container that no task needs any more", LT_S("container", id));
        remove_container(docker, id);
    }
}
