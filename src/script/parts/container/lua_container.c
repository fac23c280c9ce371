/* A container in Lua: a table of methods has the tasks, and one rule says how it is asked. `claim` (or `waiting` and
 * its `to_running`), `add` and `running` are called alone; transitions of different tasks side by side, those of one
 * task one after the other (lua_order.c). get, list, count and attach come at any time (lua_lookup.c). What takes more
 * than one call of a method is written in Lua, as by its author (lua/ltsh/container_calls.lua).
 *
 * So whoever is alone finds nothing half done, and what can become of a task is little. Where it is here (records.h),
 * and what happens to it:
 *
 *                        waits               held                  runs                  owed
 *     claim returns it   runs if there is a  only with a newer     only with a newer     is told that it is to be
 *                        place; else held    run: held anew        run, as if it waited  otherwise
 *     there is a place   -                   runs                  -                     -
 *     yes to a stop      ended               ended                 ended                 -
 *     yes to a deletion  gone                waits there first     -                     -
 *     yes to to_waiting  -                   -                     waits                 -
 *     no                 as it was           as it was             forgotten             -
 *     no answer          owed, when it was   owed, when it was     comes again, from     -
 *                        asked again         asked again           the scheduler
 *     close              stays there         to_waiting            -                     told once more
 *
 * Held is what the table has made running, and there is no place for it here yet: it was asked for less, its key is full.
 * It comes before what is asked for anew. A table that asks `admit` has none of these. One that has expired is claimed
 * and fails, as any run does. Of a run that the table has made anew the earlier one is stale, and the new one waits until
 * the work of that is dead: the scheduler sees to both. A call that fails fails its operation, and the scheduler asks
 * again, as of any store. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "script/parts/container/lua_container_state.h"
#include "script/parts/lua_parts.h"
#include "script/values/marks.h"

/* News. */

static void table_closed(struct lt_adapter *adapter, int code, const char *message)
{
    lt_reply_send(lua_container_of_adapter(adapter)->closing, code == LT_OK ? LT_OK : LT_ERROR, message);
}

LT_RUNS_LUA static void on_news(struct lt_turn *turn)
{
    struct lua_container *c = lt_container_of(turn, struct lua_container, news);
    bool closes = c->all_told;
    c->all_told = false;
    if (closes)
        lt_adapter_close(&c->adapter, table_closed);
    else if (c->closing == NULL)
        c->env.tell(c->env.tell_arg, &(struct lt_news){.kind = LT_NEWS_WORK});
}

void lua_container_announce(struct lua_container *c)
{
    lt_loop_post(c->env.loop, &c->news);
}

static int table_announces(lua_State *L)
{
    struct lt_adapter *adapter = lt_adapter_of_function(L);
    struct lua_container *c = adapter != NULL ? lua_container_of_adapter(adapter) : NULL;
    if (c != NULL && c->alone != NULL && lua_container_inside(&c->base))
        c->announced = true; /* by the claim itself: it may do so each time */
    else if (c != NULL && c->closing == NULL)
        lua_container_announce(c);
    return 0;
}

static void attach_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lua_container *c = lua_container_of_adapter(call->adapter);
    struct lt_error error;
    c->attaching = NULL;
    if (code == LT_OK && lt_adapter_failed(L, count, &error)) {
        code = LT_ERROR;
        message = error.message;
    }
    if (code != LT_OK && code != LT_CANCELLED) {
        lt_adapter_log(&c->adapter, "attach failed, the container will be asked at intervals", NULL, message);
        c->ops.announces = false;
        lua_container_announce(c);
    }
    lt_adapter_call_free(call);
}

LT_RUNS_LUA static void open_container(struct lt_container *container, const struct lt_container_env *env)
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
    lua_State *L = lt_adapter_call_begin(c->attaching, "attach", attach_returned);
    lt_adapter_push_function(&c->adapter, L, table_announces, 0);
    lt_adapter_call_run(c->attaching, 1);
}

/* Due or held. */
static struct lt_record *first_waiting(const struct lua_container *c)
{
    struct lt_record *record = lt_records_first(&c->records, LT_RECORD_HELD);
    return record != NULL ? record : lt_records_first(&c->records, LT_RECORD_DUE);
}

