/* A container in Lua: the table of methods has the tasks, and is asked for each transition.
 *
 *     scheduler -- change --> a copy of the task, as it will be --> to_... (self, copy)
 *                                true: the change is applied to the task itself, and filed in the records
 *                                nil, message: it is elsewhere by now; anything else: tried again by who asked
 *
 * What is asked about one task goes one after the other, in the order in which it came; different tasks do not wait
 * for each other. */
#include "script/lua_container.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/lua_parts.h"
#include "script/task_object.h"

static const double FIRST_PAUSE = 1; /* before the table is told again what it is owed; doubles */
static const double LONGEST_PAUSE = 30;
static const double SHORT_PAUSE = 0.05; /* before a deletion that was refused while a claim had the task */
enum { MOST_TRIES = 20 };

static struct lua_container *of_adapter(struct lt_adapter *adapter)
{
    return (struct lua_container *)((char *)adapter - offsetof(struct lua_container, adapter));
}

void lua_container_tell(struct lt_adapter_call *call, struct lt_task *shown,
                        void (*done)(struct lt_adapter_call *call, int code, lua_State *L, int count,
                                     const char *message))
{
    static const char *const methods[LT_STATUSES] = {
        [LT_WAITING] = "to_waiting", [LT_RUNNING] = "to_running", [LT_EXPORTING] = "to_exporting",
        [LT_SUCCESS] = "to_success", [LT_FAILED] = "to_failed",   [LT_STOPPED] = "to_stopped",
        [LT_DELETED] = "to_deleted",
    };
    lua_State *L = lt_adapter_call_begin(call, methods[shown->status], done);
    lt_task_push(L, shown);
    if (shown->status == LT_FAILED) {
        const struct lt_bytes *reason = shown->reason;
        lua_pushlstring(L, reason != NULL ? reason->data : "failed", reason != NULL ? reason->len : 6);
    }
    lt_adapter_call_run(call, shown->status == LT_FAILED ? 2 : 1);
}

struct lt_bytes *lua_container_expired_reason(void)
{
    return lt_bytes_new("expired", 7);
}

/* Debts. */

struct lt_debt {
    struct lt_adapter_call call;
    struct lua_container *c;
    struct lt_task *shown;
    struct lt_task *task; /* expires with it; NULL: nothing does */
    uint64_t told_run;
    unsigned tries; /* of a deletion that was refused */
    STAILQ_ENTRY(lt_debt) link;
};

static void pay(struct lua_container *c);

static void free_debt(struct lt_adapter_call *call)
{
    struct lt_debt *debt = (struct lt_debt *)call;
    lt_task_unref(debt->shown);
    lt_task_unref(debt->task);
}

void lua_container_owe(struct lua_container *c, struct lt_task *shown, struct lt_task *task)
{
    struct lt_debt *debt = lt_adapter_call_new(&c->adapter, sizeof *debt, NULL);
    debt->call.free = free_debt;
    debt->c = c;
    debt->shown = shown;
    debt->task = task;
    STAILQ_INSERT_TAIL(&c->debts, debt, link);
    if (c->pay_pause == 0)
        pay(c);
}

static bool is_about(const struct lt_debt *debt, const struct lt_task *task)
{
    return debt->shown->id_len == task->id_len && memcmp(debt->shown->data, task->data, task->id_len) == 0;
}

bool lua_container_owes(const struct lua_container *c, const struct lt_task *task)
{
    const struct lt_debt *debt;
    STAILQ_FOREACH(debt, &c->debts, link) {
        if (is_about(debt, task))
            return true;
    }
    return false;
}

static struct lt_debt *find_deletion(const struct lua_container *c, const struct lt_task *task)
{
    struct lt_debt *debt;
    STAILQ_FOREACH(debt, &c->debts, link) {
        if (debt->shown->status == LT_DELETED && is_about(debt, task))
            return debt;
    }
    return NULL;
}

bool lua_container_deletes(const struct lua_container *c, const struct lt_task *task)
{
    return find_deletion(c, task) != NULL;
}

void lua_container_owes_run(struct lua_container *c, const struct lt_task *task)
{
    struct lt_debt *deletion = find_deletion(c, task);
    if (deletion != NULL)
        deletion->shown->run = task->run;
}

