/* Looking into a container in Lua: get, list, count.
 *
 * A table that has the methods is asked, since it may be shared or filled from elsewhere, but for the tasks that run
 * here: nobody knows more of them. For a table without them the records answer. */
#include "script/parts/container/lua_container_state.h"

#include <stdlib.h>
#include <string.h>

#include "script/task/task_object.h"
#include "script/values/marks.h"

struct lookup_call {
    struct lt_adapter_call call;
    struct lua_container *c;
    struct lt_get_op *get;
    struct lt_list_op *list;
    struct lt_count_op *count;
    int status; /* that is counted now */
    int code;   /* of a count that failed */
    struct lt_bytes *message;
};

static void free_lookup(struct lt_adapter_call *call)
{
    lt_bytes_unref(((struct lookup_call *)call)->message);
}

static void answer_lookup(struct lookup_call *lookup, int code, const char *message)
{
    lt_reply_send(lookup->call.reply, code, message);
    lt_adapter_call_free(&lookup->call);
}

static struct lookup_call *new_lookup(struct lua_container *c, struct lt_reply *reply)
{
    struct lookup_call *lookup = lt_adapter_call_new(&c->adapter, sizeof *lookup, reply);
    lookup->call.free = free_lookup;
    lookup->c = c;
    return lookup;
}

static void get_known(struct lt_get_op *op, const struct lt_record *record)
{
    bool known = record != NULL && record->place != LT_RECORD_GUEST;
    op->task = known ? lt_task_ref(record->task) : NULL;
    lt_reply_send(&op->reply, known ? LT_OK : LT_UNKNOWN, "no such task");
}

/* It runs here, or will: the table has made it running. */
static bool is_here(const struct lt_record *record)
{
    return record != NULL && (record->place == LT_RECORD_ACTIVE || record->claimed != NULL);
}

/* The table knows better where a task is that does not run here: the record follows. Returns the object to show, with
 * a reference. */
static struct lt_task *follow_record(struct lua_container *c, struct lt_record *record, struct lt_task *task)
{
    if (record == NULL || record->busy)
        return lt_task_ref(task);
    const struct lt_task *known = record->task;
    bool same = known->status == task->status && known->run == task->run;
    if (same || is_here(record))
        return lt_task_ref(record->task);
    bool still_waits = known->status == LT_WAITING && task->status == LT_WAITING;
    lt_task_inherit(task, known);
    if (still_waits || lt_status_ended(task->status))
        lt_records_file(&c->records, task, lua_container_wall(c));
    else
        lt_records_forget(&c->records, record);
    return lt_task_ref(task);
}

static int read_got(struct lookup_call *lookup, lua_State *L, int count, struct lt_error *error)
{
    struct lua_container *c = lookup->c;
    struct lt_get_op *op = lookup->get;
    const char *name = c->adapter.module.name;
    int first = lua_gettop(L) - count + 1;
    struct lt_record *record = lt_records_find_id(&c->records, op->id, op->id_len);
    if (lt_adapter_failed(L, count, error))
        return error->code;
    if (count == 0 || lua_isnil(L, first)) {
        if (record != NULL && !record->busy && !is_here(record))
            lt_records_forget(&c->records, record);
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
        op->task = follow_record(c, record, task);
    lt_task_unref(task);
    return code;
}

static void get_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lookup_call *lookup = (struct lookup_call *)call;
    struct lt_error error;
    if (code == LT_OK) {
        code = read_got(lookup, L, count, &error);
        message = error.message;
    }
    answer_lookup(lookup, code, message);
}

LT_RUNS_LUA void lua_container_get(struct lt_container *container, struct lt_get_op *op)
{
    struct lua_container *c = lua_container_of(container);
    const struct lt_record *record = lt_records_find_id(&c->records, op->id, op->id_len);
    op->task = NULL;
    if (is_here(record) || !lt_module_has(&c->adapter.module, "get")) {
        get_known(op, record);
        return;
    }
    struct lookup_call *lookup = new_lookup(c, &op->reply);
    lookup->get = op;
    lua_State *L = lt_adapter_call_begin(&lookup->call, "get", get_returned);
    lua_pushlstring(L, op->id, op->id_len);
    lt_adapter_call_run(&lookup->call, 1);
}

static int read_list(struct lookup_call *lookup, lua_State *L, int count, struct lt_error *error)
{
    struct lt_list_op *op = lookup->list;
    struct lt_adapter_call *call = &lookup->call;
    int first = lua_gettop(L) - count + 1;
    if (lt_adapter_failed(L, count, error))
        return error->code;
    if (count == 0)
        lua_pushnil(L);
    if (lua_type(L, first) != LUA_TTABLE)
        return lt_call_nonsense(&call->call, L, first, "a list of tasks", error);
    lua_Unsigned length = lua_rawlen(L, first);
    for (lua_Unsigned i = 1; i <= length && op->tasks.count < op->limit; i++) {
        struct lt_error why;
        lua_rawgeti(L, first, (lua_Integer)i);
        struct lt_task *task = lt_task_read(L, -1, &why);
        lua_pop(L, 1);
        if (task == NULL)
            return lt_fail(error, LT_ERROR, "%s: list must return a list of tasks: %s", call->adapter->module.name,
                           why.message);
        lt_tasks_push(&op->tasks, task);
    }
    return LT_OK;
}

