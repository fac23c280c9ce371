/* What the link's thread does: it keeps two connections, renews the lease, and hears of others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/redis/link_state.h"
#include "containers/redis/script.h"

enum { PATIENCE = 10 /* seconds that a patient request waits for the server */ };

/* Seconds, and of a lease at most: the answer to a renewal may take lt_redis_patience after that, so that a connection that is
 * dead is noticed well before the lease ends. */
static const double RENEWALS = 2, RENEWALS_OF_LEASE = 1.0 / 6;

/* Of a lease: then it is said that it could not be renewed, while there is time to end what runs. */
static const double LATE = 0.8;

/* The connection. */

static void commands_ready(void *arg)
{
    lt_redis_begin_joining(arg);
}

/* What may be asked again waits; the rest is told, once. */
static void keep_patient(struct lt_redis_link *link, struct lt_mails *from, struct lt_mails *kept, const char *why)
{
    struct lt_mail *mail;
    while ((mail = STAILQ_FIRST(from)) != NULL) {
        struct lt_redis_request *request = lt_redis_request_of(mail);
        STAILQ_REMOVE_HEAD(from, link);
        if (request->reply != NULL) /* of an add for which replicas were waited */
            freeReplyObject(request->reply);
        request->reply = NULL;
        if (request->patient)
            STAILQ_INSERT_TAIL(kept, mail, link);
        else
            lt_redis_answer(link, request, LT_ERROR, why);
    }
}

static void tell_lost(struct lt_redis_link *link, const char *why, bool final)
{
    if (!link->told_lost)
        lt_redis_tell_event(link, final && !link->told_first ? LT_REDIS_REFUSED : LT_REDIS_LOST, why);
    link->told_first = link->told_lost = true;
}

static void close_hints(struct lt_redis_link *link)
{
    if (link->hints != NULL)
        lt_redis_close(link->hints);
    link->hints = NULL;
}

static void commands_lost(void *arg, const char *why, bool final)
{
    struct lt_redis_link *link = arg;
    struct lt_mails kept = STAILQ_HEAD_INITIALIZER(kept);
    struct lt_redis_call *call;
    link->joined = link->reloading = false;
    close_hints(link);
    tell_lost(link, why, final);
    keep_patient(link, &link->again, &kept, why);
    while ((call = STAILQ_FIRST(&link->calls)) != NULL) {
        keep_patient(link, &call->requests, &kept, why);
        lt_redis_drop_call(link, call);
    }
    keep_patient(link, &link->waiting, &kept, why);
    STAILQ_CONCAT(&link->waiting, &kept);
}

/* Hints. */

static void hints_ready(void *arg)
{
    const struct lt_redis_link *link = arg;
    struct lt_buffer commands = {0};
    char *all = lt_redis_key(link->options.queue, 0);
    char *own = lt_format("%s:%s", all, link->owner);
    lt_redis_begin(&commands, 3);
    lt_redis_append_text(&commands, "SUBSCRIBE");
    lt_redis_append_text(&commands, all);
    lt_redis_append_text(&commands, own);
    lt_redis_write(link->hints, &commands, 2);
    free(all);
    free(own);
}

/* A hint says nothing but where to look; what was missed while there was no connection is looked for when there is one. */
static void take_hint(void *arg, redisReply *reply)
{
    struct lt_redis_link *link = arg;
    if (lt_redis_says(reply, 0, "message") && lt_redis_says(reply, 2, "w"))
        lt_redis_tell_event(link, LT_REDIS_WORK, "");
    else if (lt_redis_says(reply, 0, "message") && lt_redis_says(reply, 2, "n"))
        lt_redis_tell_event(link, LT_REDIS_NEWS, "");
    else if (lt_redis_says(reply, 0, "message") || lt_redis_says(reply, 0, "subscribe"))
        lt_redis_renew(link);
    freeReplyObject(reply);
}

static void hints_lost(void *arg, const char *why, bool final)
{
    (void)arg; /* what waits is looked for with every renewal, too */
    (void)why;
    (void) final;
}

/* At the same server: there it is counted who hears. */
static void open_hints(struct lt_redis_link *link)
{
    static const struct lt_redis_user hints = {.ready = hints_ready, .answer = take_hint, .lost = hints_lost};
    const struct lt_redis_connect_options options = {
        .servers = &link->options.servers, .beside = link->commands, .patience = lt_redis_patience(link)};
    link->hints = lt_redis_connect(&link->uv, &options, &hints, link);
}

