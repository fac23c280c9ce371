/* An actuator in Lua: start, stop, status, and if it likes init, output, attach, recover, close.
 *
 *     scheduler -- start, stop, status, output --> a call of the method, with a task object of that moment
 *     notify{ id=, run=, ... } --> env->push: the scheduler knows which runs are its own, and drops what is late
 *
 * Nothing is kept of a run here: the handle that `start` returned is stored with the task, and shown to every later
 * method. */
#include "scheduler/actuator.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "script/parts/adapter.h"
#include "script/parts/lua_parts.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

static const double FIRST_PAUSE = 1; /* before a failed attach is tried again; doubles */
static const double LONGEST_PAUSE = 30;

struct lua_actuator {
    struct lt_actuator base;
    struct lt_actuator_ops ops; /* base.ops: what there is depends on the table */
    struct lt_adapter adapter;
    struct lt_actuator_env env;
    struct lt_timer attach_again;
    double pause;
    struct lt_reply *closing;
};

struct work_call {
    struct lt_adapter_call call;
    struct lt_work *work;
};

struct init_call {
    struct lt_adapter_call call;
    struct lt_init_op *op;
};

struct status_call {
    struct lt_adapter_call call;
    struct lt_status_op *op;
};

/* One operation, and its calls for one task each. */
struct recovery {
    struct lt_actuator *actuator;
    struct lt_recover_work_op *op;
    uint32_t next;
    uint32_t under_way;
    bool asking;
    bool given_up; /* a call was, with the adapter */
};

struct recover_call {
    struct lt_adapter_call call;
    struct recovery *recovery;
    struct lt_recovered *recovered;
    bool answered;
};

static struct lua_actuator *actuator_of(struct lt_adapter *adapter)
{
    return lt_container_of(adapter, struct lua_actuator, adapter);
}

static struct lt_adapter *adapter_of(struct lt_actuator *actuator)
{
    return &((struct lua_actuator *)actuator)->adapter;
}

static int first_of(lua_State *L, int count)
{
    return lua_gettop(L) - count + 1;
}

static struct work_call *new_work_call(struct lt_actuator *actuator, struct lt_work *work)
{
    struct work_call *call = lt_adapter_call_new(adapter_of(actuator), sizeof *call, &work->reply);
    call->work = work;
    lt_report_clear(&work->said);
    work->said = LT_REPORT(LT_FAILED);
    return call;
}

/* Start. */

static void fail_with(struct lt_report *failure, const char *reason)
{
    lt_bytes_set(&failure->reason, lt_bytes_new(reason, strlen(reason)));
}

/* What `start` returned: true if the work runs; else work->said says why not. */
static bool read_start_answer(struct work_call *call, lua_State *L, int count)
{
    struct lt_work *work = call->work;
    struct lt_report *failure = &work->said;
    struct lt_error error;
    int first = first_of(L, count);
    if (count >= 2 && lua_isnil(L, first) && !lua_isnil(L, first + 1)) {
        if (!lt_failure_read(L, first + 1, failure, &error))
            fail_with(failure, error.message);
        lt_report_read_remains(L, first + 1, failure);
        return false;
    }
    if (count == 0)
        lua_pushnil(L);
    if (!lua_toboolean(L, first)) {
        lt_call_nonsense(&call->call.call, L, first, "a handle or true, or nil and a failure", &error);
        fail_with(failure, error.message);
        return false;
    }
    if (lua_type(L, first) == LUA_TBOOLEAN)
        return true;
    lt_bytes_set(&work->handle, lt_adapter_encode(L, first, "handle", &error));
    if (work->handle == NULL) {
        fail_with(failure, error.message);
        failure->no_retry = true; /* the next one would be no better, and what it started may run */
    }
    return work->handle != NULL;
}

static void start_returned(struct lt_adapter_call *base, int code, lua_State *L, int count, const char *message)
{
    struct work_call *call = (struct work_call *)base;
    struct lt_work *work = call->work;
    bool runs = code == LT_OK && read_start_answer(call, L, count);
    if (code == LT_ERROR) {
        work->said = base->failure;
        base->failure = LT_REPORT(LT_FAILED);
    }
    if (code != LT_OK && work->said.reason == NULL && work->said.snooze == 0)
        fail_with(&work->said, message);
    lt_reply_send(base->reply, runs ? LT_OK : LT_ERROR, runs ? NULL : "start failed");
    lt_adapter_call_free(base);
}

