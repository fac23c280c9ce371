/* What a script asks of one task: get, stop, retry, delete, output. The task is fetched, then it is done; if it moved on
 * meanwhile, that begins anew. A stop of a running task is answered when its work is dead.
 *
 * Each request is a struct of the caller's that is answered once; add.c and wait.c have the others. */
#include <stdlib.h>
#include <string.h>

#include "scheduler/state.h"

void lt_request_begin(struct lt_scheduler *s)
{
    s->requests++;
    if (!s->busy)
        lt_scheduler_review(s);
}

void lt_request_end(struct lt_scheduler *s)
{
    if (--s->requests == 0)
        lt_pump_post(s); /* it may be idle now */
}

void lt_requests_ended(struct lt_scheduler *s, struct lt_task *task)
{
    lt_waits_ended(s, task);
    lt_adds_room(s);
}

static void fetch(struct lt_task_request *request);

static void answer(struct lt_task_request *request, int code, const char *message)
{
    lt_request_end(request->scheduler);
    lt_bytes_set(&request->own_reason, NULL);
    lt_reply_send(&request->reply, code, message); /* the message may be of one of those below */
    lt_reply_clear(&request->get.reply);
    lt_reply_clear(&request->change.reply);
    lt_reply_clear(&request->load.reply);
}

static void refuse(struct lt_task_request *request, const char *what)
{
    struct lt_error error;
    lt_fail(&error, LT_STALE, "task '%s' is %s and cannot be %s", request->task->data,
            lt_status_name(request->task->status), what);
    lt_task_unref(request->task);
    request->task = NULL;
    answer(request, LT_STALE, error.message);
}

static void on_load(struct lt_reply *reply)
{
    struct lt_task_request *request = lt_container_of(reply, struct lt_task_request, load.reply);
    if (request->kind == LT_REQUEST_OUTPUT)
        request->output = request->load.data;
    answer(request, reply->code, lt_reply_message(reply));
}

/* Its saved output goes with the task. */
static void erase(struct lt_task_request *request)
{
    struct lt_persister *persister = request->scheduler->config.persister;
    request->load.task = request->task;
    lt_reply_begin(&request->load.reply, request->scheduler->loop, on_load);
    persister->ops->erase(persister, &request->load);
    lt_reply_end(&request->load.reply);
}

static void replace_task(struct lt_task_request *request, struct lt_task *task)
{
    lt_task_ref(task);
    lt_task_unref(request->task);
    request->task = task;
}

static void on_change(struct lt_reply *reply)
{
    struct lt_task_request *request = lt_container_of(reply, struct lt_task_request, change.reply);
    struct lt_scheduler *s = request->scheduler;
    if (reply->code != LT_OK) {
        if (reply->code == LT_STALE) { /* it moved on since we looked */
            lt_task_unref(request->task);
            request->task = NULL;
            fetch(request);
            return;
        }
        lt_task_unref(request->task);
        request->task = NULL;
        answer(request, reply->code, lt_reply_message(reply));
        return;
    }
    replace_task(request, request->change.task);
    struct lt_task *task = request->task;
    switch (request->kind) {
    case LT_REQUEST_STOP:
        lt_end(s, task);
        break;
    case LT_REQUEST_RETRY:
        s->work = true;
        lt_pump_post(s);
        break;
    case LT_REQUEST_DELETE:
        lt_requests_ended(s, task);
        lt_pump_post(s);
        if (s->config.persister != NULL) {
            erase(request);
            return;
        }
        break;
    default:
        break;
    }
    answer(request, LT_OK, NULL);
}

static void change(struct lt_task_request *request, enum lt_status to, struct lt_bytes *reason)
{
    struct lt_scheduler *s = request->scheduler;
    request->change.task = request->task;
    request->change.transition =
        (struct lt_transition){.to = to, .run = request->task->run, .now = lt_loop_wall(s->loop), .reason = reason};
    lt_reply_begin(&request->change.reply, s->loop, on_change);
    s->config.container->ops->change(s->config.container, &request->change);
    lt_reply_end(&request->change.reply);
}

static void stop(struct lt_task_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    struct lt_task *task = request->task;
    struct lt_bytes *reason = request->reason != NULL ? lt_bytes_ref(request->reason) : lt_bytes_printf("stopped");
    struct lt_run *run = lt_run_find(s, task->data, task->id_len);
    if (task->status == LT_WAITING) { /* and a run that there may be is of its past */
        /* on_change may come later, when the reason is gone */
        lt_bytes_set(&request->own_reason, lt_bytes_ref(reason));
        change(request, LT_STOPPED, request->own_reason);
    } else if (run != NULL) {
        lt_task_unref(request->task);
        request->task = NULL;
        TAILQ_INSERT_TAIL(&run->waiters, request, link);
        lt_run_stop(run, WHY_STOP, reason);
    } else if (lt_reply_pending(&s->claim.reply)) { /* it may be among those whose claim is not answered yet */
        lt_task_unref(request->task);
        request->task = NULL;
        TAILQ_INSERT_TAIL(&s->for_claim, request, link);
    } else {
        refuse(request, "stopped");
    }
    lt_bytes_unref(reason);
}

