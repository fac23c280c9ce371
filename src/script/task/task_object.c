#include "script/task/task_object.h"

#include <string.h>

#include "script/flow/call.h"
#include "script/task/task_fields.h"
#include "script/values/marks.h"
#include "script/values/values.h"

enum { SMALL = 512 };

/* The object at 1, or an error that names `function`. */
LT_RAISES static struct lt_task_object *check_task(lua_State *L, const char *function)
{
    struct lt_task_object *object = lt_task_object_at(L, 1);
    if (object == NULL) {
        char got[128];
        lt_describe(L, 1, got, sizeof got);
        luaL_error(L, "%s: expected a task, got %s", function, got);
    }
    return object;
}

/* Making one. */

static size_t blob_length(const struct lt_bytes *bytes)
{
    return bytes != NULL ? bytes->len : 0;
}

/* The bytes that a small object of the task needs behind its own; 0 if it has to be a holding one. */
static inline size_t small_size(const struct lt_task *task)
{
    const struct lt_task_extra *extra = task->extra;
    size_t size = (size_t)task->id_len + 1 + task->item_len + blob_length(task->output) + blob_length(task->reason);
    if (task->options != NULL || size > SMALL)
        return 0;
    if (extra == NULL)
        return size;
    size += blob_length(extra->version);
    bool is_plain = extra->progress == NULL && extra->handle == NULL && extra->host == NULL;
    return is_plain && size <= SMALL ? size : 0;
}

static struct lt_bytes *version_of(const struct lt_task *task)
{
    return task->extra != NULL ? task->extra->version : NULL;
}

static inline void fill_object(struct lt_task_object *object, const struct lt_task *task)
{
    object->mark = &lt_task_object_mark;
    object->reporter = NULL;
    object->run = task->run;
    object->priority = task->priority;
    object->added_at = task->added_at;
    object->run_at = task->run_at;
    object->started_at = task->started_at;
    object->ended_at = task->ended_at;
    object->attempts = task->attempts;
    object->lost = task->lost;
    object->status = task->status;
    object->id_len = task->id_len;
    object->is_holding = false;
    object->has_assigned = false;
    object->decoded = 0;
    object->has = task->item_len > 0 ? 1U << LT_BLOB_ITEM : 0;
    object->len[LT_BLOB_ITEM] = task->item_len;
}

/* Copies a blob to `to`, and returns where the next one goes. */
static inline char *copy_blob(struct lt_task_object *object, enum lt_blob blob, const struct lt_bytes *bytes, char *to)
{
    object->len[blob] = (uint32_t)blob_length(bytes);
    if (bytes == NULL)
        return to;
    object->has |= 1U << blob;
    memcpy(to, bytes->data, bytes->len);
    return to + bytes->len;
}

static inline void copy_bytes(struct lt_task_object *object, const struct lt_task *task)
{
    char *to = (char *)(object + 1);
    size_t len = (size_t)task->id_len + 1 + task->item_len;
    memcpy(to, task->data, len);
    to = copy_blob(object, LT_BLOB_OUTPUT, task->output, to + len);
    to = copy_blob(object, LT_BLOB_REASON, task->reason, to);
    copy_blob(object, LT_BLOB_VERSION, version_of(task), to);
}

static void hold_task(struct lt_task_object *object, struct lt_task *task)
{
    static const struct lt_task_extra none;
    const struct lt_task_extra *extra = task->extra != NULL ? task->extra : &none;
    struct lt_holding *holding = (struct lt_holding *)object;
    struct lt_bytes *const blobs[LT_BLOBS] = {
        [LT_BLOB_OUTPUT] = task->output,      [LT_BLOB_REASON] = task->reason,  [LT_BLOB_VERSION] = extra->version,
        [LT_BLOB_PROGRESS] = extra->progress, [LT_BLOB_HANDLE] = extra->handle, [LT_BLOB_HOST] = extra->host,
    };
    object->is_holding = true;
    holding->task = lt_task_ref(task);
    for (unsigned i = 0; i < LT_BLOBS; i++) {
        holding->held[i] = lt_bytes_ref(blobs[i]);
        object->has |= (uint8_t)((blobs[i] != NULL) << i);
    }
}

