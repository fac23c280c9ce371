/* Calls of the script, and what their answers mean: several are under way at once, and are answered in their order. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "containers/redis/link_state.h"
#include "containers/redis/process.h"
#include "containers/redis/script.h"

enum {
    MOST_WEIGHT = 128,      /* of a call: none is to hold the server for long */
    MOST_BYTES = 256 << 10, /* of a call, unless one request alone has more */
    MOST_CALLS = 16,        /* under way */
};

/* Calls. */

/* The beginning of a call of the script with so many arguments of its own. `grows`: there are adds among them. */
static void begin_call(const struct lt_redis_link *link, struct lt_buffer *commands, unsigned arguments, bool grows)
{
    if (link->no_library) {
        lt_redis_begin(commands, 2 + link->prefix_count + arguments + !grows);
        lt_redis_append_text(commands, "EVALSHA");
        lt_redis_append_text(commands, link->sha);
    } else {
        char name[64];
        snprintf(name, sizeof name, "%s%s", lt_redis_library, grows ? "_adds" : "");
        lt_redis_begin(commands, 2 + link->prefix_count + arguments);
        lt_redis_append_text(commands, "FCALL");
        lt_redis_append_text(commands, name);
    }
    lt_buffer_append(commands, link->prefix.data, link->prefix.len);
    if (link->no_library && !grows)
        lt_redis_append_text(commands, "!");
}

static void append_number(struct lt_buffer *commands, double number)
{
    char text[32];
    snprintf(text, sizeof text, "%.6f", number);
    lt_redis_append_text(commands, text);
}

/* What every call begins with: its keys, the owner who asks, seconds to keep, the number of this connection. */
static void make_prefix(struct lt_redis_link *link)
{
    char count[16], connection[16];
    link->prefix.len = 0;
    snprintf(count, sizeof count, "%d", LT_REDIS_KEYS);
    lt_redis_append_text(&link->prefix, count);
    for (int i = 0; i < LT_REDIS_KEYS; i++) {
        char *key = lt_redis_key(link->options.queue, i);
        lt_redis_append_text(&link->prefix, key);
        free(key);
    }
    lt_redis_append_text(&link->prefix, link->owner);
    for (int i = 0; i < 3; i++)
        append_number(&link->prefix, link->options.keep[i]);
    snprintf(connection, sizeof connection, "%u", link->connections);
    lt_redis_append_text(&link->prefix, connection);
    link->prefix_count = 1 + LT_REDIS_KEYS + 1 + 3 + 1;
}

static void prepare(struct lt_redis_link *link)
{
    struct lt_buffer commands = {0};
    char layout[16], *channel = lt_redis_key(link->options.queue, 0);
    snprintf(layout, sizeof layout, "%d", LT_REDIS_LAYOUT);
    lt_redis_new_call(link, CALL_PREPARE);
    lt_redis_begin(&commands, 2 + link->prefix_count + 4);
    lt_redis_append_text(&commands, "EVAL");
    lt_redis_append_text(&commands, lt_redis_prepare);
    lt_buffer_append(&commands, link->prefix.data, link->prefix.len);
    lt_redis_append_text(&commands, layout);
    lt_redis_append_text(&commands, lt_redis_key_types);
    lt_redis_append_text(&commands, lt_redis_script_commands);
    lt_redis_append_text(&commands, channel);
    lt_redis_write(link->commands, &commands, 1);
    free(channel);
}

/* As a library, which the server has ready for each call, else as a script, which it runs from its beginning. */
static void load_script(struct lt_redis_link *link)
{
    struct lt_buffer commands = {0};
    lt_redis_new_call(link, CALL_LOAD);
    if (!link->no_library) {
        char *text =
            lt_format("#!lua name=%s\nlocal LIBRARY = \"%s\"\n%s", lt_redis_library, lt_redis_library, lt_redis_script);
        lt_redis_begin(&commands, 3);
        lt_redis_append_text(&commands, "FUNCTION");
        lt_redis_append_text(&commands, "LOAD");
        lt_redis_append_text(&commands, text);
        lt_redis_write(link->commands, &commands, 1);
        free(text);
        return;
    }
    lt_redis_begin(&commands, 3);
    lt_redis_append_text(&commands, "SCRIPT");
    lt_redis_append_text(&commands, "LOAD");
    lt_redis_append(&commands, lt_redis_script, lt_redis_script_len);
    lt_redis_write(link->commands, &commands, 1);
}

void lt_redis_begin_joining(struct lt_redis_link *link)
{
    link->connections++;
    link->no_library = false; /* it may be another server */
    make_prefix(link);
    prepare(link);
    load_script(link);
}

