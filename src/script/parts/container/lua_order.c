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

void *lua_op_new(struct lua_container *c, size_t size, struct lt_reply *reply, void (*begin)(struct lua_op *op))
{
    struct lua_op *op = lt_adapter_call_new(&c->adapter, size, reply);
    op->call.ordered = true;
    op->c = c;
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
    if (op->task != NULL) {
        op->record = lt_records_hold(&op->c->records, op->task);
        op->record->asked++;
    }
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
        record->asked--;
        lt_records_tidy(&c->records, record);
    }
    begin_ops(c);
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