/* The collector sees a few hundred bytes where megabytes may be held: tells it of them, or they would pile up. */
LT_RUNS_LUA static void account_bytes(lua_State *L, const struct lt_task_object *object)
{
    size_t bytes = object->len[LT_BLOB_ITEM];
    for (unsigned i = LT_BLOB_OUTPUT; i < LT_BLOBS; i++)
        bytes += blob_length(((const struct lt_holding *)object)->held[i]);
    if (bytes >= 1024 && lua_gc(L, LUA_GCISRUNNING) == 1)
        lua_gc(L, LUA_GCSTEP, (int)(bytes / 1024));
}

/* Making the userdata may raise, so it comes before references are taken. It may also run finalizers, by which the task
 * may have changed: then it is made anew. */
LT_RUNS_LUA static struct lt_task_object *push_object(lua_State *L, struct lt_task *task)
{
    struct lt_task_object *object;
    size_t size;
    for (;;) {
        size = small_size(task);
        object = lua_newuserdatauv(L, size > 0 ? sizeof *object + size : sizeof(struct lt_holding), LT_USER_VALUES);
        if (size == small_size(task))
            break;
        lua_pop(L, 1);
    }
    fill_object(object, task);
    if (size > 0)
        copy_bytes(object, task);
    else
        hold_task(object, task);
    const struct lt_script *script = lt_script_of(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, size > 0 ? script->small_task_meta : script->holding_task_meta);
    lua_setmetatable(L, -2);
    if (size == 0)
        account_bytes(L, object);
    return object;
}

LT_RUNS_LUA void lt_task_push(lua_State *L, struct lt_task *task)
{
    push_object(L, task);
}

LT_RUNS_LUA struct lt_task_object *lt_task_push_running(lua_State *L, struct lt_task *task,
                                                        struct lt_reporter *reporter)
{
    struct lt_task_object *object = push_object(L, task);
    object->reporter = reporter;
    return object;
}

void lt_task_object_end(struct lt_task_object *object)
{
    object->reporter = NULL;
}

/* __gc of holding ones. The finalizers of others may read the object after this. */
static int finalize_task(lua_State *L)
{
    struct lt_task_object *object = lt_task_object_at(L, 1);
    if (object == NULL || !object->is_holding || lt_object_finalized(object))
        return 0;
    struct lt_holding *holding = (struct lt_holding *)object;
    object->has = object->decoded = 0;
    object->reporter = NULL;
    for (unsigned i = 0; i < LT_BLOBS; i++)
        lt_bytes_set(&holding->held[i], NULL);
    lt_task_unref(holding->task);
    holding->task = NULL;
    return 0;
}

/* Methods. */

static const char over[] = "the run is over";

static int push_stale(lua_State *L)
{
    luaL_pushfail(L);
    lua_pushstring(L, over);
    lua_pushstring(L, lt_code_name(LT_STALE));
    return 3;
}

/* task:task_report(progress) -> true, or nil, message, "stale". */
static int task_report(lua_State *L)
{
    struct lt_task_object *object = check_task(L, "task:report");
    struct lt_error error;
    lua_settop(L, 2);
    struct lt_bytes *progress = lt_value_bytes(L, 2, &lt_script_of(L)->scratch, "progress", &error);
    if (progress == NULL)
        return luaL_error(L, "task:report: %s", error.message);
    if (object->reporter == NULL) {
        lt_bytes_unref(progress);
        return push_stale(L);
    }
    if (!object->reporter->report(object->reporter, progress))
        return push_stale(L);
    lua_pushboolean(L, true);
    return 1;
}

/* task:task_cancelled() -> boolean, and why. A run that is over counts as cancelled: what works for it works in vain. */
static int task_cancelled(lua_State *L)
{
    const struct lt_task_object *object = check_task(L, "task:cancelled");
    const char *why = object->reporter != NULL ? object->reporter->cancelled(object->reporter) : over;
    lua_pushboolean(L, why != NULL);
    if (why == NULL)
        return 1;
    lua_pushstring(L, why);
    return 2;
}

/* Metamethods. */

