/* The events of a scheduler: scheduler:on(event, handler), and the calls of the handlers, each in a strand of its own. */
#include <lauxlib.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "script/bind/bound.h"
#include "script/flow/call.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

static const char *const event_names[LT_EVENTS + 1] = {"added",   "started",  "progress", "output",
                                                       "retried", "finished", NULL};

/* One call of a handler; on the heap only if it waits, or is put off. */
struct handling {
    struct lt_timer timer;
    struct lt_strand *strand;
    const char *event;
    char *name;           /* of the scheduler, which may be gone by the end */
    double timeout;       /* seconds; 0: any time */
    struct lt_flow *flow; /* of `output`, held while the handler waits; NULL: none */
    bool over;
    bool kept; /* allocated, and the name too */
};

LT_RUNS_LUA static void handler_done(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    (void)count;
    struct handling *handling = strand->owner;
    if (outcome == LT_ENDED && strand->bounds.cut != LT_CUT_NOT)
        lt_log(LT_LOG_ERROR, "an event handler held the host where it cannot be preempted and was ended",
               LT_S("scheduler", handling->name), LT_S("event", handling->event));
    if (outcome == LT_RAISED && !strand->told) {
        struct lt_report failure = LT_REPORT(LT_FAILED);
        struct lt_bytes *traceback;
        lt_failure_raised(strand, &failure, &traceback);
        lt_log(LT_LOG_ERROR, "an event handler raised an error", LT_S("scheduler", handling->name),
               LT_S("event", handling->event), LT_S("error", failure.reason != NULL ? failure.reason->data : "failed"),
               LT_S("traceback", traceback != NULL ? traceback->data : NULL));
        lt_report_clear(&failure);
        lt_bytes_unref(traceback);
    }
    struct lt_script *script = strand->script;
    handling->over = true;
    if (--script->handlers == 0 && TAILQ_EMPTY(&script->schedulers))
        script->closed(script);
    if (handling->kept) {
        lt_timer_stop(script->loop, &handling->timer);
        if (handling->flow != NULL)
            lt_flow_release(handling->flow);
        free(handling->name);
        free(handling);
    }
}

LT_RUNS_LUA static void handler_late(struct lt_timer *timer)
{
    struct handling *handling = (struct handling *)timer;
    lt_log(LT_LOG_ERROR, "an event handler did not return in time and was ended", LT_S("scheduler", handling->name),
           LT_S("event", handling->event));
    lt_strand_kill(handling->strand);
}

/* It outlives the event. */
static void keep_handler(const struct handling *handling)
{
    struct lt_loop *loop = handling->strand->script->loop;
    struct handling *kept = lt_alloc(sizeof *kept);
    *kept = *handling;
    kept->name = lt_strdup(handling->name);
    kept->kept = true;
    if (kept->flow != NULL)
        lt_flow_hold(kept->flow);
    kept->strand->owner = kept;
    if (kept->timeout > 0)
        lt_timer_start(loop, &kept->timer, lt_loop_now(loop) + kept->timeout, handler_late);
}

/* The handler and its arguments are on strand->L. Handlers do not nest: what one of them brings about is told after it,
 * and what happens later after that. */
LT_RUNS_LUA static void run_handler(struct lt_bound *bound, struct lt_strand *strand, const char *event, int arguments,
                                    struct lt_flow *flow)
{
    const struct lt_scheduler_config *config = lt_scheduler_config(bound->scheduler);
    struct lt_script *script = bound->script;
    struct handling handling = {.timer = LT_TIMER_INIT,
                                .strand = strand,
                                .event = event,
                                .name = bound->name,
                                .timeout = config->callback_timeout,
                                .flow = flow};
    strand->bounds.max_stall = config->max_stall;
    strand->owner = &handling;
    script->handlers++;
    if (script->telling || script->put_off > 0) {
        keep_handler(&handling);
        lt_strand_put_off(strand, arguments);
        return;
    }
    script->telling = true;
    lt_strand_run(strand, arguments);
    script->telling = false;
    if (!handling.over)
        keep_handler(&handling);
}

/* Pushes what the handlers of this event get beside the task. Returns how many. */
static int push_data(lua_State *L, enum lt_event event, const struct lt_event_data *data)
{
    static const char *const streams[] = {[LT_STDOUT] = "stdout", [LT_STDERR] = "stderr"};
    switch (event) {
    case LT_EVENT_RETRIED:
        if (data->reason != NULL)
            lua_pushlstring(L, data->reason->data, data->reason->len);
        else
            lua_pushnil(L);
        lua_pushnumber(L, data->delay);
        return 2;
    case LT_EVENT_OUTPUT:
        lua_pushstring(L, streams[data->stream]);
        lua_pushlstring(L, data->bytes->data, data->bytes->len);
        return 2;
    default:
        return 0;
    }
}

