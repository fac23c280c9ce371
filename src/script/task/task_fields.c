#include "script/task/task_fields.h"

#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "script/flow/script.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"
#include "script/values/values.h"

const char *const lt_field_names[LT_FIELDS] = {
    [LT_FIELD_NONE] = "",
    [LT_FIELD_ID] = "id",
    [LT_FIELD_ITEM] = "item",
    [LT_FIELD_PRIORITY] = "priority",
    [LT_FIELD_RUN_AT] = "run_at",
    [LT_FIELD_EXPIRES_AT] = "expires_at",
    [LT_FIELD_KEY] = "key",
    [LT_FIELD_TIMEOUT] = "timeout",
    [LT_FIELD_MAX_RETRIES] = "max_retries",
    [LT_FIELD_BACKOFF] = "backoff",
    [LT_FIELD_ONCE] = "once",
    [LT_FIELD_STATUS] = "status",
    [LT_FIELD_ATTEMPTS] = "attempts",
    [LT_FIELD_RUN] = "run",
    [LT_FIELD_REASON] = "reason",
    [LT_FIELD_OUTPUT] = "output",
    [LT_FIELD_PROGRESS] = "progress",
    [LT_FIELD_HANDLE] = "handle",
    [LT_FIELD_VERSION] = "version",
    [LT_FIELD_HOST] = "host",
    [LT_FIELD_ADDED_AT] = "added_at",
    [LT_FIELD_STARTED_AT] = "started_at",
    [LT_FIELD_ENDED_AT] = "ended_at",
    [LT_FIELD_LOST] = "lost",
    [LT_FIELD_DELAY] = "delay",
    [LT_FIELD_EXPIRES] = "expires",
    [LT_FIELD_REPORT] = "report",
    [LT_FIELD_CANCELLED] = "cancelled",
};

const char lt_task_object_mark;

static const char host_key; /* its address is a key in the registry */
static char hidden;         /* and this one's a value: a field that was set to nil */

/* Names are short strings, of which Lua has each only once: where it is says which one it is. */
static struct lt_field_slot *find_slot(struct lt_script *script, const void *name)
{
    size_t at = (uintptr_t)name / 16 * 0x9e3779b1;
    while (script->field_slots[at % LT_FIELD_SLOTS].name != name &&
           script->field_slots[at % LT_FIELD_SLOTS].name != NULL)
        at++;
    return &script->field_slots[at % LT_FIELD_SLOTS];
}

void lt_fields_open(lua_State *L)
{
    char host[HOST_NAME_MAX + 1];
    bool named = gethostname(host, sizeof host) == 0;
    host[HOST_NAME_MAX] = '\0';
    lua_pushstring(L, named ? host : "localhost");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &host_key);
    lua_createtable(L, LT_FIELDS, 0);
    for (int i = LT_FIELD_NONE + 1; i < LT_FIELDS; i++) {
        lua_pushstring(L, lt_field_names[i]);
        struct lt_field_slot *slot = find_slot(lt_script_of(L), lua_topointer(L, -1));
        *slot = (struct lt_field_slot){.name = lua_topointer(L, -1), .field = i};
        lua_rawseti(L, -2, i);
    }
}

enum lt_field lt_field_at(lua_State *L, int index)
{
    const void *name = lua_topointer(L, index);
    return name != NULL ? (enum lt_field)find_slot(lt_script_of(L), name)->field : LT_FIELD_NONE;
}

struct lt_task_object *lt_task_object_at(lua_State *L, int index)
{
    struct lt_task_object *object = lua_touserdata(L, index);
    if (object == NULL || lua_rawlen(L, index) < sizeof *object || object->mark != &lt_task_object_mark)
        return NULL;
    return object;
}

bool lt_is_task(lua_State *L, int index)
{
    return lt_task_object_at(L, index) != NULL;
}

struct lt_view lt_object_id(const struct lt_task_object *object)
{
    const char *data = (const char *)(object + 1);
    if (object->is_holding)
        data = lt_task_id(((const struct lt_holding *)object)->task);
    return (struct lt_view){data, object->id_len};
}

static bool has_blob(const struct lt_task_object *object, enum lt_blob blob)
{
    return (object->has & 1U << blob) != 0;
}

/* Of an object that is not finalized; no data if it has none. */
static struct lt_view blob_of(const struct lt_task_object *object, enum lt_blob blob)
{
    if (!has_blob(object, blob))
        return (struct lt_view){NULL, 0};
    if (object->is_holding) {
        const struct lt_holding *holding = (const struct lt_holding *)object;
        const struct lt_bytes *held = holding->held[blob];
        if (blob == LT_BLOB_ITEM)
            return (struct lt_view){lt_task_item(holding->task), object->len[LT_BLOB_ITEM]};
        return (struct lt_view){held->data, held->len};
    }
    const char *data = (const char *)(object + 1) + object->id_len + 1;
    for (unsigned i = LT_BLOB_ITEM; i < blob; i++)
        data += object->len[i];
    return (struct lt_view){data, object->len[blob]};
}

/* What was assigned. */