bool lua_container_forgive(struct lua_container *c, const struct lt_task *task, uint64_t *run)
{
    struct lt_debt *debt, *void_one = NULL;
    STAILQ_FOREACH(debt, &c->debts, link) {
        if (!is_about(debt, task))
            continue;
        *run = debt->shown->run;
        if (debt == c->paying || debt->shown->status == LT_DELETED)
            return false;
        void_one = debt;
    }
    if (void_one == NULL)
        return true;
    STAILQ_REMOVE(&c->debts, void_one, lt_debt, link);
    lt_adapter_call_free(&void_one->call);
    return true;
}

static void expire_late(struct lua_container *c, const struct lt_debt *debt)
{
    struct lt_task *task = debt->task;
    struct lt_bytes *reason = lua_container_expired_reason();
    lt_task_apply(task, &(struct lt_transition){.to = LT_FAILED, .now = lua_container_wall(c), .reason = reason});
    lt_bytes_unref(reason);
    lt_records_file(&c->records, task, lua_container_wall(c));
    lt_tasks_push(&c->expired, lt_task_ref(task));
}

static void pay_again(struct lt_timer *timer)
{
    pay((struct lua_container *)((char *)timer - offsetof(struct lua_container, pay_again)));
}

/* It was refused as a claim had the task, and gave it back or will. */
static bool is_to_be_deleted_again(struct lt_debt *debt)
{
    const struct lua_container *c = debt->c;
    bool claimed = c->claiming != NULL || debt->shown->run != debt->told_run;
    return debt->shown->status == LT_DELETED && claimed && c->closing == NULL && debt->tries++ < MOST_TRIES;
}

static void paid(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_debt *debt = (struct lt_debt *)call;
    struct lua_container *c = debt->c;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    c->paying = NULL;
    if (code != LT_OK)
        lt_adapter_log(&c->adapter, "the table did not take a transition", debt->shown, error.message);
    if (lua_container_trouble(code) && c->closing == NULL) {
        c->pay_pause = c->pay_pause > 0 ? c->pay_pause * 2 : FIRST_PAUSE;
        if (c->pay_pause > LONGEST_PAUSE)
            c->pay_pause = LONGEST_PAUSE;
        lt_timer_start(c->env.loop, &c->pay_again, lt_loop_tick(c->env.loop) + c->pay_pause, pay_again);
        return;
    }
    if (code != LT_OK && is_to_be_deleted_again(debt)) {
        lt_timer_start(c->env.loop, &c->pay_again, lt_loop_tick(c->env.loop) + SHORT_PAUSE, pay_again);
        return;
    }
    c->pay_pause = 0;
    if (code == LT_OK && debt->task != NULL)
        expire_late(c, debt);
    STAILQ_REMOVE(&c->debts, debt, lt_debt, link);
    lt_adapter_call_free(call);
    if (c->closing == NULL)
        c->env.announce(c->env.announce_arg);
    pay(c);
    lua_container_go_on_closing(c);
}

/* One after the other. */
static void pay(struct lua_container *c)
{
    struct lt_debt *debt;
    if (c->in_pay)
        return;
    c->in_pay = true;
    while (c->paying == NULL && !lt_timer_active(&c->pay_again) && (debt = STAILQ_FIRST(&c->debts)) != NULL) {
        c->paying = debt;
        debt->told_run = debt->shown->run;
        lua_container_tell(&debt->call, debt->shown, paid);
    }
    c->in_pay = false;
}

/* Transitions, and updates of running tasks. */

struct lt_change_call {
    struct lt_adapter_call call;
    struct lua_container *c;
    struct lt_change_op *op; /* one of the two */
    struct lt_update_op *update;
    struct lt_record *record; /* busy with this */
    struct lt_task *seen;     /* what the record showed at the beginning, with a reference */
    struct lt_task *shown;    /* the copy */
    struct lt_parked parked;
    struct lt_bytes *refusal; /* while parked */
    STAILQ_ENTRY(lt_change_call) link;
};

static void free_change(struct lt_adapter_call *call)
{
    struct lt_change_call *change = (struct lt_change_call *)call;
    lt_task_unref(change->seen);
    lt_task_unref(change->shown);
    lt_bytes_unref(change->refusal);
}

void lua_container_not_returning(struct lua_container *c, struct lt_record *record)
{
    record->returning = false;
    if (record->awaited != NULL)
        lt_loop_post(c->env.loop, record->awaited);
    record->awaited = NULL;
}