LT_RUNS_LUA static void actuator_start(struct lt_actuator *actuator, struct lt_work *work)
{
    actuator->has_output = lt_module_has(&adapter_of(actuator)->module, "output"); /* a reload may change it */
    struct work_call *call = new_work_call(actuator, work);
    lua_State *L = lt_adapter_call_begin(&call->call, "start", start_returned);
    lt_task_push(L, work->task);
    lt_adapter_call_run(&call->call, 1);
}

/* Stop. */

static void stop_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_error error;
    bool dead = false;
    if (code == LT_OK) {
        int first = first_of(L, count);
        dead = count > 0 && lua_type(L, first) == LUA_TBOOLEAN && lua_toboolean(L, first);
        if (!dead && !lt_adapter_failed(L, count, &error)) {
            if (count == 0)
                lua_pushnil(L);
            lt_call_nonsense(&call->call, L, first, "true when the work is dead", &error);
        }
        message = error.message;
    }
    lt_reply_send(call->reply, dead ? LT_OK : LT_ERROR, dead ? NULL : message);
    lt_adapter_call_free(call);
}

LT_RUNS_LUA static void actuator_stop(struct lt_actuator *actuator, struct lt_work *work)
{
    struct work_call *call = new_work_call(actuator, work);
    lua_State *L = lt_adapter_call_begin(&call->call, "stop", stop_returned);
    lt_task_push(L, work->task);
    lt_adapter_call_run(&call->call, 1);
}

/* Status. */

static void read_one(struct status_call *call, lua_State *L, uint32_t i)
{
    struct lt_adapter_call *base = &call->call;
    struct lt_seen *seen = &call->op->seen[i];
    struct lt_report report;
    struct lt_error error;
    bool ok = lua_type(L, -1) == LUA_TTABLE;
    if (ok)
        ok = lt_report_read(L, -1, true, &report, &error);
    else
        lt_call_nonsense(&base->call, L, -1, "a record for each task", &error);
    if (ok) {
        lt_report_clear(&seen->report);
        seen->report = report;
    } else {
        lt_adapter_log(base->adapter, "what status said of a task was ignored", seen->work->task, error.message);
    }
}

static void read_statuses(struct status_call *call, lua_State *L, int count)
{
    struct lt_status_op *op = call->op;
    struct lt_error error;
    if (lt_adapter_failed(L, count, &error)) {
        lt_reply_send(&op->reply, LT_ERROR, error.message);
        return;
    }
    if (count == 0)
        lua_pushnil(L);
    int list = count == 0 ? lua_gettop(L) : first_of(L, count);
    if (lua_type(L, list) != LUA_TTABLE) {
        lt_call_nonsense(&call->call.call, L, list, "a list of records", &error);
        lt_reply_send(&op->reply, LT_ERROR, error.message);
        return;
    }
    if (lua_rawlen(L, list) != op->count) {
        lt_fail(&error, LT_ERROR, "%s: status must return a record for each of %u tasks, got %llu",
                call->call.adapter->module.name, op->count, (unsigned long long)lua_rawlen(L, list));
        lt_reply_send(&op->reply, LT_ERROR, error.message);
        return;
    }
    for (uint32_t i = 0; i < op->count; i++) {
        lua_rawgeti(L, list, (lua_Integer)i + 1);
        read_one(call, L, i);
        lua_pop(L, 1);
    }
    lt_reply_ok(&op->reply);
}

static void status_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    if (code == LT_OK)
        read_statuses((struct status_call *)call, L, count);
    else
        lt_reply_send(call->reply, code, message);
    lt_adapter_call_free(call);
}

