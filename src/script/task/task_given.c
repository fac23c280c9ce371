#include "script/task/task_given.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "base/nearest.h"
#include "script/flow/call.h"
#include "script/values/values.h"

#define BIT(field_) (1U << (field_))

enum { SLOTS = LT_FIELDS + 12 }; /* on the Lua stack */

/* What `add` takes; and which of that a task object gives only if it was assigned there. */
static const unsigned taken_fields = BIT(LT_FIELD_ID) | BIT(LT_FIELD_ITEM) | BIT(LT_FIELD_PRIORITY) |
                                     BIT(LT_FIELD_RUN_AT) | BIT(LT_FIELD_DELAY) | BIT(LT_FIELD_EXPIRES) |
                                     BIT(LT_FIELD_KEY) | BIT(LT_FIELD_TIMEOUT) | BIT(LT_FIELD_MAX_RETRIES) |
                                     BIT(LT_FIELD_BACKOFF) | BIT(LT_FIELD_ONCE);
static const unsigned assigned_fields =
    BIT(LT_FIELD_RUN_AT) | BIT(LT_FIELD_DELAY) | BIT(LT_FIELD_EXPIRES) | BIT(LT_FIELD_ONCE);

/* How each field is read. */

enum kind { NOT_READ, ID, TEXT, VALUE, INTEGER, NUMBER, BOOLEAN, STATUS, BACKOFF };

struct rule {
    enum kind kind;
    size_t place;     /* in struct lt_given; of a VALUE: which of the sources */
    double low, high; /* of a number, or of the length of a text */
    const char *expected;
};

#define AT(member_) offsetof(struct lt_given, member_)

/* 2^53: however often it runs after that, the numbers stay positive. */
#define LARGEST_RUN 9007199254740992.0

