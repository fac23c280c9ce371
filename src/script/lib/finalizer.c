#include "script/lib/finalizer.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "scheduler/actuator.h"
#include "script/flow/call.h"
#include "script/flow/strand.h"
#include "script/values/marks.h"
#include "script/values/raw.h"

/* The code of finalizers that were cut: the userdata of a function, known by where it was written. What an ended task
 * leaves behind is collected while others run, and could hold up those again and again: code that was ended STRIKES times
 * in a row for using up its slices, or so often at once with the task that triggered it, is not called any more. */
struct code {
    unsigned ended;
    unsigned ended_with_task;
    uint64_t round; /* of the loop, in which that was */
    bool given_up;
    char at[LUA_IDSIZE + 16];
};

enum { STRIKES = 3 };

static const double LAST_TIME = 1; /* seconds in all for finalizers that take too long when the state is closed */

static const char codes; /* its address: the registry's table of them */

static int finalizer_call(lua_State *L);

/* Pushes the function of the finalizer in upvalue 1: of a callable object what it is called by. */
static void finalizer_push_function(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    if (!lua_isfunction(L, -1) && luaL_getmetafield(L, -1, "__call") != LUA_TNIL)
        lua_remove(L, -2);
    if (!lua_isfunction(L, -1)) { /* the call will fail, or goes through several */
        lua_pop(L, 1);
        lua_pushcfunction(L, finalizer_call);
    }
}

/* Pushes the struct code of the finalizer in upvalue 1, or nil if there is none. */
static struct code *finalizer_find_code(lua_State *L, bool make)
{
    lua_Debug where;
    finalizer_push_function(L);
    const void *in_c = (const void *)(uintptr_t)lua_tocfunction(L, -1);
    lua_getinfo(L, ">S", &where);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &codes);
    lua_pushfstring(L, "%s:%d:%d:%p", where.source, where.linedefined, where.lastlinedefined, in_c);
    lua_pushvalue(L, -1);
    lua_rawget(L, -3);
    if (lua_isnil(L, -1) && make) {
        lua_pop(L, 1);
        struct code *code = lua_newuserdatauv(L, sizeof *code, 0);
        *code = (struct code){0};
        snprintf(code->at, sizeof code->at, "%s:%d", where.short_src, where.linedefined);
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, -5);
    }
    lua_replace(L, -3);
    lua_pop(L, 1);
    return lua_touserdata(L, -1);
}

static bool finalizer_is_given_up(lua_State *L, const struct lt_script *script)
{
    if (!script->slow_finalizers)
        return false;
    const struct code *code = finalizer_find_code(L, false);
    bool late = code != NULL && script->closing && code->ended > 0 && script->last_time < 0;
    bool given_up = late || (code != NULL && code->given_up);
    lua_pop(L, 1);
    return given_up;
}

LT_RUNS_LUA static void finalizer_raised(struct lt_strand *strand)
{
    struct lt_report failure = LT_REPORT(LT_FAILED);
    struct lt_bytes *traceback;
    lt_failure_raised(strand, &failure, &traceback);
    lt_log_gated(&strand->script->finalizer_log, LT_LOG_ERROR, "a finalizer (__gc) raised an error",
                 LT_S("error", failure.reason != NULL ? failure.reason->data : "failed"),
                 LT_S("traceback", traceback != NULL ? traceback->data : NULL));
    lt_report_clear(&failure);
    lt_bytes_unref(traceback);
}

/* Before the collector had it back. */
LT_RUNS_LUA static void finalizer_over_at_once(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    (void)count;
    *(bool *)strand->owner = true;
    if (outcome == LT_RAISED)
        finalizer_raised(strand);
}

static void finalizer_was_ended(struct lt_script *script, struct code *code)
{
    script->slow_finalizers = true;
    lt_log_gated(&script->finalizer_log, LT_LOG_ERROR, "a finalizer (__gc) took too long and was ended",
                 LT_S("at", code->at));
    if (code->given_up || (code->ended < STRIKES && code->ended_with_task < STRIKES))
        return;
    code->given_up = true;
    lt_log(LT_LOG_ERROR, "a finalizer (__gc) took too long several times and is not called any more",
           LT_S("at", code->at));
}

/* After it was cut. */
LT_RUNS_LUA static void finalizer_over_later(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    (void)count;
    struct lt_script *script = strand->script;
    struct code *code = strand->owner;
    if (outcome == LT_RAISED)
        finalizer_raised(strand);
    if (code == NULL)
        return; /* there was no memory to know it by */
    if (outcome != LT_ENDED) {
        code->ended = 0;
        return;
    }
    if (!strand->told) {
        code->ended++;
    } else if (code->round == script->loop->rounds) {
        code->ended_with_task++;
    } else {
        code->ended_with_task = 1;
        code->round = script->loop->rounds;
    }
    finalizer_was_ended(script, code);
}

LT_RUNS_LUA static void finalizer_run(lua_State *L, struct lt_script *script)
{
    bool over = false;
    struct lt_strand *strand = lt_strand_new(script, LT_STRAND_FINALIZER, &over, finalizer_over_at_once);
    strand->bounds.max_stall = script->max_stall;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_xmove(L, strand->L, 2);
    if (script->ticks < LT_SLICE_TICKS)
        lt_strand_run(strand, 1);
    else
        lt_strand_run_later(strand, 1); /* the collector calls them all in a row: one slice for each would be long */
    if (over) {
        struct code *code = script->slow_finalizers ? finalizer_find_code(L, false) : NULL;
        if (code != NULL)
            code->ended = 0; /* not in a row */
        return;
    }
    strand->owner = NULL; /* not what is on this stack */
    strand->done = finalizer_over_later;
    if (lt_strand_now(script) != NULL)
        lt_strand_hold(lt_strand_now(script), strand);
    lt_preempt_soon(script);
    strand->owner = finalizer_find_code(L, true); /* the last: it raises where there is no memory */
}

/* The state is being closed: there is no later. */
LT_RUNS_LUA static void finalizer_run_last(lua_State *L, struct lt_script *script)
{
    double begin = lt_loop_tick(script->loop);
    struct lt_bounds bounds = {.deadline = begin + LT_LAST_WORDS};
    struct lt_frame frame;
    int count;
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 2);
    lt_frame_enter(script, &frame, co, NULL, &bounds, false);
    lua_resume(co, L, 1, &count);
    lt_frame_leave(script, &frame);
    if (bounds.cut == LT_CUT_NOT)
        return;
    struct code *code = finalizer_find_code(L, true);
    code->ended = 1; /* once the time is over, its like are not called */
    script->last_time -= lt_loop_tick(script->loop) - begin;
    finalizer_was_ended(script, code);
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
    if (finalizer_is_given_up(L, script))
        return 0;
    if (script->closing)
        finalizer_run_last(L, script);
    else
        finalizer_run(L, script);
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
    lt_script_of(L)->last_time = LAST_TIME;
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &codes);
    lua_pushglobaltable(L);
    set_function(L, base_setmetatable);
    lt_raw_field(L, -1, "debug");
    set_function(L, debug_setmetatable);
    lua_pop(L, 2);
}
