/* The scheduler's methods that name a task: get, stop, retry, delete, output, explain, history, wait. */
#include <lauxlib.h>

#include "script/bind/question.h"
#include "script/flow/call.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"
#include "script/values/values.h"

LT_RAISES static const char *check_id(lua_State *L, const char *function, size_t *len)
{
    if (lua_type(L, 2) != LUA_TSTRING)
        lt_argument_error(L, function, "id", "a string", 2);
    const char *id = lua_tolstring(L, 2, len);
    lt_check_copy(L, function, *len);
    return id;
}

LT_RUNS_LUA static int push_task(lua_State *L, const struct lt_question *question)
{
    lt_task_push(L, question->as.one.task);
    return 1;
}

static int push_output(lua_State *L, const struct lt_question *question)
{
    const struct lt_bytes *output = question->as.one.output;
    if (output == NULL)
        return 0;
    if (lt_value_decode(L, output->data, output->len) != LT_OK)
        return lt_push_failure(L, "the saved output cannot be decoded", LT_ERROR);
    return 1;
}

LT_RAISES LT_RUNS_LUA static int ask_of_task(lua_State *L, enum lt_request_kind kind, const char *function,
                                             int (*push)(lua_State *L, const struct lt_question *question))
{
    int failed;
    size_t len;
    struct lt_bound *bound = lt_bound_check_open(L, function, &failed);
    const char *id = check_id(L, function, &len);
    size_t reason_len = 0;
    const char *reason = NULL;
    if (kind == LT_REQUEST_STOP && !lua_isnoneornil(L, 3)) {
        if (lua_type(L, 3) != LUA_TSTRING)
            return lt_argument_error(L, function, "reason", "a text", 3);
        reason = lua_tolstring(L, 3, &reason_len);
        lt_check_copy(L, function, reason_len);
    }
    if (failed > 0)
        return failed;
    struct lt_question *question = lt_question_new(bound, LT_ASK_ONE, function, push);
    question->text = lt_bytes_new(id, len);
    question->reason = reason != NULL ? lt_bytes_new(reason, reason_len) : NULL;
    question->as.one.id = question->text->data;
    question->as.one.id_len = len;
    question->as.one.reason = question->reason;
    lt_scheduler_request(bound->scheduler, kind, &question->as.one);
    return lt_question_ask(L, question, -1);
}

static int method_get(lua_State *L)
{
    return ask_of_task(L, LT_REQUEST_GET, "scheduler:get", push_task);
}

static int method_stop(lua_State *L)
{
    return ask_of_task(L, LT_REQUEST_STOP, "scheduler:stop", push_task);
}

static int method_retry(lua_State *L)
{
    return ask_of_task(L, LT_REQUEST_RETRY, "scheduler:retry", push_task);
}

static int method_delete(lua_State *L)
{
    return ask_of_task(L, LT_REQUEST_DELETE, "scheduler:delete", lt_push_true);
}

static int method_output(lua_State *L)
{
    return ask_of_task(L, LT_REQUEST_OUTPUT, "scheduler:output", push_output);
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
    if (run->host != NULL)
        lua_pushlstring(L, run->host->data, run->host->len);
    else
        lt_task_push_host(L);
    lua_setfield(L, -2, "host");
}

/* Its runs, the oldest first; the last one is the present or latest. */
static int push_history(lua_State *L, const struct lt_question *question)
{
    const struct lt_task *task = question->as.one.task;
    lua_newtable(L);
    const struct lt_past_run *past = task->extra != NULL ? task->extra->past : NULL;
    lua_Integer n = past != NULL ? past->count : 0;
    for (; past != NULL; past = past->older) {
        push_run(L, past);
        lua_rawseti(L, -2, past->count);
    }
    bool ran_since = task->started_at > 0 && (task->status != LT_WAITING);
    if (ran_since) {
        push_run(L, &(struct lt_past_run){
                        .run = task->run,
                        .started_at = task->started_at,
                        .ended_at = task->ended_at,
                        .reason = task->reason,
                        .version = task->extra != NULL ? task->extra->version : NULL,
                        .host = task->extra != NULL ? task->extra->host : NULL,
                    });
        lua_pushstring(L, lt_status_name(task->status));
        lua_setfield(L, -2, "status");
        lua_rawseti(L, -2, ++n);
    }
    return 1;
}

/* A sentence and a code. */
static int push_explanation(lua_State *L, const struct lt_question *question)
{
    const struct lt_bytes *sentence = question->as.one.output;
    lua_pushlstring(L, sentence->data, sentence->len);
    lua_pushstring(L, question->as.one.why);
    return 2;
}

static int method_explain(lua_State *L)
{
    return ask_of_task(L, LT_REQUEST_EXPLAIN, "scheduler:explain", push_explanation);
}

static int method_history(lua_State *L)
{
    return ask_of_task(L, LT_REQUEST_GET, "scheduler:history", push_history);
}

LT_RUNS_LUA static int push_waited(lua_State *L, const struct lt_question *question)
{
    lt_task_push(L, question->as.until.task);
    return 1;
}

static int method_wait(lua_State *L)
{
    int failed;
    size_t len;
    struct lt_bound *bound = lt_bound_check_open(L, "scheduler:wait", &failed);
    const char *id = check_id(L, "scheduler:wait", &len);
    double seconds = lt_check_seconds(L, 3, "scheduler:wait");
    if (failed > 0)
        return failed;
    struct lt_question *question = lt_question_new(bound, LT_ASK_UNTIL, "scheduler:wait", push_waited);
    question->text = lt_bytes_new(id, len);
    question->as.until.id = question->text->data;
    question->as.until.id_len = len;
    lt_scheduler_wait(bound->scheduler, &question->as.until);
    return lt_question_ask(L, question, seconds);
}

void lt_bind_requests(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"get", method_get},         {"stop", method_stop},     {"retry", method_retry},
        {"delete", method_delete},   {"output", method_output}, {"history", method_history},
        {"explain", method_explain}, {"wait", method_wait},     {NULL, NULL},
    };
    luaL_setfuncs(L, methods, 0);
}
