/* The scheduler object: made from a checked configuration, kept while it has work, and its finished list. */
#include <float.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "script/bind/bind_core.h"
#include "script/bind/bind_parts.h"
#include "script/bind/bound.h"
#include "script/flow/call.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"
#include "script/values/raw.h"

static const char *const SCHEDULER = "ltsh.scheduler";

/* Hooks: what the scheduler tells and asks. */

static void on_busy(void *arg, bool busy)
{
    struct lt_bound *bound = arg;
    lua_State *L = bound->script->L;
    bound->busy = busy;
    if (busy) {
        lt_loop_hold(bound->script->loop);
        lt_bound_push(bound, L);
        bound->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    } else {
        lt_loop_release(bound->script->loop);
        luaL_unref(L, LUA_REGISTRYINDEX, bound->ref);
        bound->ref = LUA_NOREF;
        if (lt_scheduler_closed(bound->scheduler)) /* it is still in there: freed from a turn of its own */
            lt_loop_post(bound->script->loop, &bound->closed);
    }
}

static void review_closed(struct lt_turn *turn)
{
    lt_bound_review(lt_container_of(turn, struct lt_bound, closed));
}

static void on_finished(void *arg)
{
    struct lt_bound *bound = arg;
    struct lt_finished_wait *wait;
    while ((wait = TAILQ_FIRST(&bound->iterators)) != NULL) {
        TAILQ_REMOVE(&bound->iterators, wait, link);
        wait->bound = NULL;
        lt_wake(wait->strand);
    }
}

/* Calls a function of the configuration that answers with a number. It may not wait, and neither it nor a finalizer may call a scheduler:
 * it is asked in the middle of a decision. False if it did not answer. */
LT_RUNS_LUA static bool call_function(struct lt_bound *bound, lua_State *L, int arguments, const char *name,
                                      double most, double *result)
{
    bool collects = lua_gc(L, LUA_GCISRUNNING);
    lua_gc(L, LUA_GCSTOP);
    bound->script->asking++;
    bool ok = lt_guarded_call(bound->script, L, arguments, 1, 0) == LUA_OK;
    bound->script->asking--;
    if (collects)
        lua_gc(L, LUA_GCRESTART);
    *result = lua_tonumber(L, -1);
    if (!ok || lua_type(L, -1) != LUA_TNUMBER || !(*result >= 0) || *result > most) {
        char got[256];
        if (ok)
            lt_describe(L, -1, got, sizeof got);
        lt_log_gated(&bound->functions_log, LT_LOG_ERROR, "a function of the configuration failed",
                     LT_S("scheduler", bound->name), LT_S("function", name),
                     LT_S("error", !ok && lua_isstring(L, -1) ? lua_tostring(L, -1)
                                   : !ok                      ? "raised a value that is no text"
                                                              : "must return a number of 0 or more"),
                     LT_S("got", ok ? got : NULL));
        ok = false;
    }
    lua_pop(L, 1);
    return ok;
}

/* False: the scheduler is being collected, and its functions with it; or a callback has filled the stack. */
static bool push_function(struct lt_bound *bound, lua_State *L, const char *name)
{
    if (!lua_checkstack(L, 8))
        return false;
    if (!lt_bound_push(bound, L)) {
        lua_pop(L, 1);
        return false;
    }
    lua_getiuservalue(L, -1, LT_BOUND_PARTS);
    lt_raw_field(L, -1, name);
    lua_replace(L, -3);
    lua_pop(L, 1);
    return true;
}

LT_RUNS_LUA static double on_backoff(void *arg, uint32_t attempt, const struct lt_bytes *reason, struct lt_task *task)
{
    struct lt_bound *bound = arg;
    lua_State *L = bound->script->L;
    double delay;
    if (!push_function(bound, L, "backoff"))
        return 1;
    lua_pushinteger(L, attempt);
    lua_pushlstring(L, reason->data, reason->len);
    lt_task_push(L, task);
    return call_function(bound, L, 3, "backoff", DBL_MAX, &delay) ? delay : 1;
}