bool lt_object_is_hidden(lua_State *L, int index)
{
    return lua_touserdata(L, index) == &hidden;
}

bool lt_object_push_assigned(lua_State *L, int index, int key)
{
    lua_getiuservalue(L, index, LT_USER_ASSIGNED);
    lua_pushvalue(L, key);
    if (lua_rawget(L, -2) == LUA_TNIL) {
        lua_pop(L, 2);
        return false;
    }
    lua_remove(L, -2);
    if (lt_object_is_hidden(L, -1)) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
    return true;
}

void lt_object_assign(lua_State *L, int index, struct lt_task_object *object, bool known)
{
    if (!object->has_assigned) {
        lua_createtable(L, 0, 1);
        lua_setiuservalue(L, index, LT_USER_ASSIGNED);
        object->has_assigned = true;
    }
    if (known && lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_pushlightuserdata(L, &hidden);
    }
    lua_getiuservalue(L, index, LT_USER_ASSIGNED);
    lua_insert(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* Keeps the value on top as if it had been assigned: the same table is shown again, with what is changed in it. */
static void keep_field(lua_State *L, int index, struct lt_task_object *object, enum lt_field field)
{
    lua_pushstring(L, lt_field_names[field]);
    lua_pushvalue(L, -2);
    lt_object_assign(L, index, object, true);
}

/* Single fields. */

/* The blob of a field that is a value. */
static bool find_blob(enum lt_field field, enum lt_blob *blob)
{
    switch (field) {
    case LT_FIELD_ITEM:
        *blob = LT_BLOB_ITEM;
        return true;
    case LT_FIELD_OUTPUT:
        *blob = LT_BLOB_OUTPUT;
        return true;
    case LT_FIELD_PROGRESS:
        *blob = LT_BLOB_PROGRESS;
        return true;
    case LT_FIELD_HANDLE:
        *blob = LT_BLOB_HANDLE;
        return true;
    default:
        return false;
    }
}

/* Whether the field is encoded and was not decoded yet. Progress and handle that were decoded count as assigned. */
static bool is_encoded(const struct lt_task_object *object, enum lt_field field, struct lt_view *bytes)
{
    enum lt_blob blob;
    if (lt_object_finalized(object) || !find_blob(field, &blob))
        return false;
    *bytes = blob_of(object, blob);
    return bytes->data != NULL && (object->decoded & 1U << blob) == 0;
}

/* Pushes the value, which stays with the object. */
LT_RAISES static void push_decoded(lua_State *L, int index, struct lt_task_object *object, enum lt_field field,
                                   struct lt_view bytes)
{
    if (lt_value_decode(L, bytes.data, bytes.len) != LT_OK)
        luaL_error(L, "task \"%s\": its %s is damaged", lt_object_id(object).data, lt_field_names[field]);
    if (field != LT_FIELD_ITEM && field != LT_FIELD_OUTPUT) {
        keep_field(L, index, object, field);
        return;
    }
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, index, field == LT_FIELD_ITEM ? LT_USER_ITEM : LT_USER_OUTPUT);
    object->decoded |= 1U << (field == LT_FIELD_ITEM ? LT_BLOB_ITEM : LT_BLOB_OUTPUT);
}

/* What was decoded before. */
static void push_main(lua_State *L, int index, const struct lt_task_object *object, enum lt_blob blob)
{
    if ((object->decoded & 1U << blob) != 0)
        lua_getiuservalue(L, index, blob == LT_BLOB_ITEM ? LT_USER_ITEM : LT_USER_OUTPUT);
    else
        lua_pushnil(L);
}

static void push_text(lua_State *L, struct lt_view view)
{
    if (view.data != NULL)
        lua_pushlstring(L, view.data, view.len);
    else
        lua_pushnil(L);
}

static void push_time(lua_State *L, double time)
{
    if (time != 0)
        lua_pushnumber(L, time);
    else
        lua_pushnil(L);
}

static void push_backoff(lua_State *L, int index, struct lt_task_object *object, const struct lt_backoff *backoff)
{
    if (backoff->factor == 1 && backoff->max == 0 && backoff->jitter == 0) {
        lua_pushnumber(L, backoff->base); /* it was given as a number, or means the same */
        return;
    }
    lua_createtable(L, 0, 4);
    lua_pushnumber(L, backoff->base);
    lua_setfield(L, -2, "base");
    lua_pushnumber(L, backoff->factor);
    lua_setfield(L, -2, "factor");
    if (backoff->max > 0) {
        lua_pushnumber(L, backoff->max);
        lua_setfield(L, -2, "max");
    }
    lua_pushnumber(L, backoff->jitter);
    lua_setfield(L, -2, "jitter");
    keep_field(L, index, object, LT_FIELD_BACKOFF);
}

/* What only few tasks say, and only those that are held. */
static void push_option(lua_State *L, int index, struct lt_task_object *object, enum lt_field field)
{
    const struct lt_task_options *options = NULL;
    if (object->is_holding)
        options = ((const struct lt_holding *)object)->task->options;
    if (options != NULL && field == LT_FIELD_EXPIRES_AT && options->expires_at > 0)
        lua_pushnumber(L, options->expires_at);
    else if (options != NULL && field == LT_FIELD_KEY && options->key != NULL)
        lua_pushlstring(L, options->key->data, options->key->len);
    else if (options != NULL && field == LT_FIELD_TIMEOUT && options->timeout >= 0)
        lua_pushnumber(L, options->timeout);
    else if (options != NULL && field == LT_FIELD_MAX_RETRIES && options->max_retries >= 0)
        lua_pushinteger(L, options->max_retries);
    else if (options != NULL && field == LT_FIELD_BACKOFF && options->has_backoff)
        push_backoff(L, index, object, &options->backoff);
    else if (options != NULL && field == LT_FIELD_ONCE && options->once)
        lua_pushboolean(L, true);
    else
        lua_pushnil(L);
}

void lt_task_push_host(lua_State *L)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &host_key);
}

