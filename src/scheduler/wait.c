/* Waiting for the end of a task, by id: those who wait for the same one are a list in a map.
 *
 * Who waits is in the map before the container is asked about the task, so that an end which comes between the question
 * and its answer is seen. */
#include "scheduler/state.h"

static const char *wait_id(const void *object, size_t *len)
{
    const struct lt_wait_request *request = object;
    *len = request->id_len;
    return request->id;
}

static void join_wait(struct lt_wait_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    s->waits_by_id.key = wait_id;
    struct lt_wait_request *first = lt_map_find(&s->waits_by_id, request->hash, request->id, request->id_len);
    if (first != NULL) {
        request->next = first->next;
        first->next = request;
    } else {
        request->next = NULL;
        lt_map_put(&s->waits_by_id, request->hash, request);
    }
    request->in_map = true;
}

static void leave_wait(struct lt_wait_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    struct lt_wait_request *first = lt_map_find(&s->waits_by_id, request->hash, request->id, request->id_len);
    if (first == request) {
        lt_map_remove(&s->waits_by_id, request->hash, request);
        if (request->next != NULL)
            lt_map_put(&s->waits_by_id, request->hash, request->next);
    } else {
        while (first->next != request)
            first = first->next;
        first->next = request->next;
    }
    request->in_map = false;
}

static void give_up_wait(struct lt_reply *reply, void *arg)
{
    (void)reply;
    leave_wait(arg);
}

static void answer_wait(struct lt_wait_request *request, int code, const char *message)
{
    if (request->in_map)
        leave_wait(request);
    lt_reply_send(&request->reply, code, message);
}

static void answer_ended(struct lt_wait_request *request, struct lt_task *task)
{
    request->task = lt_task_ref(task);
    answer_wait(request, LT_OK, NULL);
}

/* On another host it waits or runs, perhaps since a moment ago: a claim says so, and there is something to wait for. */
static void look_elsewhere(const struct lt_wait_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    if (s->config.container->ops->ask_stop == NULL || lt_run_find(s, request->id, request->id_len) != NULL)
        return;
    s->work = s->unlooked = true;
    lt_pump_post(s);
}

static void on_wait_get(struct lt_reply *reply)
{
    struct lt_wait_request *request = lt_container_of(reply, struct lt_wait_request, get.reply);
    struct lt_scheduler *s = request->scheduler;
    struct lt_task *task = request->get.task;
    request->asking = false;
    lt_request_end(s);
    if (!request->in_map) /* it was answered meanwhile */
        lt_reply_send(&request->reply, request->code, request->task != NULL ? NULL : request->message);
    else if (reply->code == LT_UNKNOWN || (reply->code == LT_OK && task == NULL))
        answer_wait(request, LT_UNKNOWN, "no such task");
    else if (reply->code != LT_OK)
        answer_wait(request, reply->code, lt_reply_message(reply));
    else if (lt_status_ended(task->status))
        answer_ended(request, task);
    else if (s->closed)
        answer_wait(request, LT_CLOSED, "the scheduler is closed");
    else if (request->inside)
        answer_wait(request, LT_REFUSED, lt_inside_message);
    else if (request->reply.unwanted)
        answer_wait(request, LT_TIMEOUT, "the task has not ended in the time given");
    else {
        request->reply.cancel = give_up_wait;
        request->reply.cancel_arg = request;
        look_elsewhere(request);
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
    request->get.waits = true;
    if (s->closed || s->parts_closing) {
        lt_reply_send(&request->reply, LT_CLOSED, "the scheduler is closed");
        return;
    }
    lt_request_begin(s);
    join_wait(request);
    request->asking = true;
    request->inside = lt_scheduler_inside(s);
    lt_reply_begin(&request->get.reply, s->loop, on_wait_get);
    s->config.container->ops->get(s->config.container, &request->get);
    lt_reply_end(&request->get.reply);
}

/* One of a list that was taken out of the map. While the container is still being asked, the answer waits for that. */
static void answer_taken(struct lt_wait_request *request, struct lt_task *task, int code, const char *message)
{
    request->in_map = false;
    request->task = task != NULL ? lt_task_ref(task) : NULL;
    request->code = code;
    request->message = message;
    if (!request->asking)
        lt_reply_send(&request->reply, code, message);
}

void lt_waits_ended(struct lt_scheduler *s, struct lt_task *task)
{
    if (s->waits_by_id.count == 0)
        return;
    struct lt_wait_request *request = lt_map_find(&s->waits_by_id, task->hash, task->data, task->id_len);
    if (request == NULL)
        return;
    lt_map_remove(&s->waits_by_id, task->hash, request);
    while (request != NULL) {
        struct lt_wait_request *next = request->next;
        if (task->status == LT_DELETED)
            answer_taken(request, NULL, LT_UNKNOWN, "the task was deleted");
        else
            answer_taken(request, task, LT_OK, NULL);
        request = next;
    }
}

void lt_waits_close(struct lt_scheduler *s)
{
    uint32_t position = 0;
    struct lt_wait_request *request;
    while ((request = lt_map_next(&s->waits_by_id, &position)) != NULL) {
        while (request != NULL) {
            struct lt_wait_request *next = request->next;
            answer_taken(request, NULL, LT_CLOSED, "the scheduler is closed");
            request = next;
        }
    }
    lt_map_free(&s->waits_by_id);
}
