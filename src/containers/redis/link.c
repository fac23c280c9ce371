#include "containers/redis/link.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "containers/redis/link_state.h"
#include "containers/redis/script.h"

enum { STACK = 512 << 10 };

/* The loop's thread. */

static void end_hold(struct lt_redis_link *link)
{
    lt_loop_release(link->loop);
    uv_unref((uv_handle_t *)&link->poll->poll);
}

void lt_redis_link_hold(struct lt_redis_link *link)
{
    if (link->under_way++ > 0)
        return;
    lt_loop_hold(link->loop);
    uv_ref((uv_handle_t *)&link->poll->poll);
}

void lt_redis_link_unhold(struct lt_redis_link *link)
{
    if (--link->under_way == 0)
        end_hold(link);
}

void lt_redis_request_free(struct lt_redis_request *request)
{
    if (request->reply != NULL)
        freeReplyObject(request->reply);
    lt_buffer_free(&request->arguments);
    free(request->message);
    free(request);
}

static void free_mails(struct lt_mails *mails)
{
    struct lt_mail *mail;
    while ((mail = STAILQ_FIRST(mails)) != NULL) {
        struct lt_redis_letter *letter = lt_container_of(mail, struct lt_redis_letter, mail);
        STAILQ_REMOVE_HEAD(mails, link);
        if (letter->event != 0) {
            free(letter->text);
            free(letter);
        } else {
            lt_redis_request_free(lt_redis_request_of(mail));
        }
    }
}

static void take_letter(struct lt_redis_link *link, struct lt_redis_letter *letter)
{
    link->options.tell(link->options.arg, (enum lt_redis_event)(letter->event - 1), letter->text);
    free(letter->text);
    free(letter);
}

static void take_answers(uv_poll_t *poll, int status, int events)
{
    const struct lt_redis_poll *hears = lt_container_of(poll, struct lt_redis_poll, poll);
    struct lt_redis_link *link = hears->link;
    struct lt_mails mails;
    (void)status;
    (void)events;
    lt_mailbox_take(&link->to_loop, &mails);
    lt_loop_tick(link->loop);
    while (!STAILQ_EMPTY(&mails) && hears->link != NULL) { /* an answer may close it */
        struct lt_mail *mail = STAILQ_FIRST(&mails);
        struct lt_redis_letter *letter = lt_container_of(mail, struct lt_redis_letter, mail);
        STAILQ_REMOVE_HEAD(&mails, link);
        if (letter->event != 0) {
            take_letter(link, letter);
            continue;
        }
        lt_redis_link_unhold(link);
        lt_redis_request_of(mail)->done(lt_redis_request_of(mail));
    }
    free_mails(&mails);
}

static void send_gathered(struct lt_turn *turn)
{
    struct lt_redis_link *link = lt_container_of(turn, struct lt_redis_link, turn);
    struct lt_mail *mail;
    if (link->closed) {
        free(link);
        return;
    }
    STAILQ_FOREACH(mail, &link->gathered, link)
        lt_redis_request_of(mail)->sent = true;
    lt_mailbox_put_all(&link->to_thread, &link->gathered);
}

void lt_redis_send(struct lt_redis_link *link, struct lt_redis_request *request)
{
    STAILQ_INSERT_TAIL(&link->gathered, &request->mail, link);
    lt_loop_post(link->loop, &link->turn);
    lt_redis_link_hold(link);
}

const char *lt_redis_owner(const struct lt_redis_link *link)
{
    return link->owner;
}

const char *lt_redis_queue(const struct lt_redis_link *link)
{
    return link->queue;
}

const char *lt_redis_shown(const struct lt_redis_link *link)
{
    return link->options.servers.urls[0].shown;
}

/* Opening and closing. */

static void make_owner(char *owner)
{
    static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
    unsigned char random[LT_REDIS_OWNER];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        lt_out_of_memory();
    for (size_t i = 0; i < sizeof random; i++)
        owner[i] = letters[random[i] % (sizeof letters - 1)];
}

