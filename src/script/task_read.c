/* Tasks out of what a script or a module gave: one pass over a table, or the fields of a task object.
 *
 *     table, object  -- gather() -->  struct given  -- make() -->  struct lt_task
 *
 * Only the left half may raise (misuse, and memory), and it owns nothing then; the right half allocates, and does not raise. Texts and
 * values stay where they are from one to the other: on the Lua stack, in the table, or in the object. */
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include "script/call.h"
#include "script/task_fields.h"
#include "script/task_object.h"
#include "script/values.h"

enum {
    SCRATCH_KEPT = 1 << 20, /* a larger buffer is not kept from task to task */
    SLOTS = LT_FIELDS + 12, /* on the Lua stack */
    MADE_ID_SIZE = 32,
};

/* An encoded value, or one that is to be encoded. */
struct source {
    int index; /* on the stack, or 0 */
    struct lt_view bytes;
};

enum { SOURCE_ITEM, SOURCE_OUTPUT, SOURCE_PROGRESS, SOURCE_HANDLE, SOURCES };

/* What was given. Fields without their bit in `has` mean nothing. */
struct given {
    const char *function; /* whom misuse is told to: a new task; NULL: a module's task */
    unsigned has;         /* bits 1 << enum lt_field */
    int kept;             /* where on the stack the values of the sources are */
    bool once;
    enum lt_status status;
    struct lt_view id, key, reason, version;
    struct source sources[SOURCES];
    int64_t priority, max_retries, run, attempts, lost;
    double run_at, delay, expires, expires_at, timeout, added_at, started_at, ended_at;
    struct lt_backoff backoff;
};

#define BIT(field_) (1U << (field_))

/* What `add` takes; which of that a task object gives only if it was assigned there; and what makes a task have options. */
static const unsigned taken_fields = BIT(LT_FIELD_ID) | BIT(LT_FIELD_ITEM) | BIT(LT_FIELD_PRIORITY) |
                                     BIT(LT_FIELD_RUN_AT) | BIT(LT_FIELD_DELAY) | BIT(LT_FIELD_EXPIRES) |
                                     BIT(LT_FIELD_KEY) | BIT(LT_FIELD_TIMEOUT) | BIT(LT_FIELD_MAX_RETRIES) |
                                     BIT(LT_FIELD_BACKOFF) | BIT(LT_FIELD_ONCE);
static const unsigned assigned_fields = BIT(LT_FIELD_RUN_AT) | BIT(LT_FIELD_DELAY) | BIT(LT_FIELD_EXPIRES) |
                                        BIT(LT_FIELD_ONCE);
static const unsigned option_fields = BIT(LT_FIELD_EXPIRES) | BIT(LT_FIELD_EXPIRES_AT) | BIT(LT_FIELD_KEY) |
                                      BIT(LT_FIELD_TIMEOUT) | BIT(LT_FIELD_MAX_RETRIES) | BIT(LT_FIELD_BACKOFF) |
                                      BIT(LT_FIELD_ONCE);

/* How each field is read. */

enum kind { NOT_READ, ID, TEXT, VALUE, INTEGER, NUMBER, BOOLEAN, STATUS, BACKOFF };

struct rule {
    enum kind kind;
    size_t place;     /* in struct given; of a VALUE: which of the sources */
    double low, high; /* of a number, or of the length of a text */
    const char *expected;
};

#define AT(member_) offsetof(struct given, member_)