static void join_queue(struct lt_redis_link *link)
{
    struct lt_buffer commands = {0};
    char host[65] = "", about[LT_REDIS_ABOUT];
    gethostname(host, sizeof host - 1);
    lt_redis_about(about);
    lt_redis_new_call(link, CALL_JOIN);
    begin_call(link, &commands, 4, false);
    lt_redis_append_text(&commands, "j");
    append_number(&commands, link->options.lease);
    lt_redis_append_text(&commands, host);
    lt_redis_append_text(&commands, about);
    lt_redis_write(link->commands, &commands, 1);
}

void lt_redis_renew(struct lt_redis_link *link)
{
    struct lt_buffer commands = {0};
    if (!link->joined || link->reloading || link->leaves)
        return;
    lt_redis_new_call(link, CALL_RENEW);
    begin_call(link, &commands, 2, false);
    lt_redis_append_text(&commands, "k");
    append_number(&commands, link->options.lease);
    lt_redis_write(link->commands, &commands, 1);
}

/* Moves the next requests that go together to the call; *arguments: how many they have; *grows: there are adds. */
static void fill_call(struct lt_redis_link *link, struct lt_redis_call *call, size_t *bytes, unsigned *arguments,
                      bool *grows)
{
    unsigned weight = 0, freed = 0;
    struct lt_mail *mail;
    *bytes = *arguments = 0;
    *grows = false;
    while ((mail = STAILQ_FIRST(&link->waiting)) != NULL) {
        const struct lt_redis_request *request = lt_redis_request_of(mail);
        bool some = !STAILQ_EMPTY(&call->requests);
        if (some && (weight + request->weight > MOST_WEIGHT || *bytes + request->arguments.len > MOST_BYTES))
            break;
        weight += request->weight;
        *bytes += request->arguments.len;
        *arguments += request->count;
        *grows = *grows || request->grows;
        freed = request->claims ? 0 : freed + request->frees;
        STAILQ_REMOVE_HEAD(&link->waiting, link);
        STAILQ_INSERT_TAIL(&call->requests, mail, link);
    }
    call->behind = freed > 0; /* the claim comes in the next one */
}

/* What was added so far is to be on so many replicas, in a part of the time that an answer may take. */
static void wait_for_replicas(struct lt_redis_link *link)
{
    struct lt_buffer commands = {0};
    char count[16], milliseconds[32];
    lt_redis_new_call(link, CALL_WAIT);
    snprintf(count, sizeof count, "%u", link->options.wait_replicas);
    snprintf(milliseconds, sizeof milliseconds, "%.0f", lt_redis_patience(link) * 500);
    lt_redis_begin(&commands, 3);
    lt_redis_append_text(&commands, "WAIT");
    lt_redis_append_text(&commands, count);
    lt_redis_append_text(&commands, milliseconds);
    lt_redis_write(link->commands, &commands, 1);
}

/* The one that is under way, or NULL: nothing is sent behind it but a renewal, which is answered in time so. */
static struct lt_redis_call *replicas_wait(const struct lt_redis_link *link)
{
    struct lt_redis_call *call;
    for (call = STAILQ_FIRST(&link->calls); call != NULL && call->kind != CALL_WAIT; call = STAILQ_NEXT(call, link))
        continue;
    return call;
}

void lt_redis_send_waiting(struct lt_redis_link *link)
{
    bool before = false, added = false;
    if (link->options.wait_replicas > 0 && replicas_wait(link) != NULL)
        return;
    while (link->joined && !STAILQ_EMPTY(&link->waiting) && (link->call_count < MOST_CALLS || before)) {
        struct lt_redis_call *call = lt_redis_new_call(link, CALL_REQUESTS);
        struct lt_buffer commands = {0};
        size_t bytes;
        unsigned arguments;
        bool grows;
        struct lt_mail *mail;
        call->before = before;
        fill_call(link, call, &bytes, &arguments, &grows);
        before = call->behind;
        lt_buffer_reserve(&commands, bytes + link->prefix.len + 128);
        begin_call(link, &commands, arguments + call->before + call->behind, grows);
        if (call->before)
            lt_redis_append_text(&commands, "-");
        STAILQ_FOREACH(mail, &call->requests, link)
            lt_buffer_append(&commands, lt_redis_request_of(mail)->arguments.data,
                             lt_redis_request_of(mail)->arguments.len);
        if (call->behind)
            lt_redis_append_text(&commands, "+");
        lt_redis_write(link->commands, &commands, 1);
        added = added || grows;
        if (added && !before && link->options.wait_replicas > 0) {
            wait_for_replicas(link);
            return;
        }
    }
}

/* Answers. */