static void free_link(struct lt_redis_link *link)
{
    lt_mailbox_close(&link->to_thread);
    lt_mailbox_close(&link->to_loop);
    lt_buffer_free(&link->prefix);
    lt_redis_servers_free(&link->options.servers);
    free(link->queue);
    link->closed = true;
    if (!link->turn.posted)
        free(link);
}

static bool start_thread(struct lt_redis_link *link)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errno = pthread_create(&link->thread, &attributes, lt_redis_link_thread, link);
    bool started = errno == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (started)
        pthread_setname_np(link->thread, "ltsh-redis");
    return started;
}

static bool open_thread(struct lt_redis_link *link)
{
    int code = uv_loop_init(&link->uv);
    if (code < 0) {
        errno = -code;
        return false;
    }
    uv_poll_init(&link->uv, &link->hears, link->to_thread.event);
    link->hears.data = link;
    uv_poll_start(&link->hears, UV_READABLE, lt_redis_take_mail);
    if (start_thread(link))
        return true;
    int failed = errno;
    uv_close((uv_handle_t *)&link->hears, NULL);
    uv_run(&link->uv, UV_RUN_DEFAULT);
    uv_loop_close(&link->uv);
    errno = failed;
    return false;
}

static void open_poll(struct lt_redis_link *link)
{
    link->poll = lt_zalloc(sizeof *link->poll);
    link->poll->link = link;
    uv_poll_init(&link->loop->uv, &link->poll->poll, link->to_loop.event);
    link->poll->poll.data = link->loop;
    uv_poll_start(&link->poll->poll, UV_READABLE, take_answers);
    uv_unref((uv_handle_t *)&link->poll->poll);
}

struct lt_redis_link *lt_redis_link_open(struct lt_loop *loop, struct lt_redis_link_options *options)
{
    struct lt_redis_link *link = lt_zalloc(sizeof *link);
    link->options = *options;
    link->queue = lt_strdup(options->queue);
    link->options.queue = link->queue;
    options->servers = (struct lt_redis_servers){0};
    link->loop = loop;
    link->turn.fn = send_gathered;
    STAILQ_INIT(&link->gathered);
    STAILQ_INIT(&link->waiting);
    STAILQ_INIT(&link->again);
    STAILQ_INIT(&link->answered);
    STAILQ_INIT(&link->calls);
    make_owner(link->owner);
    bool open = lt_mailbox_open(&link->to_thread);
    open = lt_mailbox_open(&link->to_loop) && open;
    if (!open || !open_thread(link)) {
        int failed = errno;
        free_link(link);
        errno = failed;
        return NULL;
    }
    open_poll(link);
    return link;
}

static void free_poll(uv_handle_t *handle)
{
    free(lt_container_of((uv_poll_t *)handle, struct lt_redis_poll, poll));
}

void lt_redis_link_close(struct lt_redis_link *link)
{
    static const uint64_t one = 1;
    struct lt_mails mails;
    struct lt_redis_call *call;
    link->ends = true;
    if (write(link->to_thread.event, &one, sizeof one) < 0)
        lt_log(LT_LOG_ERROR, "the thread of a connection cannot be woken", LT_S("error", strerror(errno)));
    pthread_join(link->thread, NULL);
    uv_loop_close(&link->uv);
    link->poll->link = NULL;
    if (link->under_way > 0)
        end_hold(link);
    uv_poll_stop(&link->poll->poll);
    uv_close((uv_handle_t *)&link->poll->poll, free_poll);
    while ((call = STAILQ_FIRST(&link->calls)) != NULL) {
        free_mails(&call->requests);
        lt_redis_drop_call(link, call);
    }
    free_mails(&link->waiting);
    free_mails(&link->again);
    free_mails(&link->answered);
    free_mails(&link->gathered);
    lt_mailbox_take(&link->to_thread, &mails);
    free_mails(&mails);
    lt_mailbox_take(&link->to_loop, &mails);
    free_mails(&mails);
    free_link(link);
}