static struct lt_task *task_of(const struct lt_change_call *change)
{
    return change->op != NULL ? change->op->task : change->update->task;
}

static void answer(struct lt_change_call *change, int code, const char *message)
{
    struct lua_container *c = change->c;
    struct lt_record *record = change->record;
    lt_reply_send(change->call.reply, code, message);
    lt_adapter_call_free(&change->call);
    lua_container_not_returning(c, record);
    record->busy = false;
    lua_container_settle(c, record);
    lua_container_go_on_closing(c);
}

static bool is_active(const struct lt_task *task)
{
    return task->status == LT_RUNNING || task->status == LT_EXPORTING;
}

/* The record may go on to another object before the answer that refers to this one is delivered. That is posted after
 * this turn, which may be posted already: objects are let go of by the second one. */
static void lend(struct lua_container *c, struct lt_task *task)
{
    lt_tasks_push(&c->lent, lt_task_ref(task));
    lt_loop_post(c->env.loop, &c->lent_turn);
}

static void take_back(struct lt_turn *turn)
{
    struct lua_container *c = (struct lua_container *)((char *)turn - offsetof(struct lua_container, lent_turn));
    struct lt_tasks delivered = c->lent_before;
    c->lent_before = c->lent;
    c->lent = delivered;
    lt_tasks_clear(&c->lent);
    if (c->lent_before.count > 0)
        lt_loop_post(c->env.loop, turn);
    lua_container_go_on_closing(c);
}

/* An ended object never changes any more: its retry and its deletion have objects of their own. */
static void apply(struct lt_change_call *change)
{
    struct lua_container *c = change->c;
    struct lt_change_op *op = change->op;
    if (lt_status_ended(op->task->status)) {
        op->task = change->shown;
        lend(c, op->task);
    } else {
        lt_task_apply(op->task, &op->transition);
    }
    if (op->transition.to == LT_DELETED)
        lt_records_delete(&c->records, change->record, op->task);
    else
        lt_records_file(&c->records, op->task, lua_container_wall(c));
    c->pause = 0;
}

static void explained(struct lt_parked *parked);

/* The table said no. Where the task is running here, it is another's by now; else somebody asks for it who did not
 * know what the table knows. */
static void refused(struct lt_change_call *change, int code, const char *message)
{
    struct lua_container *c = change->c;
    bool moved = change->record->task != change->seen;
    if (moved || is_active(change->op->task)) {
        if (!moved)
            lt_records_forget(&c->records, change->record);
        answer(change, LT_STALE, message);
    } else if (code == LT_UNKNOWN) {
        lt_records_forget(&c->records, change->record);
        answer(change, LT_UNKNOWN, message);
    } else if (c->claiming != NULL) {
        change->refusal = lt_bytes_new(message, strlen(message));
        lua_container_not_returning(c, change->record); /* the claim must not wait for it as well */
        lua_container_park(c, &change->parked, explained);
    } else {
        answer(change, LT_REFUSED, message);
    }
}

static void explained(struct lt_parked *parked)
{
    struct lt_change_call *change = (struct lt_change_call *)((char *)parked - offsetof(struct lt_change_call, parked));
    struct lt_bytes *refusal = change->refusal;
    change->refusal = NULL;
    refused(change, LT_STALE, refusal->data);
    lt_bytes_unref(refusal);
}

void lua_container_park(struct lua_container *c, struct lt_parked *parked, void (*go_on)(struct lt_parked *parked))
{
    parked->go_on = go_on;
    STAILQ_INSERT_TAIL(&c->parked, parked, link);
}

void lua_container_unpark(struct lua_container *c)
{
    struct lt_parked *parked;
    while ((parked = STAILQ_FIRST(&c->parked)) != NULL) {
        STAILQ_REMOVE_HEAD(&c->parked, link);
        parked->go_on(parked);
    }
}

static void changed(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_change_call *change = (struct lt_change_call *)call;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    if (code == LT_OK && change->record->task != change->seen) {
        answer(change, LT_STALE, "the task was claimed meanwhile");
    } else if (code == LT_OK) {
        apply(change);
        answer(change, LT_OK, NULL);
    } else if (lua_container_trouble(code)) {
        answer(change, code, error.message);
    } else {
        refused(change, code, error.message);
    }
}