LT_RUNS_LUA static uint32_t on_key_limit(void *arg, const struct lt_bytes *key)
{
    struct lt_bound *bound = arg;
    lua_State *L = bound->script->L;
    double limit;
    if (!push_function(bound, L, "key_limit"))
        return 1;
    lua_pushlstring(L, key->data, key->len);
    if (!call_function(bound, L, 1, "key_limit", HUGE_VAL, &limit))
        return 1; /* the careful answer */
    return limit < LT_NO_KEY_LIMIT ? (uint32_t)limit : LT_NO_KEY_LIMIT;
}

/* Configuration. What comes here was checked by lua/ltsh/options.lua. */

static double number_field(lua_State *L, const char *name, double otherwise)
{
    double value = otherwise;
    if (lt_raw_field(L, -1, name) == LUA_TNUMBER)
        value = lua_tonumber(L, -1);
    lua_pop(L, 1);
    return value;
}

static struct lt_rate rate_field(lua_State *L, const char *name)
{
    struct lt_rate rate = {0};
    if (lt_raw_field(L, -1, name) == LUA_TTABLE) {
        rate.burst = number_field(L, "burst", 0);
        rate.per = number_field(L, "per", 0);
    }
    lua_pop(L, 1);
    return rate;
}

static bool is_function(lua_State *L, const char *name)
{
    bool is = lt_raw_field(L, -1, name) == LUA_TFUNCTION;
    lua_pop(L, 1);
    return is;
}

static void read_backoff(lua_State *L, struct lt_scheduler_config *config)
{
    config->backoff_fn = is_function(L, "backoff");
    if (lt_raw_field(L, -1, "backoff") == LUA_TTABLE)
        config->backoff = (struct lt_backoff){
            .base = number_field(L, "base", 0),
            .factor = number_field(L, "factor", 2),
            .max = number_field(L, "max", 0),
            .jitter = number_field(L, "jitter", 0.1),
        };
    lua_pop(L, 1);
}

/* The table on top of the stack into what may change while it runs. */
static void read_config(lua_State *L, struct lt_bound *bound, struct lt_scheduler_config *config)
{
    bool key_fn = is_function(L, "key_limit");
    config->limits = (struct lt_limits){
        .slots = (uint32_t)number_field(L, "limit", 1),
        .rate = rate_field(L, "rate"),
        .key_rate = rate_field(L, "key_rate"),
        .global_slots = (uint32_t)number_field(L, "global_limit", 0),
        .key_limit = key_fn ? 0 : (uint32_t)number_field(L, "key_limit", 0),
        .key_limit_fn = key_fn ? on_key_limit : NULL,
        .key_limit_arg = bound,
    };
    config->timeout = number_field(L, "timeout", 0);
    config->export_timeout = number_field(L, "export_timeout", 60);
    config->max_retries = (int64_t)number_field(L, "max_retries", 0);
    read_backoff(L, config);
    config->max_lost = (uint32_t)number_field(L, "max_lost", 3);
    config->schedule_interval = number_field(L, "schedule_interval", 1);
    config->poll_interval = number_field(L, "poll_interval", 0);
    config->container_timeout = number_field(L, "container_timeout", 30);
    config->callback_timeout = number_field(L, "callback_timeout", 30);
    config->max_stall = number_field(L, "max_stall", 0.25);
    config->shutdown_grace = number_field(L, "shutdown_grace", 10);
    bound->shutdown_grace = config->shutdown_grace;
    lt_raw_field(L, -1, "leave");
    config->leave = lua_toboolean(L, -1);
    lua_pop(L, 1);
}

LT_RAISES static void *part_field(lua_State *L, const char *name, enum lt_part_kind kind)
{
    lt_raw_field(L, -1, name);
    void *part = lua_isnil(L, -1) ? NULL : lt_part_check(L, -1, kind);
    lua_pop(L, 1);
    return part;
}

static struct lt_bound *new_bound(lua_State *L)
{
    struct lt_bound **object = lua_newuserdatauv(L, sizeof(struct lt_bound *), 2);
    *object = NULL;
    luaL_setmetatable(L, SCHEDULER);
    lua_newtable(L);
    for (int event = 1; event <= LT_EVENTS; event++) {
        lua_newtable(L);
        lua_rawseti(L, -2, event);
    }
    lua_setiuservalue(L, -2, LT_BOUND_HANDLERS);
    struct lt_bound *bound = *object = lt_zalloc(sizeof *bound);
    bound->script = lt_script_of(L);
    bound->ref = LUA_NOREF;
    bound->closed.fn = review_closed;
    TAILQ_INIT(&bound->iterators);
    lt_bound_register(bound, L);
    return bound;
}

