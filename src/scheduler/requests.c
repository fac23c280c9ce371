/* What a script asks of one task: get, stop, retry, delete, output, explain. The task is fetched, then it is done; if it
 * moved on meanwhile, that begins anew, in a turn of the pump. A stop of a running task is answered when its work is
 * dead.
 *
 * Each request is a struct of the caller's that is answered once; add.c and wait.c have the others. */
#include <stdlib.h>
#include <string.h>

#include "scheduler/state.h"

enum { MOST_TRIES = 100 };

static void fetch_task(struct lt_task_request *request);

static void answer_request(struct lt_task_request *request, int code, const char *message)
{
    lt_request_end(request->scheduler);
    lt_reply_send(&request->reply, code, message); /* which may be of that below */
    lt_reply_clear(&request->get.reply);
}

static void drop_task(struct lt_task_request *request)
{
    lt_task_unref(request->task);
    request->task = NULL;
}

static void close_out(struct lt_task_request *request)
{
    drop_task(request);
    answer_request(request, LT_CLOSED, "the scheduler is closed");
}

/* It is looked at again by the pump. Not at the end of a close, which a store that answers late and says the same each
 * time would hold up. */
static void look_again(struct lt_task_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    if (s->stopping) {
        close_out(request);
        return;
    }
    lt_reply_clear(&request->get.reply);
    drop_task(request);
    TAILQ_INSERT_TAIL(&s->again, request, link);
    lt_pump_post(s);
}

void lt_requests_again(struct lt_scheduler *s, struct lt_request_list *waiters)
{
    if (TAILQ_EMPTY(waiters))
        return;
    TAILQ_CONCAT(&s->again, waiters, link);
    lt_pump_post(s);
}

/* The run that stops waited for is over: usually the task is stopped now; if it ended by itself or waits for a retry,
 * they look again. */
void lt_requests_run_gone(struct lt_scheduler *s, struct lt_request_list *waiters, struct lt_task *task)
{
    if (task->status != LT_STOPPED) {
        lt_requests_again(s, waiters);
        return;
    }
    struct lt_task_request *request;
    while ((request = TAILQ_FIRST(waiters)) != NULL) {
        TAILQ_REMOVE(waiters, request, link);
        request->task = lt_task_ref(task);
        answer_request(request, LT_OK, NULL);
    }
}

static void refuse_request(struct lt_task_request *request, const char *what)
{
    struct lt_error error;
    lt_fail(&error, LT_STALE, "task '%s' is %s and cannot be %s", request->task->data,
            lt_status_name(request->task->status), what);
    drop_task(request);
    answer_request(request, LT_STALE, error.message);
}

static void on_load(struct lt_reply *reply)
{
    struct lt_task_request *request = lt_container_of(reply, struct lt_task_request, load.reply);
    if (request->kind == LT_REQUEST_OUTPUT)
        request->output = request->load.data;
    answer_request(request, reply->code, lt_reply_message(reply));
}

/* Its saved output goes with the task. Not when a task of the same id has come meanwhile: that may have saved its own;
 * and while it goes, such a task saves nothing (lt_requests_erase). */

static void on_erased(struct lt_reply *reply)
{
    struct lt_task_request *request = lt_container_of(reply, struct lt_task_request, load.reply);
    TAILQ_REMOVE(&request->scheduler->erasing, request, link);
    on_load(reply);
}

static void erase_output(struct lt_task_request *request);

