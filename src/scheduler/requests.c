/* What a script asks for: add, stop, retry, delete, get, output, wait.
 *
 * Each request is a struct of the caller's that is answered once. A stop of a running task is answered when its work is
 * dead. */
#include <stdlib.h>
#include <string.h>

#include "scheduler/state.h"

static void begin(struct lt_scheduler *s)
{
    s->requests++;
    if (!s->busy)
        lt_scheduler_review(s);
}

static void end(struct lt_scheduler *s)
{
    if (--s->requests == 0)
        lt_pump_post(s); /* it may be idle now */
}

/* Adding. */

static void add_next(struct lt_add_request *request);

static void answer_add(struct lt_add_request *request, int code, const char *message)
{
    end(request->scheduler);
    lt_reply_send(&request->reply, code, message);
}

static void added(struct lt_add_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    s->work = true;
    for (uint32_t i = 0; i < request->count; i++)
        s->look = s->look || request->tasks[i]->options != NULL;
    lt_pump_post(s);
    if (s->events != 0) {
        for (uint32_t i = 0; i < request->count; i++)
            lt_emit(s, LT_EVENT_ADDED, request->tasks[i], NULL);
    }
    answer_add(request, LT_OK, NULL);
}

static void stop_waiting_for_room(struct lt_reply *reply, void *arg)
{
    (void)reply;
    struct lt_add_request *request = arg;
    TAILQ_REMOVE(&request->scheduler->for_room, request, link);
    end(request->scheduler);
}

static void wait_for_room(struct lt_add_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    if (request->waited) /* it was the first of them */
        TAILQ_INSERT_HEAD(&s->for_room, request, link);
    else
        TAILQ_INSERT_TAIL(&s->for_room, request, link);
    request->waited = true;
    request->reply.cancel = stop_waiting_for_room;
    request->reply.cancel_arg = request;
}

static void on_add(struct lt_reply *reply)
{
    struct lt_add_request *request = lt_container_of(reply, struct lt_add_request, add.reply);
    struct lt_scheduler *s = request->scheduler;
    bool was_first = request->waited;
    bool may_wait = request->waits && !request->reply.unwanted && !s->closing &&
                    s->config.container->ops->pending(s->config.container) > 0;
    if (was_first)
        s->admitting = false;
    if (reply->code == LT_FULL && may_wait) {
        lt_reply_clear(reply);
        wait_for_room(request);
        return;
    }
    if (reply->code == LT_OK)
        added(request);
    else
        answer_add(request, reply->code, lt_reply_message(reply));
    lt_reply_clear(reply);
    if (was_first)
        lt_requests_room(s); /* there may be room for the next */
}

static void store(struct lt_add_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    request->add.tasks = request->tasks;
    request->add.count = request->count;
    lt_reply_begin(&request->add.reply, s->loop, on_add);
    s->config.container->ops->add(s->config.container, &request->add);
    lt_reply_end(&request->add.reply);
}

/* Whose init is called. */
static struct lt_actuator *front(const struct lt_scheduler *s)
{
    struct lt_actuator *actuator = s->config.actuator;
    return actuator->front != NULL ? actuator->front : actuator;
}

static void on_init(struct lt_reply *reply)
{
    struct lt_add_request *request = lt_container_of(reply, struct lt_add_request, init.reply);
    request->tasks[request->next++] = request->init.task;
    int code = reply->code;
    if (code == LT_OK && request->asking) {
        request->go_on = true;
    } else if (code == LT_OK) {
        add_next(request);
    } else {
        answer_add(request, code == LT_TIMEOUT ? LT_TIMEOUT : LT_REFUSED, lt_reply_message(reply));
        lt_reply_clear(reply);
    }
}

/* Asks the actuator about one task. False: the answer will come, or it was a refusal. */
static bool init_one(struct lt_add_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    request->init.task = request->tasks[request->next];
    request->asking = true;
    request->go_on = false;
    lt_reply_begin(&request->init.reply, s->loop, on_init);
    struct lt_actuator *actuator = front(s);
    actuator->ops->init(actuator, &request->init);
    lt_reply_end(&request->init.reply);
    request->asking = false;
    return request->go_on;
}

/* Asks the actuator about each task in turn, then stores them all. */
static void add_next(struct lt_add_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    bool asks = front(s)->ops->init != NULL;
    while (!s->closing && asks && request->next < request->count) {
        if (!init_one(request))
            return;
    }
    if (s->closing)
        answer_add(request, LT_CLOSED, "the scheduler is closed");
    else if (request->waits && !request->reply.unwanted && !TAILQ_EMPTY(&s->for_room))
        wait_for_room(request); /* behind those who came before */
    else
        store(request);
}

void lt_scheduler_add(struct lt_scheduler *s, struct lt_add_request *request)
{
    request->scheduler = s;
    request->next = 0;
    begin(s);
    add_next(request);
}