LT_RUNS_LUA static void actuator_status(struct lt_actuator *actuator, struct lt_status_op *op)
{
    struct status_call *call = lt_adapter_call_new(adapter_of(actuator), sizeof *call, &op->reply);
    call->op = op;
    lua_State *L = lt_adapter_call_begin(&call->call, "status", status_returned);
    lua_createtable(L, (int)op->count, 0);
    for (uint32_t i = 0; i < op->count; i++) {
        lt_task_push(L, op->seen[i].work->task);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lt_adapter_call_run(&call->call, 1);
}

/* Init. */

/* The task that `init` returned, as new as the one that it was given. */
static struct lt_task *renew_task(struct lt_task *returned, const struct lt_task *given)
{
    struct lt_task *task = lt_task_restart(returned);
    task->status = LT_UNSTARTED;
    task->run = 0;
    task->added_at = given->added_at;
    task->run_at = returned->run_at;
    task->delayed = returned->delayed || (given->delayed && returned->run_at == given->run_at);
    if (returned->options != NULL)
        task->options->expires_at = returned->options->expires_at;
    if (given->options != NULL && given->options->once)
        lt_task_options(task)->once = true;
    return task;
}

static int read_inited(struct init_call *call, lua_State *L, int count, struct lt_error *error)
{
    struct lt_init_op *op = call->op;
    struct lt_adapter_call *base = &call->call;
    int first = first_of(L, count);
    if (count == 0 || !lua_toboolean(L, first)) {
        bool says_why = count >= 2 && lt_adapter_failed(L, count, error);
        return says_why ? LT_REFUSED
                        : lt_fail(error, LT_REFUSED, "%s: init refused the task", base->adapter->module.name);
    }
    if (lua_type(L, first) != LUA_TTABLE && !lt_is_task(L, first)) {
        lt_call_nonsense(&base->call, L, first, "a task, or nil and a message", error);
        return LT_REFUSED;
    }
    struct lt_error why;
    struct lt_task *returned = lt_task_read(L, first, &why);
    if (returned == NULL)
        return lt_fail(error, LT_REFUSED, "%s: init must return a task: %s", base->adapter->module.name, why.message);
    int code = LT_OK;
    if (strcmp(lt_task_id(returned), lt_task_id(op->task)) != 0) {
        code = lt_fail(error, LT_REFUSED, "%s: init must not change the id '%s', got '%s'", base->adapter->module.name,
                       lt_task_id(op->task), lt_task_id(returned));
    } else {
        struct lt_task *task = renew_task(returned, op->task);
        lt_task_unref(op->task);
        op->task = task;
    }
    lt_task_unref(returned);
    return code;
}

static void init_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_error error;
    if (code == LT_OK) {
        code = read_inited((struct init_call *)call, L, count, &error);
        lt_reply_send(call->reply, code, error.message);
    } else {
        lt_adapter_send_failed(call, code, message);
    }
    lt_adapter_call_free(call);
}

LT_RUNS_LUA static void actuator_init(struct lt_actuator *actuator, struct lt_init_op *op)
{
    if (!lt_module_has(&adapter_of(actuator)->module, "init")) {
        lt_reply_ok(&op->reply);
        return;
    }
    struct init_call *call = lt_adapter_call_new(adapter_of(actuator), sizeof *call, &op->reply);
    call->op = op;
    lua_State *L = lt_adapter_call_begin(&call->call, "init", init_returned);
    lt_task_push(L, op->task);
    lt_adapter_call_run(&call->call, 1);
}

/* Output. */

static void put_output(struct lt_adapter_call *base, int code, lua_State *L, int count, const char *message)
{
    struct lt_work *work = ((struct work_call *)base)->work;
    struct lt_report *said = &work->said;
    struct lt_error error;
    if (code != LT_OK) {
        lt_adapter_send_failure(base, code, L, count, message, said);
    } else if (lt_adapter_failed(L, count, &error)) {
        lt_adapter_send_failure(base, LT_OK, L, count, error.message, said);
    } else if (count == 0 || lua_isnil(L, first_of(L, count))) {
        lt_reply_ok(base->reply);
    } else {
        said->output = lt_adapter_encode(L, first_of(L, count), "output", &error);
        bool ok = said->output != NULL;
        lt_reply_send(base->reply, ok ? LT_OK : LT_UNSTORABLE, ok ? NULL : error.message);
    }
    lt_adapter_call_free(base);
}

