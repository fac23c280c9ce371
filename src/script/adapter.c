#include "script/adapter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/values.h"

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

static void end(struct lt_adapter *adapter)
{
    lt_module_close(&adapter->module);
    adapter->free(adapter);
}

void lt_adapter_release(struct lt_adapter *adapter)
{
    adapter->released = true;
    if (!adapter->open)
        end(adapter);
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

static void closed(struct lt_adapter *adapter, int code, const char *message)
{
    adapter->open = false;
    if (adapter->closed != NULL)
        adapter->closed(adapter, code, message);
    if (adapter->released)
        end(adapter);
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
    closed(adapter, code, code != LT_OK ? error.message : NULL);
}

static void call_close(struct lt_adapter *adapter)
{
    struct lt_adapter_call *call = lt_adapter_call_new(adapter, sizeof *call, NULL);
    lt_loop_hold(adapter->loop); /* it may wait, and by now nothing else may hold the loop */
    lt_adapter_call_begin(call, "close", close_returned);
    lt_adapter_call_run(call, 0);
}

void lt_adapter_close(struct lt_adapter *adapter,
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
        closed(adapter, LT_OK, NULL);
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

static void done(struct lt_call *lua_call, int code, lua_State *L, int count, const char *message)
{
    struct lt_adapter_call *call = lua_call->owner;
    call->under_way = false;
    LIST_REMOVE(call, link);
    if (message != NULL && message[0] == '\0')
        message = lt_code_name(code);
    if (L != NULL)
        lua_checkstack(L, LUA_MINSTACK); /* the results may fill it */
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
    lua_State *L = lt_call_begin(&call->call, &adapter->module, method, adapter->call_limits, call, done);
    call->call.failure = &call->failure;
    return L;
}

void lt_adapter_call_run(struct lt_adapter_call *call, int arguments)
{
    lt_call_run(&call->call, arguments);
}

void lt_adapter_call_abort(struct lt_adapter_call *call)
{
    if (call->under_way) {
        LIST_REMOVE(call, link);
        call->under_way = false;
        lt_call_abort(&call->call);
    }
    lt_adapter_call_free(call);
}

static void cancelled(struct lt_reply *reply, void *arg)
{
    (void)reply;
    lt_adapter_call_abort(arg);
}

void lt_adapter_call_cancellable(struct lt_adapter_call *call)
{
    call->reply->cancel = cancelled;
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
    struct lt_buffer *scratch = &lt_script_of(L)->scratch;
    scratch->len = 0;
    if (lt_value_encode(L, index, scratch, root, error) != LT_OK)
        return NULL;
    return lt_bytes_new(scratch->data, scratch->len);
}

void lt_adapter_decode(lua_State *L, struct lt_bytes *bytes)
{
    lt_bytes_ref(bytes); /* decoding may run finalizers of the script */
    if (bytes == NULL || lt_value_decode(L, bytes->data, bytes->len) != LT_OK)
        lua_pushnil(L);
    lt_bytes_unref(bytes);
}

/* Functions for the script. */

static void make_gate(struct lt_adapter *adapter, lua_State *L)
{
    adapter->gate = lua_newuserdatauv(L, sizeof(struct lt_adapter *), 0);
    *adapter->gate = adapter;
    adapter->gate_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void lt_adapter_push_function(struct lt_adapter *adapter, lua_State *L, lua_CFunction function)
{
    if (adapter->gate == NULL)
        make_gate(adapter, L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, adapter->gate_ref);
    lua_pushcclosure(L, function, 1);
}

struct lt_adapter *lt_adapter_of_function(lua_State *L)
{
    struct lt_adapter **gate = lua_touserdata(L, lua_upvalueindex(1));
    return *gate;
}

/* Reports. */

static int raw_field(lua_State *L, int index, const char *name)
{
    lua_pushstring(L, name);
    return lua_rawget(L, index);
}

static bool read_status(lua_State *L, int index, struct lt_report *report, struct lt_error *error)
{
    int type = raw_field(L, index, "status");
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
    if (raw_field(L, index, name) != LUA_TNIL) {
        *value = lt_adapter_encode(L, lua_gettop(L), name, error);
        ok = *value != NULL;
    }
    lua_pop(L, 1);
    return ok;
}

/* The reason may be a failure itself; else the record is one. */
static bool read_failure(lua_State *L, int index, struct lt_report *report, struct lt_error *error)
{
    int type = raw_field(L, index, "reason");
    bool ok = lt_failure_read(L, type == LUA_TTABLE ? lua_gettop(L) : index, report, error);
    lua_pop(L, 1);
    if (ok && report->status == LT_STOPPED && report->reason == NULL)
        report->reason = lt_bytes_printf("stopped outside");
    return ok;
}

static bool read_report(lua_State *L, int index, bool fails, struct lt_report *report, struct lt_error *error)
{
    if (!read_status(L, index, report, error))
        return false;
    if (!read_value(L, index, "progress", &report->progress, error))
        return false;
    if (report->status == LT_FAILED || report->status == LT_STOPPED)
        return read_failure(L, index, report, error);
    if (report->status == LT_RUNNING || read_value(L, index, "output", &report->output, error))
        return true;
    if (fails) {
        report->status = LT_FAILED;
        report->no_retry = true; /* it would say the same again */
        report->reason = lt_bytes_new(error->message, strlen(error->message));
    }
    return fails;
}

bool lt_report_read(lua_State *L, int index, bool fails, struct lt_report *report, struct lt_error *error)
{
    *report = LT_REPORT(LT_RUNNING);
    lua_checkstack(L, 8);
    bool ok = read_report(L, lua_absindex(L, index), fails, report, error);
    if (!ok)
        lt_report_clear(report);
    return ok;
}

/* notify and push. */

static const char *const push_fields[] = {"id",       "run",   "status",      "reason", "output",
                                          "progress", "retry", "retry_after", "snooze", NULL};

/* How many letters must be changed, put in or taken out to make one name of the other; of short names. */
static size_t distance(const char *a, const char *b)
{
    enum { LONGEST = 32 };
    size_t row[LONGEST + 1];
    size_t len = strlen(b);
    if (strlen(a) > LONGEST || len > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= len; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            size_t changed = diagonal + (a[i - 1] != b[j - 1]);
            size_t shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = changed < shorter ? changed : shorter;
        }
    }
    return row[len];
}

static const char *nearest(const char *name)
{
    const char *best = push_fields[0];
    for (const char *const *field = push_fields; *field != NULL; field++) {
        if (distance(name, *field) < distance(name, best))
            best = *field;
    }
    return best;
}

static void check_fields(lua_State *L, const char *name)
{
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "%s: its fields must have names, got a %s as one", name, luaL_typename(L, -1));
        const char *field = lua_tostring(L, -1);
        bool known = false;
        for (const char *const *one = push_fields; *one != NULL; one++)
            known = known || strcmp(*one, field) == 0;
        if (!known)
            luaL_error(L, "%s: unknown field '%s', did you mean '%s'?", name, field, nearest(field));
    }
}

static void refuse(lua_State *L, const char *name, const char *field, const char *expected)
{
    char got[128];
    lt_describe(L, -1, got, sizeof got);
    luaL_error(L, "%s: %s must be %s, got %s", name, field, expected, got);
}

int lt_adapter_push(lua_State *L, const char *name, void (*push)(struct lt_adapter *adapter, struct lt_push *push))
{
    struct lt_push change = {0};
    struct lt_error error;
    lua_settop(L, 1);
    if (lua_type(L, 1) != LUA_TTABLE)
        refuse(L, name, "its argument", "a table { id=, status=, ... }");
    check_fields(L, name);
    if (raw_field(L, 1, "run") != LUA_TNIL) {
        int is_integer = 0;
        lua_Integer run = lua_type(L, -1) == LUA_TNUMBER ? lua_tointegerx(L, -1, &is_integer) : 0;
        if (!is_integer || run < 1)
            refuse(L, name, "run", "a positive integer");
        change.run = (uint64_t)run;
    }
    if (raw_field(L, 1, "id") != LUA_TSTRING)
        refuse(L, name, "id", "a string");
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