static void on_known_again(struct lt_reply *reply)
{
    enum { MOST_ASKED = 10 };
    struct lt_task_request *request = lt_container_of(reply, struct lt_task_request, get.reply);
    struct lt_scheduler *s = request->scheduler;
    struct lt_persister *persister = s->config.persister;
    int code = reply->code;
    lt_task_unref(request->get.task);
    lt_reply_clear(reply);
    if (code == LT_UNKNOWN) {
        request->load = (struct lt_load_op){.task = request->task};
        lt_reply_begin(&request->load.reply, s->loop, on_erased);
        persister->ops->erase(persister, &request->load);
        lt_reply_end(&request->load.reply);
        return;
    }
    TAILQ_REMOVE(&s->erasing, request, link);
    if (code != LT_OK && ++request->tries < MOST_ASKED) {
        erase_output(request);
        return;
    }
    if (code != LT_OK)
        lt_log(LT_LOG_WARN,
               "the saved output of a deleted task may be left: the store does not say whether it is known",
               LT_S("scheduler", s->name), LT_S("task", request->task->data));
    answer_request(request, LT_OK, NULL);
}

static void erase_output(struct lt_task_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    TAILQ_INSERT_TAIL(&s->erasing, request, link);
    lt_reply_clear(&request->change.reply);
    request->get = (struct lt_get_op){.id = request->id, .id_len = request->id_len};
    lt_reply_begin(&request->get.reply, s->loop, on_known_again);
    s->config.container->ops->get(s->config.container, &request->get);
    lt_reply_end(&request->get.reply);
}

bool lt_requests_erase(const struct lt_scheduler *s, const struct lt_task *task)
{
    const struct lt_task_request *request;
    TAILQ_FOREACH(request, &s->erasing, link) {
        if (request->id_len == task->id_len && memcmp(request->id, task->data, task->id_len) == 0)
            return true;
    }
    return false;
}

/* The caller of a change applies it; an ended object never changes. */
static void apply_change(struct lt_task_request *request)
{
    const struct lt_transition *made = &request->change.transition;
    struct lt_task *task = request->task;
    if (lt_status_ended(task->status)) {
        request->task = lt_task_next(task, made);
        lt_task_unref(task);
    } else {
        lt_task_apply(task, made);
    }
}

static void change_made(struct lt_task_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    struct lt_task *task = request->task;
    s->work = s->unlooked = true; /* what waits is not what it was */
    lt_pump_post(s);
    switch (request->kind) {
    case LT_REQUEST_STOP:
        lt_tell_end(s, task);
        break;
    case LT_REQUEST_DELETE:
        lt_waits_ended(s, task);
        lt_room(s);
        if (s->config.persister != NULL) {
            erase_output(request);
            return;
        }
        break;
    default:
        break;
    }
    answer_request(request, LT_OK, NULL);
}

static void submit_change(struct lt_task_request *request);

static void on_change(struct lt_reply *reply)
{
    struct lt_task_request *request = lt_container_of(reply, struct lt_task_request, change.reply);
    int code = reply->code;
    bool unclear = code == LT_ERROR || code == LT_TIMEOUT;
    /* Once more: then it is known, or the store is not there. Not a stop: another host's may have come between, and an
     * end is told once. */
    if (unclear && request->kind != LT_REQUEST_STOP && !request->change.again) {
        request->change.again = true;
        submit_change(request);
        return;
    }
    if (code == LT_OK)
        apply_change(request);
    lt_transition_clear(&request->change.transition);
    if (code == LT_OK) {
        change_made(request);
    } else if (code == LT_STALE && ++request->tries < MOST_TRIES) {
        look_again(request); /* it moved on since we looked */
    } else {
        drop_task(request);
        answer_request(request, code, lt_reply_message(reply));
    }
}

/* Takes over the reference to the reason. */
static void change_task(struct lt_task_request *request, enum lt_status to, struct lt_bytes *reason)
{
    struct lt_scheduler *s = request->scheduler;
    request->change = (struct lt_change_op){
        .task = request->task,
        .transition = {.to = to, .run = request->task->run, .now = lt_loop_wall(s->loop), .reason = reason},
    };
    submit_change(request);
}

static void submit_change(struct lt_task_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    struct lt_container *container = s->config.container;
    lt_reply_begin(&request->change.reply, s->loop, on_change);
    container->ops->change(container, &request->change);
    lt_reply_end(&request->change.reply);
}

