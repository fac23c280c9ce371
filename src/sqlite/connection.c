#include "sqlite/connection.h"

#include <msgpack.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "sqlite/patience.h"

enum { KEPT = 64 /* statements that stay prepared */, BATCH_BYTES = 256 << 10 };

struct lt_sql_statement {
    sqlite3_stmt *handle;
    char *text;
    bool busy; /* it has rows that somebody wants */
    TAILQ_ENTRY(lt_sql_statement) link;
};

/* All but the lane, and the hurry of its patience, are of the lane's thread alone. */
struct lt_sql {
    struct lt_lane *lane;
    sqlite3 *handle;
    struct lt_sql_patience patience;                         /* in a hurry: it is being closed */
    TAILQ_HEAD(statement_list, lt_sql_statement) statements; /* used last first */
    unsigned count;
    bool failed; /* it could not be opened */
    struct lt_sql_call close;
};

/* Statements. */

static void finalize(struct lt_sql *sql, struct lt_sql_statement *statement)
{
    TAILQ_REMOVE(&sql->statements, statement, link);
    sql->count--;
    sqlite3_finalize(statement->handle);
    free(statement->text);
    free(statement);
}

static void release_statement(struct lt_sql *sql, struct lt_sql_statement *statement)
{
    struct lt_sql_statement *oldest;
    sqlite3_reset(statement->handle);
    sqlite3_clear_bindings(statement->handle);
    statement->busy = false;
    TAILQ_REMOVE(&sql->statements, statement, link);
    TAILQ_INSERT_HEAD(&sql->statements, statement, link);
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not see that one which is finalized is off the list */
    while (sql->count > KEPT && !(oldest = TAILQ_LAST(&sql->statements, statement_list))->busy)
        finalize(sql, oldest);
}

static struct lt_sql_statement *find_statement(struct lt_sql *sql, const char *text)
{
    struct lt_sql_statement *statement;
    TAILQ_FOREACH(statement, &sql->statements, link) {
        if (!statement->busy && strcmp(statement->text, text) == 0)
            return statement;
    }
    return NULL;
}

/* NULL: it cannot be prepared, or there is nothing in the text. *rest is what follows. */
static struct lt_sql_statement *prepare(struct lt_sql *sql, const char *text, const char **rest)
{
    struct lt_sql_statement *statement = find_statement(sql, text);
    sqlite3_stmt *handle = NULL;
    *rest = "";
    if (statement == NULL) {
        if (sqlite3_prepare_v3(sql->handle, text, -1, SQLITE_PREPARE_PERSISTENT, &handle, rest) != SQLITE_OK ||
            handle == NULL)
            return NULL;
        statement = lt_zalloc(sizeof *statement);
        statement->handle = handle;
        statement->text = lt_strdup(text);
        statement->text[*rest - text] = '\0';
        TAILQ_INSERT_HEAD(&sql->statements, statement, link);
        sql->count++;
    }
    statement->busy = true;
    return statement;
}

/* Parameters. */

/* NULL would be bound as one. */
static const char *bytes_of(const msgpack_object_str *text)
{
    return text->size > 0 ? text->ptr : "";
}