static int check_change(const struct lt_change_call *change, struct lt_error *error)
{
    const struct lt_task *known = change->record->task;
    const struct lt_task *task = change->op->task;
    if (known != task && (known->run != task->run || known->status != task->status))
        return lt_fail(error, LT_STALE, "task '%s' is %s by now", lt_task_id(task), lt_status_name(known->status));
    return lt_task_check(task, &change->op->transition, error);
}

static void begin_change(struct lt_change_call *change)
{
    const struct lt_change_op *op = change->op;
    struct lt_error error;
    int code = check_change(change, &error);
    if (code != LT_OK) {
        answer(change, code, error.message);
        return;
    }
    bool retry = lt_status_ended(op->task->status) && op->transition.to == LT_WAITING;
    change->shown = retry ? lt_task_restart(op->task) : lt_task_clone(op->task);
    lt_task_apply(change->shown, &op->transition);
    change->record->returning = op->transition.to == LT_WAITING;
    lua_container_tell(&change->call, change->shown, changed);
}

static void updated(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    answer((struct lt_change_call *)call, code, error.message);
}

static void begin_update(struct lt_change_call *change)
{
    const struct lt_update_op *op = change->update;
    if (op->task->run != op->run || !is_active(op->task)) {
        answer(change, LT_STALE, "the run is over");
    } else if (!lt_module_has(&change->c->adapter.module, "update_running")) {
        answer(change, LT_OK, NULL);
    } else {
        lua_State *L = lt_adapter_call_begin(&change->call, "update_running", updated);
        lt_task_push(L, op->task);
        lt_adapter_call_run(&change->call, 1);
    }
}

static void begin(struct lt_change_call *change, struct lt_record *record)
{
    record->busy = true;
    change->record = record;
    change->seen = lt_task_ref(record->task);
    if (change->op != NULL)
        begin_change(change);
    else
        begin_update(change);
}

void lua_container_settle(struct lua_container *c, struct lt_record *record)
{
    struct lt_change_call *change;
    if (record->held)
        return;
    record->held = true;
    while (!record->busy && (change = STAILQ_FIRST(&record->queue)) != NULL) {
        STAILQ_REMOVE_HEAD(&record->queue, link);
        begin(change, record);
    }
    record->held = false;
    lt_records_tidy(&c->records, record);
}

static void submit(struct lt_change_call *change)
{
    struct lua_container *c = change->c;
    struct lt_record *record = lt_records_hold(&c->records, task_of(change));
    STAILQ_INSERT_TAIL(&record->queue, change, link);
    if (!record->busy)
        lua_container_settle(c, record);
}

static struct lt_change_call *new_change(struct lua_container *c, struct lt_reply *reply)
{
    struct lt_change_call *change = lt_adapter_call_new(&c->adapter, sizeof *change, reply);
    change->call.free = free_change;
    change->c = c;
    return change;
}

static void change_task(struct lt_container *container, struct lt_change_op *op)
{
    struct lt_change_call *change = new_change(lua_container_of(container), &op->reply);
    change->op = op;
    submit(change);
}

static void update(struct lt_container *container, struct lt_update_op *op)
{
    struct lt_change_call *change = new_change(lua_container_of(container), &op->reply);
    change->update = op;
    submit(change);
}

/* Life. */

static int announce(lua_State *L)
{
    struct lt_adapter *adapter = lt_adapter_of_function(L);
    if (adapter != NULL) {
        struct lua_container *c = of_adapter(adapter);
        c->env.announce(c->env.announce_arg);
    }
    return 0;
}

static void attached(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lua_container *c = of_adapter(call->adapter);
    struct lt_error error;
    c->attaching = NULL;
    if (code == LT_OK && lt_adapter_failed(L, count, &error)) {
        code = LT_ERROR;
        message = error.message;
    }
    if (code != LT_OK && code != LT_CANCELLED) {
        lt_adapter_log(&c->adapter, "attach failed, the container will be asked at intervals", NULL, message);
        c->ops.announces = false;
        c->env.announce(c->env.announce_arg);
    }
    lt_adapter_call_free(call);
}

static void open_container(struct lt_container *container, const struct lt_container_env *env)
{
    struct lua_container *c = lua_container_of(container);
    c->env = *env;
    c->records.keep_tasks = env->keep_tasks;
    c->records.keep_bytes = env->keep_bytes;
    c->unseen = c->ops.durable;
    lt_adapter_open(&c->adapter, env->loop, env->call_limits);
    if (!c->ops.announces)
        return;
    c->attaching = lt_adapter_call_new(&c->adapter, sizeof *c->attaching, NULL);
    lua_State *L = lt_adapter_call_begin(c->attaching, "attach", attached);
    lt_adapter_push_function(&c->adapter, L, announce);
    lt_adapter_call_run(c->attaching, 1);
}