LT_RUNS_LUA static void on_event(struct lt_observer *observer, enum lt_event event, struct lt_task *task,
                                 const struct lt_event_data *data)
{
    struct lt_bound *bound = lt_container_of(observer, struct lt_bound, observer);
    struct lt_script *script = bound->script;
    lua_State *L = script->L;
    if (!lua_checkstack(L, 8)) {
        lt_log(LT_LOG_ERROR, "an event was not told: a callback of luv has filled the stack",
               LT_S("scheduler", bound->name), LT_S("event", event_names[event]));
        return;
    }
    if (!lt_bound_push(bound, L)) {
        lua_pop(L, 1);
        return; /* its handlers go with it */
    }
    lua_getiuservalue(L, -1, LT_BOUND_HANDLERS);
    lua_rawgeti(L, -1, event + 1); /* this list is never changed, only replaced */
    lua_Unsigned count = lua_rawlen(L, -1);
    for (lua_Unsigned i = 1; i <= count; i++) {
        struct lt_strand *strand = lt_strand_new(script, LT_STRAND_HANDLER, NULL, handler_done);
        lua_rawgeti(L, -1, (lua_Integer)i);
        lua_xmove(L, strand->L, 1);
        lt_task_push(strand->L, task);
        int arguments = 1 + push_data(strand->L, event, data);
        run_handler(bound, strand, event_names[event], arguments, event == LT_EVENT_OUTPUT ? data->flow : NULL);
    }
    lua_pop(L, 3);
}

void lt_bound_observe(struct lt_bound *bound)
{
    bound->observer.fn = on_event;
    lt_scheduler_observe(bound->scheduler, &bound->observer);
}

static void subscribe(lua_State *L, struct lt_bound *bound)
{
    unsigned events = 0;
    lua_getiuservalue(L, 1, LT_BOUND_HANDLERS);
    for (int event = 0; event < LT_EVENTS; event++) {
        lua_rawgeti(L, -1, event + 1);
        if (lua_rawlen(L, -1) > 0)
            events |= 1u << event;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    if (bound == NULL || bound->scheduler == NULL)
        return;
    bound->observer.events = events;
    lt_scheduler_observe_again(bound->scheduler);
}

/* Replaces the list of an event by a copy with `add` (an index, or 0) and without the closure's handler box. */
static void replace_list(lua_State *L, int event, int add, const void *without)
{
    lua_getiuservalue(L, 1, LT_BOUND_HANDLERS);
    lua_rawgeti(L, -1, event + 1);
    lua_newtable(L);
    lua_Integer n = 0;
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, -2); i++) {
        lua_rawgeti(L, -2, i);
        if (lua_topointer(L, -1) != without)
            lua_rawseti(L, -2, ++n);
        else {
            without = NULL; /* one of several that are the same */
            lua_pop(L, 1);
        }
    }
    if (add != 0) {
        lua_pushvalue(L, add);
        lua_rawseti(L, -2, ++n);
    }
    lua_rawseti(L, -3, event + 1);
    lua_pop(L, 2);
}

static int remove_handler(lua_State *L)
{
    int event = (int)lua_tointeger(L, lua_upvalueindex(2));
    if (lua_toboolean(L, lua_upvalueindex(4)))
        return 0;
    lua_pushboolean(L, 1);
    lua_replace(L, lua_upvalueindex(4));
    const void *handler = lua_topointer(L, lua_upvalueindex(3));
    lua_settop(L, 0);
    lua_pushvalue(L, lua_upvalueindex(1));
    replace_list(L, event, 0, handler);
    subscribe(L, *(struct lt_bound **)lua_touserdata(L, 1));
    return 0;
}

static int method_on(lua_State *L)
{
    struct lt_bound *bound = lt_bound_check(L, "scheduler:on");
    int event = 0;
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    while (event < LT_EVENTS && strcmp(event_names[event], name) != 0)
        event++;
    char got[128];
    lt_describe(L, 2, got, sizeof got);
    if (event == LT_EVENTS)
        return luaL_error(
            L, "scheduler:on: event must be one of added, started, progress, output, retried, finished, got %s", got);
    lt_describe(L, 3, got, sizeof got);
    if (lua_type(L, 3) != LUA_TFUNCTION)
        return luaL_error(L, "scheduler:on: the handler must be a function, got %s", got);
    lua_settop(L, 3);
    replace_list(L, event, 3, NULL);
    subscribe(L, bound);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, event);
    lua_pushvalue(L, 3);
    lua_pushboolean(L, 0);
    lua_pushcclosure(L, remove_handler, 4);
    return 1;
}

void lt_bind_events(lua_State *L)
{
    lua_pushcfunction(L, method_on);
    lua_setfield(L, -2, "on");
}
