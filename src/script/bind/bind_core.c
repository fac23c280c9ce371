#include "script/bind/bind_core.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/container_of.h"
#include "base/nearest.h"
#include "script/flow/call.h"
#include "script/flow/future.h"
#include "script/flow/strand.h"

/* ltsh.sleep */

static struct lt_strand *sleeper_of(struct lt_wait *wait)
{
    return lt_container_of(wait, struct lt_strand, sleep);
}

static void stop_sleep(struct lt_wait *wait)
{
    struct lt_strand *strand = sleeper_of(wait);
    lt_timer_stop(strand->script->loop, &strand->timer);
    lt_loop_release(strand->script->loop);
}

static void wake_sleeper(struct lt_timer *timer)
{
    lt_wake(lt_container_of(timer, struct lt_strand, timer));
}

static int sleep_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    stop_sleep(lt_wait_over(L));
    lt_wait_done(L);
    return 0;
}

static int core_sleep(lua_State *L)
{
    double seconds = lua_tonumber(L, 1);
    if (lua_type(L, 1) != LUA_TNUMBER || !(seconds >= 0))
        return lt_argument_error(L, "ltsh.sleep", "seconds", "a number of 0 or more", 1);
    struct lt_strand *strand = lt_wait_check(L, "ltsh.sleep");
    struct lt_loop *loop = strand->script->loop;
    strand->sleep.cancel = stop_sleep;
    lt_loop_hold(loop);
    lt_timer_start(loop, &strand->timer, lt_loop_tick(loop) + seconds, wake_sleeper);
    return lt_wait(L, strand, &strand->sleep, sleep_over);
}

static int core_now(lua_State *L)
{
    struct lt_loop *loop = lt_script_of(L)->loop;
    lt_loop_tick(loop);
    lua_pushnumber(L, lt_loop_wall(loop));
    return 1;
}

/* core.hash(text): eight digits that tell versions of a file apart */
static int core_hash(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    char digits[16];
    snprintf(digits, sizeof digits, "%08x", (unsigned)XXH3_64bits(text, len)); /* the same in every process */
    lua_pushstring(L, digits);
    return 1;
}

/* core.held(fn, ...) -> its results. It cannot wait and is not preempted meanwhile; what holds the host for too long is
 * ended. */
static int core_held(lua_State *L)
{
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* core.strand() -> what tells the strand that runs from others, false in a callback of libuv; whether it may wait here */
static int core_strand(lua_State *L)
{
    struct lt_strand *strand = lt_strand_now(lt_script_of(L));
    if (strand != NULL)
        lua_pushlightuserdata(L, strand);
    else
        lua_pushboolean(L, 0);
    lua_pushboolean(L, lt_wait_possible(L));
    return 2;
}

/* core.guest(whether) -> what it was: whether what the strand runs is a guest, as the code of a module is. */
static int core_guest(lua_State *L)
{
    struct lt_strand *strand = lt_strand_now(lt_script_of(L));
    lua_pushboolean(L, strand != NULL && strand->guest);
    if (strand != NULL)
        strand->guest = lua_toboolean(L, 1);
    return 1;
}

/* core.nearest(name, known) -> the key of `known` that was probably meant, or nil */
static int core_nearest(lua_State *L)
{
    struct lt_nearest nearest = {0};
    nearest.name = luaL_checklstring(L, 1, &nearest.len);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    lua_pushnil(L);
    while (lua_next(L, 2)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING)
            lt_nearest_look(&nearest, lua_tostring(L, -1));
    }
    lua_pushstring(L, nearest.meant);
    return 1;
}

/* core.at_work() -> an object to be closed (`local work <close>`): until then the end of the process waits, for a grace. Nil:
 * the process ends, and nothing is to begin. */

static const char *const AT_WORK = "ltsh.at_work";

static int end_work(lua_State *L)
{
    bool *at_work = luaL_checkudata(L, 1, AT_WORK);
    struct lt_script *script = lt_script_of(L);
    if (*at_work && --script->handlers == 0 && TAILQ_EMPTY(&script->schedulers))
        script->closed(script);
    *at_work = false;
    return 0;
}

static int core_at_work(lua_State *L)
{
    struct lt_script *script = lt_script_of(L);
    if (script->hurry)
        return 0;
    bool *at_work = lua_newuserdatauv(L, sizeof *at_work, 0);
    *at_work = false;
    if (luaL_newmetatable(L, AT_WORK)) {
        lua_pushcfunction(L, end_work);
        lua_setfield(L, -2, "__close");
        lua_pushcfunction(L, end_work);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    script->handlers++;
    *at_work = true;
    return 1;
}

int lt_open_core(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"sleep", core_sleep},     {"now", core_now},     {"spawn", lt_spawn},
        {"held", core_held},       {"await", lt_await},   {"hash", core_hash},
        {"strand", core_strand},   {"guest", core_guest}, {"nearest", core_nearest},
        {"at_work", core_at_work}, {NULL, NULL},
    };
    luaL_newlib(L, functions);
    lua_pushliteral(L, LTSH_VERSION);
    lua_setfield(L, -2, "version");
    lt_open_values(L);
    lua_getfield(L, -1, "encode");
    lua_setfield(L, -3, "encode");
    lua_getfield(L, -1, "decode");
    lua_setfield(L, -3, "decode");
    lua_pop(L, 1);
    lt_open_json(L);
    lua_setfield(L, -2, "json");
    lt_bind_log(L);
    lua_pushboolean(L, lt_script_of(L)->worker);
    lua_setfield(L, -2, "worker");
    if (lt_script_of(L)->worker)
        return 1;
    lt_bind_parts(L);
    lt_bind_exec(L);
    lt_bind_http(L);
    lt_bind_http_client(L);
    lt_bind_sqlite(L);
    lt_bind_scheduler(L);
    return 1;
}
