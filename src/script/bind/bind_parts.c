#include "script/bind/bind_parts.h"

#include <lauxlib.h>

#include "actuators/docker/docker.h"
#include "actuators/docker/spec.h"
#include "actuators/process/process.h"
#include "base/tree.h"
#include "containers/combine/combine.h"
#include "containers/memory.h"
#include "containers/sqlite/sqlite.h"
#include "scheduler/actuator.h"
#include "scheduler/container.h"
#include "scheduler/persister.h"
#include "scheduler/receiver.h"
#include "script/bind/bind_core.h"
#include "script/parts/func_actuator.h"
#include "script/parts/lua_parts.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"
#include "script/values/values.h"

static const char *const PART = "ltsh.part";

struct part {
    enum lt_part_kind kind;
    void *pointer; /* NULL: released */
};

LT_RAISES void *lt_part_check(lua_State *L, int index, enum lt_part_kind kind)
{
    static const char *const names[] = {"container", "actuator", "persister", "receiver"};
    struct part *part = luaL_testudata(L, index, PART);
    if (part != NULL && part->kind == kind && part->pointer != NULL)
        return part->pointer;
    luaL_error(L, "%s expected, got a %s", names[kind], luaL_typename(L, index));
    return NULL;
}

/* To be made before what it holds: then nothing is held when it cannot be made. */
static struct part *new_part(lua_State *L, enum lt_part_kind kind)
{
    struct part *part = lua_newuserdatauv(L, sizeof *part, 1);
    *part = (struct part){.kind = kind};
    luaL_setmetatable(L, PART);
    return part;
}

void **lt_part_new(lua_State *L, enum lt_part_kind kind)
{
    return &new_part(L, kind)->pointer;
}

void lt_part_release(lua_State *L, int index)
{
    struct part *part = lua_touserdata(L, index);
    void *pointer = part->pointer;
    part->pointer = NULL;
    if (pointer == NULL)
        return;
    switch (part->kind) {
    case LT_PART_CONTAINER:
        ((struct lt_container *)pointer)->ops->release(pointer);
        break;
    case LT_PART_ACTUATOR:
        if (((struct lt_actuator *)pointer)->front != NULL)
            ((struct lt_actuator *)pointer)->front->ops->release(((struct lt_actuator *)pointer)->front);
        lt_bytes_set(&((struct lt_actuator *)pointer)->version, NULL);
        ((struct lt_actuator *)pointer)->ops->release(pointer);
        break;
    case LT_PART_PERSISTER:
        ((struct lt_persister *)pointer)->ops->release(pointer);
        break;
    case LT_PART_RECEIVER:
        ((struct lt_receiver *)pointer)->ops->release(pointer);
        break;
    }
}

static int release_part(lua_State *L)
{
    luaL_checkudata(L, 1, PART);
    lt_part_release(L, 1);
    return 0;
}

/* core.queue(size, fair), core.priority(size, fair) */
static int make_queue(lua_State *L)
{
    lua_Integer size = luaL_checkinteger(L, 1);
    struct part *part = new_part(L, LT_PART_CONTAINER);
    part->pointer = lt_queue_new((uint64_t)size, lua_toboolean(L, 2));
    return 1;
}

static int make_priority(lua_State *L)
{
    lua_Integer size = luaL_checkinteger(L, 1);
    struct part *part = new_part(L, LT_PART_CONTAINER);
    part->pointer = lt_priority_new((uint64_t)size, lua_toboolean(L, 2));
    return 1;
}

/* core.sqlite_container(path, queue, full, lease, success, failed, stopped, fair): the three are seconds, negative for
 * ever */
static int make_sqlite(lua_State *L)
{
    struct lt_error error;
    struct lt_sqlite_options options = {
        .path = luaL_checkstring(L, 1),
        .queue = luaL_checkstring(L, 2),
        .full = lua_toboolean(L, 3),
        .lease = luaL_checknumber(L, 4),
        .keep = {luaL_checknumber(L, 5), luaL_checknumber(L, 6), luaL_checknumber(L, 7)},
        .fair = lua_toboolean(L, 8),
    };
    struct part *part = new_part(L, LT_PART_CONTAINER);
    part->pointer = lt_sqlite_container_new(lt_script_of(L)->loop, &options, &error);
    if (part->pointer == NULL)
        return luaL_error(L, "%s", error.message);
    return 1;
}