static struct lt_bytes *reason_of(const struct lt_task_request *request)
{
    return request->reason != NULL ? lt_bytes_ref(request->reason) : lt_bytes_printf("stopped");
}

/* It runs on another host, which is asked; the end comes as news. It stands among those from the question on: the task
 * may be somewhere else by the time of the answer. */
static void on_ask_stop(struct lt_reply *reply)
{
    struct lt_task_request *request = lt_container_of(reply, struct lt_task_request, ask_stop.reply);
    struct lt_scheduler *s = request->scheduler;
    int code = reply->code;
    bool moved = request->moved || code == LT_STALE;
    lt_bytes_set(&request->ask_stop.reason, NULL);
    request->asking = false;
    if (code == LT_OK && !moved && !s->stopping)
        return;
    TAILQ_REMOVE(&s->elsewhere, request, link);
    if (code != LT_OK && code != LT_STALE) {
        drop_task(request);
        answer_request(request, code, lt_reply_message(reply));
    } else if (!moved) {
        close_out(request);
    } else if (++request->tries < MOST_TRIES) {
        look_again(request);
    } else {
        refuse_request(request, "stopped");
    }
}

static void ask_stop(struct lt_task_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    request->ask_stop = (struct lt_ask_stop_op){.task = request->task, .reason = reason_of(request)};
    request->asking = true;
    request->moved = false;
    TAILQ_INSERT_TAIL(&s->elsewhere, request, link);
    lt_reply_begin(&request->ask_stop.reply, s->loop, on_ask_stop);
    s->config.container->ops->ask_stop(s->config.container, &request->ask_stop);
    lt_reply_end(&request->ask_stop.reply);
}

/* It ended there, or this host has it now. */
void lt_requests_elsewhere(struct lt_scheduler *s, const char *id, size_t id_len)
{
    struct lt_task_request *request, *next;
    for (request = TAILQ_FIRST(&s->elsewhere); request != NULL; request = next) {
        next = TAILQ_NEXT(request, link);
        if (request->id_len != id_len || memcmp(request->id, id, id_len) != 0)
            continue;
        request->moved = true;
        if (request->asking)
            continue;
        TAILQ_REMOVE(&s->elsewhere, request, link);
        look_again(request);
    }
}

/* Nothing is heard of other hosts any more. */
void lt_requests_close(struct lt_scheduler *s)
{
    struct lt_task_request *request, *next;
    for (request = TAILQ_FIRST(&s->elsewhere); request != NULL; request = next) {
        next = TAILQ_NEXT(request, link);
        if (request->asking)
            continue;
        TAILQ_REMOVE(&s->elsewhere, request, link);
        close_out(request);
    }
}

static void stop_task(struct lt_task_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    struct lt_task *task = request->task;
    struct lt_run *run = lt_run_find(s, task->data, task->id_len);
    request->was_alive = true;
    if (task->status == LT_WAITING) { /* and a run that there may be is of its past */
        change_task(request, LT_STOPPED, reason_of(request));
    } else if (run != NULL) {
        struct lt_bytes *reason = reason_of(request);
        drop_task(request);
        TAILQ_INSERT_TAIL(&run->waiters, request, link);
        lt_run_ask_stop(run, LT_WHY_STOP, reason);
        lt_bytes_unref(reason);
    } else if (lt_reply_pending(&s->claim.reply) || s->claimed || (s->unclear && !s->closing)) {
        drop_task(request); /* it may be among those whose claim is not answered yet */
        TAILQ_INSERT_TAIL(&s->for_claim, request, link);
    } else if (s->config.container->ops->ask_stop != NULL) {
        ask_stop(request);
    } else {
        refuse_request(request, "stopped");
    }
}

