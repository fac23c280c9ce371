#include "script/parts/adapter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/nearest.h"
#include "script/values/marks.h"
#include "script/values/raw.h"
#include "script/values/values.h"

/* Life. */

void lt_adapter_init(struct lt_adapter *adapter, lua_State *L, int index, const char *kind,
                     void (*free_it)(struct lt_adapter *adapter))
{
    lt_module_open(&adapter->module, L, index, kind);
    LIST_INIT(&adapter->calls);
    adapter->gate_ref = LUA_NOREF;
    adapter->free = free_it;
}

void lt_adapter_open(struct lt_adapter *adapter, struct lt_loop *loop, struct lt_call_limits limits)
{
    adapter->loop = loop;
    adapter->call_limits = limits;
    adapter->open = true;
}

static void end_adapter(struct lt_adapter *adapter)
{
    lt_module_close(&adapter->module);
    adapter->free(adapter);
}

void lt_adapter_release(struct lt_adapter *adapter)
{
    adapter->released = true;
    if (!adapter->open)
        end_adapter(adapter);
}

static void shut_gate(struct lt_adapter *adapter)
{
    if (adapter->gate == NULL)
        return;
    *adapter->gate = NULL;
    adapter->gate = NULL;
    luaL_unref(adapter->module.script->L, LUA_REGISTRYINDEX, adapter->gate_ref);
    adapter->gate_ref = LUA_NOREF;
}

static void gate_closed(struct lt_adapter *adapter, int code, const char *message)
{
    adapter->open = false;
    if (adapter->closed != NULL)
        adapter->closed(adapter, code, message);
    if (adapter->released)
        end_adapter(adapter);
}

static void close_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    (void)L;
    (void)count;
    struct lt_adapter *adapter = call->adapter;
    struct lt_error error;
    if (code != LT_OK)
        lt_fail(&error, code, "%s", message);
    lt_loop_release(adapter->loop);
    lt_adapter_call_free(call);
    gate_closed(adapter, code, code != LT_OK ? error.message : NULL);
}

LT_RUNS_LUA static void call_close(struct lt_adapter *adapter)
{
    struct lt_adapter_call *call = lt_adapter_call_new(adapter, sizeof *call, NULL);
    lt_loop_hold(adapter->loop); /* it may wait, and by now nothing else may hold the loop */
    lt_adapter_call_begin(call, "close", close_returned);
    lt_adapter_call_run(call, 0);
}

LT_RUNS_LUA void lt_adapter_close(struct lt_adapter *adapter,
                                  void (*closed_fn)(struct lt_adapter *adapter, int code, const char *message))
{
    adapter->closed = closed_fn;
    shut_gate(adapter);
    struct lt_adapter_call *call;
    while ((call = LIST_FIRST(&adapter->calls)) != NULL) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not see that an abort takes the call off the list */
        struct lt_reply *reply = call->reply;
        lt_adapter_call_abort(call);
        if (reply != NULL)
            lt_reply_send(reply, LT_CLOSED, "closed");
    }
    if (lt_module_has(&adapter->module, "close"))
        call_close(adapter);
    else
        gate_closed(adapter, LT_OK, NULL);
}

/* Calls. */

void *lt_adapter_call_new(struct lt_adapter *adapter, size_t size, struct lt_reply *reply)
{
    struct lt_adapter_call *call = lt_zalloc(size);
    call->adapter = adapter;
    call->reply = reply;
    call->failure = LT_REPORT(LT_FAILED);
    return call;
}

void lt_adapter_call_free(struct lt_adapter_call *call)
{
    lt_report_clear(&call->failure);
    if (call->free != NULL)
        call->free(call);
    free(call);
}

static void adapter_call_done(struct lt_call *lua_call, int code, lua_State *L, int count, const char *message)
{
    struct lt_adapter_call *call = lua_call->owner;
    call->under_way = false;
    LIST_REMOVE(call, link);
    if (message != NULL && message[0] == '\0')
        message = lt_code_name(code);
    call->done(call, code, L, count, message);
}