/* core.combine(memory, store): the parts are the combination's own from then on */
static int make_combination(lua_State *L)
{
    struct lt_error error;
    struct lt_container *memory = lt_part_check(L, 1, LT_PART_CONTAINER);
    struct lt_container *store = lt_part_check(L, 2, LT_PART_CONTAINER);
    struct part *part = new_part(L, LT_PART_CONTAINER);
    if (memory->in_use || store->in_use)
        return luaL_error(L, "this container is used by a scheduler already; make one for each");
    part->pointer = lt_combine_new(memory, store, &error);
    if (part->pointer == NULL)
        return luaL_error(L, "%s", error.message);
    ((struct part *)lua_touserdata(L, 1))->pointer = NULL;
    ((struct part *)lua_touserdata(L, 2))->pointer = NULL;
    return 1;
}

static int make_func(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct part *part = new_part(L, LT_PART_ACTUATOR);
    part->pointer = lt_func_actuator_new(L, 1);
    return 1;
}

/* The table at `index` as fields of an item, or NULL with an error. */
static json_t *read_defaults(lua_State *L, int index, const char *where, struct lt_error *error)
{
    struct lt_buffer encoded = {0};
    int code = lt_value_encode(L, index, &encoded, where, error);
    json_t *defaults = code == LT_OK ? lt_tree_read(encoded.data, encoded.len) : NULL;
    lt_buffer_free(&encoded);
    if (code == LT_OK && defaults == NULL)
        lt_fail(error, LT_REFUSED, "%s: it has values that an item cannot have", where);
    return defaults;
}

/* core.process(defaults, where): fields of an item; what is wrong with them is raised, and begins with `where` */
static int make_process(lua_State *L)
{
    struct lt_error error;
    const char *where = luaL_checkstring(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    struct part *part = new_part(L, LT_PART_ACTUATOR);
    json_t *defaults = read_defaults(L, 1, where, &error);
    if (defaults != NULL && lt_process_defaults_check(defaults, where, &error) == LT_OK) {
        part->pointer = lt_process_actuator_new(defaults);
        return 1;
    }
    json_decref(defaults);
    return luaL_error(L, "%s", error.message);
}

/* core.docker(place, defaults, where): a place is { host=, ca=, cert=, key=, version= } */
static int make_docker(lua_State *L)
{
    struct lt_engine_place place = {0};
    struct {
        const char *name, **value;
    } names[] = {{"host", &place.host},
                 {"ca", &place.ca},
                 {"cert", &place.cert},
                 {"key", &place.key},
                 {"version", &place.version}};
    struct lt_error error;
    const char *where = luaL_checkstring(L, 3);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        lua_getfield(L, 1, names[i].name); /* stays on the stack */
        *names[i].value = lua_tostring(L, -1);
    }
    struct part *part = new_part(L, LT_PART_ACTUATOR);
    json_t *defaults = read_defaults(L, 2, where, &error);
    if (defaults != NULL && lt_docker_defaults_check(defaults, where, &error) == LT_OK) {
        part->pointer = lt_docker_actuator_new(&place, defaults);
        return 1;
    }
    json_decref(defaults);
    return luaL_error(L, "%s", error.message);
}

static int make_container(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct part *part = new_part(L, LT_PART_CONTAINER);
    part->pointer = lt_lua_container_new(L, 1, 2);
    return 1;
}

static int make_actuator(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct part *part = new_part(L, LT_PART_ACTUATOR);
    part->pointer = lt_lua_actuator_new(L, 1);
    return 1;
}

static int make_persister(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct part *part = new_part(L, LT_PART_PERSISTER);
    part->pointer = lt_lua_persister_new(L, 1);
    return 1;
}

/* core.sqlite_persister(path, name) */
static int make_sqlite_persister(lua_State *L)
{
    struct lt_error error;
    const char *path = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
    struct part *part = new_part(L, LT_PART_PERSISTER);
    part->pointer = lt_sqlite_persister_new(lt_script_of(L)->loop, path, name, &error);
    if (part->pointer == NULL)
        return luaL_error(L, "%s", error.message);
    return 1;
}

static int make_receiver(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct part *part = new_part(L, LT_PART_RECEIVER);
    part->pointer = lt_lua_receiver_new(L, 1);
    return 1;
}

