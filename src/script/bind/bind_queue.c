/* What is asked of a scheduler and its queue as a whole: list, count, hosts, stats, pause, resume, close, run. What comes here was
 * checked by lua/ltsh/scheduler.lua. */
#include <lauxlib.h>

#include "script/bind/question.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"
#include "script/values/values.h"

LT_RUNS_LUA static int push_list(lua_State *L, const struct lt_question *question)
{
    const struct lt_list_op *op = &question->as.list.op;
    const struct lt_tasks *tasks = &op->tasks;
    lua_createtable(L, (int)tasks->count, 0);
    for (uint32_t i = 0; i < tasks->count; i++) {
        lt_task_push(L, tasks->items[i]);
        lua_rawseti(L, -2, i + 1);
    }
    if (op->next == 0)
        return 1;
    lua_pushinteger(L, (lua_Integer)op->next);
    return 2;
}

/* list(status, key, limit, offset, newest_first, text, after) -> tasks, the cursor for `after` */
static int core_list(lua_State *L)
{
    int failed;
    struct lt_bound *bound = lt_bound_check_open(L, "scheduler:list", &failed);
    size_t len;
    const char *status = luaL_optlstring(L, 2, NULL, &len);
    int wanted = status != NULL ? lt_status_parse(status, len) : -1;
    const char *key = luaL_optlstring(L, 3, NULL, &len);
    lt_check_copy(L, "scheduler:list", key != NULL ? len : 0);
    lua_Integer limit = luaL_optinteger(L, 4, 1000);
    lua_Integer offset = luaL_optinteger(L, 5, 0);
    size_t text_len;
    const char *text = luaL_optlstring(L, 7, NULL, &text_len);
    lua_Integer after = luaL_optinteger(L, 8, 0);
    if (failed > 0)
        return failed;
    struct lt_question *question = lt_question_new(bound, LT_ASK_LIST, "scheduler:list", push_list);
    struct lt_list_op *op = &question->as.list.op;
    op->status = wanted;
    op->key = question->text = key != NULL ? lt_bytes_new(key, len) : NULL;
    op->limit = (uint64_t)limit;
    op->offset = (uint64_t)offset;
    op->descending = lua_toboolean(L, 6);
    op->text = question->other_text = text != NULL ? lt_bytes_new(text, text_len) : NULL;
    op->after = (uint64_t)after;
    lt_scheduler_list(bound->scheduler, &question->as.list);
    return lt_question_ask(L, question, -1);
}

