/* Adding to a container in Lua: one task after the other, all or none.
 *
 *     alone with the table: known here? -> add(self, copy) ... -> filed in the records
 *                           no: the table is owed that those before it are deleted, and is told so at once */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/parts/container/lua_container_state.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

struct add_call {
    struct lua_op op;
    struct lt_add_op *add;
    double first_added; /* of the first one; each other one a microsecond later */
    uint32_t given;     /* how many the table was asked to take */
    int code;           /* != LT_OK: it failed */
    struct lt_bytes *message;
};

static const double APART = 1e-6; /* so that the order of adding can be read from the times */

static void free_add(struct lt_adapter_call *call)
{
    lt_bytes_unref(((struct add_call *)call)->message);
}

static double added_at(const struct add_call *add, uint32_t i)
{
    return add->first_added + i * APART;
}

/* A copy as the table is to see it, with a reference for the caller. */
static struct lt_task *copy_for_table(const struct add_call *add, uint32_t i, enum lt_status status)
{
    struct lt_task *shown = lt_task_clone(add->add->tasks[i]);
    lt_task_apply_added(shown, added_at(add, i));
    shown->status = (uint8_t)status;
    return shown;
}

LT_RUNS_LUA static void push_next(lua_State *L, struct add_call *add)
{
    struct lt_task *shown = copy_for_table(add, add->given++, LT_WAITING);
    lt_task_push(L, shown);
    lt_task_unref(shown);
}

/* next() -> the next task of the list, or nil */
static int next_added(lua_State *L)
{
    struct add_call *add = (struct add_call *)lua_op_of_function(L);
    if (add == NULL || add->given == add->add->count)
        return 0;
    lt_call_prolong(&add->op.call.call);
    push_next(L, add);
    return 1;
}

/* Those that are in are taken out again; and one whose call failed: nobody knows whether it was stored. */
static void fail_add(struct add_call *add, int code, const char *message)
{
    struct lua_container *c = add->op.c;
    add->code = code;
    add->message = lt_bytes_new(message, strlen(message));
    for (uint32_t i = lua_container_trouble(code) ? add->given : add->given - 1; i > 0; i--) {
        struct lt_task *shown = copy_for_table(add, i - 1, LT_DELETED);
        const struct lt_record *known = lt_records_find(&c->records, shown);
        struct lt_task *ended = known != NULL && known->place == LT_RECORD_ENDED ? lt_task_ref(known->task) : NULL;
        lt_records_owe(&c->records, shown)->before = ended;
        lt_task_unref(shown);
    }
    c->tell_at = 0;
}

static void add_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct add_call *add = (struct add_call *)call;
    struct lua_container *c = add->op.c;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_REFUSED, &error);
    if (code != LT_OK)
        fail_add(add, code, error.message);
    for (uint32_t i = 0; i < add->add->count && code == LT_OK; i++) {
        lt_task_apply_added(add->add->tasks[i], added_at(add, i));
        lt_records_file(&c->records, add->add->tasks[i], lua_container_wall(c));
    }
    c->pause = 0;
    lt_adapter_go(call);
}

LT_RUNS_LUA static bool add_step(struct lt_adapter_call *call)
{
    struct add_call *add = (struct add_call *)call;
    if (add->given > 0)
        return add->code == LT_OK || !lua_container_pay(&add->op);
    bool one = add->add->count == 1;
    lua_State *L = lua_op_call(&add->op, one ? "add" : "add_all", "add", add_returned);
    if (one)
        push_next(L, add);
    else
        lua_op_push_function(&add->op, L, next_added);
    lt_adapter_call_run(call, 1);
    return false;
}

static void add_over(struct lt_adapter_call *call)
{
    struct add_call *add = (struct add_call *)call;
    lua_op_end(&add->op, add->code, add->message != NULL ? add->message->data : NULL);
}

static int check_unknown(const struct lua_container *c, const struct lt_task *task, struct lt_error *error)
{
    const struct lt_record *record = lt_records_find(&c->records, task);
    if (record == NULL || record->place == LT_RECORD_GUEST)
        return LT_OK;
    if (record->place == LT_RECORD_OWED)
        return lt_fail(error, LT_EXISTS, "task '%s' exists and is being changed", lt_task_id(task));
    bool once = task->options != NULL && task->options->once;
    if (once || record->place != LT_RECORD_ENDED)
        return lt_fail(error, LT_EXISTS, "task '%s' exists and is %s", lt_task_id(task),
                       lt_status_name(record->task->status));
    return LT_OK;
}

static void begin_add(struct lua_op *op)
{
    struct add_call *add = (struct add_call *)op;
    struct lua_container *c = op->c;
    struct lt_error error;
    for (uint32_t i = 0; i < add->add->count; i++) {
        int code = check_unknown(c, add->add->tasks[i], &error);
        if (code != LT_OK) {
            lua_op_end(op, code, error.message);
            return;
        }
    }
    double now = lua_container_wall(c);
    add->first_added = now > c->last_added + APART ? now : c->last_added + APART;
    c->last_added = added_at(add, add->add->count);
    lt_adapter_go(&op->call);
}

void lua_container_add(struct lt_container *container, struct lt_add_op *op)
{
    struct add_call *add = lua_op_new(lua_container_of(container), sizeof *add, NULL, &op->reply, begin_add);
    add->op.call.free = free_add;
    add->op.call.step = add_step;
    add->op.call.over = add_over;
    add->add = op;
    lua_op_enter(&add->op);
}

/* One that runs already. */

struct running_call {
    struct lua_op op;
    struct lt_task *task;
};

static void running_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct running_call *running = (struct running_call *)call;
    struct lua_container *c = running->op.c;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_REFUSED, &error);
    if (code == LT_OK)
        lt_records_file(&c->records, running->task, lua_container_wall(c));
    lua_op_end(&running->op, code, error.message);
}

LT_RUNS_LUA static void begin_running(struct lua_op *op)
{
    const struct running_call *running = (const struct running_call *)op;
    lua_State *L = lua_op_call(op, "add_running", "add_running", running_returned);
    lt_task_push(L, running->task);
    lt_adapter_call_run(&op->call, 1);
}

void lua_container_add_running(struct lt_container *container, struct lt_update_op *op)
{
    struct running_call *running =
        lua_op_new(lua_container_of(container), sizeof *running, op->task, &op->reply, begin_running);
    running->task = op->task;
    lua_op_enter(&running->op);
}
