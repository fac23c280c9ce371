/* What a table in Lua is owed: how a task is to be there, which nobody waits to hear (records.h). Whoever is alone with
 * the table next tells it, in order, one after the other until there is no answer; the others then go on without.
 *
 *     deleted    it was added before another of its list was refused, or it is not known whether it was added
 *     stopped,   of a task that waits: the answer was lost, also when it was asked again. That it has ended is delivered
 *     deleted    with a claim
 *     waiting    held, at the close
 *     stopped    it waited at the close */
#include "script/parts/container/lua_container_state.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

static const double FIRST_PAUSE = 1; /* before the table is told again; doubles */
static const double LONGEST_PAUSE = 30;

/* The table has answered: yes, or that it is not there any more. */
static void pay_record(struct lua_container *c, struct lt_record *record)
{
    struct lt_task *task = lt_task_ref(record->before != NULL ? record->before : record->task);
    if (task->status == LT_STOPPED && record->before == NULL && c->closing == NULL)
        lt_tasks_push(&c->ended, lt_task_ref(task));
    if (lt_status_ended(task->status))
        lt_records_file(&c->records, task, lua_container_wall(c));
    else
        lt_records_forget(&c->records, task);
    lt_task_unref(task);
}

static void put_off(struct lua_container *c, const struct lt_task *task, const char *error)
{
    lt_adapter_log(&c->adapter, "the table did not take a transition", task, error);
    c->tell_pause = c->tell_pause > 0 ? c->tell_pause * 2 : FIRST_PAUSE;
    if (c->tell_pause > LONGEST_PAUSE)
        c->tell_pause = LONGEST_PAUSE;
    c->tell_at = lt_loop_now(c->env.loop) + c->tell_pause;
}

/* next(answer) -> a task as it is to be in the table, and whether it runs there. The answer is about the one before: true
 * or false; or a text, and then it is put off with all that follow. A table that is being closed is told each once. */
static int next_owed(lua_State *L)
{
    struct lua_op *op = lua_op_of_function(L);
    struct lt_record *first = op != NULL ? lt_records_first(&op->c->records, LT_RECORD_OWED) : NULL;
    bool failed = lua_type(L, 1) == LUA_TSTRING;
    if (first == NULL)
        return 0;
    if (failed)
        put_off(op->c, first->task, lua_tostring(L, 1));
    if (failed && op->c->closing == NULL)
        return 0;
    if (failed || lua_isboolean(L, 1))
        pay_record(op->c, first);
    first = lt_records_first(&op->c->records, LT_RECORD_OWED);
    if (first == NULL)
        return 0;
    lt_call_prolong(&op->call.call);
    lt_task_push(L, first->task);
    lua_pushboolean(L, first->runs);
    return 2;
}

static void owed_told(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    (void)L;
    (void)count;
    struct lua_container *c = ((struct lua_op *)call)->c;
    const struct lt_record *first = lt_records_first(&c->records, LT_RECORD_OWED);
    if (first == NULL)
        c->tell_pause = c->tell_at = 0;
    else if (code != LT_OK)
        put_off(c, first->task, message);
    lt_adapter_go(call);
}

LT_RUNS_LUA bool lua_container_pay(struct lua_op *op)
{
    struct lua_container *c = op->c;
    if (lt_records_first(&c->records, LT_RECORD_OWED) == NULL || lt_loop_now(c->env.loop) < c->tell_at)
        return false;
    lua_State *L = lua_op_call(op, "tell", "a transition", owed_told);
    lua_op_push_function(op, L, next_owed);
    lt_adapter_call_run(&op->call, 1);
    return true;
}
