/* Adding to a container in Lua: one task after the other, all or none.
 *
 *     known here? -> add(self, copy) ... -> filed in the records
 *                         no: those before it are taken out again with to_deleted
 *
 * While a task is being added its record is busy: a claim that gets it early waits for the answer, and so does what
 * else is asked about it. Those of several are given back by a claim: they are not to run before the last one is in;
 * and so are those that are to be taken out again. That waits for the claim under way, and the next claim for it: the
 * table would refuse it for a task that was claimed. */
#include "script/lua_container.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/task_object.h"

struct add_call {
    struct lt_adapter_call call;
    struct lua_container *c;
    struct lt_add_op *op;
    struct newcomer *newcomers; /* of all tasks, in the map */
    double first_added;         /* of the first one; each other one a microsecond later */
    uint32_t next;
    uint32_t undo;     /* how many are to be taken out again */
    bool holds_claims; /* while they are */
    struct lt_parked parked;
    struct lt_task *shown;
    int code; /* != LT_OK: it failed */
    struct lt_bytes *message;
};

static const double APART = 1e-6; /* so that the order of adding can be read from the times */

static const char *newcomer_id(const void *object, size_t *len)
{
    const struct newcomer *newcomer = object;
    *len = newcomer->task->id_len;
    return newcomer->task->data;
}

void lua_container_adding_open(struct lua_container *c)
{
    c->adding.key = newcomer_id;
}

struct newcomer *lua_container_find_newcomer(const struct lua_container *c, const struct lt_task *task)
{
    return lt_map_find(&c->adding, task->hash, task->data, task->id_len);
}

static void free_add(struct lt_adapter_call *call)
{
    struct add_call *add = (struct add_call *)call;
    lt_task_unref(add->shown);
    lt_bytes_unref(add->message);
    free(add->newcomers);
}

static double added_at(const struct add_call *add, uint32_t i)
{
    return add->first_added + i * APART;
}

static void apply_added(const struct add_call *add, uint32_t i, struct lt_task *task)
{
    lt_task_apply_added(task, added_at(add, i));
    if (task->run < add->newcomers[i].run)
        task->run = add->newcomers[i].run;
}

/* A copy as the table is to see it. */
static struct lt_task *show(struct add_call *add, uint32_t i, enum lt_status status)
{
    lt_task_unref(add->shown);
    add->shown = lt_task_clone(add->op->tasks[i]);
    apply_added(add, i, add->shown);
    add->shown->status = (uint8_t)status;
    return add->shown;
}

static void fail(struct add_call *add, int code, const char *message)
{
    add->code = code;
    lt_bytes_set(&add->message, lt_bytes_new(message, strlen(message)));
    /* Of one whose call failed nobody knows whether it was stored. */
    add->undo = add->next + (lua_container_trouble(code) ? 1 : 0);
    for (uint32_t i = 0; i < add->undo; i++) {
        add->newcomers[i].not_to_run = true;
        lua_container_not_returning(add->c, add->newcomers[i].record); /* a claim that waits for it gives it back */
    }
}

static void added(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct add_call *add = (struct add_call *)call;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_REFUSED, &error);
    if (code == LT_OK)
        add->next++;
    else
        fail(add, code, error.message);
    lt_adapter_go(call);
}

static void claim_over(struct lt_parked *parked)
{
    struct add_call *add = (struct add_call *)((char *)parked - offsetof(struct add_call, parked));
    lt_adapter_go(&add->call);
}

static void undone(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct add_call *add = (struct add_call *)call;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    if (lua_container_trouble(code)) {
        lt_adapter_log(&add->c->adapter, "a task that was not added could not be taken out again", add->shown,
                       error.message);
        lua_container_owe(add->c, lt_task_ref(add->shown), NULL);
        while (add->undo > 0) /* claims cannot wait for each of them in turn */
            lua_container_owe(add->c, lt_task_ref(show(add, --add->undo, LT_DELETED)), NULL);
    } else if (code != LT_OK && lua_container_owes(add->c, add->shown)) {
        lua_container_owe(add->c, lt_task_ref(add->shown), NULL); /* it is to be given back first */
    }
    lt_adapter_go(call);
}

/* Not while a claim is under way; and who begins when one is held waits for that one, so that claims do not wait for
 * ever. From then on they wait. */
