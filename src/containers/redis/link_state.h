/* What a link has, and what its files share. */
#ifndef LTSH_CONTAINERS_REDIS_LINK_STATE_H
#define LTSH_CONTAINERS_REDIS_LINK_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/container_of.h"
#include "containers/redis/link.h"
#include "redis/connection.h"

/* What a call is for. */
enum lt_redis_call_kind {
    CALL_PREPARE,
    CALL_LOAD,
    CALL_JOIN,
    CALL_INFO,
    CALL_SAVE,
    CALL_RENEW,
    CALL_REQUESTS,
    CALL_WAIT, /* for replicas, to have what was added by the call before; its requests come here with their answers */
};

struct lt_redis_call {
    enum lt_redis_call_kind kind;
    double sent_at;
    bool before, behind; /* the parts of its answer that are not a request's: slots that were freed elsewhere */
    struct lt_mails requests;
    STAILQ_ENTRY(lt_redis_call) link;
};
STAILQ_HEAD(lt_redis_calls, lt_redis_call);

/* An event on its way to the loop's thread. */
struct lt_redis_letter {
    struct lt_mail mail;
    int event;
    char *text;
};

/* By which the loop hears of answers; it closes in its own time, after the link. */
struct lt_redis_poll {
    uv_poll_t poll;
    struct lt_redis_link *link; /* NULL: closed */
};

struct lt_redis_link {
    struct lt_redis_link_options options;
    char *queue;
    char owner[LT_REDIS_OWNER + 1];
    struct lt_mailbox to_thread, to_loop;
    atomic_bool ends;
    pthread_t thread;

    /* The loop's thread's. */
    struct lt_loop *loop;
    struct lt_redis_poll *poll;
    struct lt_mails gathered;
    struct lt_turn turn;
    bool closed; /* it is freed by the turn that is posted */
    unsigned under_way;

    /* The thread's. */
    uv_loop_t uv;
    uv_poll_t hears;
    uv_timer_t renew, watch;
    struct lt_redis_connection *commands;
    struct lt_redis_connection *hints; /* to the same server; NULL: not joined */
    struct lt_buffer prefix;           /* of every call: keys, owner, times */
    unsigned prefix_count;
    unsigned
        connections; /* how many there were: what an earlier connection carries, and arrives late, is not heard any more */
    bool no_library;             /* the server, or this user, has no libraries of functions: it is a script */
    char sha[41];                /* of that */
    struct lt_redis_calls calls; /* in the order in which their answers come */
    unsigned call_count;
    struct lt_mails waiting;
    bool reloading;        /* the server has forgotten the script, and is given it again: nothing is sent meanwhile */
    struct lt_mails again; /* what it refused for that */
    struct lt_mails answered; /* in this round: the loop's thread gets them together */
    uv_prepare_t tells;
    bool joined;
    bool leaves;     /* the lease is not renewed any more */
    bool told_first; /* how the first attempt went */
    bool told_lost;
    bool looked;  /* at how the server keeps what it has, */
    bool has_log; /* and it writes one */
    bool told_late;
    bool paused;
    double renewed; /* monotonic: when the renewal was sent that was the last to be answered */
};

/* The thread's side. Monotonic seconds. */
double lt_redis_link_now(void);

/* Goes to the loop's thread, at the end of this round of the thread's loop. */
void lt_redis_tell_event(struct lt_redis_link *link, enum lt_redis_event event, const char *text);
void lt_redis_answer(struct lt_redis_link *link, struct lt_redis_request *request, int code, const char *message);
void lt_redis_fail_all(struct lt_redis_link *link, struct lt_mails *requests, int code, const char *message);

static inline struct lt_redis_request *lt_redis_request_of(struct lt_mail *mail)
{
    return lt_container_of(mail, struct lt_redis_request, mail);
}

/* A call is sent: a place for its answer; and it is answered, or lost: the first one goes. */
struct lt_redis_call *lt_redis_new_call(struct lt_redis_link *link, enum lt_redis_call_kind kind);
void lt_redis_drop_call(struct lt_redis_link *link, struct lt_redis_call *call);

/* Seconds that an answer may take. */
double lt_redis_patience(const struct lt_redis_link *link);

/* Calls of the script, and their answers (link_calls.c). */
void lt_redis_begin_joining(struct lt_redis_link *link);
void lt_redis_renew(struct lt_redis_link *link);
void lt_redis_send_waiting(struct lt_redis_link *link);
void lt_redis_take_reply(struct lt_redis_link *link, redisReply *reply);
bool lt_redis_says(const redisReply *reply, size_t i, const char *text);

/* How the server keeps what it has (link_look.c): asks, and warns once of what loses tasks. */
void lt_redis_look(struct lt_redis_link *link);
void lt_redis_take_info(struct lt_redis_link *link, const redisReply *reply);
void lt_redis_take_save(struct lt_redis_link *link, const redisReply *reply);

/* What the thread does. */
void *lt_redis_link_thread(void *arg);
void lt_redis_take_mail(uv_poll_t *poll, int status, int events);

#endif