LT_RUNS_LUA static void actuator_output(struct lt_actuator *actuator, struct lt_work *work)
{
    struct work_call *call = new_work_call(actuator, work);
    lua_State *L = lt_adapter_call_begin(&call->call, "output", put_output);
    lt_task_push(L, work->task);
    lt_adapter_call_cancellable(&call->call);
    lt_adapter_call_run(&call->call, 1);
}

/* Recover: all tasks are asked about side by side, many at a time. One whose call fails counts as gone, as nothing says
 * that it lives: it is started anew, and its id and run number tell the actuator so. */

enum { RECOVER_AT_ONCE = 64 };

static int read_recovered(struct recover_call *call, lua_State *L, int count, struct lt_error *error)
{
    struct lt_recovered *recovered = call->recovered;
    struct lt_adapter_call *base = &call->call;
    int first = first_of(L, count);
    if (lt_adapter_failed(L, count, error))
        return LT_ERROR;
    if (count == 0 || lua_isnil(L, first))
        return LT_OK;
    if (lua_type(L, first) == LUA_TBOOLEAN && lua_toboolean(L, first)) {
        recovered->fate = LT_FATE_RUNS;
        return LT_OK;
    }
    if (lua_type(L, first) != LUA_TTABLE)
        return lt_call_nonsense(&base->call, L, first, "true, a status record or nil", error);
    struct lt_error why;
    struct lt_report report;
    if (!lt_report_read(L, first, true, &report, &why))
        return lt_fail(error, LT_ERROR, "%s: recover: %s", base->adapter->module.name, why.message);
    lt_report_clear(&recovered->report);
    recovered->report = report;
    recovered->fate = report.status == LT_RUNNING ? LT_FATE_RUNS : LT_FATE_ENDED;
    return LT_OK;
}

static void recover_more(struct recovery *recovery);

static void recover_returned(struct lt_adapter_call *base, int code, lua_State *L, int count, const char *message)
{
    struct recover_call *call = (struct recover_call *)base;
    struct lt_error error;
    if (code == LT_OK) {
        code = read_recovered(call, L, count, &error);
        message = error.message;
    }
    if (code != LT_OK)
        lt_adapter_log(base->adapter, "recover failed, the task counts as gone", call->recovered->work->task, message);
    call->answered = true;
    lt_adapter_call_free(base);
}

/* The end of a call in any case: also when the adapter is closed and gives it up. */
LT_RUNS_LUA static void free_recover(struct lt_adapter_call *base)
{
    const struct recover_call *call = (struct recover_call *)base;
    struct recovery *recovery = call->recovery;
    recovery->given_up = recovery->given_up || !call->answered;
    recovery->under_way--;
    if (!recovery->asking)
        recover_more(recovery);
}

LT_RUNS_LUA static void recover_one(struct recovery *recovery, struct lt_recovered *of)
{
    struct recover_call *call = lt_adapter_call_new(adapter_of(recovery->actuator), sizeof *call, NULL);
    call->call.free = free_recover;
    call->recovery = recovery;
    call->recovered = of;
    recovery->under_way++;
    lua_State *L = lt_adapter_call_begin(&call->call, "recover", recover_returned);
    lt_task_push(L, of->work->task);
    lt_adapter_call_run(&call->call, 1);
}

LT_RUNS_LUA static void recover_more(struct recovery *recovery)
{
    struct lt_recover_work_op *op = recovery->op;
    recovery->asking = true;
    while (!recovery->given_up && recovery->next < op->count && recovery->under_way < RECOVER_AT_ONCE)
        recover_one(recovery, &op->works[recovery->next++]);
    recovery->asking = false;
    if (recovery->under_way > 0)
        return;
    bool given_up = recovery->given_up;
    free(recovery);
    lt_reply_send(&op->reply, given_up ? LT_CLOSED : LT_OK, given_up ? "closed" : NULL);
}

LT_RUNS_LUA static void actuator_recover(struct lt_actuator *actuator, struct lt_recover_work_op *op)
{
    struct recovery *recovery = lt_zalloc(sizeof *recovery);
    recovery->actuator = actuator;
    recovery->op = op;
    recover_more(recovery);
}

/* Attach. */

