/* What of Lua's own functions would get a script out of reach:
 *
 * - xpcall: Lua calls the message handler within the hook that raises. One written in Lua is not shown what ends it.
 * - os.execute: libc's has the whole process ignore SIGINT meanwhile; as long as a thread is in one, nobody could stop
 *   the host.
 * - debug.sethook: there is one hook for each coroutine, and it is the host's. */
#include "script/baselib.h"

#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "script/strand.h"

/* xpcall */

/* The script's message handler in upvalue 1, unless the host ends what raised. */
static int handle_message(lua_State *L)
{
    const struct lt_frame *frame = lt_script_of(L)->frame;
    if (frame != NULL && frame->bounds != NULL && frame->bounds->cut != LT_CUT_NOT)
        return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int xpcall_over(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - 2; /* but the function and the handler */
    lua_pushboolean(L, 0);
    lua_pushvalue(L, -2);
    return 2;
}

static int base_xpcall(lua_State *L)
{
    int arguments = lua_gettop(L) - 2;
    luaL_checktype(L, 2, LUA_TFUNCTION);
    if (!lua_iscfunction(L, 2)) {
        lua_pushvalue(L, 2);
        lua_pushcclosure(L, handle_message, 1);
        lua_replace(L, 2);
    }
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2);
    return xpcall_over(L, lua_pcallk(L, arguments, LUA_MULTRET, 2, 0, xpcall_over), 0);
}

/* table.sort and string.gsub: where they would call a function of the script's, lua/ltsh/base.lua does it in Lua. Upvalue
 * 1 is that, once it is there; 2 is Lua's own, called in this frame, so that its errors point to the script. */

enum { SMALL_LIST = 1000 }; /* elements that C sorts faster than anybody waits for */

static int called_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return lua_gettop(L);
}

static int call_lua(lua_State *L, bool in_lua)
{
    if (!in_lua || lua_isnil(L, lua_upvalueindex(1)))
        return lua_tocfunction(L, lua_upvalueindex(2))(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, called_over);
    return called_over(L, LUA_OK, 0);
}

static bool is_text(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TSTRING;
}

static int string_gsub(lua_State *L)
{
    bool plain = lua_isnoneornil(L, 4) || lua_isinteger(L, 4);
    return call_lua(L, lua_type(L, 3) == LUA_TFUNCTION && is_text(L, 1) && is_text(L, 2) && plain);
}

static int table_sort(lua_State *L)
{
    bool calls = lua_type(L, 2) == LUA_TFUNCTION;
    bool is_long = lua_isnoneornil(L, 2) && lua_type(L, 1) == LUA_TTABLE && lua_rawlen(L, 1) > SMALL_LIST;
    return call_lua(L, lua_type(L, 1) == LUA_TTABLE && (calls || is_long));
}

static void wrap(lua_State *L, const char *table, const char *name, lua_CFunction function)
{
    lua_getfield(L, -1, table);
    lua_pushnil(L);
    lua_getfield(L, -2, name);
    lua_pushcclosure(L, function, 2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* os.execute */

/* A wait status, or -1 and errno. */
static int execute(const char *command)
{
    char *arguments[] = {"sh", "-c", (char *)(uintptr_t)command, NULL};
    posix_spawnattr_t attributes;
    sigset_t set;
    pid_t pid;
    int status;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    sigemptyset(&set);
    posix_spawnattr_setsigmask(&attributes, &set);
    sigaddset(&set, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &set);
    errno = posix_spawn(&pid, "/bin/sh", NULL, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    if (errno != 0)
        return -1;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -1;
    }
    errno = 0;
    return status;
}

static int os_execute(lua_State *L)
{
    const char *command = luaL_optstring(L, 1, NULL);
    if (command != NULL)
        return luaL_execresult(L, execute(command));
    lua_pushboolean(L, access("/bin/sh", X_OK) == 0);
    return 1;
}

/* debug.sethook */

static int debug_sethook(lua_State *L)
{
    return luaL_error(L, "debug.sethook: the host needs the hook, to preempt Lua that computes");
}

void lt_baselib_open(lua_State *L)
{
    lua_pushglobaltable(L);
    lua_pushcfunction(L, base_xpcall);
    lua_setfield(L, -2, "xpcall");
    wrap(L, "table", "sort", table_sort);
    wrap(L, "string", "gsub", string_gsub);
    lua_getfield(L, -1, "os");
    lua_pushcfunction(L, os_execute);
    lua_setfield(L, -2, "execute");
    lua_pop(L, 1);
    lua_getfield(L, -1, "debug");
    lua_pushcfunction(L, debug_sethook);
    lua_setfield(L, -2, "sethook");
    lua_pop(L, 2);
}
