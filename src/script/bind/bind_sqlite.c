/* core.sqlite: connections to SQLite databases. lua/ltsh/sqlite.lua makes ltsh.sqlite from it:
 *
 *     database = core.sqlite(path, patience or nil)         waits; nil, message, code: it could not be opened
 *     database:run(text, parameters or nil) -> changes      waits; nil, message, code
 *     database:query(text, parameters or nil, limit) -> rows
 *     database:send(text)                                   does not wait: for what is to be rolled back
 *     database:close()                                      when all of it is done
 *     rows:next() -> a table by column; nil: that was the last; nil, message, code
 *
 * `limit` is how many rows are brought at once. Rows are closed by closing or collecting them, a database by collecting it. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "script/bind/bind_core.h"
#include "script/flow/strand.h"
#include "script/values/marks.h"
#include "script/values/values.h"
#include "sqlite/connection.h"

static const char *const DATABASE = "ltsh.sqlite.database";
static const char *const ROWS = "ltsh.sqlite.rows";

/* Shared by its object, its rows, and the calls under way. */
struct database {
    struct lt_sql *sql; /* NULL: closed */
    unsigned users;
    struct lt_opened opened; /* in the script's list while it is open */
};

struct rows {
    struct database *database;          /* NULL: closed */
    struct lt_sql_statement *statement; /* has more; NULL: it has not */
    uint32_t limit;
    struct lt_buffer bytes;
    size_t at;
};

struct sqlite_call {
    struct lt_sql_call call;
    struct lt_wait wait;
    struct lt_strand *strand; /* NULL: nobody waits any more */
    struct database *database;
    bool under_way;
};

static struct database *use_database(struct database *database)
{
    database->users++;
    return database;
}

static void unuse_database(struct database *database)
{
    if (--database->users == 0)
        free(database);
}

static void free_sqlite_call(struct sqlite_call *call)
{
    unuse_database(call->database);
    lt_sql_call_clear(&call->call);
    free(call);
}

static void reset_statement(struct database *database, struct lt_sql_statement *statement);

/* Nobody wants what came of it. */
static void drop_sqlite_call(struct sqlite_call *call)
{
    if (call->call.more && call->database->sql != NULL)
        reset_statement(call->database, call->call.statement);
    free_sqlite_call(call);
}

static void sqlite_call_done(struct lt_sql_call *done)
{
    struct sqlite_call *call = lt_container_of(done, struct sqlite_call, call);
    call->under_way = false;
    if (call->strand != NULL)
        lt_wake(call->strand);
    else
        drop_sqlite_call(call);
}

static struct sqlite_call *new_sqlite_call(struct database *database, enum lt_sql_kind kind)
{
    struct sqlite_call *call = lt_zalloc(sizeof *call);
    call->database = use_database(database);
    call->call.kind = kind;
    call->call.done = sqlite_call_done;
    return call;
}

static void send_unheard(struct sqlite_call *call)
{
    if (!lt_sql_send(call->database->sql, &call->call))
        free_sqlite_call(call);
}

static void reset_statement(struct database *database, struct lt_sql_statement *statement)
{
    struct sqlite_call *call = new_sqlite_call(database, LT_SQL_RESET);
    call->call.statement = statement;
    send_unheard(call);
}

static void database_ends(struct lt_opened *opened)
{
    struct database *database = lt_container_of(opened, struct database, opened);
    struct lt_sql *sql = database->sql;
    database->sql = NULL;
    lt_sql_close(sql);
}

static void close_connection(struct database *database)
{
    if (database->sql == NULL)
        return;
    LIST_REMOVE(&database->opened, link);
    database_ends(&database->opened);
}

/* Waiting. */

static void leave_call(struct lt_wait *wait)
{
    struct sqlite_call *call = lt_container_of(wait, struct sqlite_call, wait);
    call->strand = NULL;
    if (!call->under_way)
        drop_sqlite_call(call);
}

/* Suspends until it is done; `k` finds it by sqlite_call_over. */
LT_RAISES LT_RUNS_LUA static int wait_for_call(lua_State *L, struct lt_strand *strand, struct sqlite_call *call,
                                               lua_KFunction k)
{
    call->wait.cancel = leave_call;
    call->strand = strand;
    call->under_way = true;
    if (!lt_sql_send(call->database->sql, &call->call)) {
        free_sqlite_call(call);
        return luaL_error(L, "ltsh.sqlite: there is no thread for the database");
    }
    return lt_wait(L, strand, &call->wait, k);
}