static void answer_output(struct lt_task_request *request)
{
    struct lt_persister *persister = request->scheduler->config.persister;
    struct lt_task *task = request->task;
    if (persister == NULL || task->status != LT_SUCCESS) {
        request->output = lt_bytes_ref(task->output);
        answer_request(request, LT_OK, NULL);
        return;
    }
    request->load = (struct lt_load_op){.task = task};
    lt_reply_begin(&request->load.reply, request->scheduler->loop, on_load);
    persister->ops->load(persister, &request->load);
    lt_reply_end(&request->load.reply);
}

static void do_request(struct lt_task_request *request)
{
    enum lt_status status = request->task->status;
    switch (request->kind) {
    case LT_REQUEST_GET:
        answer_request(request, LT_OK, NULL);
        break;
    case LT_REQUEST_STOP:
        if (status == LT_STOPPED && request->was_alive)
            answer_request(request, LT_OK, NULL); /* another stop came first, and did it */
        else if (lt_status_ended(status))
            refuse_request(request, "stopped");
        else
            stop_task(request);
        break;
    case LT_REQUEST_RETRY:
        if (!lt_status_ended(status))
            refuse_request(request, "retried: it has not ended");
        else if (request->scheduler->closing)
            close_out(request);
        else
            change_task(request, LT_WAITING, NULL);
        break;
    case LT_REQUEST_DELETE:
        if (lt_status_under_way(status))
            refuse_request(request, "deleted: stop it first");
        else
            change_task(request, LT_DELETED, NULL);
        break;
    case LT_REQUEST_OUTPUT:
        answer_output(request);
        break;
    case LT_REQUEST_EXPLAIN:
        request->output = lt_explain(request->scheduler, request->task, &request->why);
        answer_request(request, LT_OK, NULL);
        break;
    }
}

static void answer_unknown(struct lt_task_request *request)
{
    if (request->kind != LT_REQUEST_EXPLAIN) {
        answer_request(request, LT_UNKNOWN, "no such task");
        return;
    }
    request->output =
        lt_bytes_printf("there is no task '%.*s', or it is not remembered any more", (int)request->id_len, request->id);
    request->why = "unknown";
    answer_request(request, LT_OK, NULL);
}

static void on_get(struct lt_reply *reply)
{
    struct lt_task_request *request = lt_container_of(reply, struct lt_task_request, get.reply);
    request->task = request->get.task;
    request->get.task = NULL;
    if (reply->code == LT_OK)
        do_request(request);
    else if (reply->code == LT_UNKNOWN)
        answer_unknown(request);
    else
        answer_request(request, reply->code, lt_reply_message(reply));
}

static void fetch_task(struct lt_task_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    request->get = (struct lt_get_op){.id = request->id, .id_len = request->id_len};
    lt_reply_begin(&request->get.reply, s->loop, on_get);
    s->config.container->ops->get(s->config.container, &request->get);
    lt_reply_end(&request->get.reply);
}

/* Those that were put off. What they put off in turn comes after them. */
void lt_requests_drain(struct lt_scheduler *s)
{
    struct lt_request_list now = TAILQ_HEAD_INITIALIZER(now);
    TAILQ_CONCAT(&now, &s->again, link);
    struct lt_task_request *request;
    while ((request = TAILQ_FIRST(&now)) != NULL) {
        TAILQ_REMOVE(&now, request, link);
        fetch_task(request);
    }
}

void lt_scheduler_request(struct lt_scheduler *s, enum lt_request_kind kind, struct lt_task_request *request)
{
    request->scheduler = s;
    request->kind = kind;
    request->task = NULL;
    request->output = NULL;
    request->tries = 0;
    request->was_alive = false;
    if (s->closed || s->parts_closing) {
        lt_reply_send(&request->reply, LT_CLOSED, "the scheduler is closed");
        return;
    }
    bool changes = kind == LT_REQUEST_STOP || kind == LT_REQUEST_RETRY || kind == LT_REQUEST_DELETE;
    if (changes && lt_scheduler_inside(s)) {
        lt_reply_send(&request->reply, LT_REFUSED, lt_inside_message);
        return;
    }
    lt_request_begin(s);
    fetch_task(request);
}