lua_State *lt_adapter_call_begin(struct lt_adapter_call *call, const char *method,
                                 void (*done_fn)(struct lt_adapter_call *call, int code, lua_State *L, int count,
                                                 const char *message))
{
    struct lt_adapter *adapter = call->adapter;
    call->done = done_fn;
    call->under_way = true;
    lt_report_clear(&call->failure);
    call->failure = LT_REPORT(LT_FAILED);
    LIST_INSERT_HEAD(&adapter->calls, call, link);
    lua_State *L = lt_call_begin(&call->call, &adapter->module, method, adapter->call_limits, call, adapter_call_done);
    call->call.failure = &call->failure;
    return L;
}

LT_RUNS_LUA void lt_adapter_call_run(struct lt_adapter_call *call, int arguments)
{
    lt_call_run(&call->call, arguments);
}

LT_RUNS_LUA void lt_adapter_call_abort(struct lt_adapter_call *call)
{
    if (call->under_way) {
        LIST_REMOVE(call, link);
        call->under_way = false;
        if (call->reply != NULL)
            call->reply->cancel = NULL; /* its variables that are closed now might give it up again */
        lt_call_abort(&call->call);
    }
    lt_adapter_call_free(call);
}

LT_RUNS_LUA static void adapter_call_cancelled(struct lt_reply *reply, void *arg)
{
    (void)reply;
    lt_adapter_call_abort(arg);
}

void lt_adapter_call_cancellable(struct lt_adapter_call *call)
{
    call->reply->cancel = adapter_call_cancelled;
    call->reply->cancel_arg = call;
}

void lt_adapter_go(struct lt_adapter_call *call)
{
    call->again = true;
    if (call->stepping)
        return;
    bool over = false;
    call->stepping = true;
    while (!over && call->again) {
        call->again = false;
        over = call->step(call);
    }
    call->stepping = false;
    if (over)
        call->over(call);
}

/* Results. */

/* The text of a failure: its reason, or what there is instead of one. */
static void failure_text(lua_State *L, int index, struct lt_error *error)
{
    struct lt_report failure = LT_REPORT(LT_FAILED);
    if (lt_failure_read(L, index, &failure, error))
        lt_fail(error, LT_ERROR, "%s", failure.reason != NULL ? failure.reason->data : "failed");
    lt_report_clear(&failure);
}

static int code_named(lua_State *L, int index, int otherwise)
{
    if (lua_type(L, index) != LUA_TSTRING)
        return otherwise;
    for (int code = LT_EXISTS; code >= LT_UNSUPPORTED; code--) {
        if (strcmp(lt_code_name(code), lua_tostring(L, index)) == 0)
            return code;
    }
    return otherwise;
}

int lt_adapter_answer(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message, int refusal,
                      struct lt_error *error)
{
    if (code != LT_OK)
        return lt_fail(error, code, "%s", message);
    int first = lua_gettop(L) - count + 1;
    if (count > 0 && lua_toboolean(L, first))
        return LT_OK;
    if (count < 2 || lua_isnil(L, first + 1)) {
        if (count == 0)
            lua_pushnil(L);
        return lt_call_nonsense(&call->call, L, first, "true, or nil and a message", error);
    }
    failure_text(L, first + 1, error);
    error->code = count > 2 ? code_named(L, first + 2, refusal) : refusal;
    return error->code;
}

bool lt_adapter_failed(lua_State *L, int count, struct lt_error *error)
{
    int first = lua_gettop(L) - count + 1;
    if (count < 2 || !lua_isnil(L, first) || lua_isnil(L, first + 1))
        return false;
    failure_text(L, first + 1, error);
    error->code = count > 2 ? code_named(L, first + 2, LT_ERROR) : LT_ERROR;
    return true;
}

void lt_adapter_send_failed(struct lt_adapter_call *call, int code, const char *message)
{
    bool raised = code == LT_ERROR && call->failure.reason != NULL;
    lt_reply_send(call->reply, code, raised ? call->failure.reason->data : message);
}

void lt_adapter_send_failure(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message,
                             struct lt_report *failure)
{
    struct lt_error error;
    if (code == LT_OK && count >= 2)
        lt_failure_read(L, lua_gettop(L) - count + 2, &call->failure, &error); /* not one: the message says so */
    lt_report_clear(failure);
    *failure = call->failure;
    call->failure = LT_REPORT(LT_FAILED);
    lt_reply_send(call->reply, code != LT_OK ? code : LT_ERROR,
                  failure->reason != NULL ? failure->reason->data : message);
}

