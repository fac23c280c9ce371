/* scheduler:add and add_all. */
#include <lauxlib.h>
#include <stdio.h>

#include "script/bind/question.h"
#include "script/flow/call.h"
#include "script/task/task_object.h"

static int push_id(lua_State *L, const struct lt_question *question)
{
    const struct lt_task *task = question->single;
    lua_pushlstring(L, task->data, task->id_len);
    return 1;
}

static int push_ids(lua_State *L, const struct lt_question *question)
{
    lua_createtable(L, (int)question->tasks.count, 0);
    for (uint32_t i = 0; i < question->tasks.count; i++) {
        const struct lt_task *task = question->tasks.items[i];
        lua_pushlstring(L, task->data, task->id_len);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static void ask_add(struct lt_question *question, struct lt_task **tasks, uint32_t count, double seconds)
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
    struct lt_bound *bound = lt_bound_check_open(L, "scheduler:add", &failed);
    lt_memory_check(L, "scheduler:add", 0);
    double seconds = lt_check_seconds(L, 3, "scheduler:add");
    struct lt_task *task =
        lt_task_read_new(L, 2, "scheduler:add", bound->scheduler, &error); /* misuse raises, closed or not */
    if (task == NULL)
        return lt_push_failure(L, error.message, error.code);
    if (failed > 0) {
        lt_task_unref(task);
        return lt_push_closed(L);
    }
    int code;
    if (lt_scheduler_add_now(bound->scheduler, task, &code, &error) && (code != LT_FULL || seconds <= 0)) {
        if (code == LT_OK && lua_isnil(L, -1))
            lua_pushlstring(L, task->data, task->id_len);
        lt_task_unref(task);
        return code == LT_OK ? 1 : lt_push_failure(L, error.message, code);
    }
    struct lt_question *question = lt_question_new(bound, LT_ASK_ADD, "scheduler:add", push_id);
    question->single = task;
    ask_add(question, &question->single, 1, seconds);
    return lt_question_ask(L, question, seconds);
}

static int method_add_all(lua_State *L)
{
    int failed;
    struct lt_bound *bound = lt_bound_check_open(L, "scheduler:add_all", &failed);
    if (lua_type(L, 2) != LUA_TTABLE)
        return lt_argument_error(L, "scheduler:add_all", "tasks", "a list of tasks", 2);
    double seconds = lt_check_seconds(L, 3, "scheduler:add_all");
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
        lt_memory_check(L, function, 0);
        lua_rawgeti(L, 2, i);
        struct lt_task *task = lt_task_read_new(L, -1, function, bound->scheduler, &error);
        if (task == NULL) {
            lua_pushfstring(L, "task %I: %s", i, error.message);
            return lt_push_failure(L, lua_tostring(L, -1), error.code);
        }
        lua_pop(L, 2);
        lt_tasks_push(tasks, task);
    }
    if (failed > 0)
        return lt_push_closed(L);
    if (count == 0) {
        lua_newtable(L);
        return 1;
    }
    struct lt_question *question = lt_question_new(bound, LT_ASK_ADD, "scheduler:add_all", push_ids);
    question->tasks = *tasks;
    *tasks = (struct lt_tasks){0};
    ask_add(question, question->tasks.items, question->tasks.count, seconds);
    return lt_question_ask(L, question, seconds);
}

static int free_tasks(lua_State *L)
{
    lt_tasks_free(luaL_checkudata(L, 1, "ltsh.tasks"));
    return 0;
}

void lt_bind_add(lua_State *L)
{
    static const luaL_Reg methods[] = {{"add", method_add}, {"add_all", method_add_all}, {NULL, NULL}};
    luaL_newmetatable(L, "ltsh.tasks");
    lua_pushcfunction(L, free_tasks);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_setfuncs(L, methods, 0);
}
