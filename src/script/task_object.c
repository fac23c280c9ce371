#include "script/task_object.h"

#include <string.h>

#include "script/call.h"
#include "script/task_fields.h"
#include "script/task_run.h"
#include "script/values.h"

enum { SMALL = 512 };

/* The object at 1, or an error that names `function`. */
static struct lt_task_object *check(lua_State *L, const char *function)
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

static size_t length(const struct lt_bytes *bytes)
{
    return bytes != NULL ? bytes->len : 0;
}

/* The bytes that a small object of the task needs behind its own; 0 if it has to be a holding one. */
static size_t small_size(const struct lt_task *task)
{
    const struct lt_task_extra *extra = task->extra;
    if (task->options != NULL || (extra != NULL && (extra->progress != NULL || extra->handle != NULL)))
        return 0;
    size_t size = (size_t)task->id_len + 1 + task->item_len + length(task->output) + length(task->reason);
    if (extra != NULL)
        size += length(extra->version);
    return size <= SMALL ? size : 0;
}

static void find_blobs(const struct lt_task *task, struct lt_bytes *blobs[LT_BLOBS])
{
    const struct lt_task_extra *extra = task->extra;
    blobs[LT_BLOB_ITEM] = NULL;
    blobs[LT_BLOB_OUTPUT] = task->output;
    blobs[LT_BLOB_REASON] = task->reason;
    blobs[LT_BLOB_VERSION] = extra != NULL ? extra->version : NULL;
    blobs[LT_BLOB_PROGRESS] = extra != NULL ? extra->progress : NULL;
    blobs[LT_BLOB_HANDLE] = extra != NULL ? extra->handle : NULL;
}

static void fill(struct lt_task_object *object, const struct lt_task *task, struct lt_bytes *const blobs[LT_BLOBS])
{
    object->mark = &lt_task_object_mark;
    object->task_run = NULL;
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
    object->has = task->item_len > 0 ? 1U << LT_BLOB_ITEM : 0;
    object->len[LT_BLOB_ITEM] = task->item_len;
    for (unsigned i = LT_BLOB_OUTPUT; i < LT_BLOBS; i++) {
        object->has |= (uint8_t)((blobs[i] != NULL) << i);
        object->len[i] = (uint32_t)length(blobs[i]);
    }
}

static void copy_bytes(struct lt_task_object *object, const struct lt_task *task,
                       struct lt_bytes *const blobs[LT_BLOBS])
{
    char *to = (char *)(object + 1);
    size_t len = (size_t)task->id_len + 1 + task->item_len;
    memcpy(to, task->data, len);
    to += len;
    for (unsigned i = LT_BLOB_OUTPUT; i < LT_BLOBS_SMALL; i++) {
        if (blobs[i] == NULL)
            continue;
        memcpy(to, blobs[i]->data, blobs[i]->len);
        to += blobs[i]->len;
    }
}

static void hold(struct lt_task_object *object, struct lt_task *task, struct lt_bytes *const blobs[LT_BLOBS])
{
    struct lt_holding *holding = (struct lt_holding *)object;
    object->is_holding = true;
    holding->task = lt_task_ref(task);
    for (unsigned i = 0; i < LT_BLOBS; i++)
        holding->held[i] = lt_bytes_ref(blobs[i]);
}

/* The collector sees a few hundred bytes where megabytes may be held: tells it of them, or they would pile up. */
static void account(lua_State *L, const struct lt_task_object *object)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < LT_BLOBS; i++)
        bytes += object->len[i];
    if (bytes >= 1024 && lua_gc(L, LUA_GCISRUNNING) == 1)
        lua_gc(L, LUA_GCSTEP, (int)(bytes / 1024));
}

/* Making the userdata may raise, so it comes before references are taken. It may also run finalizers, by which the task
 * may have changed: then it is made anew. */
static struct lt_task_object *push(lua_State *L, struct lt_task *task)
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
    struct lt_bytes *blobs[LT_BLOBS];
    find_blobs(task, blobs);
    fill(object, task, blobs);
    if (size > 0)
        copy_bytes(object, task, blobs);
    else
        hold(object, task, blobs);
    const struct lt_script *script = lt_script_of(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, size > 0 ? script->small_task_meta : script->holding_task_meta);
    lua_setmetatable(L, -2);
    if (size == 0)
        account(L, object);
    return object;
}

void lt_task_push(lua_State *L, struct lt_task *task)
{
    push(L, task);
}

void lt_task_push_running(lua_State *L, struct lt_task *task, struct lt_task_run *task_run)
{
    push(L, task)->task_run = task_run;
}

void lt_task_object_end(lua_State *L, int index)
{
    struct lt_task_object *object = lt_task_object_at(L, index);
    if (object != NULL)
        object->task_run = NULL;
}

/* __gc of holding ones. The finalizers of others may read the object after this. */
static int finalize(lua_State *L)
{
    struct lt_task_object *object = lt_task_object_at(L, 1);
    if (object == NULL || !object->is_holding || lt_object_finalized(object))
        return 0;
    struct lt_holding *holding = (struct lt_holding *)object;
    object->has = 0;
    object->task_run = NULL;
    for (unsigned i = 0; i < LT_BLOBS; i++)
        lt_bytes_set(&holding->held[i], NULL);
    lt_task_unref(holding->task);
    holding->task = NULL;
    return 0;
}

