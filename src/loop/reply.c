#include "loop/reply.h"
#include "base/container_of.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static void deliver_replies(struct lt_reply *reply)
{
    reply->state = LT_REPLY_IDLE;
    reply->fn(reply);
}

static void on_reply_turn(struct lt_turn *turn)
{
    deliver_replies(lt_container_of(turn, struct lt_reply, turn));
}

void lt_reply_begin(struct lt_reply *reply, struct lt_loop *loop, void (*fn)(struct lt_reply *reply))
{
    assert(reply->state == LT_REPLY_IDLE);
    if (reply->message != NULL)
        lt_bytes_set(&reply->message, NULL);
    reply->loop = loop;
    reply->fn = fn;
    reply->cancel = NULL;
    reply->unwanted = false;
    reply->code = LT_OK;
    reply->state = LT_REPLY_CALLING;
}

void lt_reply_end(struct lt_reply *reply)
{
    if (reply->state == LT_REPLY_SENT)
        deliver_replies(reply);
    else
        reply->state = LT_REPLY_WAITING;
}

bool lt_reply_end_now(struct lt_reply *reply)
{
    bool answered = reply->state == LT_REPLY_SENT;
    reply->state = answered ? LT_REPLY_IDLE : LT_REPLY_WAITING;
    return answered;
}

void lt_reply_send(struct lt_reply *reply, int code, const char *message)
{
    assert(reply->state == LT_REPLY_CALLING || reply->state == LT_REPLY_WAITING);
    reply->code = code;
    reply->cancel = NULL;
    if (code != LT_OK && message != NULL)
        lt_bytes_set(&reply->message, lt_bytes_new(message, strlen(message)));
    if (reply->state == LT_REPLY_WAITING) {
        reply->turn.fn = on_reply_turn;
        lt_loop_post(reply->loop, &reply->turn);
    }
    reply->state = LT_REPLY_SENT;
}

bool lt_reply_cancel(struct lt_reply *reply)
{
    if (reply->state != LT_REPLY_WAITING || reply->cancel == NULL) {
        reply->unwanted = true;
        return false;
    }
    void (*cancel)(struct lt_reply *, void *) = reply->cancel;
    reply->cancel = NULL;
    reply->state = LT_REPLY_IDLE;
    cancel(reply, reply->cancel_arg);
    return true;
}

const char *lt_reply_message(const struct lt_reply *reply)
{
    return reply->message != NULL ? reply->message->data : lt_code_name(reply->code);
}

void lt_reply_clear(struct lt_reply *reply)
{
    assert(reply->state == LT_REPLY_IDLE);
    lt_bytes_set(&reply->message, NULL);
}