/* core.set_version(part, text): of the module that an actuator runs; others have none */
static int set_version(lua_State *L)
{
    struct part *part = luaL_checkudata(L, 1, PART);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    if (part->kind == LT_PART_ACTUATOR && part->pointer != NULL)
        lt_bytes_set(&((struct lt_actuator *)part->pointer)->version, lt_bytes_new(text, len));
    return 0;
}

/* core.alive(part): whether it is still there; a weak table may show one for a while that is not */
static int is_alive(lua_State *L)
{
    const struct part *part = luaL_checkudata(L, 1, PART);
    lua_pushboolean(L, part->pointer != NULL);
    return 1;
}

/* core.set_init(part, methods): the `init` of this table is called for the tasks of an actuator that has none */
static int set_init(lua_State *L)
{
    struct lt_actuator *actuator = lt_part_check(L, 1, LT_PART_ACTUATOR);
    luaL_checktype(L, 2, LUA_TTABLE);
    if (actuator->front == NULL)
        actuator->front = lt_lua_actuator_new(L, 2);
    return 0;
}

/* core.hold(part, value): the value lives as long as the part */
static int hold_part(lua_State *L)
{
    luaL_checkudata(L, 1, PART);
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, 1);
    return 0;
}

/* core.set_function(part, fn): runs that begin from now on call another function */
static int part_set_function(lua_State *L)
{
    struct lt_actuator *actuator = lt_part_check(L, 1, LT_PART_ACTUATOR);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lt_func_actuator_set(actuator, L, 2);
    return 0;
}

/* core.copy_task(task): another object for the same task, which may say something else */
static int copy_task(lua_State *L)
{
    struct lt_error error;
    struct lt_task *task = lt_task_read(L, 1, &error);
    if (task == NULL)
        return luaL_error(L, "%s", error.message);
    lt_task_push(L, task);
    lt_task_unref(task);
    return 1;
}

/* core.is_container(value): whether it is a built-in container's object */
static int is_container(lua_State *L)
{
    const struct part *part = luaL_testudata(L, 1, PART);
    lua_pushboolean(L, part != NULL && part->kind == LT_PART_CONTAINER);
    return 1;
}

/* core.is_shared(part): whether a container is one that several hosts share */
static int is_shared(lua_State *L)
{
    const struct lt_container *container = lt_part_check(L, 1, LT_PART_CONTAINER);
    lua_pushboolean(L, container->ops->ask_stop != NULL);
    return 1;
}

/* core.is_fair(part): whether keys take turns in a container */
static int is_fair(lua_State *L)
{
    lua_pushboolean(L, ((const struct lt_container *)lt_part_check(L, 1, LT_PART_CONTAINER))->fair);
    return 1;
}

/* core.database_of(part): the path of the database of a durable container that is open, else nil */
static int database_of(lua_State *L)
{
    struct lt_container *container = lt_part_check(L, 1, LT_PART_CONTAINER);
    lua_pushstring(L, lt_sqlite_path(container->behind != NULL ? container->behind : container));
    return 1;
}

static int part_to_string(lua_State *L)
{
    const struct part *part = luaL_checkudata(L, 1, PART);
    const char *name = "part";
    if (part->kind == LT_PART_CONTAINER && part->pointer != NULL)
        name = ((const struct lt_container *)part->pointer)->ops->name;
    lua_pushstring(L, name);
    return 1;
}

void lt_bind_parts(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"queue", make_queue},
        {"priority", make_priority},
        {"sqlite_container", make_sqlite},
        {"redis_container", lt_make_redis},
        {"combine", make_combination},
        {"is_shared", is_shared},
        {"is_fair", is_fair},
        {"database_of", database_of},
        {"func", make_func},
        {"container", make_container},
        {"docker", make_docker},
        {"process", make_process},
        {"actuator", make_actuator},
        {"persister", make_persister},
        {"sqlite_persister", make_sqlite_persister},
        {"receiver", make_receiver},
        {"is_container", is_container},
        {"set_version", set_version},
        {"set_function", part_set_function},
        {"hold", hold_part},
        {"set_init", set_init},
        {"alive", is_alive},
        {"copy_task", copy_task},
        {NULL, NULL},
    };
    luaL_newmetatable(L, PART);
    lua_pushcfunction(L, release_part);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, part_to_string);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
    luaL_setfuncs(L, functions, 0);
}