/* core.scheduler(config) -> object */
static int make_scheduler(lua_State *L)
{
    if (lt_script_of(L)->closing)
        return luaL_error(L, "ltsh.scheduler: the process is ending");
    lt_memory_check(L, "ltsh.scheduler", 0);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct lt_bound *bound = new_bound(L); /* at 2 */
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, 2, LT_BOUND_PARTS);
    lua_pushvalue(L, 1);
    struct lt_scheduler_config config = {
        .container = part_field(L, "container", LT_PART_CONTAINER),
        .actuator = part_field(L, "actuator", LT_PART_ACTUATOR),
        .persister = part_field(L, "persister", LT_PART_PERSISTER),
        .receiver = part_field(L, "receiver", LT_PART_RECEIVER),
        .hooks = {.arg = bound, .busy = on_busy, .finished = on_finished, .backoff = on_backoff},
    };
    if (config.container == NULL || config.actuator == NULL)
        return luaL_error(L, "core.scheduler: container and actuator are required");
    if (config.container->in_use)
        return luaL_error(L, "ltsh.scheduler: this container is used by another scheduler already; make one for each");
    read_config(L, bound, &config);
    config.finished_size = (uint64_t)number_field(L, "finished_size", 10000);
    config.keep_tasks = (uint64_t)number_field(L, "keep_tasks", 10000);
    config.keep_bytes = (uint64_t)number_field(L, "keep_bytes", 64 << 20);
    lt_raw_field(L, -1, "go_on_without_lease");
    config.go_on_without_lease = lua_toboolean(L, -1);
    lua_pop(L, 1);
    lt_raw_field(L, -1, "attach");
    config.attach = lua_toboolean(L, -1);
    lt_raw_field(L, -2, "name");
    bound->name = lt_strdup(luaL_checkstring(L, -1));
    config.name = bound->name;
    struct lt_error error;
    bound->scheduler = lt_scheduler_open(bound->script->loop, &config, &error);
    if (bound->scheduler == NULL)
        return luaL_error(L, "ltsh.scheduler: %s", error.message);
    TAILQ_INSERT_TAIL(&bound->script->schedulers, bound, link);
    lt_bound_observe(bound);
    lua_settop(L, 2);
    return 1;
}

/* Which of the limits that a queue keeps are in the table at the top. */
static unsigned limits_named(lua_State *L)
{
    static const char *const names[] = {"global_limit", "key_limit", "rate"}; /* as enum lt_limit_named */
    unsigned named = 0;
    for (int i = 0; i < 3; i++) {
        lt_raw_field(L, -1, names[i]);
        named |= lua_isnil(L, -1) ? 0 : 1U << i;
        lua_pop(L, 1);
    }
    return named;
}

/* core.set(scheduler, config, options): the whole configuration anew; and what was said of it. */
static int set_scheduler(lua_State *L)
{
    struct lt_bound *bound = lt_bound_check(L, "scheduler:set");
    luaL_checktype(L, 2, LUA_TTABLE);
    if (bound->scheduler == NULL || lt_scheduler_closing(bound->scheduler)) {
        lua_pushnil(L);
        lua_pushliteral(L, "the scheduler is closed");
        lua_pushliteral(L, "closed");
        return 3;
    }
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    unsigned named = limits_named(L);
    lua_settop(L, 2);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, 1, LT_BOUND_PARTS);
    read_config(L, bound, lt_scheduler_config(bound->scheduler));
    lt_scheduler_set(bound->scheduler, named);
    lua_pushboolean(L, 1);
    return 1;
}

/* core.config(scheduler) -> the table that it was made from or last set with */
static int get_config(lua_State *L)
{
    lt_bound_check(L, "scheduler:set");
    lua_getiuservalue(L, 1, LT_BOUND_PARTS);
    return 1;
}

/* core.paused(scheduler): whether nothing starts; nil: it is closed */
static int is_paused(lua_State *L)
{
    const struct lt_bound *bound = lt_bound_check(L, "ltsh.console");
    if (bound->scheduler == NULL)
        return 0;
    lua_pushboolean(L, lt_scheduler_paused(bound->scheduler));
    return 1;
}

