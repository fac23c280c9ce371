/* Adding: the actuator's init is asked about each task, then the container takes them all or none. Who may wait for room
 * does so in line; each end and each answer lets in the next. */
#include "scheduler/state.h"

static void add_next(struct lt_add_request *request);

static void answer_add(struct lt_add_request *request, int code, const char *message)
{
    lt_request_end(request->scheduler);
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

/* Those who wait for room are to be asked again, in a turn of its own. */
static void try_next(struct lt_scheduler *s)
{
    s->room_again = true;
    lt_pump_post(s);
}

static void stop_waiting_for_room(struct lt_reply *reply, void *arg)
{
    (void)reply;
    struct lt_add_request *request = arg;
    struct lt_scheduler *s = request->scheduler;
    if (request == TAILQ_FIRST(&s->for_room))
        try_next(s); /* who may want less */
    TAILQ_REMOVE(&s->for_room, request, link);
    lt_request_end(s);
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
    else if (reply->code != LT_OK && request->count > 1)
        try_next(s); /* some of them may have been in for a moment, and taken the room */
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
        lt_adds_room(s); /* there may be room for the next */
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
    lt_request_begin(s);
    add_next(request);
}

void lt_adds_room(struct lt_scheduler *s)
{
    struct lt_add_request *request = TAILQ_FIRST(&s->for_room);
    if (request == NULL || s->admitting)
        return;
    s->admitting = true;
    TAILQ_REMOVE(&s->for_room, request, link);
    request->reply.cancel = NULL;
    store(request);
}

void lt_adds_close(struct lt_scheduler *s)
{
    struct lt_add_request *request;
    while ((request = TAILQ_FIRST(&s->for_room)) != NULL) {
        TAILQ_REMOVE(&s->for_room, request, link);
        request->reply.cancel = NULL;
        answer_add(request, LT_CLOSED, "the scheduler is closed");
    }
}
