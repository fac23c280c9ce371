/* - Finalizers: Lua calls them with hooks disabled, in the middle of whatever allocates. setmetatable wraps a `__gc`
 *   written in Lua, so that it runs in a strand: cut like any other, and the strand that triggered it goes on after it.
 * - xpcall: Lua calls the message handler within the hook that raises. One written in Lua is not shown what ends it.
 * - debug.sethook: there is one hook for each coroutine, and it is the host's. */
#include "script/baselib.h"

#include <lauxlib.h>

#include "base/log.h"
#include "scheduler/actuator.h"
#include "script/call.h"
#include "script/strand.h"

static const double FINALIZER_TIME = 1; /* seconds: it holds up whoever triggered it */

/* Finalizers. */

struct finalizing {
    bool over;
};

static void finalized(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    (void)count;
    struct finalizing *finalizing = strand->owner;
    if (finalizing != NULL)
        finalizing->over = true;
    if (outcome == LT_ENDED)
        lt_log_gated(&strand->script->finalizer_log, LT_LOG_ERROR, "a finalizer (__gc) took too long and was ended");
    if (outcome != LT_RAISED)
        return;
    struct lt_report failure = LT_REPORT(LT_FAILED);
    struct lt_bytes *traceback;
    lt_failure_raised(strand, &failure, &traceback);
    lt_log_gated(&strand->script->finalizer_log, LT_LOG_ERROR, "a finalizer (__gc) raised an error",
                 LT_S("error", failure.reason != NULL ? failure.reason->data : "failed"),
                 LT_S("traceback", traceback != NULL ? traceback->data : NULL));
    lt_report_clear(&failure);
    lt_bytes_unref(traceback);
}

static void run_finalizer(lua_State *L, struct lt_script *script)
{
    struct finalizing finalizing = {0};
    struct lt_strand *strand = lt_strand_new(script, LT_STRAND_FINALIZER, &finalizing, finalized);
    strand->bounds.max_stall = script->max_stall;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_xmove(L, strand->L, 2);
    if (script->ticks < LT_SLICE_TICKS)
        lt_strand_run(strand, 1);
    else
        lt_strand_run_later(strand, 1); /* the collector calls them all in a row: one slice for each would be long */
    if (finalizing.over)
        return;
    strand->owner = NULL;
    lt_timer_start(script->loop, &strand->ending, lt_loop_tick(script->loop) + FINALIZER_TIME, lt_strand_ending);
    if (lt_strand_now(script) != NULL)
        lt_strand_hold(lt_strand_now(script), strand);
    lt_preempt_soon(script);
}

/* The state is being closed: there is no later. */
static void run_last_finalizer(lua_State *L, struct lt_script *script)
{
    struct lt_bounds bounds = {.deadline = lt_loop_tick(script->loop) + LT_LAST_WORDS};
    struct lt_frame frame;
    int count;
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 2);
    lt_frame_enter(script, &frame, co, NULL, &bounds, false);
    lua_resume(co, L, 1, &count);
    lt_frame_leave(script, &frame);
}

static int finalize(lua_State *L)
{
    struct lt_script *script = lt_script_of(L);
    lua_settop(L, 1);
    if (script->closing)
        run_last_finalizer(L, script);
    else
        run_finalizer(L, script);
    return 0;
}

/* Wraps the finalizer of the metatable at `index`. Upvalue 1 is "__gc": this is called for every object made. */
static void wrap_finalizer(lua_State *L, int index)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    if (lua_rawget(L, index) != LUA_TFUNCTION || lua_iscfunction(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    lua_pushcclosure(L, finalize, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, -2);
    lua_rawset(L, index);
}

static int base_setmetatable(lua_State *L)
{
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    lua_settop(L, 2);
    if (type == LUA_TTABLE)
        wrap_finalizer(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

static int debug_setmetatable(lua_State *L)
{
    int type = lua_type(L, 2);
    luaL_argexpected(L, type == LUA_TNIL || type == LUA_TTABLE, 2, "nil or table");
    lua_settop(L, 2);
    if (type == LUA_TTABLE)
        wrap_finalizer(L, 2);
    lua_setmetatable(L, 1);
    return 1;
}

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

/* debug.sethook */

static int debug_sethook(lua_State *L)
{
    return luaL_error(L, "debug.sethook: the host needs the hook, to preempt Lua that computes");
}

static void set_function(lua_State *L, const char *name, lua_CFunction function)
{
    lua_pushliteral(L, "__gc");
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
}

void lt_baselib_open(lua_State *L)
{
    lua_pushglobaltable(L);
    set_function(L, "setmetatable", base_setmetatable);
    set_function(L, "xpcall", base_xpcall);
    wrap(L, "table", "sort", table_sort);
    wrap(L, "string", "gsub", string_gsub);
    lua_getfield(L, -1, "debug");
    set_function(L, "setmetatable", debug_setmetatable);
    set_function(L, "sethook", debug_sethook);
    lua_pop(L, 2);
}