void lt_adapter_log(struct lt_adapter *adapter, const char *what, const struct lt_task *task, const char *error)
{
    lt_log_gated(&adapter->log, LT_LOG_ERROR, what, LT_S("module", adapter->module.name),
                 LT_S("task", task != NULL ? lt_task_id(task) : NULL), LT_S("error", error));
}

/* Values. */

struct lt_bytes *lt_adapter_encode(lua_State *L, int index, const char *root, struct lt_error *error)
{
    return lt_value_bytes(L, index, &lt_script_of(L)->scratch, root, error);
}

static int decode_bytes(lua_State *L)
{
    const struct lt_bytes *bytes = lua_touserdata(L, 1);
    if (lt_value_decode(L, bytes->data, bytes->len) != LT_OK)
        lua_pushnil(L);
    return 1;
}

LT_RUNS_LUA bool lt_adapter_decode(lua_State *L, struct lt_bytes *bytes)
{
    if (bytes == NULL) {
        lua_pushnil(L);
        return true;
    }
    lua_pushcfunction(L, decode_bytes);
    lua_pushlightuserdata(L, lt_bytes_ref(bytes)); /* decoding may run finalizers of the script */
    bool decoded = lua_pcall(L, 1, 1, 0) == LUA_OK;
    lt_bytes_unref(bytes);
    return decoded;
}

/* Functions for the script. */

