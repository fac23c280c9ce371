#include "script/bind/question.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "script/flow/call.h"
#include "script/values/marks.h"

static void clear_answer(struct lt_question *question)
{
    lt_reply_clear(&question->as.reply);
    switch (question->kind) {
    case LT_ASK_ONE:
        lt_task_unref(question->as.one.task);
        lt_bytes_unref(question->as.one.output);
        break;
    case LT_ASK_UNTIL:
        lt_task_unref(question->as.until.task);
        break;
    case LT_ASK_LIST:
        lt_tasks_free(&question->as.list.op.tasks);
        break;
    case LT_ASK_HOSTS:
        lt_queue_hosts_free(&question->as.hosts.op.hosts);
        break;
    default:
        break;
    }
}

static void free_question(struct lt_question *question)
{
    struct lt_bound *bound = question->bound;
    lt_timer_stop(bound->script->loop, &question->timer);
    clear_answer(question);
    lt_task_unref(question->single);
    lt_tasks_free(&question->tasks);
    lt_bytes_unref(question->text);
    lt_bytes_unref(question->other_text);
    lt_bytes_unref(question->reason);
    if (bound->spare_question == NULL)
        bound->spare_question = question;
    else
        free(question);
    bound->requests--;
    lt_bound_review(bound);
}

static void question_answered(struct lt_reply *reply)
{
    struct lt_question *question = lt_container_of(reply, struct lt_question, as);
    question->answered = true;
    if (question->dropped)
        free_question(question);
    else if (question->strand != NULL)
        lt_wake(question->strand);
}

static void cancel_question(struct lt_wait *wait)
{
    struct lt_question *question = (struct lt_question *)wait;
    question->strand = NULL;
    lt_timer_stop(question->bound->script->loop, &question->timer);
    if (question->answered || lt_reply_cancel(&question->as.reply))
        free_question(question);
    else
        question->dropped = true;
}

static void question_time_over(struct lt_timer *timer)
{
    struct lt_question *question = lt_container_of(timer, struct lt_question, timer);
    if (question->answered || !lt_reply_cancel(&question->as.reply))
        return;
    question->answered = question->late = true;
    lt_wake(question->strand);
}

int lt_push_failure(lua_State *L, const char *message, int code)
{
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, lt_code_name(code));
    return 3;
}

int lt_push_closed(lua_State *L)
{
    return lt_push_failure(L, "the scheduler is closed", LT_CLOSED);
}

static int push_answer(lua_State *L, const struct lt_question *question)
{
    const struct lt_reply *reply = &question->as.reply;
    if (question->late && question->kind == LT_ASK_ADD)
        return lt_push_failure(L, "the container is full, and there was no room in the time given", LT_FULL);
    if (question->late)
        return lt_push_failure(L, "the task has not ended in the time given", LT_TIMEOUT);
    if (reply->code != LT_OK)
        return lt_push_failure(L, lt_reply_message(reply), reply->code);
    return question->push(L, question);
}

static int answer_taken(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct lt_question *question = (struct lt_question *)lt_wait_over(L);
    int count = push_answer(L, question);
    lt_wait_done(L);
    free_question(question);
    return count;
}

LT_RAISES struct lt_bound *lt_bound_check_open(lua_State *L, const char *function, int *failed)
{
    struct lt_bound *bound = lt_bound_check(L, function);
    *failed = bound->scheduler == NULL || lt_scheduler_closed(bound->scheduler) ? lt_push_closed(L) : 0;
    return bound;
}

struct lt_question *lt_question_new(struct lt_bound *bound, enum lt_question_kind kind, const char *function,
                                    int (*push)(lua_State *L, const struct lt_question *question))
{
    static const size_t sizes[] = {
        [LT_ASK_ADD] = sizeof(struct lt_add_request),     [LT_ASK_ONE] = sizeof(struct lt_task_request),
        [LT_ASK_UNTIL] = sizeof(struct lt_wait_request),  [LT_ASK_LIST] = sizeof(struct lt_list_request),
        [LT_ASK_COUNT] = sizeof(struct lt_count_request), [LT_ASK_HOSTS] = sizeof(struct lt_hosts_request),
        [LT_ASK_PAUSE] = sizeof(struct lt_pause_request), [LT_ASK_CLOSE] = sizeof(struct lt_close_request),
    };
    struct lt_question *question = bound->spare_question; /* one at a time is the usual case */
    bound->spare_question = NULL;
    if (question == NULL)
        question = lt_alloc(sizeof *question);
    memset(question, 0, offsetof(struct lt_question, as) + sizes[kind]);
    question->wait.cancel = cancel_question;
    question->kind = kind;
    question->bound = bound;
    question->function = function;
    question->push = push;
    question->timer = LT_TIMER_INIT;
    bound->requests++;
    lt_reply_begin(&question->as.reply, bound->script->loop, question_answered);
    return question;
}

LT_RAISES LT_RUNS_LUA int lt_question_ask(lua_State *L, struct lt_question *question, double seconds)
{
    lt_reply_end(&question->as.reply);
    if (question->answered) {
        int count = push_answer(L, question);
        free_question(question);
        return count;
    }
    const char *function = question->function;
    if (!lt_wait_ready(L)) {
        cancel_question(&question->wait);
        lt_wait_check(L, function); /* raises */
        return 0;
    }
    struct lt_strand *strand = question->strand = lt_wait_check(L, function);
    struct lt_loop *loop = question->bound->script->loop;
    if (seconds >= 0)
        lt_timer_start(loop, &question->timer, lt_loop_tick(loop) + seconds, question_time_over);
    return lt_wait(L, strand, &question->wait, answer_taken);
}

LT_RAISES double lt_check_seconds(lua_State *L, int index, const char *function)
{
    if (lua_isnoneornil(L, index))
        return -1;
    double seconds = lua_tonumber(L, index);
    if (lua_type(L, index) != LUA_TNUMBER || !(seconds >= 0))
        lt_argument_error(L, function, "seconds", "a number of 0 or more", index);
    return seconds;
}

LT_RAISES void lt_check_copy(lua_State *L, const char *function, size_t len)
{
    if (len > LT_ID_MAX)
        lt_memory_check(L, function, len);
}

int lt_push_true(lua_State *L, const struct lt_question *question)
{
    (void)question;
    lua_pushboolean(L, 1);
    return 1;
}
