/* Ends come from the engine's events, over one connection for all containers. Whenever that is made anew, all of ours are
 * looked at in one list: an end that came meanwhile has no event. The same list finds what was created and is nobody's
 * (leftover.c), and is made when an answer was lost.
 *
 * A stream that breaks is made again at once, and then after pauses that double to LONGEST_PAUSE. */
#include <stdlib.h>
#include <string.h>

#include "actuators/docker/docker_state.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"

static const double FIRST_PAUSE = 0.1; /* seconds */
static const double LONGEST_PAUSE = 5;
static const double LOOK_TIMEOUT = 30;
static const double LOOK_PAUSE = 5; /* before another one, if one was not answered */

char *watch_query(const char *prefix, const char *filters)
{
    char *escaped = curl_easy_escape(NULL, filters, 0);
    char *query = lt_format("%s%s", prefix, escaped);
    curl_free(escaped);
    return query;
}

/* Looking. */

static const json_t *find_in_list(const json_t *list, const char *id)
{
    size_t i;
    json_t *entry;
    json_array_foreach(list, i, entry) {
        const char *known = json_string_value(json_object_get(entry, "Id"));
        if (known != NULL && strcmp(known, id) == 0)
            return entry;
    }
    return NULL;
}

static void compare(struct container *c, const json_t *list)
{
    const json_t *entry = find_in_list(list, c->id);
    const char *state = json_string_value(json_object_get(entry, "State"));
    if (entry == NULL)
        container_vanished(c);
    else if (state != NULL && strcmp(state, "created") == 0)
        container_begin(c);
    else if (state != NULL && (strcmp(state, "exited") == 0 || strcmp(state, "dead") == 0))
        container_is_dead(c);
    else
        container_runs(c);
}

static void look_later(struct lt_timer *timer)
{
    watch_look(lt_container_of(timer, struct docker, look_later));
}

static void look_done(struct lt_engine_call *call)
{
    struct docker *docker = call->user;
    struct container *c, *next;
    docker->look = NULL;
    if (call->status == 200) {
        for (c = TAILQ_FIRST(&docker->containers); c != NULL; c = next) {
            next = TAILQ_NEXT(c, link);
            if (c->state == CONTAINER_RUNNING && c->id[0] != '\0')
                compare(c, call->answer);
        }
        remove_leftovers(docker, call->answer);
    } else if (docker->closing == NULL) {
        struct lt_loop *loop = docker->env.loop;
        lt_timer_start(loop, &docker->look_later, lt_loop_tick(loop) + LOOK_PAUSE, look_later);
    }
    if (docker->look_again && docker->closing == NULL) {
        docker->look_again = false;
        watch_look(docker);
    }
}

void watch_look(struct docker *docker)
{
    if (docker->look != NULL) {
        docker->look_again = true;
        return;
    }
    char *path = watch_query("/containers/json?all=1&filters=", "{\"label\":[\"ltsh.instance\"]}");
    docker->look = lt_engine_call_new(docker->engine, "GET", path, NULL);
    docker->look->user = docker;
    docker->look->timeout = LOOK_TIMEOUT;
    docker->look->unheld = true;
    docker->look->done = look_done;
    free(path);
    lt_engine_call_start(docker->look);
}

/* Events. */

static void take_event(struct docker *docker, const char *text, size_t len)
{
    json_t *event = json_loadb(text, len, JSON_DISABLE_EOF_CHECK, NULL);
    const json_t *actor = json_object_get(event, "Actor");
    const char *action = json_string_value(json_object_get(event, "Action"));
    const char *id = json_string_value(json_object_get(actor, "ID"));
    struct container *c = id != NULL ? container_find(docker, id) : NULL;
    json_int_t at = json_integer_value(json_object_get(event, "timeNano"));
    if (at > docker->since)
        docker->since = at;
    if (c != NULL && action != NULL) {
        if (strcmp(action, "die") == 0)
            container_is_dead(c);
        else if (strcmp(action, "oom") == 0)
            container_out_of_memory(c);
        else if (strcmp(action, "destroy") == 0 && c->state == CONTAINER_RUNNING)
            container_vanished(c);
    }
    json_decref(event);
}

static void events_data(struct lt_engine_call *call, const char *bytes, size_t len)
{
    struct docker *docker = call->user;
    const char *end;
    lt_buffer_append(&docker->line, bytes, len);
    size_t used = 0;
    while ((end = memchr(docker->line.data + used, '\n', docker->line.len - used)) != NULL) {
        size_t line = (size_t)(end - docker->line.data) - used;
        take_event(docker, docker->line.data + used, line);
        used += line + 1;
    }
    memmove(docker->line.data, docker->line.data + used, docker->line.len - used);
    docker->line.len -= used;
}

static void events_begun(struct lt_engine_call *call)
{
    struct docker *docker = call->user;
    if (call->status != 200)
        return;
    docker->pause = 0;
    watch_look(docker);
}

static void begin_events(struct lt_timer *timer);

static void events_done(struct lt_engine_call *call)
{
    struct docker *docker = call->user;
    struct lt_loop *loop = docker->env.loop;
    docker->events = NULL;
    lt_engine_ask_again(docker->engine);
    docker->breaks++;
    docker->line.len = 0;
    docker->pause = docker->pause > 0 ? docker->pause * 2 : FIRST_PAUSE;
    if (docker->pause > LONGEST_PAUSE)
        docker->pause = LONGEST_PAUSE;
    lt_timer_start(loop, &docker->again, lt_loop_tick(loop) + docker->pause, begin_events);
}

static void begin_events(struct lt_timer *timer)
{
    struct docker *docker = lt_container_of(timer, struct docker, again);
    char since[64] = "";
    if (docker->since > 0) /* they may have been told already: nothing is done twice */
        snprintf(since, sizeof since, "since=%lld.%09lld&", (long long)(docker->since / 1000000000),
                 (long long)(docker->since % 1000000000));
    char *prefix = lt_format("/events?%sfilters=", since);
    char *path = watch_query(prefix, "{\"type\":[\"container\"],\"label\":[\"ltsh.instance\"],"
                                     "\"event\":[\"die\",\"oom\",\"destroy\"]}");
    docker->events = lt_engine_call_new(docker->engine, "GET", path, NULL);
    docker->events->user = docker;
    docker->events->unheld = true;
    docker->events->begun = events_begun;
    docker->events->data = events_data;
    docker->events->done = events_done;
    free(path);
    free(prefix);
    lt_engine_call_start(docker->events);
}

void watch_begin(struct docker *docker)
{
    if (docker->events == NULL && !lt_timer_active(&docker->again))
        begin_events(&docker->again);
}

void watch_end(struct docker *docker)
{
    lt_timer_stop(docker->env.loop, &docker->again);
    lt_timer_stop(docker->env.loop, &docker->look_later);
    if (docker->events != NULL)
        lt_engine_call_cancel(docker->events);
    if (docker->look != NULL)
        lt_engine_call_cancel(docker->look);
    docker->events = docker->look = NULL;
    lt_buffer_free(&docker->line);
}