static void make_gate(struct lt_adapter *adapter, lua_State *L)
{
    adapter->gate = lua_newuserdatauv(L, sizeof(struct lt_adapter *), 0);
    *adapter->gate = adapter;
    adapter->gate_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void lt_adapter_push_function(struct lt_adapter *adapter, lua_State *L, lua_CFunction function, uint64_t number)
{
    if (adapter->gate == NULL)
        make_gate(adapter, L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, adapter->gate_ref);
    lua_pushinteger(L, (lua_Integer)number);
    lua_pushcclosure(L, function, 2);
}

struct lt_adapter *lt_adapter_of_function(lua_State *L)
{
    struct lt_adapter **gate = lua_touserdata(L, lua_upvalueindex(1));
    return *gate;
}

uint64_t lt_adapter_function_number(lua_State *L)
{
    return (uint64_t)lua_tointeger(L, lua_upvalueindex(2));
}

/* Reports. */

static bool read_status(lua_State *L, int index, struct lt_report *report, struct lt_error *error)
{
    int type = lt_raw_field(L, index, "status");
    size_t len = 0;
    const char *name = type == LUA_TSTRING ? lua_tolstring(L, -1, &len) : "";
    int status = type == LUA_TNIL ? LT_RUNNING : lt_status_parse(name, len);
    bool ok = status == LT_RUNNING || status == LT_SUCCESS || status == LT_FAILED || status == LT_STOPPED;
    if (ok) {
        report->status = (enum lt_status)status;
    } else {
        char got[128];
        lt_describe(L, -1, got, sizeof got);
        lt_fail(error, LT_ERROR, "status must be running, success, failed or stopped, got %s", got);
    }
    lua_pop(L, 1);
    return ok;
}

static bool read_value(lua_State *L, int index, const char *name, struct lt_bytes **value, struct lt_error *error)
{
    bool ok = true;
    if (lt_raw_field(L, index, name) != LUA_TNIL) {
        *value = lt_adapter_encode(L, lua_gettop(L), name, error);
        ok = *value != NULL;
    }
    lua_pop(L, 1);
    return ok;
}

/* The reason may be a failure itself; else the record is one. */
static bool read_failure(lua_State *L, int index, struct lt_report *report, struct lt_error *error)
{
    int type = lt_raw_field(L, index, "reason");
    bool ok = lt_failure_read(L, type == LUA_TTABLE ? lua_gettop(L) : index, report, error);
    lua_pop(L, 1);
    if (ok && report->status == LT_STOPPED && report->reason == NULL)
        report->reason = lt_bytes_printf("stopped outside");
    return ok;
}

/* An output that cannot be stored is an error, or the task's failure. One that has failed already keeps its own. */
static bool read_output(lua_State *L, int index, bool fails, struct lt_report *report, struct lt_error *error)
{
    if (read_value(L, index, "output", &report->output, error))
        return true;
    if (fails && report->status == LT_SUCCESS) {
        report->status = LT_FAILED;
        report->no_retry = true; /* it would say the same again */
        report->reason = lt_bytes_new(error->message, strlen(error->message));
    }
    return fails;
}

static bool read_report(lua_State *L, int index, bool fails, struct lt_report *report, struct lt_error *error)
{
    if (!read_status(L, index, report, error))
        return false;
    if (!read_value(L, index, "progress", &report->progress, error))
        return false;
    if (report->status == LT_RUNNING)
        return true;
    if (report->status != LT_SUCCESS && !read_failure(L, index, report, error))
        return false;
    return read_output(L, index, fails, report, error);
}

bool lt_report_read(lua_State *L, int index, bool fails, struct lt_report *report, struct lt_error *error)
{
    *report = LT_REPORT(LT_RUNNING);
    bool ok = read_report(L, lua_absindex(L, index), fails, report, error);
    if (!ok)
        lt_report_clear(report);
    return ok;
}

void lt_report_read_remains(lua_State *L, int index, struct lt_report *report)
{
    struct lt_error error; /* what cannot be stored is not kept, and no reason to lose the failure */
    if (lua_type(L, index) != LUA_TTABLE)
        return;
    index = lua_absindex(L, index);
    read_value(L, index, "output", &report->output, &error);
    read_value(L, index, "progress", &report->progress, &error);
}

/* notify and push. */

static const char *const push_fields[] = {"id",       "run",   "status",      "reason", "output",
                                          "progress", "retry", "retry_after", "snooze", NULL};

/* The name of a field is on top of the stack. */
LT_RAISES static void check_field(lua_State *L, const char *name)
{
    struct lt_nearest nearest = {0};
    nearest.name = lua_tolstring(L, -1, &nearest.len);
    for (const char *const *known = push_fields; *known != NULL; known++) {
        if (strcmp(*known, nearest.name) == 0)
            return;
        lt_nearest_look(&nearest, *known);
    }
    if (nearest.meant != NULL)
        luaL_error(L, "%s: unknown field '%s', did you mean '%s'?", name, nearest.name, nearest.meant);
    luaL_error(L, "%s: unknown field '%s'", name, nearest.name);
}

LT_RAISES static void check_fields(lua_State *L, const char *name)
{
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "%s: its fields must have names, got a %s as one", name, luaL_typename(L, -1));
        check_field(L, name);
    }
}

LT_RAISES static void refuse_value(lua_State *L, const char *name, const char *field, const char *expected)
{
    char got[128];
    lt_describe(L, -1, got, sizeof got);
    luaL_error(L, "%s: %s must be %s, got %s", name, field, expected, got);
}

LT_RAISES int lt_adapter_push(lua_State *L, const char *name,
                              void (*push)(struct lt_adapter *adapter, struct lt_push *push))
{
    struct lt_push change = {0};
    struct lt_error error;
    lua_settop(L, 1);
    if (lua_type(L, 1) != LUA_TTABLE)
        refuse_value(L, name, "its argument", "a table { id=, status=, ... }");
    check_fields(L, name);
    if (lt_raw_field(L, 1, "run") != LUA_TNIL) {
        int is_integer = 0;
        lua_Integer run = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &is_integer) : 0;
        if (!is_integer || run < 1)
            refuse_value(L, name, "run", "a positive integer");
        change.run = (uint64_t)run;
    }
    if (lt_raw_field(L, 1, "id") != LUA_TSTRING)
        refuse_value(L, name, "id", "a string");
    change.id = lua_tolstring(L, -1, &change.id_len); /* stays on the stack */
    if (!lt_report_read(L, 1, false, &change.report, &error))
        return luaL_error(L, "%s: %s", name, error.message);
    struct lt_adapter *adapter = lt_adapter_of_function(L);
    if (adapter != NULL)
        push(adapter, &change);
    else
        lt_report_clear(&change.report);
    return 0;
}
