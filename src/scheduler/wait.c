/* Waiting for the end of a task, by id: those who wait for the same one are a list in a map. */
#include "scheduler/state.h"

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
    lt_request_end(s);
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
    lt_request_begin(s);
    lt_reply_begin(&request->get.reply, s->loop, on_wait_get);
    s->config.container->ops->get(s->config.container, &request->get);
    lt_reply_end(&request->get.reply);
}

void lt_waits_ended(struct lt_scheduler *s, struct lt_task *task)
{
    if (s->waits.count == 0)
        return;
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

void lt_waits_close(struct lt_scheduler *s)
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
