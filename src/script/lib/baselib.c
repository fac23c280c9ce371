/* What of Lua's own functions would get a script out of reach:
 *
 * - xpcall: Lua calls the message handler within the hook that raises. One written in Lua is not shown what ends it.
 * - os.exit: everything is closed first.
 * - os.execute: libc's has the whole process ignore SIGINT meanwhile; as long as a thread is in one, nobody could stop
 *   the host.
 * - debug.sethook and gethook: there is one hook for each coroutine, and the host's may stand in it.
 *
 * And one that is faster: tostring of an integer, with which most ids are made, does without printf (a tenth of a task). */
#include "script/lib/baselib.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "script/flow/strand.h"
#include "script/values/marks.h"
#include "script/values/raw.h"

/* tostring */

enum { DIGITS = 20 }; /* of a 64-bit integer, with its sign */

static int base_tostring(lua_State *L)
{
    char digits[DIGITS];
    char *at = digits + DIGITS;
    luaL_checkany(L, 1);
    if (!lua_isinteger(L, 1) || lua_getmetatable(L, 1)) {
        luaL_tolstring(L, 1, NULL);
        return 1;
    }
    lua_Integer value = lua_tointeger(L, 1);
    lua_Unsigned rest = value < 0 ? 0 - (lua_Unsigned)value : (lua_Unsigned)value;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        *--at = '-';
    lua_pushlstring(L, at, (size_t)(digits + DIGITS - at));
    return 1;
}

/* xpcall */

/* The script's message handler in upvalue 1, unless the host ends what raised. */
static int xpcall_handle_message(lua_State *L)
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
        lua_pushcclosure(L, xpcall_handle_message, 1);
        lua_replace(L, 2);
    }
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2);
    return xpcall_over(L, lua_pcallk(L, arguments, LUA_MULTRET, 2, 0, xpcall_over), 0);
}

/* table.sort and string.gsub: where they would call a function of the script's, lua/ltsh/base.lua does it in Lua. Upvalue
 * 1 is that, once it is there; 2 is Lua's own, called in this frame, so that its errors point to the script. */

enum { SHORT_LIST = 10000 }; /* elements: C sorts so many in a slice, and twice as fast */

static int baselib_lua_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return lua_gettop(L);
}

LT_RAISES LT_RUNS_LUA static int baselib_call_lua(lua_State *L, bool in_lua)
{
    if (!in_lua || lua_isnil(L, lua_upvalueindex(1)))
        return lua_tocfunction(L, lua_upvalueindex(2))(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, baselib_lua_over);
    return baselib_lua_over(L, LUA_OK, 0);
}

static bool gsub_is_text(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TSTRING;
}

static int string_gsub(lua_State *L)
{
    bool plain = lua_isnoneornil(L, 4) || lua_isinteger(L, 4);
    return baselib_call_lua(L, lua_type(L, 3) == LUA_TFUNCTION && gsub_is_text(L, 1) && gsub_is_text(L, 2) && plain);
}

static int table_sort(lua_State *L)
{
    bool slow = lua_isfunction(L, 2) || (lua_isnoneornil(L, 2) && lua_rawlen(L, 1) > SHORT_LIST);
    return baselib_call_lua(L, slow && lua_istable(L, 1));
}

static void baselib_wrap_lua(lua_State *L, const char *table, const char *name, lua_CFunction function)
{
    lt_raw_field(L, -1, table);
    lua_pushnil(L);
    lt_raw_field(L, -2, name);
    lua_pushcclosure(L, function, 2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* os.execute */

/* A wait status, or -1 and errno. */
static int os_run_shell(const char *command)
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
        return luaL_execresult(L, os_run_shell(command));
    lua_pushboolean(L, access("/bin/sh", X_OK) == 0);
    return 1;
}

/* os.exit */

static int os_exit_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return luaL_error(L, "os.exit: the process is ending");
}

static void os_exit_given_up(struct lt_wait *wait)
{
    (void)wait;
}