/* A container that does not outlive the host: its waiting tasks are stopped at once, and the table is owed that. */
static bool abandon_waiting(struct lt_container *container, struct lt_bytes *reason, double now, uint32_t limit,
                            struct lt_tasks *stopped)
{
    struct lua_container *c = lua_container_of(container);
    lt_records_any_due(&c->records, 9e9);
    struct lt_record *record = NULL;
    while (limit-- > 0 && (record = first_waiting(c)) != NULL) {
        struct lt_task *task = record->task;
        lt_task_apply(task, &(struct lt_transition){.to = LT_STOPPED, .now = now, .reason = reason});
        lt_tasks_push(stopped, lt_task_ref(task));
        lt_records_owe(&c->records, task);
    }
    return record == NULL;
}

LT_RUNS_LUA static bool close_step(struct lt_adapter_call *call)
{
    struct lua_op *op = (struct lua_op *)call;
    return op->number > 0 || !lua_container_pay(op);
}

static void close_over(struct lt_adapter_call *call)
{
    struct lua_container *c = ((struct lua_op *)call)->c;
    c->all_told = true;
    lua_container_announce(c); /* nothing is left of this call then */
    lua_op_end((struct lua_op *)call, LT_OK, NULL);
}

static void begin_close(struct lua_op *op)
{
    struct lua_container *c = op->c;
    struct lt_record *record;
    while ((record = lt_records_first(&c->records, LT_RECORD_HELD)) != NULL)
        lt_records_owe(&c->records, record->task);
    c->tell_at = 0;
    lt_adapter_go(&op->call);
}

/* What is held goes back. */
LT_RUNS_LUA static void close_container(struct lt_container *container, struct lt_reply *reply)
{
    struct lua_container *c = lua_container_of(container);
    c->closing = reply;
    if (c->attaching != NULL)
        lt_adapter_call_abort(c->attaching);
    struct lua_op *op = lua_op_new(c, sizeof *op, NULL, NULL, begin_close);
    op->call.step = close_step;
    op->call.over = close_over;
    lua_op_enter(op);
}

static void release_container(struct lt_container *container)
{
    lt_adapter_release(&lua_container_of(container)->adapter);
}

static void free_container(struct lt_adapter *adapter)
{
    struct lua_container *c = lua_container_of_adapter(adapter);
    lt_records_close(&c->records);
    lt_tasks_free(&c->ended);
    free(c);
}

static int look_up_durable(lua_State *L)
{
    lua_getfield(L, 1, "durable");
    return 1;
}

/* Whether the field `durable` of the table, its own or inherited, says no. */
LT_RUNS_LUA static bool is_fleeting(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    lua_pushcfunction(L, look_up_durable);
    lua_pushvalue(L, index);
    bool no = lt_guarded_call(lt_script_of(L), L, 1, 1, 0) == LUA_OK && lua_type(L, -1) == LUA_TBOOLEAN &&
              !lua_toboolean(L, -1);
    lua_pop(L, 1);
    return no;
}

static double oldest_waiting(const struct lt_container *container)
{
    const struct lt_record *record = first_waiting((const struct lua_container *)container);
    return record != NULL ? lt_task_waiting_since(record->task) : 0;
}

static uint64_t count_ahead(const struct lt_container *container, const struct lt_task *task)
{
    return lt_records_ahead(&((const struct lua_container *)container)->records, task);
}

LT_RUNS_LUA struct lt_container *lt_lua_container_new(lua_State *L, int index, int calls)
{
    struct lua_container *c = lt_zalloc(sizeof *c);
    bool fleeting = is_fleeting(L, index);
    lt_adapter_init(&c->adapter, L, index, "container", free_container);
    lua_pushvalue(L, calls);
    lua_rawseti(L, LUA_REGISTRYINDEX, c->adapter.module.methods);
    const struct lt_module *module = &c->adapter.module;
    c->ops = (struct lt_container_ops){
        .name = module->name,
        .durable = !fleeting,
        .announces = lt_module_has(module, "attach"),
        .priorities = true, /* or the table refuses them */
        .chooses = lt_module_has(module, "waiting") && lt_module_has(module, "to_running"),
        .open = open_container,
        .add = lua_container_add,
        .claim = lua_container_claim,
        .change = lua_container_change,
        .update = lua_container_update,
        .add_running = lt_module_has(module, "add_running") ? lua_container_add_running : NULL,
        .get = lua_container_get,
        .list = lua_container_list,
        .count = lua_container_count,
        .recover = lt_module_has(module, "running") ? lua_container_recover : NULL,
        .oldest = oldest_waiting,
        .ahead = count_ahead,
        .inside = lua_container_inside,
        .abandon = fleeting ? abandon_waiting : NULL,
        .close = close_container,
        .release = release_container,
    };
    c->base.ops = &c->ops;
    STAILQ_INIT(&c->queue);
    c->news.fn = on_news;
    lt_records_open(&c->records, 0, 0);
    return &c->base;
}