/* The call that the strand waited for, in its continuation. */
LT_RAISES LT_RUNS_LUA static struct sqlite_call *sqlite_call_over(lua_State *L)
{
    return lt_container_of(lt_wait_over(L), struct sqlite_call, wait);
}

static void sqlite_call_taken(lua_State *L, struct sqlite_call *call)
{
    lt_wait_done(L);
    free_sqlite_call(call);
}

/* nil, message, code: and the call is let go of. */
static int push_failure(lua_State *L, struct sqlite_call *call)
{
    lua_pushnil(L);
    lua_pushstring(L, call->call.message);
    lua_pushinteger(L, call->call.code);
    sqlite_call_taken(L, call);
    return 3;
}

/* Arguments. */

LT_RAISES static struct database *check_database(lua_State *L)
{
    struct database **box = luaL_checkudata(L, 1, DATABASE);
    if (*box == NULL || (*box)->sql == NULL)
        luaL_error(L, "the database is closed");
    return *box;
}

/* A call with the text and the parameters at 2 and 3. */
LT_RAISES static struct sqlite_call *check_call(lua_State *L, struct database *database, enum lt_sql_kind kind)
{
    size_t len;
    struct lt_error error;
    const char *text = luaL_checklstring(L, 2, &len);
    if (strlen(text) != len)
        luaL_error(L, "ltsh.sqlite: there is a zero byte in the statement");
    struct lt_buffer parameters = {0};
    if (!lua_isnoneornil(L, 3) && lt_value_encode(L, 3, &parameters, "parameters", &error) != LT_OK) {
        lt_buffer_free(&parameters);
        luaL_error(L, "ltsh.sqlite: %s", error.message);
    }
    struct sqlite_call *call = new_sqlite_call(database, kind);
    call->call.text = lt_strdup(text);
    call->call.parameters = parameters;
    return call;
}

/* Databases. */

static int open_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct sqlite_call *call = sqlite_call_over(L);
    if (call->call.code != 0) {
        struct database **box = lua_touserdata(L, -1);
        close_connection(*box);
        return push_failure(L, call);
    }
    sqlite_call_taken(L, call);
    return 1;
}

/* core.sqlite(path, patience or nil) */
static int core_sqlite(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    double patience = luaL_optnumber(L, 2, -1);
    struct lt_strand *strand = lt_wait_check(L, "ltsh.sqlite.open");
    struct database **box = lua_newuserdatauv(L, sizeof(struct database *), 0);
    *box = NULL;
    luaL_setmetatable(L, DATABASE);
    struct lt_sql *sql = lt_sql_new(lt_script_of(L)->loop, patience);
    if (sql == NULL)
        return luaL_error(L, "ltsh.sqlite.open: there is no thread for the database");
    *box = lt_zalloc(sizeof(struct database));
    **box = (struct database){.sql = sql, .users = 1, .opened = {.end = database_ends}};
    LIST_INSERT_HEAD(&lt_script_of(L)->opened, &(*box)->opened, link);
    struct sqlite_call *call = new_sqlite_call(*box, LT_SQL_OPEN);
    call->call.text = lt_strdup(path);
    return wait_for_call(L, strand, call, open_over);
}

static int database_end(lua_State *L)
{
    struct database **box = luaL_checkudata(L, 1, DATABASE);
    struct database *database = *box;
    *box = NULL;
    if (database != NULL) {
        close_connection(database);
        unuse_database(database);
    }
    return 0;
}

static int run_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct sqlite_call *call = sqlite_call_over(L);
    if (call->call.code != 0)
        return push_failure(L, call);
    lua_pushinteger(L, call->call.changes);
    sqlite_call_taken(L, call);
    return 1;
}

static int database_run(lua_State *L)
{
    struct database *database = check_database(L);
    struct lt_strand *strand = lt_wait_check(L, "ltsh.sqlite");
    return wait_for_call(L, strand, check_call(L, database, LT_SQL_RUN), run_over);
}

