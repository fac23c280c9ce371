/* A script may wait inside coroutines of its own:
 *
 *     strand ---resume---> coroutine ---resume---> coroutine: ltsh.sleep(1)
 *
 * The sleep yields, and notes in the frame that it did. A resume that finds this note after its coroutine does not return
 * to the script but yields in turn, until it comes to the strand; and when the strand is resumed, each level resumes the
 * next. A yield of the script's is delivered as ever. While it passes, the coroutine is marked: it is not the script's to
 * resume or close. No value is yielded, which a script could get hold of and yield by itself. A preemption passes in the
 * same way: the coroutine was cut in the middle of a Lua function. The rest is lcorolib.c's behaviour. */
#include "script/lib/corolib.h"

#include <lauxlib.h>

#include "script/flow/strand.h"
#include "script/values/marks.h"
#include "script/values/raw.h"

static bool coroutine_is_passing(lua_State *co)
{
    return lt_is_marked(co, LT_MARK_PASSING);
}

static bool coroutine_is_strands(lua_State *co)
{
    return lt_is_marked(co, LT_MARK_STRAND);
}

/* Lua in `co`, called by L, which runs. */
static void coroutine_enter(struct lt_script *script, struct lt_frame *frame, lua_State *L, lua_State *co,
                            bool can_yield)
{
    const struct lt_frame *parent = script->frame;
    can_yield = can_yield && parent != NULL && parent->L == L && parent->can_yield;
    lt_frame_enter(script, frame, co, parent != NULL ? parent->strand : NULL, parent != NULL ? parent->bounds : NULL,
                   can_yield);
}

/* What runs was ended by the hook. A coroutine that died of it cannot be preempted any more: nothing of it may run. */
static bool coroutine_is_ending(const struct lt_script *script)
{
    return script->frame != NULL && script->frame->bounds != NULL && script->frame->bounds->cut != LT_CUT_NOT;
}

enum { RESUMED_ERROR = -1, RESUMED_SUSPENDED = -2 };

/* Resumes `co` with the topmost `arguments` of L. The number of values moved to L; or an error, its value on L; or a
 * suspension, to be passed on. */
LT_RUNS_LUA static int coroutine_resume(lua_State *L, lua_State *co, int arguments)
{
    struct lt_script *script = lt_script_of(L);
    struct lt_frame frame;
    int count = 0;
    if (!lua_checkstack(co, arguments)) {
        lua_pushliteral(L, "too many arguments to resume");
        return RESUMED_ERROR;
    }
    lua_xmove(L, co, arguments);
    lt_unmark(co, LT_MARK_PASSING);
    coroutine_enter(script, &frame, L, co, lua_isyieldable(L));
    int status = lua_resume(co, L, arguments, &count);
    lt_frame_leave(script, &frame);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        if (coroutine_is_ending(script))
            lt_preempt_soon(script);
        return RESUMED_ERROR;
    }
    if (frame.preempted) {
        script->frame->preempted = true;
        lt_mark(co, LT_MARK_PASSING);
    }
    if (frame.preempted || (status == LUA_YIELD && frame.waits))
        return RESUMED_SUSPENDED;
    if (!lua_checkstack(L, count + 1)) {
        lua_pop(co, count);
        lua_pushliteral(L, "too many results to resume");
        return RESUMED_ERROR;
    }
    lua_xmove(co, L, count);
    return count;
}

/* Why `co` cannot be resumed now, or NULL. */
static const char *coroutine_refusal(lua_State *L, lua_State *co)
{
    if (coroutine_is_strands(co) || coroutine_is_passing(co) || co == L)
        return "cannot resume non-suspended coroutine";
    if (lua_status(co) == LUA_OK && lua_gettop(co) == 0) {
        lua_Debug frame;
        return lua_getstack(co, 0, &frame) ? "cannot resume non-suspended coroutine" : "cannot resume dead coroutine";
    }
    return NULL;
}

LT_RAISES static lua_State *coroutine_check(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    luaL_argexpected(L, co, 1, "coroutine");
    return co;
}

/* coroutine.resume */

static int co_resume_over(lua_State *L, int result);

static int co_resume_again(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    lua_settop(L, 1);
    return co_resume_over(L, coroutine_resume(L, lua_tothread(L, 1), 0));
}

