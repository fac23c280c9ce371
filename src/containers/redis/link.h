/* A member's link to the server: a thread of its own, so that its lease is renewed however busy Lua and the loop are.
 *
 *     the loop's thread        requests, encoded: one batch for each turn
 *     ---- mailbox ---->       the thread: one call of queue.lua for up to some hundred operations, pipelined
 *     <--- mailbox -----       the same, each with its part of the answer
 *
 * The thread knows nothing of tasks. It joins the queue as an owner, renews the lease, hears the hints of others on a second
 * connection, and makes connections anew. What was under way when one is lost is asked again by itself where that is harmless
 * (a question, an add, which has a name), and told as lost where its user asks again by its number. */
#ifndef LTSH_CONTAINERS_REDIS_LINK_H
#define LTSH_CONTAINERS_REDIS_LINK_H

#include <hiredis/hiredis.h>

#include "base/bytes.h"
#include "loop/loop.h"
#include "loop/mailbox.h"
#include "redis/address.h"

enum { LT_REDIS_OWNER = 8 /* letters of its name */ };

struct lt_redis_request {
    struct lt_mail mail;
    int no_event;               /* 0 */
    struct lt_buffer arguments; /* as lt_redis_append makes them */
    unsigned count;             /* of arguments */
    unsigned weight;            /* about how many tasks it touches */
    bool patient;               /* it may be asked twice: it waits for the server, for a while */
    bool grows;                 /* it is an add: a server whose memory is full does not take it */
    bool frees;                 /* it makes room for the claim behind it */
    bool claims;                /* which this is */
    bool leaves;                /* the last one: this owner is none any more */
    bool sent;                  /* it is the thread's by now */
    double give_up_at;          /* monotonic, of the thread: a patient one's */
    redisReply *reply;          /* its part of the answer; NULL: there is none, and code and message say why */
    int code;
    char *message;
    void (*done)(struct lt_redis_request *request); /* on the loop's thread; the request is its to free */
    void *user;
    void *op;
    uint32_t number; /* of a step of it */
};

/* What the link tells unasked, on the loop's thread. */
enum lt_redis_event {
    LT_REDIS_READY,   /* it is there, and this is an owner of the queue; `text`: "1": the queue is paused */
    LT_REDIS_LOST,    /* it is not there; `text` says why */
    LT_REDIS_REFUSED, /* the same at the very first, for what does not pass: a wrong password, a user who may not */
    LT_REDIS_DEAD,    /* this owner was taken for dead: what it ran is another's */
    LT_REDIS_LATE,    /* the lease ends in a moment and could not be renewed */
    LT_REDIS_NEWS,    /* there is some for this owner */
    LT_REDIS_WORK,    /* there may be work */
    LT_REDIS_PAUSED,  /* `text`: "1": the queue is paused; "0": it is not */
};

struct lt_redis_link;

struct lt_redis_link_options {
    struct lt_redis_servers servers; /* moves to the link */
    const char *queue;
    double lease;
    double keep[3];
    unsigned wait_replicas; /* so many are to have what is added, before that is answered */
    void (*tell)(void *arg, enum lt_redis_event event, const char *text);
    void *arg;
};

/* Begins to connect. NULL: there are no descriptors, or no thread, for it (errno). */
struct lt_redis_link *lt_redis_link_open(struct lt_loop *loop, struct lt_redis_link_options *options);

/* Lets go of a request and all that is in it. */
void lt_redis_request_free(struct lt_redis_request *request);

/* Hands in a request, to go with all others of this turn. */
void lt_redis_send(struct lt_redis_link *link, struct lt_redis_request *request);

/* Has the loop wait for what the link tells, or not any more. */
void lt_redis_link_hold(struct lt_redis_link *link);
void lt_redis_link_unhold(struct lt_redis_link *link);

/* The name of this owner; and of the queue and the server, for logs. */
const char *lt_redis_owner(const struct lt_redis_link *link);
const char *lt_redis_queue(const struct lt_redis_link *link);
const char *lt_redis_shown(const struct lt_redis_link *link);

/* Ends the thread; what was not answered is not answered any more. */
void lt_redis_link_close(struct lt_redis_link *link);

#endif