static void list_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lookup_call *lookup = (struct lookup_call *)call;
    struct lt_error error;
    if (code == LT_OK) {
        code = read_list(lookup, L, count, &error);
        message = error.message;
    }
    if (code != LT_OK)
        lt_tasks_clear(&lookup->list->tasks);
    answer_lookup(lookup, code, message);
}

static void push_filter(lua_State *L, const struct lt_list_op *op)
{
    lua_createtable(L, 0, 5);
    if (op->status >= 0) {
        lua_pushstring(L, lt_status_name((enum lt_status)op->status));
        lua_setfield(L, -2, "status");
    }
    if (op->key != NULL) {
        lua_pushlstring(L, op->key->data, op->key->len);
        lua_setfield(L, -2, "key");
    }
    lua_pushinteger(L, op->limit < INT64_MAX ? (lua_Integer)op->limit : INT64_MAX);
    lua_setfield(L, -2, "limit");
    lua_pushinteger(L, (lua_Integer)op->offset);
    lua_setfield(L, -2, "offset");
    lua_pushstring(L, op->descending ? "newest" : "oldest");
    lua_setfield(L, -2, "order");
}

LT_RUNS_LUA void lua_container_list(struct lt_container *container, struct lt_list_op *op)
{
    struct lua_container *c = lua_container_of(container);
    if (!lt_module_has(&c->adapter.module, "list")) {
        lt_records_list(&c->records, op);
        lt_reply_ok(&op->reply);
        return;
    }
    struct lookup_call *lookup = new_lookup(c, &op->reply);
    lookup->list = op;
    lua_State *L = lt_adapter_call_begin(&lookup->call, "list", list_returned);
    push_filter(L, op);
    lt_adapter_call_run(&lookup->call, 1);
}

/* The table counts one status at a time. */
static void count_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lookup_call *lookup = (struct lookup_call *)call;
    struct lt_error error;
    int first = L != NULL ? lua_gettop(L) - count + 1 : 0;
    if (code != LT_OK) {
        lt_fail(&error, code, "%s", message);
    } else if (lt_adapter_failed(L, count, &error)) {
        code = error.code;
    } else {
        if (count == 0)
            lua_pushnil(L);
        if (lua_isinteger(L, first) && lua_tointeger(L, first) >= 0)
            lookup->count->counts[lookup->status] = (uint64_t)lua_tointeger(L, first);
        else
            code = lt_call_nonsense(&call->call, L, first, "a number of tasks", &error);
    }
    lookup->code = code;
    if (code != LT_OK)
        lookup->message = lt_bytes_new(error.message, strlen(error.message));
    lt_adapter_go(call);
}

LT_RUNS_LUA static bool count_next(struct lt_adapter_call *call)
{
    struct lookup_call *lookup = (struct lookup_call *)call;
    if (lookup->code != LT_OK || ++lookup->status == LT_DELETED)
        return true;
    lua_State *L = lt_adapter_call_begin(call, "count", count_returned);
    lua_createtable(L, 0, 1);
    lua_pushstring(L, lt_status_name((enum lt_status)lookup->status));
    lua_setfield(L, -2, "status");
    lt_adapter_call_run(call, 1);
    return false;
}

static void count_delayed(struct lua_container *c, struct lt_count_op *op)
{
    lt_records_any_due(&c->records, lua_container_wall(c));
    op->delayed = c->records.delayed.count;
    if (op->delayed > op->counts[LT_WAITING])
        op->delayed = op->counts[LT_WAITING];
}

static void count_over(struct lt_adapter_call *call)
{
    struct lookup_call *lookup = (struct lookup_call *)call;
    count_delayed(lookup->c, lookup->count);
    answer_lookup(lookup, lookup->code, lookup->message != NULL ? lookup->message->data : NULL);
}

LT_RUNS_LUA void lua_container_count(struct lt_container *container, struct lt_count_op *op)
{
    struct lua_container *c = lua_container_of(container);
    memcpy(op->counts, c->records.counts, sizeof op->counts);
    if (!lt_module_has(&c->adapter.module, "count")) {
        count_delayed(c, op);
        lt_reply_ok(&op->reply);
        return;
    }
    struct lookup_call *lookup = new_lookup(c, &op->reply);
    lookup->count = op;
    lookup->status = LT_UNSTARTED;
    lookup->call.step = count_next;
    lookup->call.over = count_over;
    lt_adapter_go(&lookup->call);
}

double lua_container_oldest(const struct lt_container *container)
{
    const struct lua_container *c = (const struct lua_container *)container;
    const struct lt_record *record = TAILQ_FIRST(&c->records.due);
    return record != NULL ? lt_task_waiting_since(record->task) : 0;
}

uint64_t lua_container_ahead(const struct lt_container *container, const struct lt_task *task)
{
    return lt_records_ahead(&((const struct lua_container *)container)->records, task);
}
