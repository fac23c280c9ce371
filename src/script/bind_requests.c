/* The scheduler's methods that may have to wait for an answer.
 *
 *     ask: a question on the heap; if the answer comes at once, its results are returned at once;
 *          else the strand waits, and where it may not, the call raises and the answer is dropped
 *
 * A question is freed by who comes last: the strand that took its answer, or the answer that finds nobody. */
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/bound.h"
#include "script/call.h"
#include "script/task_object.h"
#include "script/values.h"

enum kind { ADD, ONE, UNTIL, LIST, COUNT, CLOSE };

struct question {
    struct lt_wait wait; /* first */
    enum kind kind;
    struct lt_bound *bound;
    struct lt_strand *strand;                                   /* who waits; NULL: nobody yet, or any more */
    const char *function;                                       /* static: its name in messages */
    int (*push)(lua_State *L, const struct question *question); /* the results of LT_OK */
    bool answered;
    bool dropped; /* nobody will take the answer */
    bool late;    /* the caller's time was over first */
    struct lt_timer timer;
    struct lt_tasks tasks; /* that are added; one alone lies in `single` */
    struct lt_task *single;
    struct lt_bytes *text; /* a copy of the id, or the key */
    struct lt_bytes *reason;
    union {
        struct lt_reply reply; /* the first member of them all */
        struct lt_add_request add;
        struct lt_task_request one;
        struct lt_wait_request until;
        struct lt_list_op list;
        struct lt_count_op count;
        struct lt_close_request close;
    } as;
};

static void clear_answer(struct question *question)
{
    lt_reply_clear(&question->as.reply);
    switch (question->kind) {
    case ONE:
        lt_task_unref(question->as.one.task);
        lt_bytes_unref(question->as.one.output);
        break;
    case UNTIL:
        lt_task_unref(question->as.until.task);
        break;
    case LIST:
        lt_tasks_free(&question->as.list.tasks);
        break;
    default:
        break;
    }
}

static void free_question(struct question *question)
{
    struct lt_bound *bound = question->bound;
    lt_timer_stop(bound->script->loop, &question->timer);
    clear_answer(question);
    lt_task_unref(question->single);
    lt_tasks_free(&question->tasks);
    lt_bytes_unref(question->text);
    lt_bytes_unref(question->reason);
    if (bound->spare_question == NULL)
        bound->spare_question = question;
    else
        free(question);
    bound->requests--;
    lt_bound_review(bound);
}

static void answered(struct lt_reply *reply)
{
    struct question *question = (struct question *)((char *)reply - offsetof(struct question, as));
    question->answered = true;
    if (question->dropped)
        free_question(question);
    else if (question->strand != NULL)
        lt_wake(question->strand);
}

static void cancel(struct lt_wait *wait)
{
    struct question *question = (struct question *)wait;
    question->strand = NULL;
    lt_timer_stop(question->bound->script->loop, &question->timer);
    if (question->answered || lt_reply_cancel(&question->as.reply))
        free_question(question);
    else
        question->dropped = true;
}

static void time_over(struct lt_timer *timer)
{
    struct question *question = (struct question *)((char *)timer - offsetof(struct question, timer));
    if (question->answered || !lt_reply_cancel(&question->as.reply))
        return;
    question->answered = question->late = true;
    lt_wake(question->strand);
}

static int push_failure(lua_State *L, const char *message, int code)
{
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, lt_code_name(code));
    return 3;
}

static int push_closed(lua_State *L)
{
    return push_failure(L, "the scheduler is closed", LT_CLOSED);
}

static int push_answer(lua_State *L, const struct question *question)
{
    const struct lt_reply *reply = &question->as.reply;
    if (question->late && question->kind == ADD)
        return push_failure(L, "the container is full, and there was no room in the time given", LT_FULL);
    if (question->late)
        return push_failure(L, "the task has not ended in the time given", LT_TIMEOUT);
    if (reply->code != LT_OK)
        return push_failure(L, lt_reply_message(reply), reply->code);
    return question->push(L, question);
}

static int taken(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct question *question = (struct question *)lt_wait_over(L);
    int count = push_answer(L, question);
    lt_wait_done(L);
    free_question(question);
    return count;
}

