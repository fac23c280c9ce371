#include "script/flow/call.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "scheduler/actuator.h"
#include "script/values/marks.h"
#include "script/values/raw.h"

/* Descriptions of values. */

void lt_describe(lua_State *L, int index, char *buffer, size_t size)
{
    switch (lua_type(L, index)) {
    case LUA_TNIL:
    case LUA_TNONE:
        snprintf(buffer, size, "nil");
        break;
    case LUA_TBOOLEAN:
        snprintf(buffer, size, "%s", lua_toboolean(L, index) ? "true" : "false");
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            snprintf(buffer, size, "%lld (a number)", (long long)lua_tointeger(L, index));
        else
            snprintf(buffer, size, "%.14g (a number)", lua_tonumber(L, index));
        break;
    case LUA_TSTRING: {
        size_t len;
        const char *text = lua_tolstring(L, index, &len);
        snprintf(buffer, size, "\"%.60s%s\"", text, len > 60 ? "..." : "");
        break;
    }
    default:
        snprintf(buffer, size, "a %s", lua_typename(L, lua_type(L, index)));
    }
}

LT_RAISES int lt_argument_error(lua_State *L, const char *function, const char *name, const char *expected, int index)
{
    char got[128];
    lt_describe(L, index, got, sizeof got);
    return luaL_error(L, "%s: %s must be %s, got %s", function, name, expected, got);
}

LT_RAISES void lt_memory_check(lua_State *L, const char *function, size_t size)
{
    if (!lt_memory_has(size))
        luaL_error(L, "%s: not enough memory", function);
}

/* Modules. */

void lt_module_open(struct lt_module *module, lua_State *L, int index, const char *kind)
{
    index = lua_absindex(L, index);
    module->script = lt_script_of(L);
    module->kind = kind;
    module->bugs = (struct lt_log_gate){0};
    lt_group_init(&module->group);
    const char *name = NULL;
    if (lua_type(L, index) == LUA_TTABLE) {
        lua_pushliteral(L, "name");
        if (lua_rawget(L, index) == LUA_TSTRING)
            name = lua_tostring(L, -1);
    } else {
        lua_pushnil(L);
    }
    char text[128];
    snprintf(text, sizeof text, name != NULL ? "%s '%s'" : "%s", kind, name);
    module->name = lt_strdup(text);
    lua_pop(L, 1);
    lua_pushvalue(L, index);
    module->methods = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, index);
    module->self = luaL_ref(L, LUA_REGISTRYINDEX);
}

void lt_module_close(struct lt_module *module)
{
    if (module->methods == LUA_NOREF)
        return;
    luaL_unref(module->script->L, LUA_REGISTRYINDEX, module->methods);
    luaL_unref(module->script->L, LUA_REGISTRYINDEX, module->self);
    module->methods = module->self = LUA_NOREF;
    free(module->name);
    module->name = NULL;
}

static int look_up_method(lua_State *L)
{
    lua_getfield(L, 1, lua_tostring(L, 2));
    return 1;
}

LT_RUNS_LUA bool lt_module_has(const struct lt_module *module, const char *method)
{
    lua_State *L = module->script->L;
    lua_pushcfunction(L, look_up_method);
    lua_rawgeti(L, LUA_REGISTRYINDEX, module->methods);
    lua_pushstring(L, method);
    bool found = lt_guarded_call(module->script, L, 2, 1, 0) == LUA_OK && !lua_isnil(L, -1);
    lua_pop(L, 1);
    return found;
}

/* Calls. */

static int call_returned(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return lua_gettop(L);
}

/* methods, name, self, arguments...: the lookup may run the script's code too. */
static int enter_method(lua_State *L)
{
    lua_pushvalue(L, 2);
    lua_gettable(L, 1);
    lua_replace(L, 2);
    lua_remove(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, call_returned);
    return call_returned(L, LUA_OK, 0);
}

LT_RUNS_LUA static void call_raised(struct lt_call *call, struct lt_strand *strand)
{
    struct lt_report failure = LT_REPORT(LT_FAILED);
    struct lt_bytes *traceback;
    lt_failure_raised(strand, &failure, &traceback);
    const char *reason = failure.reason != NULL ? failure.reason->data : "failed";
    bool bug = traceback != NULL && strand->position == 0;
    if (bug)
        lt_log_gated(&call->module->bugs, LT_LOG_ERROR, "a method raised an error", LT_S("module", call->module->name),
                     LT_S("method", call->method), LT_S("error", reason), LT_S("traceback", traceback->data));
    lt_fail(&call->error, LT_ERROR, "%s: %s raised: %s", call->module->name, call->method, reason);
    if (call->failure != NULL)
        *call->failure = failure;
    else
        lt_report_clear(&failure);
    lt_bytes_unref(traceback);
}