static void report_pushed(struct lt_adapter *adapter, struct lt_push *push)
{
    struct lua_actuator *actuator = actuator_of(adapter);
    actuator->env.push(actuator->env.push_arg, push);
}

static int actuator_notify(lua_State *L)
{
    return lt_adapter_push(L, "notify", report_pushed);
}

static void attach_actuator(struct lua_actuator *actuator);

LT_RUNS_LUA static void attach_again(struct lt_timer *timer)
{
    attach_actuator(lt_container_of(timer, struct lua_actuator, attach_again));
}

/* Without it no end may ever be heard of: it is tried until it succeeds. */
static void attach_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lua_actuator *actuator = actuator_of(call->adapter);
    struct lt_error error;
    if (code == LT_OK && lt_adapter_failed(L, count, &error)) {
        code = LT_ERROR;
        message = error.message;
    }
    if (code != LT_OK && code != LT_CANCELLED) {
        lt_adapter_log(call->adapter, "attach failed, it will be called again", NULL, message);
        actuator->pause = actuator->pause > 0 ? actuator->pause * 2 : FIRST_PAUSE;
        if (actuator->pause > LONGEST_PAUSE)
            actuator->pause = LONGEST_PAUSE;
        lt_timer_start(actuator->env.loop, &actuator->attach_again, lt_loop_tick(actuator->env.loop) + actuator->pause,
                       attach_again);
    }
    lt_adapter_call_free(call);
}

LT_RUNS_LUA static void attach_actuator(struct lua_actuator *actuator)
{
    struct lt_adapter_call *call = lt_adapter_call_new(&actuator->adapter, sizeof *call, NULL);
    lua_State *L = lt_adapter_call_begin(call, "attach", attach_returned);
    lt_adapter_push_function(&actuator->adapter, L, actuator_notify, 0);
    lt_adapter_call_run(call, 1);
}

/* Life. */

LT_RUNS_LUA static int open_actuator(struct lt_actuator *base, const struct lt_actuator_env *env,
                                     struct lt_error *error)
{
    (void)error;
    struct lua_actuator *actuator = (struct lua_actuator *)base;
    actuator->env = *env;
    lt_adapter_open(&actuator->adapter, env->loop, env->call_limits);
    if (env->attach && base->can_attach)
        attach_actuator(actuator);
    return LT_OK;
}

static void actuator_closed(struct lt_adapter *adapter, int code, const char *message)
{
    lt_reply_send(actuator_of(adapter)->closing, code, message);
}

LT_RUNS_LUA static void close_actuator(struct lt_actuator *base, struct lt_reply *reply)
{
    struct lua_actuator *actuator = (struct lua_actuator *)base;
    actuator->closing = reply;
    lt_timer_stop(actuator->env.loop, &actuator->attach_again);
    lt_adapter_close(&actuator->adapter, actuator_closed);
}

static void release_actuator(struct lt_actuator *actuator)
{
    lt_adapter_release(adapter_of(actuator));
}

static void free_actuator(struct lt_adapter *adapter)
{
    free(actuator_of(adapter));
}

LT_RUNS_LUA struct lt_actuator *lt_lua_actuator_new(lua_State *L, int index)
{
    struct lua_actuator *actuator = lt_zalloc(sizeof *actuator);
    lt_adapter_init(&actuator->adapter, L, index, "actuator", free_actuator);
    const struct lt_module *module = &actuator->adapter.module;
    actuator->ops = (struct lt_actuator_ops){
        .name = module->name,
        .open = open_actuator,
        .init = actuator_init,
        .start = actuator_start,
        .stop = actuator_stop,
        .status = actuator_status,
        .output = actuator_output,
        .recover = lt_module_has(module, "recover") ? actuator_recover : NULL,
        .close = close_actuator,
        .release = release_actuator,
    };
    actuator->base = (struct lt_actuator){
        .ops = &actuator->ops,
        .capacity = LT_ANY_NUMBER,
        .can_attach = lt_module_has(module, "attach"),
        .can_status = lt_module_has(module, "status"),
        .has_output = lt_module_has(module, "output"),
    };
    actuator->attach_again = LT_TIMER_INIT;
    return &actuator->base;
}