static void take_reply(void *arg, redisReply *reply)
{
    struct lt_redis_link *link = arg;
    lt_redis_take_reply(link, reply);
    if (link->joined && link->hints == NULL)
        open_hints(link);
}

/* Time. */

static void renew_now(uv_timer_t *timer)
{
    lt_redis_renew(timer->data);
}

static void give_up_patient(struct lt_redis_link *link, double now)
{
    struct lt_mails kept = STAILQ_HEAD_INITIALIZER(kept);
    struct lt_mail *mail;
    while ((mail = STAILQ_FIRST(&link->waiting)) != NULL) {
        struct lt_redis_request *request = lt_redis_request_of(mail);
        STAILQ_REMOVE_HEAD(&link->waiting, link);
        if (request->give_up_at > now || link->joined)
            STAILQ_INSERT_TAIL(&kept, mail, link);
        else
            lt_redis_answer(link, request, LT_TIMEOUT, "the Redis server cannot be reached");
    }
    STAILQ_CONCAT(&link->waiting, &kept);
}

static void watch_time(uv_timer_t *timer)
{
    struct lt_redis_link *link = timer->data;
    double now = lt_redis_link_now();
    give_up_patient(link, now);
    if (link->renewed == 0 || link->told_late || now - link->renewed < link->options.lease * LATE)
        return;
    link->told_late = true;
    lt_redis_tell_event(link, LT_REDIS_LATE, "");
}

/* The thread. */

static void tell_answered(uv_prepare_t *tells)
{
    struct lt_redis_link *link = tells->data;
    lt_mailbox_put_all(&link->to_loop, &link->answered);
}

static void end_thread(struct lt_redis_link *link)
{
    uv_close((uv_handle_t *)&link->tells, NULL);
    lt_redis_close(link->commands);
    close_hints(link);
    uv_close((uv_handle_t *)&link->renew, NULL);
    uv_close((uv_handle_t *)&link->watch, NULL);
    uv_close((uv_handle_t *)&link->hears, NULL);
}

void lt_redis_take_mail(uv_poll_t *poll, int status, int events)
{
    struct lt_redis_link *link = poll->data;
    struct lt_mails mails;
    struct lt_mail *mail;
    (void)status;
    (void)events;
    lt_mailbox_take(&link->to_thread, &mails);
    while ((mail = STAILQ_FIRST(&mails)) != NULL) {
        struct lt_redis_request *request = lt_redis_request_of(mail);
        STAILQ_REMOVE_HEAD(&mails, link);
        link->leaves = link->leaves || request->leaves;
        request->give_up_at = lt_redis_link_now() + PATIENCE;
        if (request->patient || link->joined)
            STAILQ_INSERT_TAIL(&link->waiting, mail, link);
        else
            lt_redis_answer(link, request, LT_ERROR, "the Redis server cannot be reached");
    }
    if (link->ends && !uv_is_closing((uv_handle_t *)&link->hears)) {
        uv_poll_stop(&link->hears);
        end_thread(link);
        return;
    }
    if (!link->reloading)
        lt_redis_send_waiting(link);
}

static void start_timer(struct lt_redis_link *link, uv_timer_t *timer, void (*fn)(uv_timer_t *), double seconds)
{
    uint64_t milliseconds = seconds < 0.001 ? 1 : (uint64_t)(seconds * 1e3);
    uv_timer_init(&link->uv, timer);
    timer->data = link;
    uv_timer_start(timer, fn, milliseconds, milliseconds);
}

void *lt_redis_link_thread(void *arg)
{
    static const struct lt_redis_user commands = {.ready = commands_ready, .answer = take_reply, .lost = commands_lost};
    struct lt_redis_link *link = arg;
    double lease = link->options.lease;
    const struct lt_redis_connect_options options = {.servers = &link->options.servers,
                                                     .patience = lt_redis_patience(link)};
    link->commands = lt_redis_connect(&link->uv, &options, &commands, link);
    start_timer(link, &link->renew, renew_now, fmin(RENEWALS, lease * RENEWALS_OF_LEASE));
    start_timer(link, &link->watch, watch_time, lease / 20 < 1 ? lease / 20 : 1);
    uv_prepare_init(&link->uv, &link->tells);
    link->tells.data = link;
    uv_prepare_start(&link->tells, tell_answered);
    uv_run(&link->uv, UV_RUN_DEFAULT);
    return NULL;
}
