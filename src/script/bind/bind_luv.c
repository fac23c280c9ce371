/* `require "luv"`: libuv itself, on the host's own loop.
 *
 * What would take the loop or its signal away from the host is refused, walk shows the handles that luv made only, and callbacks come
 * in through a gate of ours: an error in one is logged and ends nothing. */
#include <lauxlib.h>
#include <luv/lhandle.h>
#include <luv/luv.h>
#include <signal.h>
#include <string.h>

#include "base/log.h"
#include "script/bind/bind_core.h"
#include "script/flow/preempt.h"
#include "script/values/marks.h"

static int add_traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* As luv wants it (see luv_CFpcall in its header): the number of results, or minus the error. */
LT_RUNS_LUA static int call_back(lua_State *L, int arguments, int results, int flags)
{
    (void)flags;
    struct lt_script *script = lt_script_of(L);
    int base = lua_gettop(L) - arguments;
    lua_pushcfunction(L, add_traceback);
    lua_insert(L, base);
    lt_loop_tick(script->loop);
    int status = lt_guarded_call(script, L, arguments, results, base);
    lua_remove(L, base);
    if (status == LUA_OK)
        return results == LUA_MULTRET ? lua_gettop(L) - base + 1 : results;
    lt_log(LT_LOG_ERROR, "a callback of luv raised an error", LT_S("traceback", lua_tostring(L, -1)));
    lua_pop(L, 1);
    return -status;
}

static int refuse_function(lua_State *L)
{
    return luaL_error(L, "luv.%s: the loop belongs to the host, which runs it", lua_tostring(L, lua_upvalueindex(1)));
}

/* Appends the userdata of a handle that luv made to the table on top of the stack. The host's own handles carry its
 * loop as their data. */
static void push_handle(uv_handle_t *handle, void *arg)
{
    lua_State *L = arg;
    if (handle->data == NULL || handle->data == lt_script_of(L)->loop)
        return;
    const luv_handle_t *data = handle->data;
    lua_rawgeti(L, LUA_REGISTRYINDEX, data->ref);
    uv_handle_t **object = lua_touserdata(L, -1);
    if (object != NULL && *object == handle)
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    else
        lua_pop(L, 1);
}

static int uv_walk_handles(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_newtable(L);
    uv_walk(&lt_script_of(L)->loop->uv, push_handle, L);
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, 2); i++) {
        lua_pushvalue(L, 1);
        lua_rawgeti(L, 2, i);
        lua_call(L, 1, 0);
    }
    return 0;
}

/* A handler for the signal of the preemption would replace that, for the whole process. */
static int guarded_signal_start(lua_State *L)
{
    bool named = lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "sigurg") == 0;
    if (named || lua_tointeger(L, 2) == SIGURG) /* a number, or the text of one */
        return luaL_error(L, "luv.signal_start: SIGURG belongs to the host, which preempts Lua that computes with it");
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* Wraps the function in the table on top of the stack. */
LT_RAISES LT_RUNS_LUA static void guard_signal(lua_State *L, const char *name)
{
    if (lua_getfield(L, -1, name) == LUA_TNIL) { /* luv 1.44 has no method `start_oneshot` */
        lua_pop(L, 1);
        return;
    }
    lua_pushcclosure(L, guarded_signal_start, 1);
    lua_setfield(L, -2, name);
}

/* Whether the collector called the function that runs. */
static bool is_finalizer(lua_State *L)
{
    lua_Debug call;
    return lua_getstack(L, 0, &call) && lua_getinfo(L, "n", &call) && call.name != NULL &&
           strcmp(call.name, "__gc") == 0 && strcmp(call.namewhat, "metamethod") == 0;
}

/* luv's __gc believes in its argument, and frees it: only the collector may call it, with what is luv's (upvalue 2 is the
 * metatable). */
static int luv_finalize(lua_State *L)
{
    if (!is_finalizer(L) || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(2)))
        return 0;
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 0);
    return 0;
}

/* All metatables of luv's. */
static void guard_finalizers(lua_State *L)
{
    lua_pushnil(L);
    while (lua_next(L, LUA_REGISTRYINDEX)) {
        bool luvs = lua_type(L, -2) == LUA_TSTRING && strncmp(lua_tostring(L, -2), "uv_", 3) == 0;
        if (luvs && lua_istable(L, -1)) {
            lua_pushliteral(L, "__gc");
            if (lua_rawget(L, -2) == LUA_TFUNCTION) {
                lua_pushvalue(L, -2);
                lua_pushcclosure(L, luv_finalize, 2);
                lua_setfield(L, -2, "__gc");
            } else {
                lua_pop(L, 1);
            }
        }
        lua_pop(L, 1);
    }
}

int lt_open_luv(lua_State *L)
{
    static const char *const refused[] = {"run", "stop", "loop_close", NULL};
    struct lt_script *script = lt_script_of(L);
    luv_set_loop(script->L, &script->loop->uv);
    luv_set_callback(script->L, call_back);
    lua_pushcfunction(L, luaopen_luv);
    lua_call(L, 0, 1);
    for (int i = 0; refused[i] != NULL; i++) {
        lua_pushstring(L, refused[i]);
        lua_pushcclosure(L, refuse_function, 1);
        lua_setfield(L, -2, refused[i]);
    }
    guard_finalizers(L);
    lua_pushcfunction(L, uv_walk_handles);
    lua_setfield(L, -2, "walk");
    guard_signal(L, "signal_start");
    guard_signal(L, "signal_start_oneshot");
    luaL_getmetatable(L, "uv_signal");
    lua_getfield(L, -1, "__index");
    guard_signal(L, "start");
    guard_signal(L, "start_oneshot");
    lua_pop(L, 2);
    return 1;
}