static bool may_undo(struct add_call *add)
{
    struct lua_container *c = add->c;
    if (add->holds_claims)
        return true;
    if (c->claiming != NULL || c->held != NULL)
        return false;
    add->holds_claims = true;
    c->undoing++;
    return true;
}

static bool step(struct lt_adapter_call *call)
{
    struct add_call *add = (struct add_call *)call;
    if (add->code == LT_OK && add->next < add->op->count) {
        struct lt_task *shown = show(add, add->next, LT_WAITING);
        lua_State *L = lt_adapter_call_begin(call, "add", added);
        lt_task_push(L, shown);
        lt_adapter_call_run(call, 1);
        return false;
    }
    if (add->code != LT_OK && add->undo > 0) {
        if (!may_undo(add)) {
            lua_container_park(add->c, &add->parked, claim_over);
            return false;
        }
        lua_container_tell(call, show(add, --add->undo, LT_DELETED), undone);
        return false;
    }
    return true;
}

/* The tasks are in, or not: what came for them meanwhile goes on. */
static void leave(struct add_call *add, uint32_t count)
{
    struct lua_container *c = add->c;
    for (uint32_t i = 0; i < count; i++) {
        struct lt_record *record = add->newcomers[i].record;
        lt_map_remove(&c->adding, add->op->tasks[i]->hash, &add->newcomers[i]);
        lua_container_not_returning(c, record);
        record->busy = false;
        lua_container_settle(c, record);
    }
}

static void file(struct add_call *add)
{
    struct lua_container *c = add->c;
    for (uint32_t i = 0; i < add->op->count; i++) {
        struct lt_task *task = add->op->tasks[i];
        apply_added(add, i, task);
        lt_records_file(&c->records, task, lua_container_wall(c));
    }
    c->pause = 0;
}

static void over(struct lt_adapter_call *call)
{
    struct add_call *add = (struct add_call *)call;
    if (add->code == LT_OK)
        file(add);
    struct lua_container *c = add->c;
    bool held_claims = add->holds_claims;
    leave(add, add->op->count);
    lt_reply_send(call->reply, add->code, add->message != NULL ? add->message->data : NULL);
    lt_adapter_call_free(call);
    if (held_claims && --c->undoing == 0)
        lua_container_begin_claim(c);
}

static int check_known(const struct lua_container *c, const struct lt_task *task, struct lt_error *error)
{
    if (lua_container_find_newcomer(c, task) != NULL)
        return lt_fail(error, LT_EXISTS, "task '%s' is being added already", lt_task_id(task));
    const struct lt_record *record = lt_records_find(&c->records, task);
    if (record != NULL && record->busy)
        return lt_fail(error, LT_EXISTS, "task '%s' exists and is being changed", lt_task_id(task));
    if (record == NULL || record->place == LT_RECORD_GUEST)
        return LT_OK;
    bool once = task->options != NULL && task->options->once;
    if (once || record->place != LT_RECORD_ENDED)
        return lt_fail(error, LT_EXISTS, "task '%s' exists and is %s", lt_task_id(task),
                       lt_status_name(record->task->status));
    return LT_OK;
}

void lua_container_add(struct lt_container *container, struct lt_add_op *op)
{
    struct lua_container *c = lua_container_of(container);
    struct add_call *add = lt_adapter_call_new(&c->adapter, sizeof *add, &op->reply);
    add->call.free = free_add;
    add->call.step = step;
    add->call.over = over;
    add->c = c;
    add->op = op;
    add->newcomers = lt_alloc((op->count + 1) * sizeof(struct newcomer));
    for (uint32_t i = 0; i < op->count; i++) {
        struct lt_error error;
        int code = check_known(c, op->tasks[i], &error);
        if (code != LT_OK) {
            leave(add, i);
            lt_reply_send(&op->reply, code, error.message);
            lt_adapter_call_free(&add->call);
            return;
        }
        struct lt_record *record = lt_records_hold(&c->records, op->tasks[i]);
        record->busy = true;
        record->returning = op->count == 1;
        add->newcomers[i] = (struct newcomer){.task = op->tasks[i], .record = record, .not_to_run = op->count > 1};
        lt_map_put(&c->adding, op->tasks[i]->hash, &add->newcomers[i]);
    }
    double now = lua_container_wall(c);
    add->first_added = now > c->last_added + APART ? now : c->last_added + APART;
    c->last_added = added_at(add, op->count);
    lt_adapter_go(&add->call);
}