static void set_paused(struct lt_redis_link *link, bool paused)
{
    if (link->paused != paused)
        lt_redis_tell_event(link, LT_REDIS_PAUSED, paused ? "1" : "0");
    link->paused = paused;
}

static const redisReply *part_of(const redisReply *reply, size_t i)
{
    return reply->type == REDIS_REPLY_ARRAY && i < reply->elements ? reply->element[i] : NULL;
}

bool lt_redis_says(const redisReply *reply, size_t i, const char *text)
{
    const redisReply *part = part_of(reply, i);
    return part != NULL && part->type == REDIS_REPLY_STRING && strcmp(part->str, text) == 0;
}

static void loaded(struct lt_redis_link *link)
{
    if (!link->reloading) {
        join_queue(link);
        return;
    }
    link->reloading = false;
    STAILQ_CONCAT(&link->again, &link->waiting);
    STAILQ_CONCAT(&link->waiting, &link->again);
}

static void take_loaded(struct lt_redis_link *link, const redisReply *reply)
{
    bool is_hash = reply->type == REDIS_REPLY_STRING && reply->len == sizeof link->sha - 1;
    if (link->no_library && !is_hash) {
        lt_redis_drop(link->commands, "it does not take the script");
        return;
    }
    if (link->no_library)
        memcpy(link->sha, reply->str, sizeof link->sha);
    loaded(link);
}

static void take_joined(struct lt_redis_link *link, const redisReply *reply, double sent_at)
{
    const redisReply *answer = part_of(reply, 0);
    if (answer == NULL || !lt_redis_says(answer, 0, "ok")) {
        lt_redis_drop(link->commands, "the queue cannot be joined");
        return;
    }
    link->renewed = sent_at;
    link->joined = true;
    link->told_lost = link->told_late = false;
    link->paused = lt_redis_says(answer, 1, "1");
    link->told_first = true;
    lt_redis_tell_event(link, LT_REDIS_READY, link->paused ? "1" : "0");
    lt_redis_look(link);
}

static void take_renewed(struct lt_redis_link *link, const redisReply *reply, double sent_at)
{
    const redisReply *answer = part_of(reply, 0);
    if (answer == NULL)
        return;
    if (answer->type == REDIS_REPLY_STRING && strcmp(answer->str, "lost") == 0) {
        lt_redis_tell_event(link, LT_REDIS_DEAD, "");
        join_queue(link);
        return;
    }
    link->renewed = sent_at;
    link->told_late = false;
    set_paused(link, lt_redis_says(answer, 1, "1"));
    if (lt_redis_says(answer, 3, "1"))
        lt_redis_tell_event(link, LT_REDIS_NEWS, "");
    if (lt_redis_says(answer, 2, "1"))
        lt_redis_tell_event(link, LT_REDIS_WORK, "");
}

/* Each request gets its part; adds are answered when replicas have them, if that is wanted. */
static void take_requests(struct lt_redis_link *link, struct lt_redis_call *call, redisReply *reply)
{
    struct lt_redis_call *wait = link->options.wait_replicas > 0 ? replicas_wait(link) : NULL;
    struct lt_mail *mail;
    size_t i = call->before;
    while ((mail = STAILQ_FIRST(&call->requests)) != NULL) {
        struct lt_redis_request *request = lt_redis_request_of(mail);
        STAILQ_REMOVE_HEAD(&call->requests, link);
        bool there = reply->type == REDIS_REPLY_ARRAY && i < reply->elements;
        request->reply = there ? reply->element[i] : NULL;
        if (there)
            reply->element[i++] = NULL; /* it is the request's now */
        if (there && request->grows && wait != NULL)
            STAILQ_INSERT_TAIL(&wait->requests, mail, link);
        else
            lt_redis_answer(link, request, there ? LT_OK : LT_ERROR,
                            there ? NULL : "the server's answer has too few parts");
    }
}

static void take_replicas(struct lt_redis_link *link, struct lt_redis_call *call, const redisReply *reply)
{
    unsigned wanted = link->options.wait_replicas;
    bool enough = reply->type == REDIS_REPLY_INTEGER && reply->integer >= wanted;
    struct lt_mail *mail;
    while ((mail = STAILQ_FIRST(&call->requests)) != NULL) {
        STAILQ_REMOVE_HEAD(&call->requests, link);
        char *message =
            enough ? NULL
                   : lt_format("it was added, but only %lld of %u replicas have it in time", reply->integer, wanted);
        lt_redis_answer(link, lt_redis_request_of(mail), enough ? LT_OK : LT_TIMEOUT, message);
        free(message);
    }
}

/* The script is gone: what is refused for that goes once more, in its order, when it is loaded. Whatever is under way is
 * answered before that. */
