/* Looking into a container in Lua: get, list, count; and reading the tasks that it returns.
 *
 * A table that has the methods is asked, since it may be shared or filled from elsewhere, but for the tasks of which
 * nobody knows more than this host. For a table without them the records answer. */
#include "script/parts/container/lua_container_state.h"

#include <stdlib.h>
#include <string.h>

#include "script/task/task_object.h"
#include "script/values/marks.h"

/* Reading. */

/* Whether the table at `index` is a list, and not one thing with fields. */
static bool is_list(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TTABLE)
        return false;
    if (lua_rawlen(L, index) > 0)
        return true;
    lua_pushnil(L);
    if (!lua_next(L, index))
        return true;
    lua_pop(L, 2);
    return false;
}

/* The place of the list that a method returned first; 0: an error. */
static int find_list(struct lt_adapter_call *call, lua_State *L, int count, const char *expected,
                     struct lt_error *error)
{
    int first = lua_gettop(L) - count + 1;
    if (lt_adapter_failed(L, count, error))
        return 0;
    if (count == 0)
        lua_pushnil(L);
    if (is_list(L, first))
        return first;
    lt_call_nonsense(&call->call, L, first, expected, error);
    return 0;
}

struct lt_task *lua_container_read_task(struct lt_adapter_call *call, lua_State *L, int index)
{
    struct lt_error why, named;
    struct lt_task *task = lt_task_read(L, index, &why);
    if (task != NULL)
        return task;
    lt_fail(&named, LT_ERROR, "%s: %s must return a list of tasks, but of one: %s", call->adapter->module.name,
            call->call.method, why.message);
    lt_adapter_log(call->adapter, "what is no task was ignored", NULL, named.message);
    return NULL;
}

int64_t lua_container_read_tasks(struct lt_adapter_call *call, lua_State *L, int count, struct lt_tasks *tasks,
                                 struct lt_error *error)
{
    int first = find_list(call, L, count, "a list of tasks", error);
    if (first == 0)
        return -1;
    lua_Unsigned length = lua_rawlen(L, first);
    for (lua_Unsigned i = 1; i <= length; i++) {
        lua_rawgeti(L, first, (lua_Integer)i);
        struct lt_task *task = lua_container_read_task(call, L, -1);
        lua_pop(L, 1);
        if (task != NULL)
            lt_tasks_push(tasks, task);
    }
    return length < UINT32_MAX ? (int64_t)length : UINT32_MAX;
}

/* Calls. */

struct lookup_call;
typedef int lookup_read(struct lookup_call *lookup, lua_State *L, int count, struct lt_error *error);

struct lookup_call {
    struct lt_adapter_call call;
    void *op; /* the container's */
    lookup_read *read;
};

static void lookup_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lookup_call *lookup = (struct lookup_call *)call;
    struct lt_error error;
    if (code == LT_OK) {
        code = lookup->read(lookup, L, count, &error);
        message = error.message;
    }
    lt_reply_send(call->reply, code, message);
    lt_adapter_call_free(call);
}

/* `op` begins with its reply. */
static struct lookup_call *new_lookup(struct lua_container *c, void *op, lookup_read *read)
{
    struct lookup_call *lookup = lt_adapter_call_new(&c->adapter, sizeof *lookup, op);
    lookup->op = op;
    lookup->read = read;
    return lookup;
}

/* get */

/* Nobody knows more of it than this host. */
static bool is_here(const struct lt_record *record)
{
    return record != NULL &&
           (record->place == LT_RECORD_ACTIVE || record->place == LT_RECORD_HELD || record->place == LT_RECORD_OWED);
}

/* The record follows what the table says. Returns the object to show, with a reference. */
static struct lt_task *follow_table(struct lua_container *c, const struct lt_record *record, struct lt_task *task)
{
    if (record == NULL || record->busy)
        return lt_task_ref(task);
    struct lt_task *known = record->task;
    bool same = known->status == task->status && known->run == task->run;
    if (is_here(record) || same)
        return lt_task_ref(known);
    bool still_waits = known->status == LT_WAITING && task->status == LT_WAITING;
    lt_task_inherit(task, known);
    if (still_waits || lt_status_ended(task->status))
        lt_records_file(&c->records, task, lua_container_wall(c));
    else
        lt_records_forget(&c->records, known);
    return lt_task_ref(task);
}

static int read_got(struct lookup_call *lookup, lua_State *L, int count, struct lt_error *error)
{
    struct lua_container *c = lua_container_of_adapter(lookup->call.adapter);
    struct lt_get_op *op = lookup->op;
    const char *name = c->adapter.module.name;
    int first = lua_gettop(L) - count + 1;
    struct lt_record *record = lt_records_find_id(&c->records, op->id, op->id_len);
    if (lt_adapter_failed(L, count, error))
        return error->code;
    if (count == 0 || lua_isnil(L, first)) {
        if (record != NULL && !record->busy && !is_here(record))
            lt_records_forget(&c->records, record->task);
        return lt_fail(error, LT_UNKNOWN, "no such task");
    }
    struct lt_error why;
    struct lt_task *task = lt_task_read(L, first, &why);
    if (task == NULL)
        return lt_fail(error, LT_ERROR, "%s: get must return a task or nil: %s", name, why.message);
    int code = LT_OK;
    if (task->id_len != op->id_len || memcmp(task->data, op->id, op->id_len) != 0)
        code = lt_fail(error, LT_ERROR, "%s: get must return task '%s' or nil, got task '%s'", name, op->id,
                       lt_task_id(task));
    else if (task->status == LT_UNSTARTED)
        code = lt_fail(error, LT_UNKNOWN, "no such task");
    else
        op->task = follow_table(c, record, task);
    lt_task_unref(task);
    return code;
}

