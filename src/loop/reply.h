/* Replies: how an operation of a container, an actuator or a persister tells that it is done.
 *
 * Every operation of those interfaces takes a reply and completes through it, now or later:
 *
 *     lt_reply_begin(&x->reply, loop, on_done);
 *     container->ops->claim(container, &x->claim);      may call lt_reply_send before it returns
 *     lt_reply_end(&x->reply);                          if it did: calls on_done here, from our own frame
 *
 * A reply that comes after lt_reply_end is posted as a turn. So an answer never runs inside the function
 * that gives it, a memory container costs a function call, and a remote one needs no other code in its user.
 *
 * A reply belongs to who asks and must stay in place until it is answered or cancelled. */
#ifndef LTSH_LOOP_REPLY_H
#define LTSH_LOOP_REPLY_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/error.h"
#include "loop/loop.h"

enum lt_reply_state {
    LT_REPLY_IDLE,    /* no operation under way */
    LT_REPLY_CALLING, /* between begin and end */
    LT_REPLY_SENT,    /* answered, not yet delivered */
    LT_REPLY_WAITING, /* the operation goes on */
};

struct lt_reply {
    struct lt_turn turn;
    struct lt_loop *loop;
    void (*fn)(struct lt_reply *reply);
    /* Set by an operation that can be given up: ends it, never to be answered. Cleared with the answer. */
    void (*cancel)(struct lt_reply *reply, void *arg);
    void *cancel_arg;
    struct lt_bytes *message; /* for code != LT_OK; owned by the reply until the next begin */
    enum lt_reply_state state;
    bool unwanted; /* it was given up when that could not be done: the operation is to wait for nothing more */
    int code;      /* enum lt_code */
};

void lt_reply_begin(struct lt_reply *reply, struct lt_loop *loop, void (*fn)(struct lt_reply *reply));
void lt_reply_end(struct lt_reply *reply);

/* Instead of lt_reply_end: true if it was answered already, and then fn is not called: whoever asked goes on from here. */
bool lt_reply_end_now(struct lt_reply *reply);

/* Answers, once: `code` and, if it is not LT_OK, a message (copied; NULL is fine). */
void lt_reply_send(struct lt_reply *reply, int code, const char *message);

/* Answers with success. */
static inline void lt_reply_ok(struct lt_reply *reply)
{
    lt_reply_send(reply, LT_OK, NULL);
}

/* Under way, or answered and not delivered yet. */
static inline bool lt_reply_pending(const struct lt_reply *reply)
{
    return reply->state != LT_REPLY_IDLE;
}

/* Gives up the operation if it can be given up: true means that fn will not be called. False: an answer will come, and
 * soon, as the operation looks at `unwanted` before it begins to wait. */
bool lt_reply_cancel(struct lt_reply *reply);

/* The message of a failed operation; never NULL. Valid until the next begin. */
const char *lt_reply_message(const struct lt_reply *reply);

/* Lets go of what the reply holds. It must not be pending. */
void lt_reply_clear(struct lt_reply *reply);

#endif
