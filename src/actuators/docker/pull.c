/* Images: one pull for all containers that wait for the same one. It goes on while one of them still wants it, and has a
 * limit in time of its own. The engine answers 200 first and tells what goes wrong in the stream that follows, so that is
 * read to its end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actuators/docker/docker_state.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "base/tree.h"

static void free_pull(struct pull *pull)
{
    lt_timer_stop(pull->docker->env.loop, &pull->limit);
    if (pull->call != NULL)
        lt_engine_call_cancel(pull->call);
    TAILQ_REMOVE(&pull->docker->pulls, pull, link);
    lt_buffer_free(&pull->line);
    free(pull->image);
    free(pull);
}

static void tell_pulled(struct pull *pull, const char *problem)
{
    struct container *c;
    char text[640] = "";
    if (problem != NULL)
        snprintf(text, sizeof text, "image not found: %s: %s", pull->image, problem);
    struct container_list waiting = TAILQ_HEAD_INITIALIZER(waiting);
    TAILQ_CONCAT(&waiting, &pull->waiting, pull_link);
    free_pull(pull);
    TAILQ_FOREACH(c, &waiting, pull_link)
        c->pull = NULL;
    while ((c = TAILQ_FIRST(&waiting)) != NULL) {
        TAILQ_REMOVE(&waiting, c, pull_link);
        c->image_there(c, problem != NULL ? text : NULL);
    }
}

/* Each waiting task is told how far it is. */
static void tell_progress(struct pull *pull, const json_t *line)
{
    const char *status = json_string_value(json_object_get(line, "status"));
    const json_t *detail = json_object_get(line, "progressDetail");
    struct container *c;
    if (status == NULL || json_object_get(detail, "total") == NULL)
        return;
    json_t *progress = json_pack("{s:s,s:s,s:O,s:O}", "pull", pull->image, "status", status, "done",
                                 json_object_get(detail, "current"), "total", json_object_get(detail, "total"));
    TAILQ_FOREACH(c, &pull->waiting, pull_link) {
        struct lt_report report = LT_REPORT(LT_RUNNING);
        report.progress = lt_tree_bytes(progress);
        c->docker->env.notify.report(c->docker->env.notify.arg, c->work, &report);
    }
    json_decref(progress);
}

static void pull_line(struct pull *pull, const char *text, size_t len)
{
    json_t *line = json_loadb(text, len, JSON_DISABLE_EOF_CHECK, NULL);
    const char *error = json_string_value(json_object_get(line, "error"));
    if (error != NULL)
        snprintf(pull->problem, sizeof pull->problem, "%s", error);
    else if (line != NULL)
        tell_progress(pull, line);
    json_decref(line);
}

static void pull_data(struct lt_engine_call *call, const char *bytes, size_t len)
{
    struct pull *pull = call->user;
    const char *end;
    lt_buffer_append(&pull->line, bytes, len);
    while (pull->line.len > 0 && (end = memchr(pull->line.data, '\n', pull->line.len)) != NULL) {
        size_t used = (size_t)(end - pull->line.data) + 1;
        pull_line(pull, pull->line.data, used);
        memmove(pull->line.data, pull->line.data + used, pull->line.len - used);
        pull->line.len -= used;
    }
}

static void pull_done(struct lt_engine_call *call)
{
    struct pull *pull = call->user;
    char problem[512];
    pull->call = NULL;
    if (pull->line.len > 0)
        pull_line(pull, pull->line.data, pull->line.len);
    snprintf(problem, sizeof problem, "%s", pull->problem[0] != '\0' ? pull->problem : call->problem);
    tell_pulled(pull, problem[0] != '\0' ? problem : NULL);
}

static void pull_late(struct lt_timer *timer)
{
    tell_pulled(lt_container_of(timer, struct pull, limit), "pulling it took longer than pull_timeout");
}

/* As the engine wants it: JSON in base64 for URLs. */
static char *auth_header(const json_t *auth)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char *text = json_dumps(auth, JSON_COMPACT);
    if (text == NULL)
        return NULL;
    size_t len = strlen(text);
    char *encoded = lt_zalloc(len / 3 * 4 + 5);
    for (size_t i = 0, out = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)(unsigned char)text[i] << 16;
        bits |= i + 1 < len ? (uint32_t)(unsigned char)text[i + 1] << 8 : 0;
        bits |= i + 2 < len ? (unsigned char)text[i + 2] : 0;
        encoded[out++] = digits[bits >> 18];
        encoded[out++] = digits[bits >> 12 & 63];
        encoded[out++] = i + 1 < len ? digits[bits >> 6 & 63] : '=';
        encoded[out++] = i + 2 < len ? digits[bits & 63] : '=';
    }
    char *header = lt_format("X-Registry-Auth: %s", encoded);
    memset(text, 0, len);
    free(text);
    free(encoded);
    return header;
}

static struct pull *begin_pull(struct container *c)
{
    struct docker *docker = c->docker;
    struct pull *pull = lt_zalloc(sizeof *pull);
    char *escaped = curl_easy_escape(NULL, c->spec.image, 0);
    char *path = lt_format("/images/create?fromImage=%s", escaped);
    pull->docker = docker;
    pull->image = lt_strdup(c->spec.image);
    pull->limit = LT_TIMER_INIT;
    TAILQ_INIT(&pull->waiting);
    TAILQ_INSERT_TAIL(&docker->pulls, pull, link);
    pull->call = lt_engine_call_new(docker->engine, "POST", path, NULL);
    pull->call->user = pull;
    pull->call->data = pull_data;
    pull->call->done = pull_done;
    pull->call->auth = c->spec.auth != NULL ? auth_header(c->spec.auth) : NULL;
    curl_free(escaped);
    free(path);
    lt_log(LT_LOG_INFO, "pulling an image", LT_S("image", pull->image));
    lt_engine_call_start(pull->call);
    lt_timer_start(docker->env.loop, &pull->limit, lt_loop_tick(docker->env.loop) + c->spec.pull_timeout, pull_late);
    return pull;
}

void pull_image(struct container *c, void (*there)(struct container *c, const char *problem))
{
    struct pull *pull;
    c->image_there = there;
    c->state = CONTAINER_PULLING;
    TAILQ_FOREACH(pull, &c->docker->pulls, link) {
        if (strcmp(pull->image, c->spec.image) == 0)
            break;
    }
    c->pull = pull != NULL ? pull : begin_pull(c);
    TAILQ_INSERT_TAIL(&c->pull->waiting, c, pull_link);
}

void pull_leave(struct container *c)
{
    struct pull *pull = c->pull;
    if (pull == NULL)
        return;
    c->pull = NULL;
    TAILQ_REMOVE(&pull->waiting, c, pull_link);
    if (TAILQ_EMPTY(&pull->waiting))
        free_pull(pull);
}
