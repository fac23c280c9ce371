/* Makes tasks from what was given: see task_given.h. Nothing here raises once something is allocated. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/map.h"
#include "scheduler/scheduler.h"
#include "script/task/task_given.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"
#include "script/values/values.h"

enum {
    MADE_ID_SIZE = 32,
};

#define BIT(field_) (1U << (field_))

/* What makes a task have options. */
static const unsigned option_fields = BIT(LT_FIELD_EXPIRES) | BIT(LT_FIELD_EXPIRES_AT) | BIT(LT_FIELD_KEY) |
                                      BIT(LT_FIELD_TIMEOUT) | BIT(LT_FIELD_MAX_RETRIES) | BIT(LT_FIELD_BACKOFF) |
                                      BIT(LT_FIELD_ONCE);

static const enum lt_field source_fields[LT_SOURCES] = {LT_FIELD_ITEM, LT_FIELD_OUTPUT, LT_FIELD_PROGRESS,
                                                        LT_FIELD_HANDLE};

/* The task. */

/* Whether there is memory for a copy. */
static bool has_memory(struct lt_view view, const char *field, struct lt_error *error)
{
    if (lt_memory_has(view.len))
        return true;
    lt_fail(error, LT_UNSTORABLE, "%s: not enough memory", field);
    return false;
}

/* Fills *view with the encoded value, which is valid until the next one; no data if there is none. */
static bool encode_field(lua_State *L, const struct lt_given *given, unsigned source, struct lt_view *view,
                         struct lt_error *error)
{
    struct lt_buffer *scratch = &lt_script_of(L)->scratch;
    const struct lt_source *from = &given->sources[source];
    *view = (struct lt_view){NULL, 0};
    if (!lt_given_has(given, source_fields[source]))
        return true;
    const char *field = lt_field_names[source_fields[source]];
    if (from->index == 0) {
        *view = from->bytes;
    } else {
        scratch->len = 0;
        if (lt_value_encode(L, from->index, scratch, field, error) != LT_OK)
            return false;
        *view = (struct lt_view){scratch->data, scratch->len};
    }
    return has_memory(*view, field, error);
}

/* NULL for none. */
static struct lt_bytes *bytes_of(struct lt_view view)
{
    return view.data != NULL ? lt_bytes_new(view.data, view.len) : NULL;
}

/* The script may have computed for a while since the clock was read. */
static double wall_now(lua_State *L)
{
    struct lt_loop *loop = lt_script_of(L)->loop;
    lt_loop_tick(loop);
    return lt_loop_wall(loop);
}

static void set_options(lua_State *L, struct lt_task *task, const struct lt_given *given)
{
    struct lt_task_options *options = lt_task_options(task);
    if (lt_given_has(given, LT_FIELD_KEY))
        options->key = bytes_of(given->key);
    if (lt_given_has(given, LT_FIELD_ONCE))
        options->once = given->once;
    if (lt_given_has(given, LT_FIELD_TIMEOUT))
        options->timeout = given->timeout;
    if (lt_given_has(given, LT_FIELD_MAX_RETRIES))
        options->max_retries = given->max_retries;
    if (lt_given_has(given, LT_FIELD_BACKOFF)) {
        options->has_backoff = true;
        options->backoff = given->backoff;
    }
    if (lt_given_has(given, LT_FIELD_EXPIRES))
        options->expires_at = isfinite(given->expires) ? wall_now(L) + given->expires : 0;
    else if (lt_given_has(given, LT_FIELD_EXPIRES_AT) && given->expires_at > 0)
        options->expires_at = given->expires_at;
}

static void set_start(lua_State *L, struct lt_task *task, const struct lt_given *given)
{
    task->delayed = lt_given_has(given, LT_FIELD_DELAY);
    if (task->delayed)
        task->run_at = given->delay > 0 ? wall_now(L) + given->delay : 0;
    else if (lt_given_has(given, LT_FIELD_RUN_AT) && given->run_at > 0)
        task->run_at = given->run_at;
}

