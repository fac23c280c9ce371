/* Transitions of a container in Lua: the table of methods has the tasks, and is asked for each.
 *
 *     scheduler -- change --> a copy of the task, as it will be --> to_... (self, copy)
 *                                true: the records show the copy from then on, and the scheduler is told so
 *                                nil, message: it is elsewhere by now
 *                                anything else: nobody knows. It comes again, and a no means then that it was done */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/parts/container/lua_container_state.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

struct change_call {
    struct lua_op op;
    struct lt_change_op *change; /* one of the two */
    struct lt_update_op *update;
    struct lt_task *seen;  /* what the record showed at the beginning, with a reference; */
    uint8_t status;        /* and that task's status, whatever its object says later */
    struct lt_task *shown; /* the copy */
    bool again;            /* it may have been done: an answer was lost */
};

static void free_change(struct lt_adapter_call *call)
{
    struct change_call *change = (struct change_call *)call;
    lt_task_unref(change->seen);
    lt_task_unref(change->shown);
}

/* The task is what was shown. The object that the change named is its caller's. */
static void change_done(struct change_call *change)
{
    struct lua_container *c = change->op.c;
    if (change->shown->status == LT_DELETED)
        lt_records_forget(&c->records, change->shown);
    else
        lt_records_file(&c->records, change->shown, lua_container_wall(c));
    if (change->shown->status == LT_WAITING && change->change->next != NULL)
        *change->change->next = lt_task_ref(change->shown);
    c->pause = 0;
    lua_op_end(&change->op, LT_OK, NULL);
}

/* The table said no. One that may have been done before was. Else, where the task is running here, it is another's by
 * now; or somebody asks for it who did not know what the table knows. */
static void change_refused(struct change_call *change, int code, const char *message)
{
    bool active = lt_status_under_way(change->status);
    if (change->again) {
        change_done(change);
    } else if (active || code == LT_UNKNOWN) {
        lt_records_forget(&change->op.c->records, change->op.record->task);
        lua_op_end(&change->op, active ? LT_STALE : LT_UNKNOWN, message);
    } else {
        lua_op_end(&change->op, LT_REFUSED, message);
    }
}

static void change_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message);

/* What is held runs in the table: it waits there again before it is deleted. */
LT_RUNS_LUA static void ask_for_change(struct change_call *change)
{
    bool held = change->op.record->place == LT_RECORD_HELD;
    if (!held || change->shown->status != LT_DELETED) {
        lua_op_tell(&change->op, change->shown, change_returned);
        return;
    }
    lua_State *L = lua_op_call(&change->op, "delete_held", "to_deleted", change_returned);
    lt_task_push(L, change->shown);
    lt_adapter_call_run(&change->op.call, 1);
}

/* Nobody knows what became of it. Who ends a run asks until that is known; the stop or deletion of what waits is asked
 * for twice, and then the table is owed it. */
LT_RUNS_LUA static void change_lost(struct change_call *change, int code, const char *message)
{
    struct lua_container *c = change->op.c;
    bool again = change->again;
    change->again = true;
    if (change->status == LT_WAITING && !again) {
        ask_for_change(change);
        return;
    }
    if (change->status == LT_WAITING) {
        bool held = change->op.record->place == LT_RECORD_HELD;
        lt_records_owe(&c->records, change->shown)->runs = held;
        lua_container_announce(c);
    }
    lua_op_end(&change->op, code, message);
}

LT_RUNS_LUA static void change_returned(struct lt_adapter_call *call, int code, lua_State *L, int count,
                                        const char *message)
{
    struct change_call *change = (struct change_call *)call;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    if (code == LT_OK)
        change_done(change);
    else if (lua_container_trouble(code))
        change_lost(change, code, error.message);
    else
        change_refused(change, code, error.message);
}

/* The task as it is after the change. */
static struct lt_task *change_after(const struct lt_change_op *op, uint8_t status)
{
    if (op->transition.to == LT_WAITING || lt_status_ended(status)) {
        struct lt_task *next = lt_task_next(op->task, &op->transition);
        next->run = op->task->run; /* also of one that never began: by that the table knows what is meant */
        return next;
    }
    struct lt_task *task = lt_task_clone(op->task);
    lt_task_apply(task, &op->transition);
    return task;
}

/* Where the task is here counts, and not what the caller's object says. */
LT_RUNS_LUA static void begin_change(struct change_call *change)
{
    const struct lt_change_op *op = change->change;
    struct lt_error error;
    int code = lt_transition_check(&op->transition, change->seen, change->status, &error);
    if (code != LT_OK) {
        lua_op_end(&change->op, code, error.message);
        return;
    }
    change->shown = change_after(op, change->status);
    change->again = op->again;
    ask_for_change(change);
}

static void set_remains(struct lt_task *task, const struct lt_update_op *op)
{
    struct lt_task_extra *extra = lt_task_extra(task);
    lt_bytes_set(&extra->handle, lt_bytes_ref(op->handle));
    lt_bytes_set(&extra->progress, lt_bytes_ref(op->progress));
}

/* Where the record shows an object of its own, that one is to say the same. */
static void update_done(struct change_call *change)
{
    struct lt_record *record = change->op.record;
    if (record->place == LT_RECORD_ACTIVE && record->task != change->update->task)
        set_remains(record->task, change->update);
    lua_op_end(&change->op, LT_OK, NULL);
}

static void update_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct change_call *change = (struct change_call *)call;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    if (code == LT_OK)
        update_done(change);
    else
        lua_op_end(&change->op, code, error.message);
}

LT_RUNS_LUA static void begin_update(struct change_call *change)
{
    const struct lt_update_op *op = change->update;
    if (change->seen->run != op->run || !lt_status_under_way(change->status)) {
        lua_op_end(&change->op, LT_STALE, "the run is over");
    } else if (!lt_module_has(&change->op.c->adapter.module, "update_running")) {
        update_done(change);
    } else {
        lua_State *L = lua_op_call(&change->op, "update_running", "update_running", update_returned);
        change->shown = lt_task_clone(change->seen);
        set_remains(change->shown, op);
        lt_task_push(L, change->shown);
        lt_adapter_call_run(&change->op.call, 1);
    }
}

LT_RUNS_LUA static void begin_next_change(struct lua_op *op)
{
    struct change_call *change = (struct change_call *)op;
    const struct lt_record *record = op->record;
    change->seen = lt_task_ref(record->task);
    change->status = record->place != LT_RECORD_GUEST ? record->status : record->task->status;
    if (change->change != NULL)
        begin_change(change);
    else
        begin_update(change);
}

static struct change_call *new_change(struct lua_container *c, struct lt_task *task, struct lt_reply *reply)
{
    struct change_call *change = lua_op_new(c, sizeof *change, task, reply, begin_next_change);
    change->op.call.free = free_change;
    return change;
}

void lua_container_change(struct lt_container *container, struct lt_change_op *op)
{
    struct change_call *change = new_change(lua_container_of(container), op->task, &op->reply);
    change->change = op;
    lua_op_enter(&change->op);
}

void lua_container_update(struct lt_container *container, struct lt_update_op *op)
{
    struct change_call *change = new_change(lua_container_of(container), op->task, &op->reply);
    change->update = op;
    lua_op_enter(&change->op);
}