/* A container that does not outlive the host: its waiting tasks are stopped at once, and the table is told before it
 * is closed. */
static void abandon(struct lt_container *container, struct lt_bytes *reason, double now, struct lt_tasks *stopped)
{
    struct lua_container *c = lua_container_of(container);
    lt_records_any_due(&c->records, 9e9);
    struct lt_record *record;
    while ((record = TAILQ_FIRST(&c->records.due)) != NULL) {
        struct lt_task *task = lt_task_ref(record->task);
        lt_task_apply(task, &(struct lt_transition){.to = LT_STOPPED, .now = now, .reason = reason});
        lt_tasks_push(stopped, lt_task_ref(task));
        lt_records_file(&c->records, task, now);
        lua_container_owe(c, task, NULL);
    }
}

static void closed(struct lt_adapter *adapter, int code, const char *message)
{
    lt_reply_send(of_adapter(adapter)->closing, code == LT_OK ? LT_OK : LT_ERROR, message);
}

void lua_container_go_on_closing(struct lua_container *c)
{
    if (c->closing == NULL || c->table_closing || c->in_pay)
        return;
    lt_timer_stop(c->env.loop, &c->pay_again);
    pay(c);
    if (!LIST_EMPTY(&c->adapter.calls) || !STAILQ_EMPTY(&c->debts) || c->lent_turn.posted)
        return;
    c->table_closing = true;
    lt_adapter_close(&c->adapter, closed);
}

static void close_container(struct lt_container *container, struct lt_reply *reply)
{
    struct lua_container *c = lua_container_of(container);
    c->closing = reply;
    if (c->attaching != NULL)
        lt_adapter_call_abort(c->attaching);
    lua_container_go_on_closing(c);
}

static void release(struct lt_container *container)
{
    lt_adapter_release(&lua_container_of(container)->adapter);
}

static void free_container(struct lt_adapter *adapter)
{
    struct lua_container *c = of_adapter(adapter);
    lt_records_close(&c->records);
    lt_map_free(&c->adding);
    lt_tasks_free(&c->expired);
    lt_tasks_free(&c->lent);
    lt_tasks_free(&c->lent_before);
    free(c);
}

static int look_up_durable(lua_State *L)
{
    lua_getfield(L, 1, "durable");
    return 1;
}

/* Whether the field `durable` of the table, its own or inherited, says no. */
static bool is_fleeting(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    lua_pushcfunction(L, look_up_durable);
    lua_pushvalue(L, index);
    bool no = lt_guarded_call(lt_script_of(L), L, 1, 1, 0) == LUA_OK && lua_type(L, -1) == LUA_TBOOLEAN &&
              !lua_toboolean(L, -1);
    lua_pop(L, 1);
    return no;
}

struct lt_container *lt_lua_container_new(lua_State *L, int index)
{
    struct lua_container *c = lt_zalloc(sizeof *c);
    bool fleeting = is_fleeting(L, index);
    lt_adapter_init(&c->adapter, L, index, "container", free_container);
    const struct lt_module *module = &c->adapter.module;
    c->ops = (struct lt_container_ops){
        .name = module->name,
        .durable = !fleeting,
        .announces = lt_module_has(module, "attach"),
        .priorities = true, /* or the table refuses them */
        .open = open_container,
        .add = lua_container_add,
        .claim = lua_container_claim,
        .change = change_task,
        .update = update,
        .get = lua_container_get,
        .list = lua_container_list,
        .count = lua_container_count,
        .recover = lt_module_has(module, "running") ? lua_container_recover : NULL,
        .pending = lua_container_pending,
        .oldest = lua_container_oldest,
        .abandon = fleeting ? abandon : NULL,
        .close = close_container,
        .release = release,
    };
    c->base.ops = &c->ops;
    c->pay_again = LT_TIMER_INIT;
    c->lent_turn.fn = take_back;
    STAILQ_INIT(&c->parked);
    STAILQ_INIT(&c->debts);
    lt_records_open(&c->records, 0, 0);
    lua_container_adding_open(c);
    return &c->base;
}
