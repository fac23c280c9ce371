#include "containers/sqlite/columns.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/tree.h"

/* Values. */

void lt_bind_value(sqlite3_stmt *statement, int place, const char *data, size_t len)
{
    json_t *tree = len > 0 ? lt_tree_read_exact(data, len) : NULL;
    char *text = tree != NULL ? json_dumps(tree, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(tree);
    if (text != NULL)
        sqlite3_bind_text64(statement, place, text, strlen(text), free, SQLITE_UTF8);
    else if (len > 0)
        sqlite3_bind_blob64(statement, place, data, len, SQLITE_STATIC);
    else
        sqlite3_bind_null(statement, place);
}

void lt_bind_bytes_value(sqlite3_stmt *statement, int place, const struct lt_bytes *value)
{
    lt_bind_value(statement, place, value != NULL ? value->data : NULL, value != NULL ? value->len : 0);
}

void lt_bind_text(sqlite3_stmt *statement, int place, const char *data, size_t len)
{
    if (data != NULL)
        sqlite3_bind_text64(statement, place, data, len, SQLITE_STATIC, SQLITE_UTF8);
    else
        sqlite3_bind_null(statement, place);
}

void lt_bind_bytes_text(sqlite3_stmt *statement, int place, const struct lt_bytes *text)
{
    lt_bind_text(statement, place, text != NULL ? text->data : NULL, text != NULL ? text->len : 0);
}

void lt_bind_time(sqlite3_stmt *statement, int place, double time)
{
    if (time > 0)
        sqlite3_bind_double(statement, place, time);
    else
        sqlite3_bind_null(statement, place);
}

struct lt_bytes *lt_column_bytes(sqlite3_stmt *statement, int column)
{
    if (sqlite3_column_type(statement, column) == SQLITE_NULL)
        return NULL;
    const void *bytes = sqlite3_column_blob(statement, column);
    return lt_bytes_new(bytes != NULL ? bytes : "", (size_t)sqlite3_column_bytes(statement, column));
}

struct lt_bytes *lt_column_value(sqlite3_stmt *statement, int column)
{
    if (sqlite3_column_type(statement, column) != SQLITE_TEXT)
        return lt_column_bytes(statement, column);
    const char *text = sqlite3_column_blob(statement, column);
    size_t len = (size_t)sqlite3_column_bytes(statement, column);
    json_t *tree = json_loadb(text != NULL ? text : "", len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    struct lt_bytes *value = tree != NULL ? lt_tree_bytes(tree) : NULL;
    json_decref(tree);
    return value;
}

/* Options: what was set. */

static void set_number(json_t *object, const char *name, double value)
{
    json_object_set_new(object, name, json_real(value));
}

void lt_bind_options(sqlite3_stmt *statement, int place, const struct lt_task_options *options)
{
    json_t *object = json_object();
    if (options != NULL && options->timeout >= 0)
        set_number(object, "timeout", options->timeout);
    if (options != NULL && options->max_retries >= 0)
        json_object_set_new(object, "max_retries", json_integer(options->max_retries));
    if (options != NULL && options->has_backoff) {
        set_number(object, "base", options->backoff.base);
        set_number(object, "factor", options->backoff.factor);
        set_number(object, "max", options->backoff.max);
        set_number(object, "jitter", options->backoff.jitter);
    }
    char *text = json_object_size(object) > 0 ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (text != NULL)
        sqlite3_bind_text(statement, place, text, -1, free);
    else
        sqlite3_bind_null(statement, place);
}

static double number_in(const json_t *object, const char *name, double otherwise)
{
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

static void read_options(struct lt_task *task, sqlite3_stmt *row, int column)
{
    json_t *object = json_loadb(sqlite3_column_blob(row, column), (size_t)sqlite3_column_bytes(row, column), 0, NULL);
    if (object == NULL)
        return;
    struct lt_task_options *options = lt_task_options(task);
    options->timeout = number_in(object, "timeout", -1);
    if (json_object_get(object, "max_retries") != NULL)
        options->max_retries = json_integer_value(json_object_get(object, "max_retries"));
    options->has_backoff = json_object_get(object, "base") != NULL;
    options->backoff = (struct lt_backoff){.base = number_in(object, "base", 0),
                                           .factor = number_in(object, "factor", 2),
                                           .max = number_in(object, "max", 0),
                                           .jitter = number_in(object, "jitter", 0)};
    json_decref(object);
}

/* Rows. */

enum column {
    SEQ,
    ID,
    STATE,
    PRIORITY,
    PLACE,
    RUN,
    OWNER,
    ATTEMPTS,
    LOST,
    SNOOZES,
    ADDED_AT,
    RUN_AT,
    STARTED_AT,
    ENDED_AT,
    EXPIRES_AT,
    KEY,
    REASON,
    RAN_VERSION,
    HOST,
    OPTIONS,
    HANDLE,
    PROGRESS,
    OUTPUT,
    ITEM,
    STOP,
};

_Static_assert((int)LT_COLUMN_PRIORITY == (int)PRIORITY && (int)LT_COLUMN_PLACE == (int)PLACE &&
                   (int)LT_COLUMN_OWNER == (int)OWNER && (int)LT_COLUMN_STOP == (int)STOP,
               "columns that are looked at elsewhere");

enum lt_status lt_row_status(int state)
{
    return state == LT_ROW_DELAYED || state == LT_ROW_SUSPECT ? LT_WAITING : (enum lt_status)state;
}

static bool has(sqlite3_stmt *row, int column)
{
    return sqlite3_column_type(row, column) != SQLITE_NULL;
}

/* An item that is kept by itself. */
static struct lt_bytes *large_item(struct lt_database *db, int64_t seq)
{
    sqlite3_stmt *statement = lt_database_statement(db, LT_ST_ITEM);
    struct lt_bytes *item = NULL;
    if (statement == NULL)
        return NULL;
    sqlite3_bind_int64(statement, 1, seq);
    if (sqlite3_step(statement) == SQLITE_ROW)
        item = lt_column_value(statement, 0);
    sqlite3_reset(statement);
    return item;
}

/* Of another host; of this one it says nothing. */
static struct lt_bytes *host_in(sqlite3_stmt *row, int column, const char *own)
{
    const char *host = (const char *)sqlite3_column_text(row, column);
    return host != NULL && strcmp(host, own) != 0 ? lt_column_bytes(row, column) : NULL;
}

static void read_extra(struct lt_task *task, sqlite3_stmt *row, const char *own)
{
    struct lt_bytes *host = host_in(row, HOST, own);
    if (host == NULL && !has(row, RAN_VERSION) && !has(row, HANDLE) && !has(row, PROGRESS))
        return;
    struct lt_task_extra *extra = lt_task_extra(task);
    extra->host = host;
    extra->version = lt_column_bytes(row, RAN_VERSION);
    extra->handle = lt_column_value(row, HANDLE);
    extra->progress = lt_column_value(row, PROGRESS);
}

struct lt_task *lt_row_task(struct lt_database *db, sqlite3_stmt *row, const char *own)
{
    struct lt_bytes *item = NULL;
    if (sqlite3_column_type(row, ITEM) == SQLITE_INTEGER)
        item = large_item(db, sqlite3_column_int64(row, SEQ));
    else
        item = lt_column_value(row, ITEM);
    if (item == NULL && has(row, ITEM))
        return NULL;
    const char *id = (const char *)sqlite3_column_text(row, ID);
    struct lt_task *task = lt_task_new(id, (size_t)sqlite3_column_bytes(row, ID), item != NULL ? item->data : NULL,
                                       item != NULL ? item->len : 0);
    lt_bytes_unref(item);
    task->seq = (uint64_t)sqlite3_column_int64(row, SEQ);
    task->status = task->stored = (uint8_t)lt_row_status(sqlite3_column_int(row, STATE));
    task->priority = sqlite3_column_int64(row, PRIORITY);
    task->run = (uint64_t)sqlite3_column_int64(row, RUN);
    task->attempts = (uint32_t)sqlite3_column_int64(row, ATTEMPTS);
    task->lost = (uint16_t)sqlite3_column_int(row, LOST);
    task->snoozes = (uint8_t)sqlite3_column_int(row, SNOOZES);
    task->added_at = sqlite3_column_double(row, ADDED_AT);
    task->run_at = sqlite3_column_double(row, RUN_AT);
    task->started_at = sqlite3_column_double(row, STARTED_AT);
    task->ended_at = sqlite3_column_double(row, ENDED_AT);
    task->reason = lt_column_bytes(row, REASON);
    task->output = lt_column_value(row, OUTPUT);
    if (has(row, OPTIONS))
        read_options(task, row, OPTIONS);
    if (has(row, KEY))
        lt_task_options(task)->key = lt_column_bytes(row, KEY);
    if (has(row, EXPIRES_AT))
        lt_task_options(task)->expires_at = sqlite3_column_double(row, EXPIRES_AT);
    read_extra(task, row, own);
    return task;
}

int lt_row_history(struct lt_database *db, struct lt_task *task, const char *own)
{
    sqlite3_stmt *row = lt_database_statement(db, LT_ST_RUNS);
    int code = SQLITE_DONE;
    if (row == NULL)
        return lt_database_error(db);
    sqlite3_bind_int64(row, 1, (int64_t)task->seq);
    while ((code = sqlite3_step(row)) == SQLITE_ROW) {
        struct lt_task_extra *extra = lt_task_extra(task);
        struct lt_past_run *run = lt_zalloc(sizeof *run);
        *run = (struct lt_past_run){.refs = 1,
                                    .count = extra->past != NULL ? extra->past->count + 1 : 1,
                                    .older = extra->past,
                                    .run = (uint64_t)sqlite3_column_int64(row, 0),
                                    .started_at = sqlite3_column_double(row, 1),
                                    .ended_at = sqlite3_column_double(row, 2),
                                    .reason = lt_column_bytes(row, 3),
                                    .version = lt_column_bytes(row, 4),
                                    .host = host_in(row, 5, own)};
        extra->past = run;
    }
    sqlite3_reset(row);
    return code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(db, code);
}