static const struct rule rules[LT_FIELDS] = {
    [LT_FIELD_ID] = {ID, AT(id), 1, LT_ID_MAX, "a string of 1 to 255 bytes of UTF-8 without control characters"},
    [LT_FIELD_ITEM] = {.kind = VALUE, .place = SOURCE_ITEM},
    [LT_FIELD_PRIORITY] = {INTEGER, AT(priority), (double)INT64_MIN, (double)INT64_MAX, "an integer"},
    [LT_FIELD_RUN_AT] = {NUMBER, AT(run_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_EXPIRES_AT] = {NUMBER, AT(expires_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_KEY] = {TEXT, AT(key), 1, 255, "a string of 1 to 255 bytes"},
    [LT_FIELD_TIMEOUT] = {NUMBER, AT(timeout), DBL_TRUE_MIN, INFINITY, "a number > 0"},
    [LT_FIELD_MAX_RETRIES] = {INTEGER, AT(max_retries), 0, (double)INT64_MAX, "an integer >= 0"},
    [LT_FIELD_BACKOFF] = {.kind = BACKOFF},
    [LT_FIELD_ONCE] = {BOOLEAN, AT(once), 0, 0, "a boolean"},
    [LT_FIELD_STATUS] = {STATUS, AT(status), 0, 0, "the name of a status"},
    [LT_FIELD_ATTEMPTS] = {INTEGER, AT(attempts), 0, UINT32_MAX, "an integer >= 0"},
    [LT_FIELD_RUN] = {INTEGER, AT(run), 0, (double)INT64_MAX, "an integer >= 0"},
    [LT_FIELD_REASON] = {TEXT, AT(reason), 0, LT_VALUE_SIZE, "a string"},
    [LT_FIELD_OUTPUT] = {.kind = VALUE, .place = SOURCE_OUTPUT},
    [LT_FIELD_PROGRESS] = {.kind = VALUE, .place = SOURCE_PROGRESS},
    [LT_FIELD_HANDLE] = {.kind = VALUE, .place = SOURCE_HANDLE},
    [LT_FIELD_VERSION] = {TEXT, AT(version), 0, LT_VALUE_SIZE, "a string"},
    [LT_FIELD_ADDED_AT] = {NUMBER, AT(added_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_STARTED_AT] = {NUMBER, AT(started_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_ENDED_AT] = {NUMBER, AT(ended_at), -DBL_MAX, DBL_MAX, "a finite number"},
    [LT_FIELD_LOST] = {INTEGER, AT(lost), 0, UINT32_MAX, "an integer >= 0"},
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

/* A value of the wrong kind. A module's task is not written where the error is seen, so its fields are told apart from text. */
static bool refuse(lua_State *L, const struct given *given, const char *field, int index, const char *expected,
                   struct lt_error *error)
{
    char got[128];
    bool plain = given->function != NULL || strcmp(field, "id") == 0;
    lt_describe(L, index, got, sizeof got);
    lt_fail(error, LT_ERROR, "%s%s%s must be %s, got %s", plain ? "" : "field '", field, plain ? "" : "'", expected,
            got);
    return false;
}

enum { COMPARED = 32 }; /* longer names are like none */

/* The number of bytes to insert, leave out or change to get from one name to the other. */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned row[COMPARED];
    for (unsigned j = 0; j <= b_len; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned changed = diagonal + (a[i - 1] != b[j - 1]);
            unsigned moved = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = changed < moved ? changed : moved;
        }
    }
    return row[b_len];
}

/* The one of `names` (those with a bit in `mask`) that was probably meant, or NULL. */
static const char *nearest(const char *name, size_t len, const char *const *names, unsigned count, unsigned mask)
{
    const char *best = NULL;
    unsigned best_distance = 3;
    for (unsigned i = 0; i < count && len < COMPARED; i++) {
        size_t known_len = strlen(names[i]);
        size_t shorter = len < known_len ? len : known_len;
        if ((mask & BIT(i)) == 0)
            continue;
        unsigned d = distance(name, len, names[i], known_len);
        if (shorter >= 2 && d > 2 && memcmp(name, names[i], shorter) == 0)
            d = 2; /* the beginning of one is the other */
        if (d < best_distance && d < known_len) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

static bool unknown(lua_State *L, int key, const char *of, const char *const *names, unsigned count, unsigned mask,
                    struct lt_error *error)
{
    if (lua_type(L, key) != LUA_TSTRING) {
        char got[128];
        lt_describe(L, key, got, sizeof got);
        lt_fail(error, LT_ERROR, "unknown field %s of %s", got, of);
        return false;
    }
    size_t len;
    const char *name = lua_tolstring(L, key, &len);
    const char *meant = nearest(name, len, names, count, mask);
    if (meant != NULL)
        lt_fail(error, LT_ERROR, "unknown field '%s' of %s (did you mean '%s'?)", name, of, meant);
    else
        lt_fail(error, LT_ERROR, "unknown field '%.60s' of %s", name, of);
    return false;
}

/* Single fields, from the value at `index` (absolute). */

static void *place_of(struct given *given, const struct rule *rule)
{
    return (char *)given + rule->place;
}

static bool take_text(lua_State *L, struct given *given, const struct rule *rule, int index)
{
    struct lt_view *view = place_of(given, rule);
    if (lua_type(L, index) != LUA_TSTRING)
        return false;
    view->data = lua_tolstring(L, index, &view->len);
    return (double)view->len >= rule->low && (double)view->len <= rule->high;
}

static bool take_number(lua_State *L, struct given *given, const struct rule *rule, int index)
{
    double number = lua_type(L, index) == LUA_TNUMBER ? lua_tonumber(L, index) : NAN;
    *(double *)place_of(given, rule) = number;
    return number >= rule->low && number <= rule->high;
}

static bool take_integer(lua_State *L, struct given *given, const struct rule *rule, int index)
{
    int is_integer = 0;
    int64_t integer = lua_type(L, index) == LUA_TNUMBER ? lua_tointegerx(L, index, &is_integer) : 0;
    *(int64_t *)place_of(given, rule) = integer;
    return is_integer && (double)integer >= rule->low && (double)integer <= rule->high;
}

static bool take_boolean(lua_State *L, struct given *given, const struct rule *rule, int index)
{
    *(bool *)place_of(given, rule) = lua_toboolean(L, index) != 0;
    return lua_type(L, index) == LUA_TBOOLEAN;
}

static bool take_status(lua_State *L, struct given *given, int index)
{
    size_t len;
    const char *name = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &len) : NULL;
    int status = name != NULL ? lt_status_parse(name, len) : -1;
    given->status = status >= 0 ? (enum lt_status)status : LT_UNSTARTED;
    return status >= 0;
}

static bool take_value(lua_State *L, struct given *given, const struct rule *rule, int index)
{
    int kept = given->kept + (int)rule->place;
    lua_copy(L, index, kept);
    given->sources[rule->place].index = kept;
    return true;
}

static int find_backoff(lua_State *L, int key)
{
    const char *name = lua_type(L, key) == LUA_TSTRING ? lua_tostring(L, key) : "";
    for (int i = 0; i < BACKOFF_RULES; i++) {
        if (strcmp(name, backoff_names[i]) == 0)
            return i;
    }
    return -1;
}

static bool take_backoff_table(lua_State *L, struct given *given, int index, struct lt_error *error)
{
    int key = lua_gettop(L) + 1;
    given->backoff = (struct lt_backoff){.base = -1, .factor = 2, .jitter = 0.1};
    lua_pushnil(L);
    while (lua_next(L, index)) {
        int i = find_backoff(L, key);
        if (i < 0 && given->function != NULL)
            return unknown(L, key, "backoff", backoff_names, BACKOFF_RULES, UINT_MAX, error);
        if (i >= 0 && !take_number(L, given, &backoff_rules[i], key + 1))
            return refuse(L, given, backoff_paths[i], key + 1, backoff_rules[i].expected, error);
        lua_pop(L, 1);
    }
    if (given->backoff.base >= 0)
        return true;
    lua_pushnil(L);
    return refuse(L, given, backoff_paths[BACKOFF_BASE], -1, backoff_rules[BACKOFF_BASE].expected, error);
}

static bool take_backoff(lua_State *L, struct given *given, int index, struct lt_error *error)
{
    const char *name = given->function != NULL ? "backoff of a task" : "backoff";
    if (lua_type(L, index) == LUA_TTABLE)
        return take_backoff_table(L, given, index, error);
    if (lua_type(L, index) != LUA_TNUMBER)
        return refuse(L, given, name, index, "a number or a table", error);
    given->backoff = (struct lt_backoff){.factor = 1};
    if (!take_number(L, given, &backoff_rules[BACKOFF_BASE], index))
        return refuse(L, given, name, index, "a finite number >= 0 or a table", error);
    return true;
}

static bool take(lua_State *L, struct given *given, enum lt_field field, int index, struct lt_error *error)
{
    const struct rule *rule = &rules[field];
    bool ok = true;
    switch (rule->kind) {
    case ID:
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
    return ok || refuse(L, given, lt_field_names[field], index, rule->expected, error);
}

/* All fields. */

static bool gather_table(lua_State *L, struct given *given, int index, struct lt_error *error)
{
    unsigned wanted = given->function != NULL ? taken_fields : UINT_MAX;
    int names = lua_gettop(L) + 1;
    int key = names + 1;
    lt_fields_push(L);
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pushvalue(L, key);
        lua_rawget(L, names);
        enum lt_field field = (enum lt_field)lua_tointeger(L, -1);
        if ((wanted & BIT(field)) == 0 || (field == LT_FIELD_NONE && given->function != NULL))
            return unknown(L, key, "a task", lt_field_names, LT_FIELDS, taken_fields, error);
        if (!take(L, given, field, key + 1, error))
            return false;
        lua_settop(L, key);
    }
    return true;
}

/* What is found stays on the stack: a finalizer could take it out of the object. */
static bool gather_object(lua_State *L, struct given *given, int index, struct lt_task_object *object,
                          struct lt_error *error)
{
    unsigned wanted = given->function != NULL ? taken_fields : UINT_MAX;
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
            given->sources[rule->place].bytes = bytes;
        }
    }
    return true;
}

/* Takes all there is at `index` (absolute), and leaves on the stack what has to stay. */
static bool gather(lua_State *L, struct given *given, int index, struct lt_error *error)
{
    given->kept = lua_gettop(L) + 1;
    lua_settop(L, given->kept + SOURCES - 1);
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

/* The task. */

/* Fills *view with the encoded value, which is valid until the next one; no data if there is none. */
static bool encode(lua_State *L, const struct given *given, unsigned source, struct lt_view *view, struct lt_error *error)
{
    static const char *const roots[SOURCES] = {"item", "output", "progress", "handle"};
    struct lt_buffer *scratch = &lt_script_of(L)->scratch;
    const struct source *from = &given->sources[source];
    *view = from->bytes;
    if (from->index == 0)
        return true;
    scratch->len = 0;
    if (lt_value_encode(L, from->index, scratch, roots[source], error) != LT_OK)
        return false;
    *view = (struct lt_view){scratch->data, scratch->len};
    return true;
}

static struct lt_bytes *bytes_of(struct lt_view view)
{
    return view.data != NULL ? lt_bytes_new(view.data, view.len) : NULL;
}

static double wall(lua_State *L)
{
    return lt_loop_wall(lt_script_of(L)->loop);
}

static void set_options(lua_State *L, struct lt_task *task, const struct given *given)
{
    struct lt_task_options *options = lt_task_options(task);
    options->key = bytes_of(given->key);
    options->once = given->once;
    if (given->has & BIT(LT_FIELD_TIMEOUT))
        options->timeout = given->timeout;
    if (given->has & BIT(LT_FIELD_MAX_RETRIES))
        options->max_retries = given->max_retries;
    if (given->has & BIT(LT_FIELD_BACKOFF)) {
        options->has_backoff = true;
        options->backoff = given->backoff;
    }
    if ((given->has & BIT(LT_FIELD_EXPIRES)) && isfinite(given->expires))
        options->expires_at = wall(L) + given->expires;
    else if (given->expires_at > 0)
        options->expires_at = given->expires_at;
}

static void set_start(lua_State *L, struct lt_task *task, const struct given *given)
{
    if (given->delay > 0)
        task->run_at = wall(L) + given->delay;
    else if ((given->has & BIT(LT_FIELD_DELAY)) == 0 && given->run_at > 0)
        task->run_at = given->run_at;
}

/* A task as it is added; NULL if the item cannot be stored. */
static struct lt_task *make(lua_State *L, const struct given *given, struct lt_error *error)
{
    struct lt_buffer *scratch = &lt_script_of(L)->scratch;
    struct lt_view item;
    if (!encode(L, given, SOURCE_ITEM, &item, error))
        return NULL;
    struct lt_task *task = lt_task_new(given->id.data, given->id.len, item.data, item.len);
    if (scratch->size > SCRATCH_KEPT)
        lt_buffer_free(scratch);
    task->priority = given->priority;
    set_start(L, task, given);
    if (given->has & option_fields)
        set_options(L, task, given);
    return task;
}

static bool set_extra(lua_State *L, struct lt_task *task, const struct given *given, struct lt_error *error)
{
    struct lt_view view;
    if (!encode(L, given, SOURCE_OUTPUT, &view, error))
        return false;
    task->output = bytes_of(view);
    if ((given->has & (BIT(LT_FIELD_PROGRESS) | BIT(LT_FIELD_HANDLE) | BIT(LT_FIELD_VERSION))) == 0)
        return true;
    struct lt_task_extra *extra = lt_task_extra(task);
    extra->version = bytes_of(given->version);
    if (!encode(L, given, SOURCE_PROGRESS, &view, error))
        return false;
    extra->progress = bytes_of(view);
    if (!encode(L, given, SOURCE_HANDLE, &view, error))
        return false;
    extra->handle = bytes_of(view);
    return true;
}

/* What a task has that was added before. */
static bool set_state(lua_State *L, struct lt_task *task, const struct given *given, struct lt_error *error)
{
    task->status = (uint8_t)given->status;
    task->run = (uint64_t)given->run;
    task->attempts = (uint32_t)given->attempts;
    task->lost = (uint32_t)given->lost;
    task->added_at = given->added_at;
    task->started_at = given->started_at;
    task->ended_at = given->ended_at;
    task->reason = bytes_of(given->reason);
    return set_extra(L, task, given, error);
}

/* An id that no other host and no other process made: 64 random bits of this process's, and a count. */

enum { RANDOM_DIGITS = 13, COUNT_DIGITS = 13 };

static char *put_digits(char *end, uint64_t number, unsigned base, unsigned at_least)
{
    for (unsigned n = 0; n < at_least || number > 0; n++) {
        *--end = "0123456789abcdefghijklmnopqrstuvwxyz"[number % base];
        number /= base;
    }
    return end;
}

static uint64_t process_number(void)
{
    static _Atomic uint64_t number;
    uint64_t known = atomic_load(&number);
    if (known != 0)
        return known;
    uint64_t fresh = 0;
    while (fresh == 0) {
        if (getrandom(&fresh, sizeof fresh, 0) != (ssize_t)sizeof fresh)
            fresh = uv_hrtime() ^ (uint64_t)uv_os_getpid() << 40;
    }
    return atomic_compare_exchange_strong(&number, &known, fresh) ? fresh : known;
}

static struct lt_view make_id(char buffer[MADE_ID_SIZE])
{
    static _Atomic uint64_t count;
    char *end = buffer + RANDOM_DIGITS + 1 + COUNT_DIGITS;
    char *at = put_digits(end, atomic_fetch_add(&count, 1) + 1, 36, 1);
    *--at = '-';
    at = put_digits(at, process_number(), 32, RANDOM_DIGITS);
    return (struct lt_view){at, (size_t)(end - at)};
}

/* The two ways in. */

static bool check_new(const struct given *given, struct lt_error *error)
{
    unsigned both = BIT(LT_FIELD_DELAY) | BIT(LT_FIELD_RUN_AT);
    if ((given->has & both) != both)
        return true;
    lt_fail(error, LT_ERROR, "delay and run_at cannot both be given, got %.14g and %.14g", given->delay, given->run_at);
    return false;
}

struct lt_task *lt_task_read_new(lua_State *L, int index, const char *function, struct lt_error *error)
{
    struct given given = {.function = function};
    struct lt_error misuse;
    char made[MADE_ID_SIZE];
    int top = lua_gettop(L);
    luaL_checkstack(L, SLOTS, function);
    if (!gather(L, &given, lua_absindex(L, index), &misuse) || !check_new(&given, &misuse))
        luaL_error(L, "%s: %s", function, misuse.message);
    if ((given.has & BIT(LT_FIELD_ID)) == 0)
        given.id = make_id(made);
    struct lt_task *task = make(L, &given, error);
    lua_settop(L, top);
    return task;
}

static struct lt_task *read_given(lua_State *L, struct given *given, int index, struct lt_error *error)
{
    if (!gather(L, given, index, error))
        return NULL;
    if ((given->has & BIT(LT_FIELD_ID)) == 0) {
        lua_pushnil(L);
        refuse(L, given, "id", -1, rules[LT_FIELD_ID].expected, error);
        return NULL;
    }
    struct lt_task *task = make(L, given, error);
    if (task == NULL || set_state(L, task, given, error))
        return task;
    lt_task_unref(task);
    return NULL;
}

struct lt_task *lt_task_read(lua_State *L, int index, struct lt_error *error)
{
    struct given given = {.function = NULL};
    int top = lua_gettop(L);
    if (!lua_checkstack(L, SLOTS)) {
        lt_fail(error, LT_ERROR, "no room on the stack");
        return NULL;
    }
    struct lt_task *task = read_given(L, &given, lua_absindex(L, index), error);
    lua_settop(L, top);
    return task;
}