static void call_late(struct lt_call *call)
{
    lt_fail(&call->error, LT_TIMEOUT, "%s: %s did not return within %g s", call->module->name, call->method,
            call->limits.timeout);
}

/* Ended where it could not be preempted. */
static void call_cut(struct lt_call *call, enum lt_cut why)
{
    if (why == LT_CUT_LATE)
        call_late(call);
    else
        lt_fail(&call->error, LT_ERROR, "%s: %s held the host for %g s where it cannot be preempted",
                call->module->name, call->method, call->limits.max_stall);
}

LT_RUNS_LUA static void call_ended(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    struct lt_call *call = strand->owner;
    lt_timer_stop(strand->script->loop, &call->timer);
    call->strand = NULL;
    if (outcome == LT_RAISED)
        call_raised(call, strand);
    else if (outcome == LT_ENDED && strand->bounds.cut != LT_CUT_NOT)
        call_cut(call, strand->bounds.cut);
    if (outcome == LT_DONE)
        call->done(call, LT_OK, strand->L, count, NULL);
    else
        call->done(call, call->error.code, NULL, 0, call->error.message);
}

LT_RUNS_LUA static void on_call_timeout(struct lt_timer *timer)
{
    struct lt_call *call = lt_container_of(timer, struct lt_call, timer);
    call_late(call);
    lt_strand_kill(call->strand);
}

lua_State *lt_call_begin(struct lt_call *call, struct lt_module *module, const char *method,
                         struct lt_call_limits limits, void *owner,
                         void (*done)(struct lt_call *call, int code, lua_State *L, int count, const char *message))
{
    call->module = module;
    call->method = method;
    call->timer = LT_TIMER_INIT;
    call->limits = limits;
    call->done = done;
    call->owner = owner;
    call->failure = NULL;
    call->error.code = LT_CANCELLED;
    call->error.message[0] = '\0';
    call->strand = lt_strand_new(module->script, LT_STRAND_METHOD, call, call_ended);
    call->strand->group = &module->group;
    call->strand->bounds.max_stall = limits.max_stall;
    lua_State *L = call->strand->L;
    lua_pushcfunction(L, enter_method);
    lua_rawgeti(L, LUA_REGISTRYINDEX, module->methods);
    lua_pushstring(L, method);
    lua_rawgeti(L, LUA_REGISTRYINDEX, module->self);
    return L;
}

void lt_call_prolong(struct lt_call *call)
{
    struct lt_strand *strand = call->strand;
    struct lt_loop *loop = strand->script->loop;
    if (call->limits.timeout <= 0)
        return;
    strand->bounds.deadline = lt_loop_now(loop) + call->limits.timeout;
    lt_timer_start(loop, &call->timer, strand->bounds.deadline, on_call_timeout);
}

LT_RUNS_LUA void lt_call_run(struct lt_call *call, int arguments)
{
    lt_call_prolong(call); /* `call` may be gone after lt_strand_run, by the end of which the timer is stopped */
    lt_strand_run(call->strand, arguments + 3);
}

static void ignore_answer(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    (void)strand;
    (void)outcome;
    (void)count;
}

LT_RUNS_LUA void lt_call_abort(struct lt_call *call)
{
    struct lt_strand *strand = call->strand;
    lt_timer_stop(call->module->script->loop, &call->timer);
    call->strand = NULL;
    if (strand == NULL)
        return;
    strand->done = ignore_answer;
    lt_strand_ungroup(strand);
    if (strand->state == LT_STRAND_RUNS)
        lt_strand_tell(strand, "the call was given up");
    else
        lt_strand_kill(strand);
}

int lt_call_nonsense(struct lt_call *call, lua_State *L, int index, const char *expected, struct lt_error *error)
{
    char got[128];
    lt_describe(L, index, got, sizeof got);
    return lt_fail(error, LT_ERROR, "%s: %s must return %s, got %s", call->module->name, call->method, expected, got);
}

/* Failures. */

/* A reason may be as large as a script likes. */
static struct lt_bytes *bytes_of_text(const char *text, size_t len)
{
    enum { SHORT = 4096 };
    bool fits = len <= SHORT || lt_memory_has(len);
    return fits ? lt_bytes_new(text, len) : lt_bytes_printf("not enough memory for the reason");
}

