#include "script/lib/finalizer.h"

#include <lauxlib.h>
#include <string.h>

#include "base/log.h"
#include "script/flow/call.h"
#include "script/flow/preempt.h"
#include "script/values/marks.h"
#include "script/values/raw.h"

/* Seconds of computing that a finalizer may take; then it is ended. */
static const double TIME = 0.05;

/* For so many seconds after one was ended its code is not called, and all others have TIME_OF_REST: a task may leave
 * thousands of objects behind, and whoever allocates next would be held up by each. */
static const double REST = 1;
static const double TIME_OF_REST = 0.005;

static const char resting; /* its address: the registry's table of when code may be called again, by its place */

static int finalizer_call(lua_State *L);

/* Pushes where the finalizer in upvalue 1 was written: each object may have a closure of its own. */
static const char *finalizer_push_place(lua_State *L)
{
    lua_Debug where;
    lua_pushvalue(L, lua_upvalueindex(1));
    if (!lua_isfunction(L, -1) && luaL_getmetafield(L, -1, "__call") != LUA_TNIL)
        lua_replace(L, -2);
    if (!lua_isfunction(L, -1)) { /* called by way of another object */
        lua_pop(L, 1);
        return lua_pushliteral(L, "an object that is called");
    }
    lua_getinfo(L, ">S", &where);
    return lua_pushfstring(L, "%s:%d", where.short_src, where.linedefined);
}

static bool finalizer_rests(lua_State *L, double now)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &resting);
    finalizer_push_place(L);
    lua_rawget(L, -2);
    bool rests = lua_tonumber(L, -1) > now;
    lua_pop(L, 2);
    return rests;
}

static void finalizer_was_ended(lua_State *L, struct lt_script *script)
{
    script->finalizers_rest = lt_loop_tick(script->loop) + REST;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &resting);
    lt_log_gated(&script->finalizer_log, LT_LOG_ERROR,
                 "a finalizer (__gc) took too long and was ended, its code is not called for a second",
                 LT_S("at", finalizer_push_place(L)));
    lua_pushnumber(L, script->finalizers_rest);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* The stack of the coroutine is as it was where it raised, or yielded as if somebody would resume it. Nothing is pushed
 * there: no error could be raised in it. */
static void finalizer_raised(lua_State *L, struct lt_script *script, lua_State *co, int status)
{
    char value[128];
    const char *words = value;
    if (status == LUA_YIELD)
        words = "attempt to yield from a finalizer";
    else if (lua_type(co, -1) == LUA_TSTRING)
        words = lua_tostring(co, -1);
    else
        lt_describe(co, -1, value, sizeof value);
    luaL_traceback(L, co, NULL, 0);
    lt_log_gated(&script->finalizer_log, LT_LOG_ERROR, "a finalizer (__gc) raised an error", LT_S("error", words),
                 LT_S("traceback", lua_tostring(L, -1)));
    lua_pop(L, 1);
}

/* Where the collector calls it, hooks are disabled: the coroutine has its own. */
LT_RUNS_LUA static void finalizer_run(lua_State *L, struct lt_script *script, double time)
{
    struct lt_bounds bounds = {.max_computing = time, .moments = LT_MOMENTS};
    struct lt_frame frame;
    int count;
    lua_State *co = lua_newthread(L);
    lua_sethook(co, NULL, 0, 0); /* what it inherits */
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 2);
    lt_frame_enter(script, &frame, co, NULL, &bounds, false);
    int status = lua_resume(co, L, 1, &count);
    lt_frame_leave(script, &frame);
    if (bounds.cut != LT_CUT_NOT)
        finalizer_was_ended(L, script);
    else if (status != LUA_OK)
        finalizer_raised(L, script, co, status);
    if (status == LUA_OK)
        return;
    lt_frame_enter(script, &frame, co, NULL, &bounds, false);
    lua_resetthread(co); /* closes its variables */
    lt_frame_leave(script, &frame);
}

/* Whether the collector calls the function that runs; a script may get hold of it, and call it as its own. */
static bool finalizer_is_collected(lua_State *L)
{
    lua_Debug call;
    return lua_getstack(L, 0, &call) && lua_getinfo(L, "n", &call) && strcmp(call.namewhat, "metamethod") == 0 &&
           strcmp(call.name, "__gc") == 0;
}

static int finalizer_called_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return lua_gettop(L);
}

static int finalizer_call(lua_State *L)
{
    struct lt_script *script = lt_script_of(L);
    if (!finalizer_is_collected(L)) {
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_insert(L, 1);
        lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, finalizer_called_over);
        return finalizer_called_over(L, LUA_OK, 0);
    }
    lua_settop(L, 1);
    double now = script->finalizers_rest > 0 ? lt_loop_tick(script->loop) : 0;
    bool rest = script->finalizers_rest > now;
    if (!rest || !finalizer_rests(L, now))
        finalizer_run(L, script, rest ? TIME_OF_REST : TIME);
    return 0;
}

/* Wraps the finalizer of the metatable at `index`: a function (one of C may call Lua too), or an object that may be
 * called. Upvalue 1 is "__gc": this is called for every object made. */
static void finalizer_wrap(lua_State *L, int index)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    int type = lua_rawget(L, index);
    bool calls = type == LUA_TFUNCTION || type == LUA_TTABLE || type == LUA_TUSERDATA;
    if (!calls || lua_tocfunction(L, -1) == finalizer_call) {
        lua_pop(L, 1);
        return;
    }
    lua_pushcclosure(L, finalizer_call, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, -2);
    lua_rawset(L, index);
}

static int set_metatable(lua_State *L)
{
    lua_settop(L, 2);
    if (lua_istable(L, 2))
        finalizer_wrap(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int base_setmetatable(lua_State *L)
{
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    return set_metatable(L);
}

static int debug_setmetatable(lua_State *L)
{
    int type = lua_type(L, 2);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    return set_metatable(L);
}

static void set_function(lua_State *L, lua_CFunction function)
{
    lua_pushliteral(L, "__gc");
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, "setmetatable");
}

void lt_finalizer_open(lua_State *L)
{
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &resting);
    lua_pushglobaltable(L);
    set_function(L, base_setmetatable);
    lt_raw_field(L, -1, "debug");
    set_function(L, debug_setmetatable);
    lua_pop(L, 2);
}
