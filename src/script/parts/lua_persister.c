/* A persister in Lua: persister_save(self, task, data), persister_load(self, task) -> data, delete(self, task), close(self).
 *
 * Data crosses encoded: what a persister is given is a copy of its own, and what it returns is stored or shown as it
 * was then. */
#include "scheduler/persister.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "script/parts/adapter.h"
#include "script/parts/lua_parts.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

struct lua_persister {
    struct lt_persister base;
    struct lt_adapter adapter;
    struct lt_reply *closing;
};

static struct lua_persister *persister_of(struct lt_adapter *adapter)
{
    return lt_container_of(adapter, struct lua_persister, adapter);
}

struct load_call {
    struct lt_adapter_call call;
    struct lt_load_op *op;
};

static struct lt_adapter *adapter_of(struct lt_persister *persister)
{
    return &((struct lua_persister *)persister)->adapter;
}

static int open_persister(struct lt_persister *persister, struct lt_loop *loop, struct lt_call_limits limits,
                          struct lt_error *error)
{
    (void)error;
    lt_adapter_open(adapter_of(persister), loop, limits);
    return LT_OK;
}

/* Nothing, or nil with no failure. */
static bool is_nothing(lua_State *L, int count)
{
    int first = lua_gettop(L) - count + 1;
    return count == 0 || (lua_isnil(L, first) && (count == 1 || lua_isnil(L, first + 1)));
}

struct save_call {
    struct lt_adapter_call call;
    struct lt_save_op *op;
};

/* Saving and deleting have worked unless the method raised, or returned a failure, or false. */
static bool has_worked(struct lt_adapter_call *call, int code, lua_State *L, int count, struct lt_error *error)
{
    if (code != LT_OK)
        return false;
    return is_nothing(L, count) || lt_adapter_answer(call, LT_OK, L, count, NULL, LT_ERROR, error) == LT_OK;
}

static void save_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_error error;
    if (has_worked(call, code, L, count, &error))
        lt_reply_ok(call->reply);
    else
        lt_adapter_send_failure(call, code, L, count, code != LT_OK ? message : error.message,
                                ((struct save_call *)call)->op->said);
    lt_adapter_call_free(call);
}

LT_RUNS_LUA static void persister_save(struct lt_persister *persister, struct lt_save_op *op)
{
    struct save_call *save = lt_adapter_call_new(adapter_of(persister), sizeof *save, &op->reply);
    struct lt_adapter_call *call = &save->call;
    save->op = op;
    lua_State *L = lt_adapter_call_begin(call, "save", save_returned);
    lt_task_push(L, op->task);
    if (!lt_adapter_decode(L, op->data)) {
        lt_reply_send(&op->reply, LT_ERROR, "not enough memory for what is to be saved");
        lt_adapter_call_abort(call);
        return;
    }
    lt_adapter_call_cancellable(call);
    lt_adapter_call_run(call, 2);
}

static void delete_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_error error;
    if (has_worked(call, code, L, count, &error))
        lt_reply_ok(call->reply);
    else if (code != LT_OK)
        lt_adapter_send_failed(call, code, message);
    else
        lt_reply_send(call->reply, LT_ERROR, error.message);
    lt_adapter_call_free(call);
}

static void load_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_load_op *op = ((struct load_call *)call)->op;
    struct lt_error error;
    op->data = NULL;
    if (code != LT_OK)
        lt_adapter_send_failed(call, code, message);
    else if (lt_adapter_failed(L, count, &error))
        lt_reply_send(call->reply, LT_ERROR, error.message);
    else if (is_nothing(L, count) ||
             (op->data = lt_adapter_encode(L, lua_gettop(L) - count + 1, "data", &error)) != NULL)
        lt_reply_ok(call->reply);
    else
        lt_reply_send(call->reply, LT_UNSTORABLE, error.message);
    lt_adapter_call_free(call);
}

LT_RUNS_LUA static void persister_load(struct lt_persister *persister, struct lt_load_op *op)
{
    struct load_call *load = lt_adapter_call_new(adapter_of(persister), sizeof *load, &op->reply);
    load->op = op;
    lua_State *L = lt_adapter_call_begin(&load->call, "load", load_returned);
    lt_task_push(L, op->task);
    lt_adapter_call_run(&load->call, 1);
}

LT_RUNS_LUA static void persister_erase(struct lt_persister *persister, struct lt_load_op *op)
{
    struct lt_adapter_call *call = lt_adapter_call_new(adapter_of(persister), sizeof *call, &op->reply);
    lua_State *L = lt_adapter_call_begin(call, "delete", delete_returned);
    lt_task_push(L, op->task);
    lt_adapter_call_run(call, 1);
}

static void persister_closed(struct lt_adapter *adapter, int code, const char *message)
{
    const struct lua_persister *persister = persister_of(adapter);
    lt_reply_send(persister->closing, code, message);
}

LT_RUNS_LUA static void close_persister(struct lt_persister *persister, struct lt_reply *reply)
{
    ((struct lua_persister *)persister)->closing = reply;
    lt_adapter_close(adapter_of(persister), persister_closed);
}

static void release_persister(struct lt_persister *persister)
{
    lt_adapter_release(adapter_of(persister));
}

static void free_persister(struct lt_adapter *adapter)
{
    free(persister_of(adapter));
}

static const struct lt_persister_ops ops = {
    .name = "persister in Lua",
    .open = open_persister,
    .save = persister_save,
    .load = persister_load,
    .erase = persister_erase,
    .close = close_persister,
    .release = release_persister,
};

struct lt_persister *lt_lua_persister_new(lua_State *L, int index)
{
    struct lua_persister *lua_persister = lt_zalloc(sizeof *lua_persister);
    lua_persister->base.ops = &ops;
    lt_adapter_init(&lua_persister->adapter, L, index, "persister", free_persister);
    return &lua_persister->base;
}
