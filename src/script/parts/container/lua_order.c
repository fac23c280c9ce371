/* The order in which a table is asked: the one rule of lua_container.c.
 *
 *     under way \ asked     transition, update of a task      claim, add, close
 *     nothing               begins                            begins, alone
 *     transitions           begins; waits if one of the       waits for all of them
 *                           same task is under way
 *     claim, add or close   waits                             waits
 *
 * What waits does so in one queue. Nobody passes one in it who is to be called alone, so that none of them waits for
 * ever; others are passed if they only wait for their own task. */
#include "script/parts/container/lua_container_state.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

void *lua_op_new(struct lua_container *c, size_t size, struct lt_task *task, struct lt_reply *reply,
                 void (*begin)(struct lua_op *op))
{
    struct lua_op *op = lt_adapter_call_new(&c->adapter, size, reply);
    op->call.ordered = true;
    op->c = c;
    op->task = task;
    op->begin = begin;
    return op;
}

static bool may_begin(const struct lua_container *c, const struct lua_op *op)
{
    if (c->alone != NULL)
        return false;
    if (op->task == NULL)
        return c->side_by_side == 0;
    return !op->record->busy;
}

static struct lua_op *next_op(const struct lua_container *c)
{
    struct lua_op *op;
    STAILQ_FOREACH(op, &c->queue, link) {
        if (may_begin(c, op))
            return op;
        if (c->alone != NULL || op->task == NULL)
            return NULL;
    }
    return NULL;
}

static void begin_op(struct lua_op *op)
{
    struct lua_container *c = op->c;
    if (op->task == NULL) {
        c->alone = op;
    } else {
        c->side_by_side++;
        op->record->busy = true;
    }
    op->begin(op);
}

/* However many are over at once, they do not nest. */
static void begin_ops(struct lua_container *c)
{
    struct lua_op *op;
    if (c->beginning)
        return;
    c->beginning = true;
    while ((op = next_op(c)) != NULL) {
        STAILQ_REMOVE(&c->queue, op, lua_op, link);
        begin_op(op);
    }
    c->beginning = false;
}

void lua_op_enter(struct lua_op *op)
{
    if (op->task != NULL)
        op->record = lt_records_use(&op->c->records, op->task);
    STAILQ_INSERT_TAIL(&op->c->queue, op, link);
    begin_ops(op->c);
}

void lua_op_end(struct lua_op *op, int code, const char *message)
{
    struct lua_container *c = op->c;
    struct lt_record *record = op->record;
    if (op->call.reply != NULL)
        lt_reply_send(op->call.reply, code, message);
    lt_adapter_call_free(&op->call);
    if (record == NULL) {
        c->alone = NULL;
    } else {
        c->side_by_side--;
        record->busy = false;
        lt_records_unuse(&c->records, record);
    }
    begin_ops(c);
}

/* Calls. */

lua_State *lua_op_call(struct lua_op *op, const char *function, const char *method, lua_op_done *done)
{
    lua_State *L = lt_adapter_call_begin(&op->call, function, done);
    op->call.call.method = method;
    op->number = ++op->c->calls;
    return L;
}

LT_RUNS_LUA void lua_op_tell(struct lua_op *op, struct lt_task *shown, lua_op_done *done)
{
    static const char *const methods[LT_STATUSES] = {
        [LT_WAITING] = "to_waiting", [LT_EXPORTING] = "to_exporting", [LT_SUCCESS] = "to_success",
        [LT_FAILED] = "to_failed",   [LT_STOPPED] = "to_stopped",     [LT_DELETED] = "to_deleted",
    };
    const char *method = methods[shown->status];
    lua_State *L = lua_op_call(op, method, method, done);
    lt_task_push(L, shown);
    if (shown->status == LT_FAILED) {
        const struct lt_bytes *reason = shown->reason;
        lua_pushlstring(L, reason != NULL ? reason->data : "failed", reason != NULL ? reason->len : 6);
    }
    lt_adapter_call_run(&op->call, shown->status == LT_FAILED ? 2 : 1);
}

void lua_op_push_function(struct lua_op *op, lua_State *L, lua_CFunction function)
{
    lt_adapter_push_function(op->call.adapter, L, function, op->number);
}

struct lua_op *lua_op_of_function(lua_State *L)
{
    struct lt_adapter *adapter = lt_adapter_of_function(L);
    struct lua_op *op = adapter != NULL ? lua_container_of_adapter(adapter)->alone : NULL;
    bool calls = op != NULL && op->call.under_way && op->number == lt_adapter_function_number(L);
    return calls ? op : NULL;
}

bool lua_container_inside(const struct lt_container *container)
{
    const struct lua_container *c = (const struct lua_container *)container;
    const struct lt_strand *strand = lt_strand_now(c->adapter.module.script);
    if (strand == NULL || strand->group != &c->adapter.module.group)
        return false;
    const struct lt_call *call = strand->owner;
    const struct lt_adapter_call *method = call->owner;
    return method->ordered;
}
