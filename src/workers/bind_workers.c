#include "workers/bind_workers.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/bind/bind_parts.h"
#include "script/flow/future.h"
#include "script/flow/script.h"
#include "script/values/marks.h"
#include "script/values/raw.h"
#include "workers/pool.h"

/* The fields of the table at 1, whose types lua/ltsh has checked. The texts are the table's. */

static lua_Integer integer_field(lua_State *L, const char *name)
{
    lt_raw_field(L, 1, name);
    lua_Integer value = lua_tointeger(L, -1);
    lua_pop(L, 1);
    return value;
}

/* Stays on the stack. */
LT_RAISES static const char *text_field(lua_State *L, const char *name, size_t *len)
{
    lt_raw_field(L, 1, name);
    return luaL_checklstring(L, -1, len);
}

/* new{ module=, source=, path=, cpath=, workers=, memory=, max_abandoned=, processes= } -> a part */
static int new_pool(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct lt_pool_options options = {
        .load = {.memory = (uint64_t)integer_field(L, "memory")},
        .workers = (uint32_t)integer_field(L, "workers"),
        .max_abandoned = (uint32_t)integer_field(L, "max_abandoned"),
    };
    lt_raw_field(L, 1, "processes");
    options.processes = lua_toboolean(L, -1);
    options.load.module = text_field(L, "module", NULL);
    options.load.source = text_field(L, "source", &options.load.source_len);
    options.load.path = text_field(L, "path", NULL);
    options.load.cpath = text_field(L, "cpath", NULL);
    void **part = lt_part_new(L, LT_PART_ACTUATOR);
    *part = lt_pool_new(&options);
    return 1;
}

/* Reload. */

struct reloading {
    struct lt_script *script;
    int future; /* a reference */
};

static void reloaded(void *arg, const char *error)
{
    struct reloading *reloading = arg;
    lua_State *L = reloading->script->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, reloading->future);
    if (error == NULL)
        lua_pushboolean(L, true);
    else
        lua_pushstring(L, error);
    lt_future_set(L, -2, 1);
    lua_pop(L, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, reloading->future);
    free(reloading);
}

/* try(part, source) -> a job whose wait() gives true, or the reason why it cannot be used. */
static int try_source(lua_State *L)
{
    struct lt_actuator *actuator = lt_part_check(L, 1, LT_PART_ACTUATOR);
    size_t source_len;
    const char *source = luaL_checklstring(L, 2, &source_len);
    lt_future_push(L);
    lua_pushvalue(L, -1);
    int future = luaL_ref(L, LUA_REGISTRYINDEX); /* may raise: before anything is held */
    struct reloading *reloading = lt_alloc(sizeof *reloading);
    *reloading = (struct reloading){.script = lt_script_of(L), .future = future};
    lt_pool_try(actuator, source, source_len, reloaded, reloading);
    return 1;
}

/* use(part, boolean): takes up what was tried, or forgets it */
static int use_tried(lua_State *L)
{
    lt_pool_use(lt_part_check(L, 1, LT_PART_ACTUATOR), lua_toboolean(L, 2));
    return 0;
}

/* adopt(part, source): takes it up untried, as others have tried it */
static int adopt_source(lua_State *L)
{
    struct lt_actuator *actuator = lt_part_check(L, 1, LT_PART_ACTUATOR);
    size_t source_len;
    const char *source = luaL_checklstring(L, 2, &source_len);
    lt_pool_adopt(actuator, source, source_len);
    return 0;
}

int lt_open_workers(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"new", new_pool}, {"try", try_source}, {"use", use_tried}, {"adopt", adopt_source}, {NULL, NULL}};
    luaL_newlib(L, functions);
    return 1;
}
