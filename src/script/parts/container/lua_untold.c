/* What a table in Lua is told, and what it is still to be told: a transition that nobody waits for, or whose answer was
 * lost. It is told by whoever is alone with the table next, in order, until the table answers:
 *
 *     to_deleted             what was added before another of its list was refused. If a claim returns it first:
 *                            to_stopped, and then to_deleted
 *     to_failed              it has expired; its end is delivered with a claim
 *     to_waiting             nobody knows whether it was made running; or it was claimed, and not started before the close
 *     to_stopped,            of a task that waits: the answer was lost, also when it was asked again. Its end is
 *     to_deleted             delivered as that of one that expired */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/parts/container/lua_container_state.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

static const double FIRST_PAUSE = 1; /* before the table is told again; doubles */
static const double LONGEST_PAUSE = 30;

LT_RUNS_LUA void lua_container_tell(struct lt_adapter_call *call, struct lt_task *shown,
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

struct lua_untold *lua_untold_add(struct lua_container *c, struct lt_task *shown)
{
    struct lua_untold *untold = lt_zalloc(sizeof *untold);
    untold->shown = shown;
    STAILQ_INSERT_TAIL(&c->untold, untold, link);
    return untold;
}

struct lua_untold *lua_untold_find(const struct lua_container *c, const struct lt_task *task)
{
    struct lua_untold *untold;
    STAILQ_FOREACH(untold, &c->untold, link) {
        if (untold->shown->id_len == task->id_len && memcmp(untold->shown->data, task->data, task->id_len) == 0)
            return untold;
    }
    return NULL;
}

void lua_untold_drop(struct lua_container *c, struct lua_untold *untold)
{
    STAILQ_REMOVE(&c->untold, untold, lua_untold, link);
    lt_task_unref(untold->shown);
    free(untold);
}

/* Another copy, with another status. */
static void show_as(struct lua_untold *untold, enum lt_status status)
{
    struct lt_task *shown = lt_task_clone(untold->shown);
    shown->status = (uint8_t)status;
    lt_task_unref(untold->shown);
    untold->shown = shown;
}

void lua_untold_claimed(struct lua_container *c, struct lua_untold *untold, const struct lt_task *task)
{
    if (untold->shown->status == LT_DELETED) { /* it runs there: that comes first */
        struct lt_bytes *reason = lt_bytes_printf(untold->unwanted ? "not added" : "deleted");
        show_as(untold, LT_RUNNING);
        lt_task_apply(untold->shown,
                      &(struct lt_transition){.to = LT_STOPPED, .now = lua_container_wall(c), .reason = reason});
        lt_bytes_unref(reason);
    }
    untold->shown->run = task->run;
    untold->asked = false;
    c->tell_at = 0;
}

/* The table has answered. */
static void settle_untold(struct lua_container *c, struct lua_untold *untold, bool done)
{
    struct lt_task *shown = untold->shown;
    struct lt_record *record = lt_records_find(&c->records, shown);
    if (untold->unwanted && shown->status == LT_STOPPED) {
        show_as(untold, LT_DELETED);
        return;
    }
    bool waits = record != NULL && record->place != LT_RECORD_GUEST && record->status == LT_WAITING;
    bool ends = (shown->status == LT_FAILED && done) || (shown->status == LT_STOPPED && waits);
    bool goes = waits && (shown->status == LT_FAILED || (shown->status == LT_DELETED && !untold->unwanted));
    if (ends) {
        lt_records_file(&c->records, shown, lua_container_wall(c));
        lt_tasks_push(&c->ended, lt_task_ref(shown));
    } else if (goes) {
        lt_records_forget(&c->records, record);
    }
    lua_untold_drop(c, untold);
}

/* A table that is being closed gets one try, and all of it is given up with the first that takes too long. */
static void put_off(struct lua_container *c, struct lua_untold *untold, int code)
{
    untold->asked = true;
    c->tell_pause = c->tell_pause > 0 ? c->tell_pause * 2 : FIRST_PAUSE;
    if (c->tell_pause > LONGEST_PAUSE)
        c->tell_pause = LONGEST_PAUSE;
    if (c->closing == NULL)
        c->tell_at = lt_loop_now(c->env.loop) + c->tell_pause;
    else if (code == LT_ERROR)
        lua_untold_drop(c, untold);
    else
        while ((untold = STAILQ_FIRST(&c->untold)) != NULL)
            lua_untold_drop(c, untold);
}

static void untold_told(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lua_container *c = ((struct lua_op *)call)->c;
    struct lua_untold *untold = STAILQ_FIRST(&c->untold);
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    if (lua_container_trouble(code)) {
        lt_adapter_log(&c->adapter, "the table did not take a transition", untold->shown, error.message);
        put_off(c, untold, code);
    } else {
        c->tell_pause = c->tell_at = 0;
        settle_untold(c, untold, code == LT_OK || untold->asked);
    }
    lt_adapter_go(call);
}

LT_RUNS_LUA bool lua_untold_tell(struct lua_op *op)
{
    struct lua_container *c = op->c;
    struct lua_untold *first = STAILQ_FIRST(&c->untold);
    if (first == NULL || lt_loop_now(c->env.loop) < c->tell_at)
        return false;
    lua_container_tell(&op->call, first->shown, untold_told);
    return true;
}
