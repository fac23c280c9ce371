/* Adding to a container in Lua: one task after the other, all or none.
 *
 *     alone with the table: known here? -> add(self, copy) ... -> filed in the records
 *                           no: those before it are taken out again with to_deleted */
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
    uint32_t next;
    struct lt_task *shown;
    int code; /* != LT_OK: it failed */
    struct lt_bytes *message;
};

static const double APART = 1e-6; /* so that the order of adding can be read from the times */

static void free_add(struct lt_adapter_call *call)
{
    struct add_call *add = (struct add_call *)call;
    lt_task_unref(add->shown);
    lt_bytes_unref(add->message);
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

/* Those that are in are taken out again; and one whose call failed: nobody knows whether it was stored. */
static void fail_add(struct add_call *add, int code, const char *message)
{
    add->code = code;
    add->message = lt_bytes_new(message, strlen(message));
    for (uint32_t i = add->next + (lua_container_trouble(code) ? 1 : 0); i > 0; i--)
        lua_untold_add(add->op.c, copy_for_table(add, i - 1, LT_DELETED))->unwanted = true;
}

static void add_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct add_call *add = (struct add_call *)call;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_REFUSED, &error);
    if (code == LT_OK)
        add->next++;
    else
        fail_add(add, code, error.message);
    lt_adapter_go(call);
}

LT_RUNS_LUA static bool add_step(struct lt_adapter_call *call)
{
    struct add_call *add = (struct add_call *)call;
    if (add->code != LT_OK)
        return !lua_untold_tell(&add->op);
    if (add->next == add->add->count)
        return true;
    lt_task_unref(add->shown);
    add->shown = copy_for_table(add, add->next, LT_WAITING);
    lua_State *L = lt_adapter_call_begin(call, "add", add_returned);
    lt_task_push(L, add->shown);
    lt_adapter_call_run(call, 1);
    return false;
}

static void add_over(struct lt_adapter_call *call)
{
    struct add_call *add = (struct add_call *)call;
    struct lua_container *c = add->op.c;
    for (uint32_t i = 0; i < add->add->count && add->code == LT_OK; i++) {
        lt_task_apply_added(add->add->tasks[i], added_at(add, i));
        lt_records_file(&c->records, add->add->tasks[i], lua_container_wall(c));
    }
    c->pause = 0;
    lua_op_end(&add->op, add->code, add->message != NULL ? add->message->data : NULL);
}

static int check_unknown(const struct lua_container *c, const struct lt_task *task, struct lt_error *error)
{
    if (lua_untold_find(c, task) != NULL)
        return lt_fail(error, LT_EXISTS, "task '%s' exists and is being changed", lt_task_id(task));
    const struct lt_record *record = lt_records_find(&c->records, task);
    if (record == NULL || record->place == LT_RECORD_GUEST)
        return LT_OK;
    bool once = task->options != NULL && task->options->once;
    if (once || record->place != LT_RECORD_ENDED || record->claimed != NULL)
        return lt_fail(error, LT_EXISTS, "task '%s' exists and is %s", lt_task_id(task),
                       lt_status_name(record->task->status));
    return LT_OK;
}

/* No id may be there twice. They are marked while that is looked for. */
static int check_list(struct lua_container *c, const struct lt_add_op *op, struct lt_error *error)
{
    int code = LT_OK;
    uint32_t marked = 0;
    for (; marked < op->count; marked++) {
        code = check_unknown(c, op->tasks[marked], error);
        if (code != LT_OK)
            break;
        struct lt_record *record = lt_records_hold(&c->records, op->tasks[marked]);
        if (record->busy) {
            code = lt_fail(error, LT_EXISTS, "task '%s' is being added already", lt_task_id(op->tasks[marked]));
            break;
        }
        record->busy = true;
    }
    for (uint32_t i = 0; i < marked; i++) {
        struct lt_record *record = lt_records_find(&c->records, op->tasks[i]);
        record->busy = false;
        lt_records_tidy(&c->records, record);
    }
    return code;
}

static void begin_add(struct lua_op *op)
{
    struct add_call *add = (struct add_call *)op;
    struct lua_container *c = op->c;
    struct lt_error error;
    int code = add->add->count == 1 ? check_unknown(c, add->add->tasks[0], &error) : check_list(c, add->add, &error);
    if (code != LT_OK) {
        lua_op_end(op, code, error.message);
        return;
    }
    double now = lua_container_wall(c);
    add->first_added = now > c->last_added + APART ? now : c->last_added + APART;
    c->last_added = added_at(add, add->add->count);
    lt_adapter_go(&op->call);
}

void lua_container_add(struct lt_container *container, struct lt_add_op *op)
{
    struct add_call *add = lua_op_new(lua_container_of(container), sizeof *add, &op->reply, begin_add);
    add->op.call.free = free_add;
    add->op.call.step = add_step;
    add->op.call.over = add_over;
    add->add = op;
    lua_op_enter(&add->op);
}