static void set_integer(lua_State *L, const char *name, uint64_t value)
{
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

/* The counts as a table by status, and how many of those waiting are delayed. */
static int push_counts(lua_State *L, const struct lt_question *question)
{
    lua_createtable(L, 0, LT_STATUSES);
    for (int status = 0; status < LT_STATUSES; status++) {
        lua_pushinteger(L, (lua_Integer)question->as.count.op.counts[status]);
        lua_setfield(L, -2, lt_status_name(status));
    }
    lua_pushinteger(L, (lua_Integer)question->as.count.op.delayed);
    return 2;
}

static int core_count(lua_State *L)
{
    int failed;
    struct lt_bound *bound = lt_bound_check_open(L, "scheduler:count", &failed);
    if (failed > 0)
        return failed;
    struct lt_question *question = lt_question_new(bound, LT_ASK_COUNT, "scheduler:count", push_counts);
    lt_scheduler_count(bound->scheduler, &question->as.count);
    return lt_question_ask(L, question, -1);
}

static void set_times(lua_State *L, const char *name, double p50, double p99)
{
    lua_createtable(L, 0, 2);
    set_number(L, "p50", p50);
    set_number(L, "p99", p99);
    lua_setfield(L, -2, name);
}

static int push_hosts(lua_State *L, const struct lt_question *question)
{
    const struct lt_queue_hosts *hosts = &question->as.hosts.op.hosts;
    lua_createtable(L, (int)hosts->count, 0);
    for (uint32_t i = 0; i < hosts->count; i++) {
        const struct lt_queue_host *host = &hosts->items[i];
        lua_createtable(L, 0, 7);
        lua_pushstring(L, host->name);
        lua_setfield(L, -2, "name");
        if (host->version != NULL) {
            lua_pushstring(L, host->version);
            lua_setfield(L, -2, "version");
        }
        if (host->pid != 0)
            set_integer(L, "pid", (uint64_t)host->pid);
        set_number(L, "heartbeat", host->heartbeat);
        if (host->lease_end > 0)
            set_number(L, "lease_end", host->lease_end);
        set_integer(L, "running", host->running);
        lua_pushboolean(L, host->self);
        lua_setfield(L, -2, "self");
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* hosts() -> a list of those on the queue, in the order in which they came */
static int method_hosts(lua_State *L)
{
    int failed;
    struct lt_bound *bound = lt_bound_check_open(L, "scheduler:hosts", &failed);
    if (failed > 0)
        return failed;
    struct lt_question *question = lt_question_new(bound, LT_ASK_HOSTS, "scheduler:hosts", push_hosts);
    lt_scheduler_hosts(bound->scheduler, &question->as.hosts);
    return lt_question_ask(L, question, -1);
}

/* The scheduler's own figures; lua/ltsh/scheduler.lua adds what the container counts. */
static int core_stats(lua_State *L)
{
    int failed;
    struct lt_bound *bound = lt_bound_check_open(L, "scheduler:stats", &failed);
    if (failed > 0)
        return failed;
    struct lt_stats stats;
    lt_scheduler_stats(bound->scheduler, &stats);
    lua_createtable(L, 0, 14);
    set_integer(L, "running", stats.running);
    set_integer(L, "exporting", stats.exporting);
    set_integer(L, "success", stats.success);
    set_integer(L, "failed", stats.failed);
    set_integer(L, "stopped", stats.stopped);
    set_integer(L, "retried", stats.retried);
    set_integer(L, "finished_dropped", stats.finished_dropped);
    set_integer(L, "stale", stats.stale);
    set_integer(L, "abandoned", stats.abandoned);
    set_number(L, "oldest_waiting", stats.oldest_waiting);
    set_number(L, "rate", stats.rate);
    set_times(L, "wait", stats.wait_p50, stats.wait_p99);
    set_times(L, "run", stats.run_p50, stats.run_p99);
    return 1;
}

/* pause(all): this scheduler, or all hosts on its queue. */
LT_RAISES LT_RUNS_LUA static int pause_or_resume(lua_State *L, const char *function, bool paused)
{
    struct lt_bound *bound = lt_bound_check(L, function);
    if (bound->scheduler == NULL || lt_scheduler_closing(bound->scheduler))
        return lt_push_closed(L);
    if (!lua_toboolean(L, 2)) {
        lt_scheduler_pause(bound->scheduler, paused);
        lua_pushboolean(L, 1);
        return 1;
    }
    struct lt_question *question = lt_question_new(bound, LT_ASK_PAUSE, function, lt_push_true);
    lt_scheduler_pause_all(bound->scheduler, paused, &question->as.pause);
    return lt_question_ask(L, question, -1);
}

static int core_pause(lua_State *L)
{
    return pause_or_resume(L, "scheduler:pause", true);
}

static int core_resume(lua_State *L)
{
    return pause_or_resume(L, "scheduler:resume", false);
}

/* _progress(id, run, value): how far a running task is; one of an earlier run is dropped */
static int core_progress(lua_State *L)
{
    struct lt_bound *bound = lt_bound_check(L, "scheduler:_progress");
    struct lt_push push = {.run = (uint64_t)luaL_checkinteger(L, 3), .report = LT_REPORT(LT_RUNNING)};
    struct lt_error error;
    push.id = luaL_checklstring(L, 2, &push.id_len);
    luaL_checkany(L, 4);
    push.report.progress = lt_value_bytes(L, 4, &bound->script->scratch, "progress", &error);
    if (push.report.progress == NULL)
        return luaL_error(L, "%s", error.message);
    if (bound->scheduler != NULL)
        lt_scheduler_push(bound->scheduler, &push);
    else
        lt_report_clear(&push.report);
    return 0;
}

/* close(drain) */
static int core_close(lua_State *L)
{
    struct lt_bound *bound = lt_bound_check(L, "scheduler:close");
    double drain = luaL_optnumber(L, 2, 0);
    if (bound->scheduler == NULL || lt_scheduler_closed(bound->scheduler)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (!lt_wait_possible(L)) { /* __close while a coroutine is closed, a callback: it goes on without us */
        lt_scheduler_close(bound->scheduler, drain, "closed", NULL);
        lua_pushboolean(L, 1);
        return 1;
    }
    struct lt_question *question = lt_question_new(bound, LT_ASK_CLOSE, "scheduler:close", lt_push_true);
    lt_scheduler_close(bound->scheduler, drain, "closed", &question->as.close);
    return lt_question_ask(L, question, -1);
}

/* Waits until it is closed, or the process is told to end, which closes it. */
static int method_run(lua_State *L)
{
    struct lt_bound *bound = lt_bound_check(L, "scheduler:run");
    if (bound->scheduler == NULL || lt_scheduler_closed(bound->scheduler)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct lt_question *question = lt_question_new(bound, LT_ASK_CLOSE, "scheduler:run", lt_push_true);
    lt_scheduler_await_closed(bound->scheduler, &question->as.close);
    return lt_question_ask(L, question, -1);
}

/* The second argument is the error that ends the scope, if any. */
int lt_close_scope(lua_State *L)
{
    lua_settop(L, 1);
    return core_close(L);
}

void lt_bind_queue(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"_list", core_list},     {"_count", core_count}, {"_stats", core_stats}, {"_pause", core_pause},
        {"_resume", core_resume}, {"_close", core_close}, {"run", method_run},    {"_progress", core_progress},
        {"hosts", method_hosts},  {NULL, NULL},
    };
    luaL_setfuncs(L, methods, 0);
}
