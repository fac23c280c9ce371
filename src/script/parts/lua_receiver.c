/* A receiver in Lua: call_receive(self, push), close(self).
 *
 * `receive` is called once and may go on for ever, waiting in a loop; or it gives `push` away, to a callback or a
 * server, and returns. If it raises it is called again, after a pause that grows: a broken connection must not mean
 * that no end is heard of any more. */
#include "scheduler/receiver.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "script/parts/adapter.h"
#include "script/parts/lua_parts.h"
#include "script/values/marks.h"

static const double FIRST_PAUSE = 1;
static const double LONGEST_PAUSE = 30; /* and one that held for so long counts as having worked */

struct lua_receiver {
    struct lt_receiver base;
    struct lt_adapter adapter;
    struct lt_actuator_env env;
    struct lt_timer again;
    double pause;
    double began;
    struct lt_reply *closing;
};

static struct lua_receiver *receiver_of(struct lt_adapter *adapter)
{
    return lt_container_of(adapter, struct lua_receiver, adapter);
}

static void change_pushed(struct lt_adapter *adapter, struct lt_push *push)
{
    struct lua_receiver *receiver = receiver_of(adapter);
    receiver->env.push(receiver->env.push_arg, push);
}

static int push_change(lua_State *L)
{
    return lt_adapter_push(L, "push", change_pushed);
}

static void call_receive(struct lua_receiver *receiver);

LT_RUNS_LUA static void receive_again(struct lt_timer *timer)
{
    call_receive(lt_container_of(timer, struct lua_receiver, again));
}

static void receive_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    (void)L;
    (void)count;
    struct lua_receiver *receiver = receiver_of(call->adapter);
    struct lt_loop *loop = receiver->adapter.loop;
    if (code == LT_ERROR) {
        double now = lt_loop_tick(loop);
        bool held = now - receiver->began >= LONGEST_PAUSE;
        receiver->pause = held || receiver->pause == 0 ? FIRST_PAUSE : receiver->pause * 2;
        if (receiver->pause > LONGEST_PAUSE)
            receiver->pause = LONGEST_PAUSE;
        lt_adapter_log(&receiver->adapter, "receive failed, it will be called again", NULL, message);
        lt_timer_start(loop, &receiver->again, now + receiver->pause, receive_again);
    }
    lt_adapter_call_free(call);
}

LT_RUNS_LUA static void call_receive(struct lua_receiver *receiver)
{
    struct lt_adapter_call *call = lt_adapter_call_new(&receiver->adapter, sizeof *call, NULL);
    receiver->began = lt_loop_now(receiver->adapter.loop);
    lua_State *L = lt_adapter_call_begin(call, "receive", receive_returned);
    lt_adapter_push_function(&receiver->adapter, L, push_change, 0);
    lt_adapter_call_run(call, 1);
}

LT_RUNS_LUA static int open_receiver(struct lt_receiver *base, const struct lt_actuator_env *env,
                                     struct lt_error *error)
{
    (void)error;
    struct lua_receiver *receiver = (struct lua_receiver *)base;
    receiver->env = *env;
    lt_adapter_open(&receiver->adapter, env->loop,
                    (struct lt_call_limits){.max_stall = env->call_limits.max_stall}); /* it may take any time */
    call_receive(receiver);
    return LT_OK;
}

static void receiver_closed(struct lt_adapter *adapter, int code, const char *message)
{
    lt_reply_send(receiver_of(adapter)->closing, code, message);
}

LT_RUNS_LUA static void close_receiver(struct lt_receiver *base, struct lt_reply *reply)
{
    struct lua_receiver *receiver = (struct lua_receiver *)base;
    receiver->closing = reply;
    lt_timer_stop(receiver->adapter.loop, &receiver->again);
    receiver->adapter.call_limits = receiver->env.call_limits;
    lt_adapter_close(&receiver->adapter, receiver_closed);
}

static void release_receiver(struct lt_receiver *base)
{
    lt_adapter_release(&((struct lua_receiver *)base)->adapter);
}

static void free_receiver(struct lt_adapter *adapter)
{
    free(receiver_of(adapter));
}

static const struct lt_receiver_ops ops = {
    .name = "receiver in Lua",
    .open = open_receiver,
    .close = close_receiver,
    .release = release_receiver,
};

struct lt_receiver *lt_lua_receiver_new(lua_State *L, int index)
{
    struct lua_receiver *receiver = lt_zalloc(sizeof *receiver);
    receiver->base.ops = &ops;
    receiver->again = LT_TIMER_INIT;
    lt_adapter_init(&receiver->adapter, L, index, "receiver", free_receiver);
    return &receiver->base;
}