/* The scheduler, if it can be asked anything; else `*failed` is the number of results pushed. */
static struct lt_bound *open_bound(lua_State *L, const char *function, int *failed)
{
    struct lt_bound *bound = lt_bound_check(L, function);
    *failed = bound->scheduler == NULL || lt_scheduler_closed(bound->scheduler) ? push_closed(L) : 0;
    return bound;
}

static struct question *new_question(struct lt_bound *bound, enum kind kind, const char *function,
                                     int (*push)(lua_State *L, const struct question *question))
{
    static const size_t sizes[] = {
        [ADD] = sizeof(struct lt_add_request),    [ONE] = sizeof(struct lt_task_request),
        [UNTIL] = sizeof(struct lt_wait_request), [LIST] = sizeof(struct lt_list_op),
        [COUNT] = sizeof(struct lt_count_op),     [CLOSE] = sizeof(struct lt_close_request),
    };
    struct question *question = bound->spare_question; /* one at a time is the usual case */
    bound->spare_question = NULL;
    if (question == NULL)
        question = lt_alloc(sizeof *question);
    memset(question, 0, offsetof(struct question, as) + sizes[kind]);
    question->wait.cancel = cancel;
    question->kind = kind;
    question->bound = bound;
    question->function = function;
    question->push = push;
    question->timer = LT_TIMER_INIT;
    bound->requests++;
    lt_reply_begin(&question->as.reply, bound->script->loop, answered);
    return question;
}

/* After it was asked: takes the answer, or waits for it, at most `seconds` (< 0: as long as it takes). */
static int take(lua_State *L, struct question *question, double seconds)
{
    lt_reply_end(&question->as.reply);
    if (question->answered) {
        int count = push_answer(L, question);
        free_question(question);
        return count;
    }
    const char *function = question->function;
    if (!lt_wait_ready(L)) {
        cancel(&question->wait);
        lt_wait_check(L, function); /* raises */
        return 0;
    }
    struct lt_strand *strand = question->strand = lt_wait_check(L, function);
    struct lt_loop *loop = question->bound->script->loop;
    if (seconds >= 0)
        lt_timer_start(loop, &question->timer, lt_loop_tick(loop) + seconds, time_over);
    return lt_wait(L, strand, &question->wait, taken);
}

static double seconds_at(lua_State *L, int index, const char *function)
{
    if (lua_isnoneornil(L, index))
        return -1;
    double seconds = lua_tonumber(L, index);
    if (lua_type(L, index) != LUA_TNUMBER || !(seconds >= 0))
        lt_argument_error(L, function, "seconds", "a number of 0 or more", index);
    return seconds;
}

/* Adding. */

static int push_id(lua_State *L, const struct question *question)
{
    const struct lt_task *task = question->single;
    lua_pushlstring(L, task->data, task->id_len);
    return 1;
}