/* A task as it is added; NULL if the item cannot be stored. */
static struct lt_task *make_task(lua_State *L, const struct lt_given *given, uint32_t hash, struct lt_error *error)
{
    struct lt_view item;
    if (!encode_field(L, given, LT_SOURCE_ITEM, &item, error))
        return NULL;
    struct lt_task *task = lt_task_new_hashed(hash, given->id.data, given->id.len, item.data, item.len);
    if (lt_given_has(given, LT_FIELD_PRIORITY))
        task->priority = given->priority;
    set_start(L, task, given);
    if ((given->has & option_fields) != 0)
        set_options(L, task, given);
    return task;
}

/* Whether it says that another host ran it. */
static bool is_elsewhere(lua_State *L, const struct lt_given *given)
{
    if (!lt_given_has(given, LT_FIELD_HOST))
        return false;
    size_t len;
    lt_task_push_host(L);
    const char *own = lua_tolstring(L, -1, &len);
    bool same = given->host.len == len && memcmp(given->host.data, own, len) == 0;
    lua_pop(L, 1);
    return !same;
}

static bool set_extra(lua_State *L, struct lt_task *task, const struct lt_given *given, struct lt_error *error)
{
    struct lt_view view;
    if (!encode_field(L, given, LT_SOURCE_OUTPUT, &view, error))
        return false;
    task->output = bytes_of(view);
    bool elsewhere = is_elsewhere(L, given);
    if (!elsewhere && (given->has & (BIT(LT_FIELD_PROGRESS) | BIT(LT_FIELD_HANDLE) | BIT(LT_FIELD_VERSION))) == 0)
        return true;
    struct lt_task_extra *extra = lt_task_extra(task);
    if (!has_memory(given->host, "host", error) || !has_memory(given->version, "version", error))
        return false;
    extra->host = elsewhere ? bytes_of(given->host) : NULL;
    extra->version = bytes_of(given->version);
    if (!encode_field(L, given, LT_SOURCE_PROGRESS, &view, error))
        return false;
    extra->progress = bytes_of(view);
    if (!encode_field(L, given, LT_SOURCE_HANDLE, &view, error))
        return false;
    extra->handle = bytes_of(view);
    return true;
}

/* What a task has that was added before. Of a `given` that was cleared. */
static bool set_state(lua_State *L, struct lt_task *task, const struct lt_given *given, struct lt_error *error)
{
    task->status = (uint8_t)given->status;
    task->run = (uint64_t)given->run;
    task->attempts = (uint32_t)given->attempts;
    task->lost = given->lost < UINT16_MAX ? (uint16_t)given->lost : UINT16_MAX;
    task->added_at = given->added_at;
    task->started_at = given->started_at;
    task->ended_at = given->ended_at;
    if (!has_memory(given->reason, "reason", error))
        return false;
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

static void clean_up(lua_State *L, int top)
{
    struct lt_buffer *scratch = &lt_script_of(L)->scratch;
    if (scratch->size > LT_SCRATCH_KEPT)
        lt_buffer_free(scratch);
    lua_settop(L, top);
}

LT_RAISES struct lt_task *lt_task_read_new(lua_State *L, int index, const char *function,
                                           const struct lt_scheduler *scheduler, struct lt_error *error)
{
    struct lt_given given; /* clearing it would take longer than reading most tasks */
    struct lt_error misuse;
    char made[MADE_ID_SIZE];
    int top = lua_gettop(L);
    given.function = function;
    if (!lt_given_take(L, &given, index, &misuse))
        luaL_error(L, "%s: %s", function, misuse.message);
    if (!lt_given_has(&given, LT_FIELD_ID))
        given.id = make_id(made);
    uint32_t hash = lt_hash(given.id.data, given.id.len);
    if (scheduler != NULL)
        lt_scheduler_expect(scheduler, hash);
    struct lt_task *task = make_task(L, &given, hash, error);
    clean_up(L, top + 1);
    return task;
}

struct lt_task *lt_task_read(lua_State *L, int index, struct lt_error *error)
{
    struct lt_given given = {.function = NULL};
    struct lt_task *task = NULL;
    int top = lua_gettop(L);
    if (lt_given_take(L, &given, index, error))
        task = make_task(L, &given, lt_hash(given.id.data, given.id.len), error);
    if (task != NULL && !set_state(L, task, &given, error)) {
        lt_task_unref(task);
        task = NULL;
    }
    clean_up(L, top);
    return task;
}