/* os.exit([code[, close]]): everything is closed first. The caller waits for that and exit_goes_on returns. */
static int os_exit(lua_State *L)
{
    static struct lt_wait nothing = {os_exit_given_up};
    struct lt_script *script = lt_script_of(L);
    int code = EXIT_SUCCESS;
    if (lua_isboolean(L, 1))
        code = lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
    else
        code = (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
    const struct lt_strand *caller = lt_strand_now(script);
    if (script->may_exit)
        _exit(code);
    if (script->worker)
        return luaL_error(L, "os.exit: a worker cannot end the host");
    if (caller != NULL && caller->guest)
        return luaL_error(L, "os.exit: a task or a module cannot end the host");
    struct lt_strand *strand = lt_wait_check(L, "os.exit");
    script->exit(script, code);
    return lt_wait(L, strand, &nothing, os_exit_over);
}

/* debug.sethook and gethook. Upvalues as above: 1 is what stands in for a hook that counts many instructions. */

/* Preemption makes Lua count anew, so that a hook would never come to more than a slice has. */
enum { STEP = 1000 };

static int debug_call_raw(lua_State *L)
{
    return lua_tocfunction(L, lua_upvalueindex(2))(L);
}

/* Counts in steps: debug.sethook([thread,] fn, mask, count). */
LT_RAISES LT_RUNS_LUA static void sethook_divide_count(lua_State *L)
{
    int fn = lua_isthread(L, 1) ? 2 : 1;
    if (!lua_isfunction(L, fn) || !lua_isinteger(L, fn + 2) || lua_tointeger(L, fn + 2) <= STEP)
        return;
    lua_settop(L, fn + 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, fn);
    lua_pushvalue(L, fn + 2);
    lua_pushinteger(L, STEP);
    lua_replace(L, fn + 2);
    lua_pushinteger(L, STEP);
    lua_call(L, 3, 1);
    lua_replace(L, fn);
}

static int debug_sethook(lua_State *L)
{
    struct lt_script *script = lt_script_of(L);
    if (!lua_isnil(L, lua_upvalueindex(1)))
        sethook_divide_count(L);
    script->hooked = true;
    script->hook_changes = true; /* for a tick, if this raises */
    int count = debug_call_raw(L);
    script->hook_changes = false;
    return count;
}

static int debug_gethook(lua_State *L)
{
    lt_preempt_disarm(lt_script_of(L), lua_isthread(L, 1) ? lua_tothread(L, 1) : L);
    int count = debug_call_raw(L);
    if (count == 3 && !lua_isnil(L, lua_upvalueindex(1))) {
        lua_pushvalue(L, lua_upvalueindex(1)); /* fn, mask, count -> the script's */
        lua_insert(L, -4);
        lua_call(L, 3, 3);
    }
    return count;
}

/* debug.setlocal and debug.setupvalue: those of a function in C are what it relies on. */

/* Calls Lua's own, which is upvalue 1, with the same arguments. */
static int debug_call_original(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int debug_setlocal(lua_State *L)
{
    int first = lua_isthread(L, 1) ? 2 : 1;
    lua_State *of = first == 2 ? lua_tothread(L, 1) : L;
    lua_Debug call;
    lua_Integer level = luaL_checkinteger(L, first);
    if (level < 0 || level > INT_MAX || !lua_getstack(of, (int)level, &call))
        return luaL_argerror(L, first, "level out of range");
    lua_getinfo(of, "S", &call);
    if (call.what[0] == 'C')
        return luaL_error(L, "debug.setlocal: level %d is a function in C, whose values cannot be set", (int)level);
    if (of == L) { /* as seen from the original */
        lua_pushinteger(L, level + 1);
        lua_replace(L, first);
    }
    return debug_call_original(L);
}

static int debug_setupvalue(lua_State *L)
{
    if (lua_iscfunction(L, 1))
        return luaL_error(L, "debug.setupvalue: this is a function in C, whose values cannot be set");
    return debug_call_original(L);
}

/* Puts `function` in the place of the one of this name, which is its upvalue, in the table on top. */
static void baselib_wrap_original(lua_State *L, const char *name, lua_CFunction function)
{
    lt_raw_field(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

void lt_baselib_open(lua_State *L)
{
    lua_pushglobaltable(L);
    lua_pushcfunction(L, base_tostring);
    lua_setfield(L, -2, "tostring");
    lua_pushcfunction(L, base_xpcall);
    lua_setfield(L, -2, "xpcall");
    baselib_wrap_lua(L, "table", "sort", table_sort);
    baselib_wrap_lua(L, "string", "gsub", string_gsub);
    lt_raw_field(L, -1, "os");
    lua_pushcfunction(L, os_execute);
    lua_setfield(L, -2, "execute");
    lua_pushcfunction(L, os_exit);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
    baselib_wrap_lua(L, "debug", "sethook", debug_sethook);
    baselib_wrap_lua(L, "debug", "gethook", debug_gethook);
    lt_raw_field(L, -1, "debug");
    baselib_wrap_original(L, "setlocal", debug_setlocal);
    baselib_wrap_original(L, "setupvalue", debug_setupvalue);
    lua_pop(L, 2);
}