LT_RAISES LT_RUNS_LUA static int co_resume_over(lua_State *L, int result)
{
    if (result == RESUMED_SUSPENDED) {
        lua_settop(L, 1); /* the coroutine, to find it again */
        return lt_pass_suspension(L, lua_tothread(L, 1), co_resume_again);
    }
    if (result == RESUMED_ERROR) {
        lua_pushboolean(L, 0);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushboolean(L, 1);
    lua_insert(L, -(result + 1));
    return result + 1;
}

static int co_resume(lua_State *L)
{
    lua_State *co = coroutine_check(L);
    const char *why = coroutine_refusal(L, co);
    if (why != NULL) {
        lua_pushboolean(L, 0);
        lua_pushstring(L, why);
        return 2;
    }
    return co_resume_over(L, coroutine_resume(L, co, lua_gettop(L) - 1));
}

/* coroutine.wrap */

LT_RAISES LT_RUNS_LUA static int co_wrap_error(lua_State *L, lua_State *co)
{
    int status = lua_status(co);
    bool dead = status != LUA_OK && status != LUA_YIELD;
    /* It raised: close its variables, which may change the error. */
    if (dead && !coroutine_is_ending(lt_script_of(L))) {
        struct lt_frame frame;
        lua_pop(L, 1);
        coroutine_enter(lt_script_of(L), &frame, L, co, false);
        lua_resetthread(co);
        lt_frame_leave(lt_script_of(L), &frame);
        lua_xmove(co, L, 1);
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

static int co_wrap_over(lua_State *L, lua_State *co, int result);

static int co_wrap_again(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    lua_settop(L, 0);
    return co_wrap_over(L, co, coroutine_resume(L, co, 0));
}

LT_RAISES LT_RUNS_LUA static int co_wrap_over(lua_State *L, lua_State *co, int result)
{
    if (result == RESUMED_SUSPENDED)
        return lt_pass_suspension(L, co, co_wrap_again);
    if (result == RESUMED_ERROR)
        return co_wrap_error(L, co);
    return result;
}

static int co_wrap_call(lua_State *L)
{
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    const char *why = coroutine_refusal(L, co);
    if (why != NULL)
        return luaL_error(L, "%s", why);
    return co_wrap_over(L, co, coroutine_resume(L, co, lua_gettop(L)));
}

static int co_create(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    return 1;
}

static int co_wrap(lua_State *L)
{
    co_create(L);
    lua_pushcclosure(L, co_wrap_call, 1);
    return 1;
}

/* The others. */

static bool coroutine_is_base(lua_State *L)
{
    const struct lt_strand *strand = lt_strand_now(lt_script_of(L));
    return strand != NULL && strand->L == L;
}

static int co_suspend(lua_State *L)
{
    if (coroutine_is_base(L))
        return luaL_error(L, "attempt to yield from outside a coroutine");
    return lua_yield(L, lua_gettop(L));
}

static int co_isyieldable(lua_State *L)
{
    lua_State *co = lua_isthread(L, 1) ? lua_tothread(L, 1) : L;
    lua_pushboolean(L, lua_isyieldable(co) && !coroutine_is_base(co));
    return 1;
}

static int co_running(lua_State *L)
{
    bool main = lua_pushthread(L) != 0;
    lua_pushboolean(L, main || coroutine_is_base(L));
    return 2;
}

/* Calls the standard function in upvalue 1, unless the host waits in the coroutine. */
static int co_status(lua_State *L)
{
    lua_State *co = coroutine_check(L);
    if (coroutine_is_passing(co) || (coroutine_is_strands(co) && co != L)) {
        lua_pushstring(L, lua_status(co) == LUA_OK && lua_gettop(co) == 0 ? "dead" : "normal");
        return 1;
    }
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static int co_close(lua_State *L)
{
    lua_State *co = coroutine_check(L);
    if (coroutine_is_passing(co) || (coroutine_is_strands(co) && co != L))
        return luaL_error(L, "cannot close a normal coroutine");
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    struct lt_frame frame;
    coroutine_enter(lt_script_of(L), &frame, L, co, false);
    int status = lua_pcall(L, 1, LUA_MULTRET, 0);
    lt_frame_leave(lt_script_of(L), &frame);
    return status == LUA_OK ? lua_gettop(L) : lua_error(L);
}

static void corolib_wrap_standard(lua_State *L, const char *name, lua_CFunction fn)
{
    lt_raw_field(L, -1, name);
    lua_pushcclosure(L, fn, 1);
    lua_setfield(L, -2, name);
}

void lt_corolib_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"create", co_create},           {"resume", co_resume},   {"wrap", co_wrap}, {"yield", co_suspend},
        {"isyieldable", co_isyieldable}, {"running", co_running}, {NULL, NULL},
    };
    lt_raw_global(L, "coroutine");
    luaL_setfuncs(L, functions, 0);
    corolib_wrap_standard(L, "status", co_status);
    corolib_wrap_standard(L, "close", co_close);
    lua_pop(L, 1);
}