static void push_run(lua_State *L, const struct lt_task_object *object, enum lt_field field)
{
    if (object->run == 0)
        lua_pushnil(L);
    else if (field == LT_FIELD_RUN)
        lua_pushinteger(L, (lua_Integer)object->run);
    else if (has_blob(object, LT_BLOB_HOST))
        push_text(L, blob_of(object, LT_BLOB_HOST));
    else
        lt_task_push_host(L);
}

/* Scalars and what is made from them. */
static void push_scalar(lua_State *L, int index, struct lt_task_object *object, enum lt_field field)
{
    switch (field) {
    case LT_FIELD_STATUS:
        lua_pushstring(L, lt_status_name(object->status));
        break;
    case LT_FIELD_PRIORITY:
        lua_pushinteger(L, object->priority);
        break;
    case LT_FIELD_ATTEMPTS:
        lua_pushinteger(L, object->attempts);
        break;
    case LT_FIELD_LOST:
        lua_pushinteger(L, object->lost);
        break;
    case LT_FIELD_RUN:
    case LT_FIELD_HOST:
        push_run(L, object, field);
        break;
    case LT_FIELD_RUN_AT:
        push_time(L, object->run_at);
        break;
    case LT_FIELD_ADDED_AT:
        push_time(L, object->added_at);
        break;
    case LT_FIELD_STARTED_AT:
        push_time(L, object->started_at);
        break;
    case LT_FIELD_ENDED_AT:
        push_time(L, object->ended_at);
        break;
    default:
        push_option(L, index, object, field);
    }
}

/* What is not to be decoded first. */
static void push_plain(lua_State *L, int index, struct lt_task_object *object, enum lt_field field)
{
    if (lt_object_finalized(object)) {
        lua_pushnil(L);
        return;
    }
    switch (field) {
    case LT_FIELD_ID:
        push_text(L, lt_object_id(object));
        break;
    case LT_FIELD_ITEM:
        push_main(L, index, object, LT_BLOB_ITEM);
        break;
    case LT_FIELD_OUTPUT:
        push_main(L, index, object, LT_BLOB_OUTPUT);
        break;
    case LT_FIELD_PROGRESS:
    case LT_FIELD_HANDLE:
        lua_pushnil(L);
        break;
    case LT_FIELD_REASON:
        push_text(L, blob_of(object, LT_BLOB_REASON));
        break;
    case LT_FIELD_VERSION:
        push_text(L, blob_of(object, LT_BLOB_VERSION));
        break;
    default:
        push_scalar(L, index, object, field);
    }
}

LT_RAISES void lt_object_push_field(lua_State *L, int index, struct lt_task_object *object, enum lt_field field)
{
    struct lt_view bytes;
    if (is_encoded(object, field, &bytes))
        push_decoded(L, index, object, field, bytes);
    else
        push_plain(L, index, object, field);
}

/* Reading back. */

/* What was found is on top. */
static enum lt_found what_was_found(lua_State *L)
{
    if (!lua_isnil(L, -1))
        return LT_FOUND_VALUE;
    lua_pop(L, 1);
    return LT_FOUND_NOTHING;
}

/* Replaces the name on top by what was assigned to it, or pops it and returns false. */
static bool take_assigned(lua_State *L, int index, const struct lt_task_object *object)
{
    bool is = object->has_assigned && lt_object_push_assigned(L, index, lua_gettop(L));
    lua_remove(L, is ? -2 : -1);
    return is;
}

enum lt_found lt_object_find_assigned(lua_State *L, int index, struct lt_task_object *object, enum lt_field field)
{
    lua_pushstring(L, lt_field_names[field]);
    return take_assigned(L, index, object) ? what_was_found(L) : LT_FOUND_NOTHING;
}

enum lt_found lt_object_find(lua_State *L, int index, struct lt_task_object *object, enum lt_field field,
                             struct lt_view *bytes)
{
    lua_pushstring(L, lt_field_names[field]);
    if (take_assigned(L, index, object))
        return what_was_found(L);
    if (field >= LT_FIELDS_SHOWN)
        return LT_FOUND_NOTHING;
    if (is_encoded(object, field, bytes))
        return LT_FOUND_BYTES;
    push_plain(L, index, object, field);
    return what_was_found(L);
}