static int bind_value(sqlite3_stmt *handle, int place, const msgpack_object *value)
{
    const msgpack_object_str *blob;
    switch (value->type) {
    case MSGPACK_OBJECT_BOOLEAN:
        return sqlite3_bind_int(handle, place, value->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return sqlite3_bind_int64(handle, place, value->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return sqlite3_bind_double(handle, place, value->via.f64);
    case MSGPACK_OBJECT_STR:
        return sqlite3_bind_text64(handle, place, bytes_of(&value->via.str), value->via.str.size, SQLITE_TRANSIENT,
                                   SQLITE_UTF8);
    case MSGPACK_OBJECT_ARRAY: /* of one: a blob */
        blob = &value->via.array.ptr[0].via.str;
        return sqlite3_bind_blob64(handle, place, bytes_of(blob), blob->size, SQLITE_TRANSIENT);
    default:
        return sqlite3_bind_null(handle, place);
    }
}

static const msgpack_object *find_named(const msgpack_object_map *map, const char *name)
{
    size_t len = strlen(name);
    for (uint32_t i = 0; i < map->size; i++) {
        const msgpack_object *key = &map->ptr[i].key;
        if (key->type == MSGPACK_OBJECT_STR && key->via.str.size == len && memcmp(key->via.str.ptr, name, len) == 0)
            return &map->ptr[i].val;
    }
    return NULL;
}

/* Returns why not; NULL: they are bound. */
static const char *bind_object(sqlite3_stmt *handle, const msgpack_object *parameters)
{
    int wanted = sqlite3_bind_parameter_count(handle);
    if (parameters->type == MSGPACK_OBJECT_ARRAY && (int)parameters->via.array.size > wanted)
        return "there are more parameters than places for them";
    for (int place = 1; place <= wanted; place++) {
        const char *name = sqlite3_bind_parameter_name(handle, place);
        const msgpack_object *value = NULL;
        if (parameters->type == MSGPACK_OBJECT_MAP)
            value = name != NULL ? find_named(&parameters->via.map, name + 1) : NULL;
        else if (place <= (int)parameters->via.array.size)
            value = &parameters->via.array.ptr[place - 1];
        if (value != NULL && bind_value(handle, place, value) != SQLITE_OK)
            return "a parameter cannot be bound";
    }
    return NULL;
}

static const char *bind_parameters(sqlite3_stmt *handle, const struct lt_buffer *parameters)
{
    msgpack_unpacked unpacked;
    if (parameters->len == 0)
        return NULL;
    msgpack_unpacked_init(&unpacked);
    const char *why = "the parameters cannot be read";
    if (msgpack_unpack_next(&unpacked, parameters->data, parameters->len, NULL) == MSGPACK_UNPACK_SUCCESS)
        why = bind_object(handle, &unpacked.data);
    msgpack_unpacked_destroy(&unpacked);
    return why;
}

/* Rows. */

static int append_packed(void *arg, const char *bytes, size_t len)
{
    lt_buffer_append(arg, bytes, len);
    return 0;
}

static void pack_text(msgpack_packer *packer, const char *text, size_t len)
{
    msgpack_pack_str(packer, len);
    msgpack_pack_str_body(packer, text, len);
}

static void pack_value(msgpack_packer *packer, sqlite3_stmt *handle, int column)
{
    switch (sqlite3_column_type(handle, column)) {
    case SQLITE_INTEGER:
        msgpack_pack_int64(packer, sqlite3_column_int64(handle, column));
        break;
    case SQLITE_FLOAT:
        msgpack_pack_double(packer, sqlite3_column_double(handle, column));
        break;
    default: {
        const char *bytes = sqlite3_column_blob(handle, column);
        pack_text(packer, bytes != NULL ? bytes : "", (size_t)sqlite3_column_bytes(handle, column));
    }
    }
}

static void take_row(struct lt_sql_call *call, sqlite3_stmt *handle)
{
    msgpack_packer packer;
    int columns = sqlite3_column_count(handle), there = 0;
    uint32_t len = 0;
    size_t begin = call->rows.len;
    lt_buffer_append(&call->rows, (const char *)&len, sizeof len);
    msgpack_packer_init(&packer, &call->rows, append_packed);
    for (int i = 0; i < columns; i++)
        there += sqlite3_column_type(handle, i) != SQLITE_NULL;
    msgpack_pack_map(&packer, (size_t)there);
    for (int i = 0; i < columns; i++)
        if (sqlite3_column_type(handle, i) != SQLITE_NULL) {
            const char *name = sqlite3_column_name(handle, i);
            pack_text(&packer, name, strlen(name));
            pack_value(&packer, handle, i);
        }
    len = (uint32_t)(call->rows.len - begin - sizeof len);
    memcpy(call->rows.data + begin, &len, sizeof len);
}

/* Calls, on the lane's thread. */

static void fail_call(struct lt_sql_call *call, int code, const char *message)
{
    call->code = code != SQLITE_OK ? code : SQLITE_ERROR;
    free(call->message);
    call->message = lt_strdup(message);
}

static void fail_by_handle(struct lt_sql_call *call)
{
    struct lt_sql *sql = call->sql;
    int code = sqlite3_errcode(sql->handle);
    if (code == SQLITE_BUSY && !atomic_load(&sql->patience.hurry))
        fail_call(call, code, "the database is locked by another connection");
    else
        fail_call(call, code, sqlite3_errmsg(sql->handle));
}

static void open_database(struct lt_sql_call *call)
{
    struct lt_sql *sql = call->sql;
    int how = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    /* A path is a path: what begins so is none of SQLite's own names. */
    char *path = call->text[0] == '/' || strcmp(call->text, ":memory:") == 0 ? lt_strdup(call->text)
                                                                             : lt_format("./%s", call->text);
    int code = sqlite3_open_v2(path, &sql->handle, how, NULL);
    free(path);
    if (code == SQLITE_OK) {
        sqlite3_busy_handler(sql->handle, lt_sql_wait, &sql->patience);
        code = sqlite3_exec(sql->handle, "PRAGMA schema_version", NULL, NULL, NULL); /* reads the file */
    }
    if (code != SQLITE_OK) {
        sql->failed = true;
        fail_call(call, code, sql->handle != NULL ? sqlite3_errmsg(sql->handle) : "not enough memory");
    }
}

/* Steps one that has just begun. Some statements (a switch to a write-ahead log) do not wait for others by themselves: outside
 * of a transaction they are begun again, for as long as the connection waits for locks. */
static int step_first(struct lt_sql *sql, sqlite3_stmt *handle)
{
    int code = sqlite3_step(handle);
    for (int tries = 0; (code & 0xff) == SQLITE_BUSY && sqlite3_get_autocommit(sql->handle) != 0; tries++) {
        if (!lt_sql_wait(&sql->patience, tries))
            break;
        sqlite3_reset(handle);
        code = sqlite3_step(handle);
    }
    return code;
}

/* Rows until there are enough, or it is over. */
static void step_statement(struct lt_sql_call *call, struct lt_sql_statement *statement)
{
    int code;
    for (uint32_t count = 0; count < call->limit && call->rows.len < BATCH_BYTES; count++) {
        bool begins = count == 0 && call->kind == LT_SQL_QUERY;
        code = begins ? step_first(call->sql, statement->handle) : sqlite3_step(statement->handle);
        if (code != SQLITE_ROW) {
            if (code != SQLITE_DONE)
                fail_by_handle(call);
            release_statement(call->sql, statement);
            call->statement = NULL;
            return;
        }
        take_row(call, statement->handle);
    }
    call->statement = statement;
    call->more = true;
}

static void query(struct lt_sql_call *call)
{
    const char *rest;
    struct lt_sql_statement *statement = prepare(call->sql, call->text, &rest);
    if (statement == NULL && sqlite3_errcode(call->sql->handle) != SQLITE_OK) {
        fail_by_handle(call);
        return;
    }
    const char *why =
        statement == NULL ? "there is no statement in it" : bind_parameters(statement->handle, &call->parameters);
    if (why == NULL && rest[strspn(rest, " \t\r\n;")] != '\0')
        why = "there is more than one statement in it";
    if (why == NULL) {
        step_statement(call, statement);
        return;
    }
    fail_call(call, SQLITE_MISUSE, why);
    if (statement != NULL)
        release_statement(call->sql, statement);
}

/* One statement to its end; its rows are not wanted. */
static void run_statement(struct lt_sql_call *call, struct lt_sql_statement *statement)
{
    const char *why = bind_parameters(statement->handle, &call->parameters);
    int64_t before = sqlite3_total_changes64(call->sql->handle);
    int code = why == NULL ? step_first(call->sql, statement->handle) : SQLITE_MISUSE;
    while (code == SQLITE_ROW)
        code = sqlite3_step(statement->handle);
    if (why != NULL)
        fail_call(call, SQLITE_MISUSE, why);
    else if (code != SQLITE_DONE)
        fail_by_handle(call);
    else if (!sqlite3_stmt_readonly(statement->handle) && sqlite3_total_changes64(call->sql->handle) > before)
        call->changes += sqlite3_changes64(call->sql->handle);
    release_statement(call->sql, statement);
}

static void run_all(struct lt_sql_call *call)
{
    const char *text = call->text;
    while (call->code == SQLITE_OK && text[strspn(text, " \t\r\n;")] != '\0') {
        const char *rest;
        struct lt_sql_statement *statement = prepare(call->sql, text, &rest);
        if (statement == NULL) {
            if (sqlite3_errcode(call->sql->handle) != SQLITE_OK)
                fail_by_handle(call);
            return; /* a comment */
        }
        if (rest[strspn(rest, " \t\r\n;")] != '\0' && call->parameters.len > 0) {
            fail_call(call, SQLITE_MISUSE, "several statements take no parameters");
            release_statement(call->sql, statement);
            return;
        }
        run_statement(call, statement);
        text = rest;
    }
}

static void close_database(struct lt_sql *sql)
{
    struct lt_sql_statement *statement;
    while ((statement = TAILQ_FIRST(&sql->statements)) != NULL)
        finalize(sql, statement); /* NOLINT(clang-analyzer-unix.Malloc): the same */
    sqlite3_close(sql->handle);
    sql->handle = NULL;
}

static void work_call(struct lt_lane_job *job)
{
    struct lt_sql_call *call = lt_container_of(job, struct lt_sql_call, job);
    struct lt_sql *sql = call->sql;
    if (call->kind == LT_SQL_CLOSE)
        close_database(sql);
    else if (sql->failed)
        fail_call(call, SQLITE_MISUSE, "the database could not be opened");
    else if (call->kind == LT_SQL_OPEN)
        open_database(call);
    else if (call->kind == LT_SQL_RUN)
        run_all(call);
    else if (call->kind == LT_SQL_QUERY)
        query(call);
    else if (call->kind == LT_SQL_FETCH)
        step_statement(call, call->statement);
    else
        release_statement(sql, call->statement);
}

/* On the loop's thread. */

static void call_done(struct lt_lane_job *job)
{
    struct lt_sql_call *call = lt_container_of(job, struct lt_sql_call, job);
    call->done(call);
}

static void closed(struct lt_sql_call *call)
{
    struct lt_sql *sql = call->sql;
    lt_lane_close(sql->lane, false);
    free(sql);
}

/* Its own statistics of memory would cost a lock with each allocation. */
void lt_sql_setup(void)
{
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

struct lt_sql *lt_sql_new(struct lt_loop *loop, double patience)
{
    struct lt_lane *lane = lt_lane_open(loop, 1, "ltsh-sqlite");
    if (lane == NULL)
        return NULL;
    struct lt_sql *sql = lt_zalloc(sizeof *sql);
    sql->lane = lane;
    sql->patience.seconds = patience;
    TAILQ_INIT(&sql->statements);
    return sql;
}

bool lt_sql_send(struct lt_sql *sql, struct lt_sql_call *call)
{
    call->sql = sql;
    call->job = (struct lt_lane_job){.work = work_call, .done = call_done};
    return lt_lane_send(sql->lane, &call->job);
}

void lt_sql_call_clear(struct lt_sql_call *call)
{
    free(call->text);
    free(call->message);
    lt_buffer_free(&call->parameters);
    lt_buffer_free(&call->rows);
}

void lt_sql_close(struct lt_sql *sql)
{
    atomic_store(&sql->patience.hurry, true);
    sql->close = (struct lt_sql_call){.kind = LT_SQL_CLOSE, .done = closed};
    if (!lt_sql_send(sql, &sql->close)) { /* there never was a thread */
        close_database(sql);
        closed(&sql->close);
    }
}