static struct lt_bytes *text_at(lua_State *L, int index)
{
    size_t len;
    lua_pushvalue(L, index); /* lua_tolstring would change a number in place */
    const char *text = lua_tolstring(L, -1, &len);
    struct lt_bytes *bytes = bytes_of_text(text, len);
    lua_pop(L, 1);
    return bytes;
}

static bool read_delay(lua_State *L, int index, const char *name, double *value, struct lt_error *error)
{
    int type = lt_raw_field(L, index, name);
    double number = lua_tonumber(L, -1);
    bool ok = type == LUA_TNIL || (type == LUA_TNUMBER && number >= 0 && isfinite(number));
    if (!ok) {
        char got[128];
        lt_describe(L, -1, got, sizeof got);
        lt_fail(error, LT_ERROR, "%s of a failure must be a number of seconds, got %s", name, got);
    } else if (type == LUA_TNUMBER) {
        *value = number;
    }
    lua_pop(L, 1);
    return ok;
}

static bool read_failure_table(lua_State *L, int index, struct lt_report *report, struct lt_error *error)
{
    int type = lt_raw_field(L, index, "snooze");
    if (type == LUA_TBOOLEAN)
        report->snooze = lua_toboolean(L, -1) ? -1 : 0;
    lua_pop(L, 1);
    if (type != LUA_TBOOLEAN && !read_delay(L, index, "snooze", &report->snooze, error))
        return false;
    if (type == LUA_TNUMBER && report->snooze <= 0)
        report->snooze = 1e-9; /* at once is a snooze too */
    if (!read_delay(L, index, "retry_after", &report->retry_after, error))
        return false;
    report->no_retry = lt_raw_field(L, index, "retry") == LUA_TBOOLEAN && !lua_toboolean(L, -1);
    lua_pop(L, 1);
    type = lt_raw_field(L, index, "reason");
    bool ok = type == LUA_TSTRING || type == LUA_TNUMBER || type == LUA_TNIL;
    if (type == LUA_TSTRING || type == LUA_TNUMBER)
        lt_bytes_set(&report->reason, text_at(L, -1));
    else if (!ok)
        lt_fail(error, LT_ERROR, "reason of a failure must be a string, got a %s", lua_typename(L, type));
    lua_pop(L, 1);
    return ok;
}

bool lt_failure_read(lua_State *L, int index, struct lt_report *report, struct lt_error *error)
{
    index = lua_absindex(L, index);
    char got[128];
    switch (lua_type(L, index)) {
    case LUA_TSTRING:
    case LUA_TNUMBER:
        lt_bytes_set(&report->reason, text_at(L, index));
        return true;
    case LUA_TTABLE:
        return read_failure_table(L, index, report, error);
    default:
        lt_describe(L, index, got, sizeof got);
        lt_fail(error, LT_ERROR,
                "a failure must be a string or a table { reason=, retry=, retry_after=, snooze= }, got %s", got);
        return false;
    }
}

static int error_to_text(lua_State *L)
{
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* An error value with __tostring, as libraries raise them, in its own words. */
LT_RUNS_LUA static struct lt_bytes *own_words(lua_State *L, int index)
{
    lua_pushcfunction(L, error_to_text);
    lua_pushvalue(L, index);
    bool has_words = lt_guarded_call(lt_script_of(L), L, 1, 1, 0) == LUA_OK;
    struct lt_bytes *words = has_words ? text_at(L, -1) : lt_bytes_printf("an error whose __tostring failed");
    lua_pop(L, 1);
    return words;
}

LT_RUNS_LUA void lt_failure_raised(struct lt_strand *strand, struct lt_report *report, struct lt_bytes **traceback)
{
    lua_State *L = strand->L;
    struct lt_error error;
    int top = lua_gettop(L);
    if (traceback != NULL)
        *traceback = lt_bytes_ref(strand->traceback);
    if (lua_type(L, top) == LUA_TSTRING) {
        size_t len;
        const char *text = lua_tolstring(L, top, &len);
        size_t skip = strand->position <= len ? strand->position : 0;
        lt_bytes_set(&report->reason, bytes_of_text(text + skip, len - skip));
    } else if (luaL_getmetafield(L, top, "__tostring") != LUA_TNIL) {
        lua_pop(L, 1);
        lt_bytes_set(&report->reason, own_words(L, top));
    } else if (lua_isnil(L, top)) {
        lt_bytes_set(&report->reason, lt_bytes_printf("error(nil)"));
    } else if (!lt_failure_read(L, top, report, &error)) {
        lt_bytes_set(&report->reason, lt_bytes_printf("%s", error.message));
    }
}