static int push_ids(lua_State *L, const struct question *question)
{
    lua_createtable(L, (int)question->tasks.count, 0);
    for (uint32_t i = 0; i < question->tasks.count; i++) {
        const struct lt_task *task = question->tasks.items[i];
        lua_pushlstring(L, task->data, task->id_len);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static void ask_add(struct question *question, struct lt_task **tasks, uint32_t count, double seconds)
{
    question->as.add.tasks = tasks;
    question->as.add.count = count;
    question->as.add.waits = seconds > 0;
    lt_scheduler_add(question->bound->scheduler, &question->as.add);
}

static int method_add(lua_State *L)
{
    int failed;
    struct lt_error error;
    struct lt_bound *bound = open_bound(L, "scheduler:add", &failed);
    double seconds = seconds_at(L, 3, "scheduler:add");
    struct lt_task *task = lt_task_read_new(L, 2, "scheduler:add", &error); /* misuse raises, closed or not */
    if (task == NULL)
        return push_failure(L, error.message, error.code);
    if (failed > 0) {
        lt_task_unref(task);
        return push_closed(L);
    }
    struct question *question = new_question(bound, ADD, "scheduler:add", push_id);
    question->single = task;
    ask_add(question, &question->single, 1, seconds);
    return take(L, question, seconds);
}

static int method_add_all(lua_State *L)
{
    int failed;
    struct lt_bound *bound = open_bound(L, "scheduler:add_all", &failed);
    if (lua_type(L, 2) != LUA_TTABLE)
        return lt_argument_error(L, "scheduler:add_all", "tasks", "a list of tasks", 2);
    double seconds = seconds_at(L, 3, "scheduler:add_all");
    lua_settop(L, 3);
    lua_Integer count = (lua_Integer)lua_rawlen(L, 2);
    /* The tasks are owned by a userdata while they are read: reading raises on misuse. */
    struct lt_tasks *tasks = lua_newuserdatauv(L, sizeof *tasks, 0);
    *tasks = (struct lt_tasks){0};
    luaL_setmetatable(L, "ltsh.tasks");
    for (lua_Integer i = 1; i <= count; i++) {
        struct lt_error error;
        char function[64];
        snprintf(function, sizeof function, "scheduler:add_all: task %lld", (long long)i);
        lua_rawgeti(L, 2, i);
        struct lt_task *task = lt_task_read_new(L, -1, function, &error);
        if (task == NULL) {
            lua_pushfstring(L, "task %I: %s", i, error.message);
            return push_failure(L, lua_tostring(L, -1), error.code);
        }
        lua_pop(L, 1);
        lt_tasks_push(tasks, task);
    }
    if (failed > 0)
        return push_closed(L);
    if (count == 0) {
        lua_newtable(L);
        return 1;
    }
    struct question *question = new_question(bound, ADD, "scheduler:add_all", push_ids);
    question->tasks = *tasks;
    *tasks = (struct lt_tasks){0};
    ask_add(question, question->tasks.items, question->tasks.count, seconds);
    return take(L, question, seconds);
}

static int free_tasks(lua_State *L)
{
    lt_tasks_free(lua_touserdata(L, 1));
    return 0;
}

/* Requests that name a task. */

static const char *check_id(lua_State *L, const char *function, size_t *len)
{
    if (lua_type(L, 2) != LUA_TSTRING)
        lt_argument_error(L, function, "id", "a string", 2);
    return lua_tolstring(L, 2, len);
}

static int push_task(lua_State *L, const struct question *question)
{
    lt_task_push(L, question->as.one.task);
    return 1;
}

static int push_true(lua_State *L, const struct question *question)
{
    (void)question;
    lua_pushboolean(L, 1);
    return 1;
}

static int push_output(lua_State *L, const struct question *question)
{
    const struct lt_bytes *output = question->as.one.output;
    if (output == NULL)
        return 0;
    if (lt_value_decode(L, output->data, output->len) != LT_OK)
        return push_failure(L, "the saved output cannot be decoded", LT_ERROR);
    return 1;
}

static int request(lua_State *L, enum lt_request_kind kind, const char *function,
                   int (*push)(lua_State *L, const struct question *question))
{
    int failed;
    size_t len;
    struct lt_bound *bound = open_bound(L, function, &failed);
    const char *id = check_id(L, function, &len);
    size_t reason_len = 0;
    const char *reason = NULL;
    if (kind == LT_REQUEST_STOP && !lua_isnoneornil(L, 3)) {
        if (lua_type(L, 3) != LUA_TSTRING)
            return lt_argument_error(L, function, "reason", "a text", 3);
        reason = lua_tolstring(L, 3, &reason_len);
    }
    if (failed > 0)
        return failed;
    struct question *question = new_question(bound, ONE, function, push);
    question->text = lt_bytes_new(id, len);
    question->reason = reason != NULL ? lt_bytes_new(reason, reason_len) : NULL;
    question->as.one.id = question->text->data;
    question->as.one.id_len = len;
    question->as.one.reason = question->reason;
    lt_scheduler_request(bound->scheduler, kind, &question->as.one);
    return take(L, question, -1);
}

static int method_get(lua_State *L)
{
    return request(L, LT_REQUEST_GET, "scheduler:get", push_task);
}

static int method_stop(lua_State *L)
{
    return request(L, LT_REQUEST_STOP, "scheduler:stop", push_task);
}

static int method_retry(lua_State *L)
{
    return request(L, LT_REQUEST_RETRY, "scheduler:retry", push_task);
}

static int method_delete(lua_State *L)
{
    return request(L, LT_REQUEST_DELETE, "scheduler:delete", push_true);
}

static int method_output(lua_State *L)
{
    return request(L, LT_REQUEST_OUTPUT, "scheduler:output", push_output);
}

static void set_time(lua_State *L, const char *name, double time)
{
    if (time <= 0)
        return;
    lua_pushnumber(L, time);
    lua_setfield(L, -2, name);
}

static void set_bytes(lua_State *L, const char *name, const struct lt_bytes *bytes)
{
    if (bytes == NULL)
        return;
    lua_pushlstring(L, bytes->data, bytes->len);
    lua_setfield(L, -2, name);
}

static void push_run(lua_State *L, const struct lt_past_run *run)
{
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, (lua_Integer)run->run);
    lua_setfield(L, -2, "run");
    set_time(L, "start", run->started_at);
    set_time(L, "end", run->ended_at);
    set_bytes(L, "reason", run->reason);
    set_bytes(L, "version", run->version);
    lt_task_push_host(L);
    lua_setfield(L, -2, "host");
}

/* Its runs, the oldest first; the last one is the present or latest. */
static int push_history(lua_State *L, const struct question *question)
{
    const struct lt_task *task = question->as.one.task;
    lua_newtable(L);
    lua_Integer n = 0;
    for (const struct lt_past_run *past = task->extra != NULL ? task->extra->past : NULL; past != NULL;
         past = past->next) {
        push_run(L, past);
        lua_rawseti(L, -2, ++n);
    }
    bool ran_since = task->started_at > 0 && (task->status != LT_WAITING);
    if (ran_since) {
        push_run(L, &(struct lt_past_run){
                        .run = task->run,
                        .started_at = task->started_at,
                        .ended_at = task->ended_at,
                        .reason = task->reason,
                        .version = task->extra != NULL ? task->extra->version : NULL,
                    });
        lua_pushstring(L, lt_status_name(task->status));
        lua_setfield(L, -2, "status");
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

static int method_history(lua_State *L)
{
    return request(L, LT_REQUEST_GET, "scheduler:history", push_history);
}

static int push_waited(lua_State *L, const struct question *question)
{
    lt_task_push(L, question->as.until.task);
    return 1;
}

static int method_wait(lua_State *L)
{
    int failed;
    size_t len;
    struct lt_bound *bound = open_bound(L, "scheduler:wait", &failed);
    const char *id = check_id(L, "scheduler:wait", &len);
    double seconds = seconds_at(L, 3, "scheduler:wait");
    if (failed > 0)
        return failed;
    struct question *question = new_question(bound, UNTIL, "scheduler:wait", push_waited);
    question->text = lt_bytes_new(id, len);
    question->as.until.id = question->text->data;
    question->as.until.id_len = len;
    lt_scheduler_wait(bound->scheduler, &question->as.until);
    return take(L, question, seconds);
}

/* Lists and counts. What comes here was checked by lua/ltsh/scheduler.lua: status, key, limit, offset, newest first. */

static int status_at(lua_State *L, int index)
{
    size_t len;
    if (lua_isnoneornil(L, index))
        return -1;
    const char *name = luaL_checklstring(L, index, &len);
    int status = lt_status_parse(name, len);
    if (status < 0)
        return luaL_error(L,
                          "scheduler: status must be one of unstarted, waiting, running, exporting, success, failed, "
                          "stopped, deleted, got \"%s\"",
                          name);
    return status;
}

static int push_list(lua_State *L, const struct question *question)
{
    const struct lt_tasks *tasks = &question->as.list.tasks;
    lua_createtable(L, (int)tasks->count, 0);
    for (uint32_t i = 0; i < tasks->count; i++) {
        lt_task_push(L, tasks->items[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* list(status, key, limit, offset, newest_first) */
static int core_list(lua_State *L)
{
    int failed;
    struct lt_bound *bound = open_bound(L, "scheduler:list", &failed);
    int status = status_at(L, 2);
    size_t len;
    const char *key = luaL_optlstring(L, 3, NULL, &len);
    lua_Integer limit = luaL_optinteger(L, 4, 1000);
    lua_Integer offset = luaL_optinteger(L, 5, 0);
    if (failed > 0)
        return failed;
    struct question *question = new_question(bound, LIST, "scheduler:list", push_list);
    struct lt_list_op *op = &question->as.list;
    op->status = status;
    op->key = question->text = key != NULL ? lt_bytes_new(key, len) : NULL;
    op->limit = (uint64_t)limit;
    op->offset = (uint64_t)offset;
    op->descending = lua_toboolean(L, 6);
    lt_scheduler_list(bound->scheduler, op);
    return take(L, question, -1);
}

/* The counts as a table by status, and how many of those waiting are delayed. */
static int push_counts(lua_State *L, const struct question *question)
{
    lua_createtable(L, 0, LT_STATUSES);
    for (int status = 0; status < LT_STATUSES; status++) {
        lua_pushinteger(L, (lua_Integer)question->as.count.counts[status]);
        lua_setfield(L, -2, lt_status_name(status));
    }
    lua_pushinteger(L, (lua_Integer)question->as.count.delayed);
    return 2;
}

static int core_count(lua_State *L)
{
    int failed;
    struct lt_bound *bound = open_bound(L, "scheduler:count", &failed);
    if (failed > 0)
        return failed;
    struct question *question = new_question(bound, COUNT, "scheduler:count", push_counts);
    lt_scheduler_count(bound->scheduler, &question->as.count);
    return take(L, question, -1);
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

static void set_times(lua_State *L, const char *name, double p50, double p99)
{
    lua_createtable(L, 0, 2);
    set_number(L, "p50", p50);
    set_number(L, "p99", p99);
    lua_setfield(L, -2, name);
}

/* The scheduler's own figures; lua/ltsh/scheduler.lua adds what the container counts. */
static int core_stats(lua_State *L)
{
    int failed;
    struct lt_bound *bound = open_bound(L, "scheduler:stats", &failed);
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

/* Closing. */

static double drain_at(lua_State *L)
{
    double drain = 0;
    if (lua_isnoneornil(L, 2))
        return 0;
    if (lua_type(L, 2) != LUA_TTABLE)
        lt_argument_error(L, "scheduler:close", "options", "a table", 2);
    lua_pushnil(L);
    while (lua_next(L, 2) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), "drain") != 0)
            lt_argument_error(L, "scheduler:close", "the only option", "'drain'", -2);
        drain = lua_tonumber(L, -1);
        if (lua_type(L, -1) != LUA_TNUMBER || !(drain >= 0))
            lt_argument_error(L, "scheduler:close", "drain", "a number of seconds", -1);
        lua_pop(L, 1);
    }
    return drain;
}

static int method_close(lua_State *L)
{
    struct lt_bound *bound = lt_bound_check(L, "scheduler:close");
    double drain = drain_at(L);
    if (bound->scheduler == NULL || lt_scheduler_closed(bound->scheduler)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (!lt_wait_possible(L)) { /* __close while a coroutine is closed, a callback: it goes on without us */
        lt_scheduler_close(bound->scheduler, drain, "closed", NULL);
        lua_pushboolean(L, 1);
        return 1;
    }
    struct question *question = new_question(bound, CLOSE, "scheduler:close", push_true);
    lt_scheduler_close(bound->scheduler, drain, "closed", &question->as.close);
    return take(L, question, -1);
}

/* Waits until it is closed, or the process is told to end, which closes it. */
static int method_run(lua_State *L)
{
    struct lt_bound *bound = lt_bound_check(L, "scheduler:run");
    if (bound->scheduler == NULL || lt_scheduler_closed(bound->scheduler)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    struct question *question = new_question(bound, CLOSE, "scheduler:run", push_true);
    lt_scheduler_await_closed(bound->scheduler, &question->as.close);
    return take(L, question, -1);
}

/* The second argument is the error that ends the scope, if any. */
int lt_close_scope(lua_State *L)
{
    lua_settop(L, 1);
    return method_close(L);
}

void lt_bind_requests(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"add", method_add},       {"add_all", method_add_all}, {"get", method_get},
        {"stop", method_stop},     {"retry", method_retry},     {"delete", method_delete},
        {"output", method_output}, {"history", method_history}, {"wait", method_wait},
        {"_list", core_list},      {"_count", core_count},      {"_stats", core_stats},
        {"close", method_close},   {"run", method_run},         {NULL, NULL},
    };
    luaL_newmetatable(L, "ltsh.tasks");
    lua_pushcfunction(L, free_tasks);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_setfuncs(L, methods, 0);
}