static void load_again(struct lt_redis_link *link, struct lt_redis_call *call)
{
    STAILQ_CONCAT(&link->again, &call->requests);
    lt_redis_drop_call(link, call);
    if (!link->reloading)
        load_script(link);
    link->reloading = true;
}

/* Memory is full: adds are refused, and the rest, which may free some, goes once more without them. */
static void refuse_adds(struct lt_redis_link *link, struct lt_redis_call *call, const char *error)
{
    struct lt_mails kept = STAILQ_HEAD_INITIALIZER(kept);
    bool some = false;
    struct lt_mail *mail;
    while ((mail = STAILQ_FIRST(&call->requests)) != NULL) {
        struct lt_redis_request *request = lt_redis_request_of(mail);
        STAILQ_REMOVE_HEAD(&call->requests, link);
        some = some || request->grows;
        if (request->grows)
            lt_redis_answer(link, request, LT_FULL, error);
        else
            STAILQ_INSERT_TAIL(&kept, mail, link);
    }
    lt_redis_drop_call(link, call);
    if (!some)
        lt_redis_fail_all(link, &kept, LT_ERROR, error);
    STAILQ_CONCAT(&kept, &link->waiting);
    STAILQ_CONCAT(&link->waiting, &kept);
}

static void forget_calls(struct lt_redis_link *link)
{
    while (!STAILQ_EMPTY(&link->calls))
        lt_redis_drop_call(link, STAILQ_FIRST(&link->calls));
}

/* An old server, one that is none of Redis' own, a user who may not. Whether it is a script from now on. */
static bool goes_without_library(struct lt_redis_link *link, struct lt_redis_call *call, const char *error)
{
    bool full = strncmp(error, "OOM", 3) == 0, refused = strncmp(error, "NOPERM", 6) == 0;
    bool loads = call->kind == CALL_LOAD && (full || !lt_redis_is_passing(error));
    if (link->no_library || !(loads || (call->kind == CALL_JOIN && refused)))
        return false;
    link->no_library = true;
    lt_redis_drop_call(link, call);
    load_script(link);
    return true;
}

static bool is_forgotten(const char *error)
{
    return strncmp(error, "NOSCRIPT", 8) == 0 || strncmp(error, "ERR Function not found", 22) == 0;
}

static void take_error(struct lt_redis_link *link, struct lt_redis_call *call, const char *error)
{
    bool passing = lt_redis_is_passing(error);
    if (call->kind == CALL_LOAD && strstr(error, "already exists") != NULL) {
        lt_redis_drop_call(link, call);
        loaded(link);
    } else if (goes_without_library(link, call, error)) {
        return;
    } else if (call->kind == CALL_REQUESTS && strncmp(error, "OOM", 3) == 0) {
        refuse_adds(link, call, error);
    } else if (link->joined && is_forgotten(error)) {
        load_again(link, call);
    } else if (!link->joined && lt_redis_follow(link->commands, error)) {
        forget_calls(link);
    } else if (passing || !link->joined || call->kind == CALL_PREPARE) {
        lt_redis_refuse(link->commands, error);
    } else {
        struct lt_mails requests = STAILQ_HEAD_INITIALIZER(requests);
        STAILQ_CONCAT(&requests, &call->requests);
        lt_redis_fail_all(link, &requests, LT_ERROR, error);
        lt_redis_drop_call(link, call);
        if (strstr(error, "WRONGTYPE") != NULL) /* of a key that somebody else uses by now: it is asked which */
            prepare(link);
    }
}

void lt_redis_take_reply(struct lt_redis_link *link, redisReply *reply)
{
    struct lt_redis_call *call = STAILQ_FIRST(&link->calls);
    if (call == NULL) {
        freeReplyObject(reply);
        lt_redis_drop(link->commands, "it answers what was not asked");
        return;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        char *error = lt_strdup(reply->str);
        freeReplyObject(reply);
        take_error(link, call, error);
        free(error);
    } else {
        enum lt_redis_call_kind kind = call->kind;
        double sent_at = call->sent_at;
        if (kind == CALL_REQUESTS)
            take_requests(link, call, reply);
        else if (kind == CALL_WAIT)
            take_replicas(link, call, reply);
        lt_redis_drop_call(link, call);
        if (kind == CALL_LOAD)
            take_loaded(link, reply);
        else if (kind == CALL_JOIN)
            take_joined(link, reply, sent_at);
        else if (kind == CALL_RENEW)
            take_renewed(link, reply, sent_at);
        else if (kind == CALL_INFO)
            lt_redis_take_info(link, reply);
        else if (kind == CALL_SAVE)
            lt_redis_take_save(link, reply);
        freeReplyObject(reply);
    }
    if (!link->reloading)
        lt_redis_send_waiting(link);
}