static const struct rule rules[LT_FIELDS] = {
    [LT_FIELD_ID] = {ID, AT(id), 1, LT_ID_MAX, "a string of 1 to 255 bytes of UTF-8 without control characters"},
    [LT_FIELD_ITEM] = {.kind = VALUE, .place = LT_SOURCE_ITEM},
    [LT_FIELD_PRIORITY] = {INTEGER, AT(priority), (double)INT64_MIN, (double)INT64_MAX, "an integer"},
    [LT_FIELD_RUN_AT] = {NUMBER, AT(run_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_EXPIRES_AT] = {NUMBER, AT(expires_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_KEY] = {TEXT, AT(key), 1, 255, "a string of 1 to 255 bytes"},
    [LT_FIELD_TIMEOUT] = {NUMBER, AT(timeout), DBL_TRUE_MIN, INFINITY, "a number > 0"},
    [LT_FIELD_MAX_RETRIES] = {INTEGER, AT(max_retries), 0, (double)INT64_MAX, "an integer >= 0"},
    [LT_FIELD_BACKOFF] = {.kind = BACKOFF},
    [LT_FIELD_ONCE] = {BOOLEAN, AT(once), 0, 0, "a boolean"},
    [LT_FIELD_STATUS] = {STATUS, AT(status), 0, 0, "the name of a status"},
    [LT_FIELD_ATTEMPTS] = {INTEGER, AT(attempts), 0, INT32_MAX, "an integer from 0 to 2147483647"},
    [LT_FIELD_RUN] = {INTEGER, AT(run), 0, LARGEST_RUN, "an integer from 0 to 9007199254740992"},
    [LT_FIELD_REASON] = {TEXT, AT(reason), 0, LT_VALUE_SIZE, "a string"},
    [LT_FIELD_OUTPUT] = {.kind = VALUE, .place = LT_SOURCE_OUTPUT},
    [LT_FIELD_PROGRESS] = {.kind = VALUE, .place = LT_SOURCE_PROGRESS},
    [LT_FIELD_HANDLE] = {.kind = VALUE, .place = LT_SOURCE_HANDLE},
    [LT_FIELD_VERSION] = {TEXT, AT(version), 0, LT_VALUE_SIZE, "a string"},
    [LT_FIELD_HOST] = {TEXT, AT(host), 0, LT_VALUE_SIZE, "a string"},
    [LT_FIELD_ADDED_AT] = {NUMBER, AT(added_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_STARTED_AT] = {NUMBER, AT(started_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_ENDED_AT] = {NUMBER, AT(ended_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_LOST] = {INTEGER, AT(lost), 0, INT32_MAX, "an integer from 0 to 2147483647"},
    [LT_FIELD_DELAY] = {NUMBER, AT(delay), 0, DBL_MAX, "a finite number >= 0"},
    [LT_FIELD_EXPIRES] = {NUMBER, AT(expires), DBL_TRUE_MIN, INFINITY, "a number > 0"},
};

static const struct rule backoff_rules[] = {
    {NUMBER, AT(backoff.base), 0, DBL_MAX, "a finite number >= 0"},
    {NUMBER, AT(backoff.factor), 1, DBL_MAX, "a finite number >= 1"},
    {NUMBER, AT(backoff.max), 0, DBL_MAX, "a finite number >= 0"},
    {NUMBER, AT(backoff.jitter), 0, 1, "a number from 0 to 1"},
};
enum { BACKOFF_BASE, BACKOFF_RULES = sizeof backoff_rules / sizeof backoff_rules[0] };
static const char *const backoff_names[] = {"base", "factor", "max", "jitter"};
static const char *const backoff_paths[] = {"backoff.base", "backoff.factor", "backoff.max", "backoff.jitter"};

/* Errors. These return false. */

/* A value of the wrong kind. Where a module's task is refused it is not at hand, so its fields are named as such. */
static bool refuse_field(lua_State *L, const struct lt_given *given, const char *field, int index, const char *expected,
                         struct lt_error *error)
{
    char got[128];
    bool plain = given->function != NULL || strcmp(field, "id") == 0;
    lt_describe(L, index, got, sizeof got);
    lt_fail(error, LT_ERROR, "%s%s%s must be %s, got %s", plain ? "" : "field '", field, plain ? "" : "'", expected,
            got);
    return false;
}

static bool refuse_unknown(lua_State *L, int key, const char *of, const char *const *names, unsigned count,
                           unsigned mask, struct lt_error *error)
{
    if (lua_type(L, key) != LUA_TSTRING) {
        char got[128];
        lt_describe(L, key, got, sizeof got);
        lt_fail(error, LT_ERROR, "unknown field %s of %s", got, of);
        return false;
    }
    size_t len;
    const char *name = lua_tolstring(L, key, &len);
    struct lt_nearest nearest = {.name = name, .len = len};
    for (unsigned i = 0; i < count; i++) {
        if ((mask & BIT(i)) != 0)
            lt_nearest_look(&nearest, names[i]);
    }
    if (nearest.meant != NULL)
        lt_fail(error, LT_ERROR, "unknown field '%s' of %s (did you mean '%s'?)", name, of, nearest.meant);
    else
        lt_fail(error, LT_ERROR, "unknown field '%.60s' of %s", name, of);
    return false;
}

/* Single fields, from the value at `index` (absolute). */

static void *place_of(struct lt_given *given, const struct rule *rule)
{
    return (char *)given + rule->place;
}

static bool take_text(lua_State *L, struct lt_given *given, const struct rule *rule, int index)
{
    struct lt_view *view = place_of(given, rule);
    if (lua_type(L, index) != LUA_TSTRING)
        return false;
    view->data = lua_tolstring(L, index, &view->len);
    return (double)view->len >= rule->low && (double)view->len <= rule->high;
}

static bool take_number(lua_State *L, struct lt_given *given, const struct rule *rule, int index)
{
    double number = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : NAN;
    *(double *)place_of(given, rule) = number;
    return number >= rule->low && number <= rule->high;
}

static bool take_integer(lua_State *L, struct lt_given *given, const struct rule *rule, int index)
{
    int is_integer = 0;
    int64_t integer = lua_type(L, index) == LUA_TNUMBER ? lua_tointegerx(L, index, &is_integer) : 0;
    *(int64_t *)place_of(given, rule) = integer;
    return is_integer && (double)integer >= rule->low && (double)integer <= rule->high;
}

static bool take_boolean(lua_State *L, struct lt_given *given, const struct rule *rule, int index)
{
    *(bool *)place_of(given, rule) = lua_toboolean(L, index) != 0;
    return lua_type(L, index) == LUA_TBOOLEAN;
}

static bool take_status(lua_State *L, struct lt_given *given, int index)
{
    size_t len;
    const char *name = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : NULL;
    int status = name != NULL ? lt_status_parse(name, len) : -1;
    given->status = status >= 0 ? (enum lt_status)status : LT_UNSTARTED;
    return status >= 0;
}

static bool take_value(lua_State *L, struct lt_given *given, const struct rule *rule, int index)
{
    int kept = given->kept + (int)rule->place;
    lua_copy(L, index, kept);
    given->sources[rule->place] = (struct lt_source){.index = kept};
    return true;
}

static int find_backoff(lua_State *L, int key)
{
    size_t len = 0;
    const char *name = lua_type(L, key) == LUA_TSTRING ? lua_tolstring(L, key, &len) : "";
    for (int i = 0; i < BACKOFF_RULES; i++) {
        if (len == strlen(backoff_names[i]) && memcmp(backoff_names[i], name, len) == 0)
            return i;
    }
    return -1;
}

static bool take_backoff_table(lua_State *L, struct lt_given *given, int index, struct lt_error *error)
{
    int key = lua_gettop(L) + 1;
    given->backoff = (struct lt_backoff){.base = -1, .factor = 2, .jitter = 0.1};
    lua_pushnil(L);
    while (lua_next(L, index)) {
        int i = find_backoff(L, key);
        if (i < 0 && given->function != NULL)
            return refuse_unknown(L, key, "backoff", backoff_names, BACKOFF_RULES, UINT_MAX, error);
        if (i >= 0 && !take_number(L, given, &backoff_rules[i], key + 1))
            return refuse_field(L, given, backoff_paths[i], key + 1, backoff_rules[i].expected, error);
        lua_pop(L, 1);
    }
    if (given->backoff.base >= 0)
        return true;
    lua_pushnil(L);
    return refuse_field(L, given, backoff_paths[BACKOFF_BASE], -1, backoff_rules[BACKOFF_BASE].expected, error);
}

static bool take_backoff(lua_State *L, struct lt_given *given, int index, struct lt_error *error)
{
    const char *name = given->function != NULL ? "backoff of a task" : "backoff";
    if (lua_type(L, index) == LUA_TTABLE)
        return take_backoff_table(L, given, index, error);
    if (lua_type(L, index) != LUA_TNUMBER)
        return refuse_field(L, given, name, index, "a number or a table", error);
    given->backoff = (struct lt_backoff){.factor = 1};
    if (!take_number(L, given, &backoff_rules[BACKOFF_BASE], index))
        return refuse_field(L, given, name, index, "a finite number >= 0 or a table", error);
    return true;
}

static bool take(lua_State *L, struct lt_given *given, enum lt_field field, int index, struct lt_error *error)
{
    const struct rule *rule = &rules[field];
    bool ok = true;
    switch (rule->kind) {
    case ID:
        lua_copy(L, index, given->kept - 1);
        ok = take_text(L, given, rule, index) && lt_task_id_valid(given->id.data, given->id.len);
        break;
    case VALUE:
        ok = take_value(L, given, rule, index);
        break;
    case TEXT:
        ok = take_text(L, given, rule, index);
        break;
    case INTEGER:
        ok = take_integer(L, given, rule, index);
        break;
    case NUMBER:
        ok = take_number(L, given, rule, index);
        break;
    case BOOLEAN:
        ok = take_boolean(L, given, rule, index);
        break;
    case STATUS:
        ok = take_status(L, given, index);
        break;
    case BACKOFF:
        given->has |= BIT(field);
        return take_backoff(L, given, index, error);
    case NOT_READ:
        return true;
    }
    given->has |= BIT(field);
    return ok || refuse_field(L, given, lt_field_names[field], index, rule->expected, error);
}

/* All fields. */

/* One pass over the fields, in whatever order they are. */
static bool gather_table(lua_State *L, struct lt_given *given, int index, struct lt_error *error)
{
    unsigned wanted = given->function != NULL ? taken_fields : ~BIT(LT_FIELD_NONE);
    int key = given->kept + LT_SOURCES;
    lua_settop(L, key); /* which makes it nil, to begin */
    while (lua_next(L, index)) {
        enum lt_field field = lt_field_at(L, key);
        if ((wanted & BIT(field)) != 0) {
            if (!take(L, given, field, key + 1, error))
                return false;
        } else if (given->function != NULL) {
            return refuse_unknown(L, key, "a task", lt_field_names, LT_FIELDS, taken_fields, error);
        }
        lua_settop(L, key);
    }
    return true;
}

/* What is found stays on the stack: a finalizer could take it out of the object. */
static bool gather_object(lua_State *L, struct lt_given *given, int index, struct lt_task_object *object,
                          struct lt_error *error)
{
    unsigned wanted = given->function != NULL ? taken_fields : UINT_MAX;
    lua_settop(L, given->kept + LT_SOURCES - 1);
    for (enum lt_field field = LT_FIELD_NONE + 1; field < LT_FIELDS; field++) {
        const struct rule *rule = &rules[field];
        enum lt_found found;
        struct lt_view bytes;
        if (rule->kind == NOT_READ || (wanted & BIT(field)) == 0)
            continue;
        if (given->function != NULL && (assigned_fields & BIT(field)) != 0)
            found = lt_object_find_assigned(L, index, object, field);
        else
            found = lt_object_find(L, index, object, field, &bytes);
        if (found == LT_FOUND_VALUE && !take(L, given, field, lua_gettop(L), error))
            return false;
        if (found == LT_FOUND_BYTES) {
            given->has |= BIT(field);
            given->sources[rule->place] = (struct lt_source){.bytes = bytes};
        }
    }
    return true;
}

static bool gather_fields(lua_State *L, struct lt_given *given, int index, struct lt_error *error)
{
    if (lua_type(L, index) == LUA_TTABLE)
        return gather_table(L, given, index, error);
    struct lt_task_object *object = lt_task_object_at(L, index);
    if (object != NULL)
        return gather_object(L, given, index, object, error);
    char got[128];
    lt_describe(L, index, got, sizeof got);
    lt_fail(error, LT_ERROR, "a task must be a table, got %s", got);
    return false;
}

/* What concerns more than one field. */
static bool check_given(lua_State *L, const struct lt_given *given, struct lt_error *error)
{
    if (given->function == NULL && !lt_given_has(given, LT_FIELD_ID)) {
        lua_pushnil(L);
        return refuse_field(L, given, "id", -1, rules[LT_FIELD_ID].expected, error);
    }
    unsigned both = BIT(LT_FIELD_DELAY) | BIT(LT_FIELD_RUN_AT);
    if (given->function == NULL || (given->has & both) != both)
        return true;
    lt_fail(error, LT_ERROR, "delay and run_at cannot both be given, got %.14g and %.14g", given->delay, given->run_at);
    return false;
}

bool lt_given_take(lua_State *L, struct lt_given *given, int index, struct lt_error *error)
{
    int top = lua_gettop(L);
    given->has = 0;
    given->kept = top + 2;
    if (!lua_checkstack(L, SLOTS)) {
        lt_fail(error, LT_ERROR, "no room on the stack");
        return false;
    }
    return gather_fields(L, given, index < 0 ? top + 1 + index : index, error) && check_given(L, given, error);
}
