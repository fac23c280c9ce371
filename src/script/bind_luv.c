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
#include "script/bind_core.h"
#include "script/preempt.h"

static int traceback(lua_State *L)
{
    luaL_traceback(L, L, luaL_tolstring(L, 1, NULL), 1);
    return 1;
}

/* As luv wants it (see luv_CFpcall in its header): the number of results, or minus the error. */
static int call_back(lua_State *L, int arguments, int results, int flags)
{
    (void)flags;
    struct lt_script *script = lt_script_of(L);
    int base = lua_gettop(L) - arguments;
    lua_pushcfunction(L, traceback);
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

static int refuse(lua_State *L)
{
    return luaL_error(L, "luv.%s: the loop belongs to the host, which runs it", lua_tostring(L, lua_upvalueindex(1)));
}

/* Appends the userdata of a handle that luv made to the table on top of the stack. The host's own handles carry its
 * loop as their data. */
static void list_handle(uv_handle_t *handle, void *arg)
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

static int walk(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 1);
    lua_newtable(L);
    uv_walk(&lt_script_of(L)->loop->uv, list_handle, L);
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, 2); i++) {
        lua_pushvalue(L, 1);
        lua_rawgeti(L, 2, i);
        lua_call(L, 1, 0);
    }
    return 0;
}

/* A handler for the signal of the preemption would replace that, for the whole process. */
static int signal_start(lua_State *L)
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
static void guard_signal(lua_State *L, const char *name)
{
    if (lua_getfield(L, -1, name) == LUA_TNIL) { /* luv 1.44 has no method `start_oneshot` */
        lua_pop(L, 1);
        return;
    }
    lua_pushcclosure(L, signal_start, 1);
    lua_setfield(L, -2, name);
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
        lua_pushcclosure(L, refuse, 1);
        lua_setfield(L, -2, refused[i]);
    }
    lua_pushcfunction(L, walk);
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