/* Methods. */

static const char over[] = "the run is over";

static bool runs(const struct lt_task_object *object)
{
    return object->task_run != NULL && object->task_run->run == object->run;
}

/* task:report(progress) -> true, or nil, message, "stale". */
static int report(lua_State *L)
{
    struct lt_task_object *object = check(L, "task:report");
    struct lt_buffer *scratch = &lt_script_of(L)->scratch;
    struct lt_error error;
    lua_settop(L, 2);
    scratch->len = 0;
    if (lt_value_encode(L, 2, scratch, "progress", &error) != LT_OK)
        return luaL_error(L, "task:report: %s", error.message);
    if (!runs(object) || !object->task_run->progress(object->task_run, lt_bytes_new(scratch->data, scratch->len))) {
        luaL_pushfail(L);
        lua_pushstring(L, over);
        lua_pushstring(L, lt_code_name(LT_STALE));
        return 3;
    }
    lua_pushboolean(L, true);
    return 1;
}

/* task:cancelled() -> boolean, and why. A run that is over counts as cancelled: what works for it works in vain. */
static int cancelled(lua_State *L)
{
    const struct lt_task_object *object = check(L, "task:cancelled");
    const char *why = over;
    bool is = !runs(object) || lt_task_run_cancelled(object->task_run, &why);
    lua_pushboolean(L, is);
    if (!is)
        return 1;
    lua_pushstring(L, why);
    return 2;
}

/* Metamethods. The first upvalue of those that need it is the table of fields. */

/* The number of the field whose name is at `index`. */
static enum lt_field field_at(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    lua_rawget(L, lua_upvalueindex(1));
    enum lt_field field = (enum lt_field)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return field;
}

/* The key is on top; whoever calls this without one gets nil. */
static int object_index(lua_State *L)
{
    struct lt_task_object *object = check(L, "__index");
    if (object->has_assigned && lt_object_push_assigned(L, 1, lua_gettop(L)))
        return 1;
    lua_rawget(L, lua_upvalueindex(1));
    enum lt_field field = (enum lt_field)lua_tointeger(L, -1);
    if (field == LT_FIELD_REPORT)
        lua_pushcfunction(L, report);
    else if (field == LT_FIELD_CANCELLED)
        lua_pushcfunction(L, cancelled);
    else
        lt_object_push_field(L, 1, object, field);
    return 1;
}

static int object_newindex(lua_State *L)
{
    struct lt_task_object *object = check(L, "__newindex");
    lua_settop(L, 3);
    lt_object_assign(L, 1, object, field_at(L, 2) != LT_FIELD_NONE);
    return 0;
}

/* Fields that next_field goes over. */
static bool is_shown(enum lt_field field)
{
    return field != LT_FIELD_NONE && field < LT_FIELDS_SHOWN;
}

/* Pushes name and value of the first field from `field` on that is set, or nothing and returns false. */
static bool next_field(lua_State *L, struct lt_task_object *object, unsigned field)
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
        if (!is_shown(field_at(L, -2)) && !lt_object_is_hidden(L, -1))
            return true;
        lua_pop(L, 1);
    }
    return false;
}

/* next(task, key): the fields in their order, then what was assigned to other names. */
static int object_next(lua_State *L)
{
    struct lt_task_object *object = check(L, "next");
    lua_settop(L, 2);
    enum lt_field field = field_at(L, 2);
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
    check(L, "pairs");
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    return 2;
}

static int object_tostring(lua_State *L)
{
    const struct lt_task_object *object = check(L, "tostring");
    const char *id = lt_object_finalized(object) ? "" : lt_object_id(object).data;
    lua_pushfstring(L, "task \"%s\" (%s)", id, lt_status_name(object->status));
    return 1;
}

/* Set-up. */

/* Sets a metamethod in the table on top, whose upvalue is the table of fields. */
static void set(lua_State *L, const char *name, lua_CFunction fn)
{
    lt_fields_push(L);
    lua_pushcclosure(L, fn, 1);
    lua_setfield(L, -2, name);
}

static void push_metatable(lua_State *L)
{
    lua_createtable(L, 0, 8);
    lua_pushliteral(L, "task");
    lua_setfield(L, -2, "__name");
    lua_pushliteral(L, "task");
    lua_setfield(L, -2, "__metatable");
    set(L, "__index", object_index);
    set(L, "__newindex", object_newindex);
    lua_pushcfunction(L, object_tostring);
    lua_setfield(L, -2, "__tostring");
    lt_fields_push(L);
    lua_pushcclosure(L, object_next, 1);
    lua_pushcclosure(L, object_pairs, 1);
    lua_setfield(L, -2, "__pairs");
}

void lt_task_object_open(lua_State *L)
{
    lt_fields_open(L);
    push_metatable(L);
    lt_script_of(L)->small_task_meta = luaL_ref(L, LUA_REGISTRYINDEX);
    push_metatable(L);
    lua_pushcfunction(L, finalize);
    lua_setfield(L, -2, "__gc");
    lt_script_of(L)->holding_task_meta = luaL_ref(L, LUA_REGISTRYINDEX);
}