LT_RUNS_LUA void lua_container_get(struct lt_container *container, struct lt_get_op *op)
{
    struct lua_container *c = lua_container_of(container);
    const struct lt_record *record = lt_records_find_id(&c->records, op->id, op->id_len);
    op->task = NULL;
    if (is_here(record) || !lt_module_has(&c->adapter.module, "get")) {
        op->task = lt_record_shown(record) ? lt_task_ref(record->task) : NULL;
        lt_reply_send(&op->reply, op->task != NULL ? LT_OK : LT_UNKNOWN, "no such task");
        return;
    }
    struct lookup_call *lookup = new_lookup(c, op, read_got);
    lua_State *L = lt_adapter_call_begin(&lookup->call, "get", lookup_returned);
    lua_pushlstring(L, op->id, op->id_len);
    lt_adapter_call_run(&lookup->call, 1);
}

/* list */

/* What a table lists has its place by counting: `after` is how many come before. What it was not asked for is left out. */
static int read_list(struct lookup_call *lookup, lua_State *L, int count, struct lt_error *error)
{
    struct lt_list_op *op = lookup->op;
    struct lt_list_op wanted = {.key = op->key, .text = op->text};
    struct lt_tasks found = {0};
    if (lua_container_read_tasks(&lookup->call, L, count, &found, error) < 0)
        return error->code;
    for (uint32_t i = 0; i < found.count && i < op->limit; i++) {
        if (lt_list_wants(&wanted, found.items[i]))
            lt_tasks_push(&op->tasks, lt_task_ref(found.items[i]));
    }
    if (found.count > 0)
        op->next = op->after + op->offset + found.count;
    lt_tasks_free(&found);
    return LT_OK;
}

LT_RUNS_LUA void lua_container_list(struct lt_container *container, struct lt_list_op *op)
{
    struct lua_container *c = lua_container_of(container);
    if (!lt_module_has(&c->adapter.module, "list")) {
        lt_records_list(&c->records, c->env.loop, op);
        return;
    }
    struct lookup_call *lookup = new_lookup(c, op, read_list);
    lua_State *L = lt_adapter_call_begin(&lookup->call, "list_by", lookup_returned);
    lookup->call.call.method = "list";
    lua_pushstring(L, op->status >= 0 ? lt_status_name((enum lt_status)op->status) : NULL);
    if (op->key != NULL)
        lua_pushlstring(L, op->key->data, op->key->len);
    else
        lua_pushnil(L);
    lua_pushinteger(L, op->limit < INT64_MAX ? (lua_Integer)op->limit : INT64_MAX);
    uint64_t before = op->offset + op->after;
    lua_pushinteger(L, (lua_Integer)before);
    lua_pushstring(L, op->descending ? "newest" : "oldest");
    if (op->text != NULL)
        lua_pushlstring(L, op->text->data, op->text->len);
    else
        lua_pushnil(L);
    lt_adapter_call_run(&lookup->call, 6);
}

/* count */

static void count_delayed(struct lua_container *c, struct lt_count_op *op)
{
    lt_records_any_due(&c->records, lua_container_wall(c));
    op->delayed = c->records.delayed.count;
    if (op->delayed > op->counts[LT_WAITING])
        op->delayed = op->counts[LT_WAITING];
}

static int read_counts(struct lookup_call *lookup, lua_State *L, int count, struct lt_error *error)
{
    struct lt_count_op *op = lookup->op;
    int first = lua_gettop(L) - count + 1;
    if (lt_adapter_failed(L, count, error))
        return error->code;
    for (int status = LT_WAITING; status <= LT_STOPPED; status++) {
        lua_rawgeti(L, first, status - LT_WAITING + 1);
        if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 0)
            return lt_call_nonsense(&lookup->call.call, L, -1, "a number of tasks", error);
        op->counts[status] = (uint64_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
    }
    count_delayed(lua_container_of_adapter(lookup->call.adapter), op);
    return LT_OK;
}

LT_RUNS_LUA void lua_container_count(struct lt_container *container, struct lt_count_op *op)
{
    struct lua_container *c = lua_container_of(container);
    if (!lt_module_has(&c->adapter.module, "count")) {
        memcpy(op->counts, c->records.counts, sizeof op->counts);
        count_delayed(c, op);
        lt_reply_ok(&op->reply);
        return;
    }
    struct lookup_call *lookup = new_lookup(c, op, read_counts);
    lt_adapter_call_begin(&lookup->call, "count_all", lookup_returned);
    lookup->call.call.method = "count";
    lt_adapter_call_run(&lookup->call, 0);
}