/* The run that a stop waited for is over: usually the task is stopped now; if it ended by itself or waits for a retry,
 * look again. */
void lt_requests_run_gone(struct lt_scheduler *s, struct lt_request_list *waiters, struct lt_task *task)
{
    (void)s;
    struct lt_task_request *request;
    while ((request = TAILQ_FIRST(waiters)) != NULL) {
        TAILQ_REMOVE(waiters, request, link);
        if (task->status == LT_STOPPED) {
            request->task = lt_task_ref(task);
            answer(request, LT_OK, NULL);
        } else {
            fetch(request);
        }
    }
}

/* A claim was answered: those who wait for that look again. */
void lt_requests_claimed(struct lt_scheduler *s)
{
    struct lt_request_list waiters = TAILQ_HEAD_INITIALIZER(waiters);
    TAILQ_CONCAT(&waiters, &s->for_claim, link);
    struct lt_task_request *request;
    while ((request = TAILQ_FIRST(&waiters)) != NULL) {
        TAILQ_REMOVE(&waiters, request, link);
        fetch(request);
    }
}

static void output(struct lt_task_request *request)
{
    struct lt_persister *persister = request->scheduler->config.persister;
    struct lt_task *task = request->task;
    if (persister == NULL || task->status != LT_SUCCESS) {
        request->output = lt_bytes_ref(task->output);
        answer(request, LT_OK, NULL);
        return;
    }
    request->load.task = task;
    lt_reply_begin(&request->load.reply, request->scheduler->loop, on_load);
    persister->ops->load(persister, &request->load);
    lt_reply_end(&request->load.reply);
}

static void do_request(struct lt_task_request *request)
{
    enum lt_status status = request->task->status;
    switch (request->kind) {
    case LT_REQUEST_GET:
        answer(request, LT_OK, NULL);
        break;
    case LT_REQUEST_STOP:
        if (lt_status_ended(status))
            refuse(request, "stopped");
        else
            stop(request);
        break;
    case LT_REQUEST_RETRY:
        if (!lt_status_ended(status))
            refuse(request, "retried: it has not ended");
        else if (request->scheduler->closing)
            answer(request, LT_CLOSED, "the scheduler is closed");
        else
            change(request, LT_WAITING, NULL);
        break;
    case LT_REQUEST_DELETE:
        if (status == LT_RUNNING || status == LT_EXPORTING)
            refuse(request, "deleted: stop it first");
        else
            change(request, LT_DELETED, NULL);
        break;
    case LT_REQUEST_OUTPUT:
        output(request);
        break;
    }
}

static void on_get(struct lt_reply *reply)
{
    struct lt_task_request *request = lt_container_of(reply, struct lt_task_request, get.reply);
    request->task = request->get.task;
    request->get.task = NULL;
    if (reply->code == LT_OK)
        do_request(request);
    else
        answer(request, reply->code, reply->code == LT_UNKNOWN ? "no such task" : lt_reply_message(reply));
}

static void fetch(struct lt_task_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    request->get.id = request->id;
    request->get.id_len = request->id_len;
    lt_reply_begin(&request->get.reply, s->loop, on_get);
    s->config.container->ops->get(s->config.container, &request->get);
    lt_reply_end(&request->get.reply);
}

void lt_scheduler_request(struct lt_scheduler *s, enum lt_request_kind kind, struct lt_task_request *request)
{
    request->scheduler = s;
    request->kind = kind;
    request->task = NULL;
    request->output = NULL;
    if (s->closed || s->container_closing) {
        lt_reply_send(&request->reply, LT_CLOSED, "the scheduler is closed");
        return;
    }
    lt_request_begin(s);
    fetch(request);
}

void lt_scheduler_list(struct lt_scheduler *s, struct lt_list_op *op)
{
    if (s->closed)
        lt_reply_send(&op->reply, LT_CLOSED, "the scheduler is closed");
    else
        s->config.container->ops->list(s->config.container, op);
}

void lt_scheduler_count(struct lt_scheduler *s, struct lt_count_op *op)
{
    if (s->closed)
        lt_reply_send(&op->reply, LT_CLOSED, "the scheduler is closed");
    else
        s->config.container->ops->count(s->config.container, op);
}