/* core.schedulers() -> a list of those that are there, in the order in which they were made */
static int list_schedulers(lua_State *L)
{
    lt_bound_push_all(L);
    return 1;
}

/* core.number() -> how many were ever made, for default names */
static int count_schedulers(lua_State *L)
{
    lua_pushinteger(L, ++lt_script_of(L)->scheduler_count);
    return 1;
}

/* The finished list. */

static void leave_iterators(struct lt_wait *wait)
{
    struct lt_finished_wait *waiting = (struct lt_finished_wait *)wait;
    if (waiting->bound != NULL)
        TAILQ_REMOVE(&waiting->bound->iterators, waiting, link);
    free(waiting);
}

static int next_finished(lua_State *L, struct lt_bound *bound);

static int finished_again(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct lt_wait *wait = lt_wait_over(L);
    lt_wait_done(L);
    free(wait);
    return next_finished(L, *(struct lt_bound **)lua_touserdata(L, lua_upvalueindex(1)));
}

LT_RAISES LT_RUNS_LUA static int next_finished(lua_State *L, struct lt_bound *bound)
{
    if (bound == NULL)
        return 0;
    struct lt_task *task =
        bound->scheduler != NULL ? lt_scheduler_next_finished(bound->scheduler) : lt_finished_next(&bound->unread);
    if (task != NULL) {
        lt_task_push(L, task);
        lt_task_unref(task);
        return 1;
    }
    if (bound->scheduler == NULL || lt_scheduler_idle(bound->scheduler))
        return 0;
    struct lt_strand *strand = lt_wait_check(L, "scheduler:finished");
    struct lt_finished_wait *waiting = lt_alloc(sizeof *waiting);
    *waiting = (struct lt_finished_wait){.wait.cancel = leave_iterators, .bound = bound, .strand = strand};
    TAILQ_INSERT_TAIL(&bound->iterators, waiting, link);
    lt_scheduler_await_finished(bound->scheduler);
    return lt_wait(L, strand, &waiting->wait, finished_again);
}

static int iterate_finished(lua_State *L)
{
    return next_finished(L, *(struct lt_bound **)lua_touserdata(L, lua_upvalueindex(1)));
}

static int method_finished(lua_State *L)
{
    lt_bound_check(L, "scheduler:finished");
    lua_settop(L, 1);
    lua_pushcclosure(L, iterate_finished, 1);
    return 1;
}

/* The object's end. */

static int collect_scheduler(lua_State *L)
{
    struct lt_bound **object = luaL_checkudata(L, 1, SCHEDULER);
    struct lt_bound *bound = *object;
    if (bound == NULL)
        return 0;
    *object = NULL;
    bound->collected = true;
    if (bound->scheduler != NULL)
        lt_scheduler_close(bound->scheduler, 0, "closed", NULL);
    lt_bound_review(bound);
    return 0;
}

static int scheduler_to_string(lua_State *L)
{
    const struct lt_bound *bound = *(struct lt_bound **)luaL_checkudata(L, 1, SCHEDULER);
    lua_pushfstring(L, "scheduler \"%s\"", bound != NULL ? bound->name : "");
    return 1;
}

/* core.name(scheduler[, function]): its name; raises for `function` if it is none */
static int core_name(lua_State *L)
{
    lua_pushstring(L, lt_bound_check(L, luaL_optstring(L, 2, "scheduler:name"))->name);
    return 1;
}

void lt_bind_scheduler(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"finished", method_finished},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {
        {"__gc", collect_scheduler}, {"__close", lt_close_scope}, {"__tostring", scheduler_to_string}, {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"scheduler", make_scheduler}, {"set", set_scheduler}, {"config", get_config},          {"paused", is_paused},
        {"number", count_schedulers},  {"name", core_name},    {"schedulers", list_schedulers}, {NULL, NULL},
    };
    luaL_setfuncs(L, functions, 0);

    lt_bound_open(L);
    luaL_newmetatable(L, SCHEDULER);
    lt_script_of(L)->scheduler_meta = lua_topointer(L, -1);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lt_bind_add(L);
    lt_bind_requests(L);
    lt_bind_queue(L);
    lt_bind_events(L);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__index");
    lua_setfield(L, -3, "methods"); /* core.methods: lua/ltsh/scheduler.lua adds its own */
    lua_pop(L, 1);
}