/* The key is on top; whoever calls this without one gets nil. */
static int object_index(lua_State *L)
{
    struct lt_task_object *object = check_task(L, "__index");
    if (object->has_assigned && lt_object_push_assigned(L, 1, lua_gettop(L)))
        return 1;
    enum lt_field field = lt_field_at(L, -1);
    if (field == LT_FIELD_REPORT)
        lua_pushcfunction(L, task_report);
    else if (field == LT_FIELD_CANCELLED)
        lua_pushcfunction(L, task_cancelled);
    else
        lt_object_push_field(L, 1, object, field);
    return 1;
}

static int object_newindex(lua_State *L)
{
    struct lt_task_object *object = check_task(L, "__newindex");
    lua_settop(L, 3);
    lt_object_assign(L, 1, object, lt_field_at(L, 2) != LT_FIELD_NONE);
    return 0;
}

/* Fields that next_field goes over. */
static bool is_shown(enum lt_field field)
{
    return field != LT_FIELD_NONE && field < LT_FIELDS_SHOWN;
}

/* Pushes name and value of the first field from `field` on that is set, or nothing and returns false. */
LT_RAISES static bool next_field(lua_State *L, struct lt_task_object *object, unsigned field)
{
    for (; field < LT_FIELDS_SHOWN; field++) {
        lua_pushstring(L, lt_field_names[field]);
        if (!object->has_assigned || !lt_object_push_assigned(L, 1, lua_gettop(L)))
            lt_object_push_field(L, 1, object, (enum lt_field)field);
        if (!lua_isnil(L, -1))
            return true;
        lua_pop(L, 2);
    }
    return false;
}

/* Replaces the key on top by the next name and value that were assigned and that next_field does not go over; or pops
 * it and returns false. */
static bool next_assigned(lua_State *L, int table)
{
    while (lua_next(L, table)) {
        if (!is_shown(lt_field_at(L, -2)) && !lt_object_is_hidden(L, -1))
            return true;
        lua_pop(L, 1);
    }
    return false;
}

/* next(task, key): the fields in their order, then what was assigned to other names. */
static int object_next(lua_State *L)
{
    struct lt_task_object *object = check_task(L, "next");
    lua_settop(L, 2);
    enum lt_field field = lt_field_at(L, 2);
    bool shown = lua_isnil(L, 2) || is_shown(field);
    if (shown && next_field(L, object, field + 1))
        return 2;
    lua_getiuservalue(L, 1, LT_USER_ASSIGNED);
    if (shown)
        lua_pushnil(L);
    else
        lua_pushvalue(L, 2);
    if (object->has_assigned && next_assigned(L, 3))
        return 2;
    lua_pushnil(L);
    return 1;
}

static int object_pairs(lua_State *L)
{
    check_task(L, "pairs");
    lua_settop(L, 1);
    lua_pushcfunction(L, object_next);
    lua_insert(L, 1);
    return 2;
}

static int object_tostring(lua_State *L)
{
    const struct lt_task_object *object = check_task(L, "tostring");
    const char *id = lt_object_finalized(object) ? "" : lt_object_id(object).data;
    lua_pushfstring(L, "task \"%s\" (%s)", id, lt_status_name(object->status));
    return 1;
}

/* Set-up. */

/* The names of the fields are on top, and kept with it. */
static void push_metatable(lua_State *L)
{
    static const luaL_Reg metamethods[] = {
        {"__newindex", object_newindex}, {"__tostring", object_tostring}, {"__pairs", object_pairs}, {NULL, NULL}};
    lua_createtable(L, 0, 8);
    lua_pushliteral(L, "task");
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "task");
    lua_setfield(L, -2, "__metatable");
    luaL_setfuncs(L, metamethods, 0);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, object_index, 1);
    lua_setfield(L, -2, "__index");
}

void lt_task_object_open(lua_State *L)
{
    lt_fields_open(L);
    push_metatable(L);
    lt_script_of(L)->small_task_meta = luaL_ref(L, LUA_REGISTRYINDEX);
    push_metatable(L);
    lua_pushcfunction(L, finalize_task);
    lua_setfield(L, -2, "__gc");
    lt_script_of(L)->holding_task_meta = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
}
