/* core.redis_container{ urls =, sentinels =, queue =, lease =, keep = { 3 times seconds, negative for ever }, ca =, cert =,
 * key =, name =, fair =, wait_replicas = }: waits for what becomes of the first attempt to connect; nil and a message: it
 * makes no sense to go on. */
#include <lauxlib.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "containers/redis/redis.h"
#include "script/bind/bind_parts.h"
#include "script/flow/strand.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

/* Where what is on the stack. */
enum { OPTIONS = 1, PART };

struct redis_wait {
    struct lt_wait wait;
    struct lt_strand *strand;
    struct lt_container *container;
    char *refused;
};

static void free_wait(struct redis_wait *wait)
{
    free(wait->refused);
    free(wait);
}

static void leave_wait(struct lt_wait *left)
{
    struct redis_wait *wait = lt_container_of(left, struct redis_wait, wait);
    lt_redis_container_unwait(wait->container);
    free_wait(wait);
}

static void outcome_known(void *arg, const char *refused)
{
    struct redis_wait *wait = arg;
    wait->refused = refused != NULL ? lt_strdup(refused) : NULL;
    lt_wake(wait->strand);
}

static int first_outcome(lua_State *L, int status, lua_KContext context)
{
    struct redis_wait *wait = lt_container_of(lt_wait_over(L), struct redis_wait, wait);
    (void)status;
    (void)context;
    if (wait->refused == NULL) {
        lt_wait_done(L);
        free_wait(wait);
        lua_settop(L, PART);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, wait->refused);
    lt_wait_done(L);
    free_wait(wait);
    lt_part_release(L, PART);
    return 2;
}

/* A field that is a text, or NULL; it is kept by the table. */
LT_RAISES LT_RUNS_LUA static const char *text_of(lua_State *L, const char *name)
{
    lua_getfield(L, OPTIONS, name);
    const char *text = lua_tostring(L, -1);
    lua_pop(L, 1);
    return text;
}

LT_RAISES LT_RUNS_LUA static double number_at(lua_State *L, const char *name, int i)
{
    lua_getfield(L, OPTIONS, name);
    lua_rawgeti(L, -1, i);
    double number = lua_tonumber(L, -1);
    lua_pop(L, 2);
    return number;
}

/* A field that is a list of texts, or NULL. The list is left on the stack, as the texts are kept by the table. */
LT_RAISES LT_RUNS_LUA static lt_redis_urls list_of(lua_State *L, const char *name)
{
    lua_getfield(L, OPTIONS, name);
    if (lua_isnil(L, -1))
        return NULL;
    lua_Unsigned count = lua_rawlen(L, -1);
    const char **list = lua_newuserdatauv(L, (count + 1) * sizeof *list, 0);
    for (lua_Unsigned i = 0; i < count; i++) {
        lua_rawgeti(L, -2, (lua_Integer)i + 1);
        list[i] = lua_tostring(L, -1);
        lua_pop(L, 1);
    }
    list[count] = NULL;
    return list;
}

int lt_make_redis(lua_State *L)
{
    struct lt_error error;
    struct lt_strand *strand = lt_wait_check(L, "ltsh.container.redis");
    luaL_checktype(L, OPTIONS, LUA_TTABLE);
    lua_settop(L, OPTIONS);
    void **part = lt_part_new(L, LT_PART_CONTAINER);
    struct lt_redis_options options = {
        .urls = list_of(L, "urls"),
        .sentinels = list_of(L, "sentinels"),
        .tls = {.ca = text_of(L, "ca"), .cert = text_of(L, "cert"), .key = text_of(L, "key")},
        .tls_name = text_of(L, "name"),
        .queue = text_of(L, "queue"),
    };
    lua_getfield(L, OPTIONS, "lease");
    options.lease = lua_tonumber(L, -1);
    lua_getfield(L, OPTIONS, "fair");
    options.fair = lua_toboolean(L, -1);
    lua_getfield(L, OPTIONS, "wait_replicas");
    options.wait_replicas = (unsigned)lua_tointeger(L, -1);
    for (int i = 0; i < 3; i++)
        options.keep[i] = number_at(L, "keep", i + 1);
    struct lt_container *container = lt_redis_container_new(lt_script_of(L)->loop, &options, &error);
    if (container == NULL) {
        lua_pushnil(L);
        lua_pushstring(L, error.message);
        return 2;
    }
    *part = container;
    struct redis_wait *wait = lt_zalloc(sizeof *wait);
    wait->wait.cancel = leave_wait;
    wait->strand = strand;
    wait->container = container;
    lt_redis_container_wait(container, outcome_known, wait);
    return lt_wait(L, strand, &wait->wait, first_outcome);
}