static int database_send(lua_State *L)
{
    send_unheard(check_call(L, check_database(L), LT_SQL_RUN));
    return 0;
}

/* Rows. */

/* What the call brought. */
static void take_rows(struct rows *rows, struct lt_sql_call *call)
{
    lt_buffer_free(&rows->bytes);
    rows->bytes = call->rows;
    call->rows = (struct lt_buffer){0};
    rows->at = 0;
    rows->statement = call->more ? call->statement : NULL;
    call->more = false;
}

static int query_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct sqlite_call *call = sqlite_call_over(L);
    if (call->call.code != 0)
        return push_failure(L, call);
    struct rows *rows = lua_newuserdatauv(L, sizeof *rows, 0);
    *rows = (struct rows){.limit = call->call.limit};
    luaL_setmetatable(L, ROWS);
    rows->database = use_database(call->database);
    take_rows(rows, &call->call);
    sqlite_call_taken(L, call);
    return 1;
}

static int database_query(lua_State *L)
{
    struct database *database = check_database(L);
    struct lt_strand *strand = lt_wait_check(L, "ltsh.sqlite");
    lua_Integer limit = luaL_checkinteger(L, 4);
    struct sqlite_call *call = check_call(L, database, LT_SQL_QUERY);
    call->call.limit = (uint32_t)limit;
    return wait_for_call(L, strand, call, query_over);
}

static int rows_end(lua_State *L)
{
    struct rows *rows = luaL_checkudata(L, 1, ROWS);
    struct database *database = rows->database;
    rows->database = NULL;
    if (database == NULL)
        return 0;
    if (rows->statement != NULL && database->sql != NULL)
        reset_statement(database, rows->statement);
    lt_buffer_free(&rows->bytes);
    unuse_database(database);
    return 0;
}

LT_RAISES static int push_row(lua_State *L, struct rows *rows)
{
    uint32_t len;
    memcpy(&len, rows->bytes.data + rows->at, sizeof len);
    const char *row = rows->bytes.data + rows->at + sizeof len;
    rows->at += sizeof len + len;
    if (lt_value_decode(L, row, len) != 0)
        return luaL_error(L, "ltsh.sqlite: a row cannot be read");
    return 1;
}

static int fetch_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct sqlite_call *call = sqlite_call_over(L);
    struct rows *rows = luaL_checkudata(L, 1, ROWS);
    if (call->call.code != 0)
        return push_failure(L, call);
    if (rows->database == NULL) { /* somebody has closed them meanwhile */
        lt_wait_done(L);
        drop_sqlite_call(call);
        return 0;
    }
    take_rows(rows, &call->call);
    sqlite_call_taken(L, call);
    return rows->bytes.len > 0 ? push_row(L, rows) : 0;
}

static int rows_next(lua_State *L)
{
    struct rows *rows = luaL_checkudata(L, 1, ROWS);
    if (rows->database == NULL)
        return 0;
    if (rows->at < rows->bytes.len)
        return push_row(L, rows);
    if (rows->statement == NULL)
        return 0;
    if (rows->database->sql == NULL)
        return luaL_error(L, "the database is closed");
    struct lt_strand *strand = lt_wait_check(L, "ltsh.sqlite");
    struct sqlite_call *call = new_sqlite_call(rows->database, LT_SQL_FETCH);
    call->call.statement = rows->statement;
    call->call.limit = rows->limit;
    rows->statement = NULL; /* the call's, until it is done */
    lua_settop(L, 1);
    return wait_for_call(L, strand, call, fetch_over);
}

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction end)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, end);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, end);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void lt_bind_sqlite(lua_State *L)
{
    static const luaL_Reg of_databases[] = {{"run", database_run},
                                            {"query", database_query},
                                            {"send", database_send},
                                            {"close", database_end},
                                            {NULL, NULL}};
    static const luaL_Reg of_rows[] = {{"next", rows_next}, {"close", rows_end}, {NULL, NULL}};
    make_class(L, DATABASE, of_databases, database_end);
    make_class(L, ROWS, of_rows, rows_end);
    lua_pushcfunction(L, core_sqlite);
    lua_setfield(L, -2, "sqlite");
}
