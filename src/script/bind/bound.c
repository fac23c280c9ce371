/* A scheduler's object and its C side: how each is found from the other, and when the C side is freed. */
#include "script/bind/bound.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/values/marks.h"

static const char objects; /* registry: bound -> object, weak */

void lt_bound_open(lua_State *L)
{
    lua_newtable(L); /* objects by their C side; weak, so that they can be collected */
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &objects);
}

void lt_bound_register(struct lt_bound *bound, lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &objects);
    lua_pushvalue(L, -2);
    lua_rawsetp(L, -2, bound);
    lua_pop(L, 1);
}

LT_RAISES struct lt_bound *lt_bound_check(lua_State *L, const char *function)
{
    struct lt_bound **object = lua_touserdata(L, 1);
    bool is = object != NULL && lua_getmetatable(L, 1);
    if (is) {
        is = lua_topointer(L, -1) == lt_script_of(L)->scheduler_meta;
        lua_pop(L, 1);
    }
    if (is && lt_script_of(L)->asking > 0)
        luaL_error(L, "%s: cannot be called in key_limit or backoff, which only answer", function);
    if (is && *object != NULL) /* NULL: it is being collected */
        return *object;
    luaL_error(L, "%s: called without its scheduler: write scheduler%s", function, strchr(function, ':'));
    return NULL;
}

bool lt_bound_push(struct lt_bound *bound, lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &objects);
    bool lives = lua_rawgetp(L, -1, bound) == LUA_TUSERDATA;
    lua_remove(L, -2);
    return lives;
}

void lt_bound_push_all(lua_State *L)
{
    struct lt_script *script = lt_script_of(L);
    struct lt_bound *bound;
    int count = 0;
    TAILQ_FOREACH(bound, &script->schedulers, link)
        count++;
    lua_createtable(L, count, 0); /* here finalizers may run, and schedulers go; below nothing does that */
    count = 0;
    TAILQ_FOREACH(bound, &script->schedulers, link)
        if (lt_bound_push(bound, L))
            lua_rawseti(L, -2, ++count);
        else
            lua_pop(L, 1);
}

void lt_bound_review(struct lt_bound *bound)
{
    if (bound->closed.posted)
        return;
    if (bound->scheduler != NULL && !bound->busy && bound->requests == 0 && lt_scheduler_closed(bound->scheduler)) {
        bound->unread = lt_scheduler_take_finished(bound->scheduler);
        lt_scheduler_free(bound->scheduler);
        bound->scheduler = NULL;
        TAILQ_REMOVE(&bound->script->schedulers, bound, link);
        if (TAILQ_EMPTY(&bound->script->schedulers))
            bound->script->closed(bound->script);
    }
    if (bound->collected && bound->scheduler == NULL) {
        free(bound->name);
        free(bound->spare_question);
        lt_finished_free(&bound->unread);
        free(bound);
    }
}