/* Lets in the first of those who wait for room; its answer lets in the next. */
void lt_requests_room(struct lt_scheduler *s)
{
    struct lt_add_request *request = TAILQ_FIRST(&s->for_room);
    if (request == NULL || s->admitting)
        return;
    s->admitting = true;
    TAILQ_REMOVE(&s->for_room, request, link);
    request->reply.cancel = NULL;
    store(request);
}

/* Waiting for an end. */

static const char *wait_id(const void *object, size_t *len)
{
    const struct lt_wait_request *request = object;
    *len = request->id_len;
    return request->id;
}

static void join(struct lt_wait_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    s->waits.key = wait_id;
    struct lt_wait_request *first = lt_map_find(&s->waits, request->hash, request->id, request->id_len);
    if (first != NULL) {
        request->next = first->next;
        first->next = request;
    } else {
        request->next = NULL;
        lt_map_put(&s->waits, request->hash, request);
    }
    request->in_map = true;
}

static void leave(struct lt_wait_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    struct lt_wait_request *first = lt_map_find(&s->waits, request->hash, request->id, request->id_len);
    if (first == request) {
        lt_map_remove(&s->waits, request->hash, request);
        if (request->next != NULL)
            lt_map_put(&s->waits, request->hash, request->next);
    } else {
        while (first->next != request)
            first = first->next;
        first->next = request->next;
    }
    request->in_map = false;
}

static void give_up(struct lt_reply *reply, void *arg)
{
    (void)reply;
    leave(arg);
}

static void answer_wait(struct lt_wait_request *request, struct lt_task *task)
{
    request->task = task != NULL ? lt_task_ref(task) : NULL;
    lt_reply_send(&request->reply, task != NULL ? LT_OK : LT_UNKNOWN, "no such task");
}

static void on_wait_get(struct lt_reply *reply)
{
    struct lt_wait_request *request = lt_container_of(reply, struct lt_wait_request, get.reply);
    struct lt_scheduler *s = request->scheduler;
    struct lt_task *task = request->get.task;
    end(s);
    if (reply->code != LT_OK && reply->code != LT_UNKNOWN)
        lt_reply_send(&request->reply, reply->code, lt_reply_message(reply));
    else if (task == NULL || lt_status_ended(task->status))
        answer_wait(request, task);
    else if (s->closed)
        lt_reply_send(&request->reply, LT_CLOSED, "the scheduler is closed");
    else if (request->reply.unwanted)
        lt_reply_send(&request->reply, LT_TIMEOUT, "the task has not ended in the time given");
    else {
        join(request);
        request->reply.cancel = give_up;
        request->reply.cancel_arg = request;
    }
    lt_task_unref(task);
    lt_reply_clear(reply);
}

void lt_scheduler_wait(struct lt_scheduler *s, struct lt_wait_request *request)
{
    request->scheduler = s;
    request->hash = lt_hash(request->id, request->id_len);
    request->get.id = request->id;
    request->get.id_len = request->id_len;
    if (s->closed) {
        lt_reply_send(&request->reply, LT_CLOSED, "the scheduler is closed");
        return;
    }
    begin(s);
    lt_reply_begin(&request->get.reply, s->loop, on_wait_get);
    s->config.container->ops->get(s->config.container, &request->get);
    lt_reply_end(&request->get.reply);
}

static void answer_waits(struct lt_scheduler *s, struct lt_task *task)
{
    struct lt_wait_request *request = lt_map_find(&s->waits, task->hash, task->data, task->id_len);
    if (request == NULL)
        return;
    lt_map_remove(&s->waits, task->hash, request);
    while (request != NULL) {
        struct lt_wait_request *next = request->next;
        request->in_map = false;
        if (task->status == LT_DELETED)
            lt_reply_send(&request->reply, LT_UNKNOWN, "the task was deleted");
        else
            answer_wait(request, task);
        request = next;
    }
}

void lt_requests_ended(struct lt_scheduler *s, struct lt_task *task)
{
    if (s->waits.count > 0)
        answer_waits(s, task);
    lt_requests_room(s);
}

/* Requests for one task: get it, then do it. */

static void fetch(struct lt_task_request *request);

static void answer(struct lt_task_request *request, int code, const char *message)
{
    end(request->scheduler);
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
    begin(s);
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

/* Closing: those who wait for room or for a task that will not end here any more get an answer. */
void lt_requests_close(struct lt_scheduler *s)
{
    struct lt_add_request *request;
    while ((request = TAILQ_FIRST(&s->for_room)) != NULL) {
        TAILQ_REMOVE(&s->for_room, request, link);
        request->reply.cancel = NULL;
        answer_add(request, LT_CLOSED, "the scheduler is closed");
    }
}

void lt_requests_closed(struct lt_scheduler *s)
{
    uint32_t position = 0;
    struct lt_wait_request *request;
    while ((request = lt_map_next(&s->waits, &position)) != NULL) {
        while (request != NULL) {
            struct lt_wait_request *next = request->next;
            request->in_map = false;
            lt_reply_send(&request->reply, LT_CLOSED, "the scheduler is closed");
            request = next;
        }
    }
    lt_map_free(&s->waits);
}
