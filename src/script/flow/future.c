#include "script/flow/future.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "scheduler/actuator.h"
#include "script/flow/call.h"
#include "script/values/marks.h"
#include "script/values/raw.h"

static const char *const FUTURE = "ltsh.job";

struct waiter {
    struct lt_wait wait;
    struct future *future;
    struct lt_strand *strand;
    TAILQ_ENTRY(waiter) link;
};

/* A userdata; its user value is the table of values, once they are there: { n =, ... }. */
struct future {
    struct lt_strand *strand; /* the job's; NULL: of await, or over */
    int ref;                  /* of this userdata, while the strand runs */
    int behind;               /* of await: reference to what is cancelled if the wait is given up, or LUA_NOREF */
    bool set;
    TAILQ_HEAD(, waiter) waiters;
};

static struct future *new_future(lua_State *L)
{
    struct future *future = lua_newuserdatauv(L, sizeof *future, 1);
    *future = (struct future){.ref = LUA_NOREF, .behind = LUA_NOREF};
    TAILQ_INIT(&future->waiters);
    luaL_setmetatable(L, FUTURE);
    return future;
}

void lt_future_push(lua_State *L)
{
    new_future(L);
}

static void drop_behind(lua_State *L, struct future *future)
{
    luaL_unref(L, LUA_REGISTRYINDEX, future->behind);
    future->behind = LUA_NOREF;
}

static void wake_waiters(struct future *future)
{
    struct waiter *waiter;
    future->set = true;
    while ((waiter = TAILQ_FIRST(&future->waiters)) != NULL) {
        TAILQ_REMOVE(&future->waiters, waiter, link);
        waiter->future = NULL;
        lt_wake(waiter->strand);
    }
}

void lt_future_set(lua_State *L, int index, int count)
{
    index = lua_absindex(L, index);
    lua_createtable(L, count, 1);
    lua_insert(L, -(count + 1));
    int table = lua_gettop(L) - count;
    for (int i = count; i > 0; i--)
        lua_rawseti(L, table, i);
    lua_pushinteger(L, count);
    lua_setfield(L, table, "n");
    lua_setiuservalue(L, index, 1);
    struct future *future = lua_touserdata(L, index);
    drop_behind(L, future);
    wake_waiters(future);
}

LT_RAISES static int push_values(lua_State *L, int index)
{
    lua_getiuservalue(L, index, 1);
    lt_raw_field(L, -1, "n");
    int count = (int)lua_tointeger(L, -1);
    lua_pop(L, 1);
    luaL_checkstack(L, count, "too many results");
    int table = lua_gettop(L);
    for (int i = 1; i <= count; i++)
        lua_rawgeti(L, table, i);
    return count;
}

/* What is behind an await is cancelled by a job: that is the script's code, which must not run where a strand is being
 * ended. */

static int future_cancelled(lua_State *L, int status, lua_KContext context)
{
    (void)L;
    (void)status;
    (void)context;
    return 0;
}

LT_RAISES LT_RUNS_LUA static bool has_method(lua_State *L, const char *name)
{
    lua_settop(L, 1);
    return lua_getfield(L, 1, name) == LUA_TFUNCTION;
}

/* A function is called; a request of luv, or whatever has the method, is cancelled; a handle of luv is closed. */
static int cancel_future(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TFUNCTION) {
        lua_callk(L, 0, 0, 0, future_cancelled);
        return 0;
    }
    if (has_method(L, "is_closing")) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 1);
        if (lua_toboolean(L, -1))
            return 0;
    }
    if (!has_method(L, "cancel") && !has_method(L, "close"))
        return luaL_error(L, "it has no method `cancel` or `close`");
    lua_insert(L, 1);
    lua_callk(L, 1, 0, 0, future_cancelled);
    return 0;
}

LT_RUNS_LUA static void cancel_done(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    (void)count;
    if (outcome != LT_RAISED)
        return;
    struct lt_report failure = LT_REPORT(LT_FAILED);
    lt_failure_raised(strand, &failure, NULL);
    lt_log(LT_LOG_ERROR, "what was awaited could not be cancelled",
           LT_S("error", failure.reason != NULL ? failure.reason->data : "failed"));
    lt_report_clear(&failure);
}

static void cancel_behind(struct lt_script *script, struct future *future)
{
    if (future->behind == LUA_NOREF)
        return;
    if (!script->closing) {
        struct lt_strand *strand = lt_strand_new(script, LT_STRAND_JOB, NULL, cancel_done);
        strand->bounds.max_stall = script->max_stall;
        lua_pushcfunction(strand->L, cancel_future);
        lua_rawgeti(strand->L, LUA_REGISTRYINDEX, future->behind);
        lt_strand_run_later(strand, 1);
    }
    drop_behind(script->L, future);
}

/* The wait was given up: with it, what is behind an await, and a job that nobody else waits for. */
static void leave_wait(struct lt_wait *wait)
{
    struct waiter *waiter = (struct waiter *)wait;
    struct future *future = waiter->future;
    if (future != NULL)
        TAILQ_REMOVE(&future->waiters, waiter, link);
    struct lt_script *script = waiter->strand->script;
    free(waiter);
    if (future == NULL || !TAILQ_EMPTY(&future->waiters))
        return;
    cancel_behind(script, future);
    if (future->strand != NULL)
        lt_strand_tell(future->strand, "the job was cancelled");
}

static int wait_returned(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct lt_wait *wait = lt_wait_over(L);
    lt_wait_done(L);
    free(wait);
    return push_values(L, 1);
}

/* Waits for the future at index 1. */
LT_RAISES LT_RUNS_LUA static int wait_for(lua_State *L, struct future *future, const char *function)
{
    if (future->set)
        return push_values(L, 1);
    struct lt_strand *strand = lt_wait_check(L, function);
    if (strand == future->strand)
        return luaL_error(L, "%s: a job cannot wait for itself", function);
    struct waiter *waiter = lt_alloc(sizeof *waiter);
    *waiter = (struct waiter){.wait.cancel = leave_wait, .future = future, .strand = strand};
    TAILQ_INSERT_TAIL(&future->waiters, waiter, link);
    return lt_wait(L, strand, &waiter->wait, wait_returned);
}

/* Jobs. */

LT_RUNS_LUA static void log_error(struct lt_strand *strand, const struct future *future)
{
    struct lt_report failure = LT_REPORT(LT_FAILED);
    struct lt_bytes *traceback;
    lt_failure_raised(strand, &failure, &traceback);
    if (TAILQ_EMPTY(&future->waiters) && !strand->told)
        lt_log(LT_LOG_ERROR, "a job raised an error",
               LT_S("error", failure.reason != NULL ? failure.reason->data : "failed"),
               LT_S("traceback", traceback != NULL ? traceback->data : NULL));
    lt_report_clear(&failure);
    lt_bytes_unref(traceback);
}

LT_RUNS_LUA static void job_done(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    struct future *future = strand->owner;
    lua_State *L = strand->L;
    int ref = future->ref;
    future->strand = NULL;
    future->ref = LUA_NOREF;
    if (outcome == LT_RAISED) {
        log_error(strand, future);
        lua_pushnil(L);
        lua_insert(L, -2);
        count = 2;
    } else if (outcome == LT_ENDED && strand->bounds.cut == LT_CUT_HELD) {
        lt_log(LT_LOG_ERROR, "a job held the host where it cannot be preempted and was ended",
               LT_N("max_stall", strand->bounds.max_stall));
        lua_pushnil(L);
        lua_pushliteral(L, "held the host");
        count = 2;
    } else if (outcome == LT_ENDED) {
        lua_pushnil(L);
        lua_pushliteral(L, "cancelled");
        lua_pushliteral(L, "cancelled");
        count = 3;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    lua_insert(L, -(count + 1));
    lt_future_set(L, lua_gettop(L) - count, count);
    lua_pop(L, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
}

int lt_spawn(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TFUNCTION)
        return lt_argument_error(L, "ltsh.spawn", "fn", "a function", 1);
    int arguments = lua_gettop(L) - 1;
    struct lt_script *script = lt_script_of(L);
    if (script->closing)
        return luaL_error(L, "ltsh.spawn: the process is ending");
    lt_memory_check(L, "ltsh.spawn", 0);
    struct future *future = new_future(L);
    lua_insert(L, 1);
    lua_pushvalue(L, 1);
    future->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    struct lt_strand *strand = lt_strand_new(script, LT_STRAND_JOB, future, job_done);
    future->strand = strand;
    strand->bounds.max_stall = script->max_stall;
    if (!lt_strand_has_room(strand, arguments)) {
        lt_strand_fail(strand, "too many arguments");
    } else {
        lua_xmove(L, strand->L, arguments + 1);
        lt_strand_run(strand, arguments);
    }
    lua_settop(L, 1);
    return 1;
}

static int job_wait(lua_State *L)
{
    struct future *future = luaL_checkudata(L, 1, FUTURE);
    lua_settop(L, 1);
    return wait_for(L, future, "job:wait");
}

static int job_cancel(lua_State *L)
{
    struct future *future = luaL_checkudata(L, 1, FUTURE);
    bool runs = future->strand != NULL;
    if (runs)
        lt_strand_tell(future->strand, "the job was cancelled");
    lua_pushboolean(L, runs);
    return 1;
}

static int job_tostring(lua_State *L)
{
    const struct future *future = luaL_checkudata(L, 1, FUTURE);
    lua_pushstring(L, future->set ? "job (over)" : "job (running)");
    return 1;
}

/* Awaiting. */

static int await_set(lua_State *L)
{
    struct future *future = lua_touserdata(L, lua_upvalueindex(1));
    if (!future->set) {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_insert(L, 1);
        lt_future_set(L, 1, lua_gettop(L) - 1);
    }
    return 0;
}

static int await_started(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct future *future = lua_touserdata(L, 1);
    if (!future->set && lua_isnil(L, 2) && lua_type(L, 3) == LUA_TSTRING)
        return lua_gettop(L) - 1; /* it could not begin, as functions of luv say so */
    lua_settop(L, 2);
    int type = lua_type(L, 2);
    if (!future->set && (type == LUA_TUSERDATA || type == LUA_TTABLE || type == LUA_TFUNCTION))
        future->behind = luaL_ref(L, LUA_REGISTRYINDEX);
    if (!future->set && !lt_wait_ready(L))
        cancel_behind(lt_script_of(L), future); /* wait_for raises */
    lua_settop(L, 1);
    return wait_for(L, future, "ltsh.await");
}

int lt_await(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TFUNCTION)
        return lt_argument_error(L, "ltsh.await", "fn", "a function", 1);
    lua_settop(L, 1);
    lt_memory_check(L, "ltsh.await", 0);
    lt_wait_check(L, "ltsh.await");
    new_future(L);
    lua_insert(L, 1);
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, await_set, 1);
    lua_callk(L, 1, LUA_MULTRET, 0, await_started);
    return await_started(L, LUA_OK, 0);
}

void lt_future_open(lua_State *L)
{
    static const luaL_Reg methods[] = {{"wait", job_wait}, {"cancel", job_cancel}, {NULL, NULL}};
    luaL_newmetatable(L, FUTURE);
    lua_pushcfunction(L, job_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "job");
    lua_setfield(L, -2, "__metatable");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
