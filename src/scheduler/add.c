/* Adding: the actuator's init is asked about each task, then the container takes them all or none. Who may wait for room
 * does so in line; each end and each answer lets in the next. */
#include "scheduler/state.h"

static void add_next(struct lt_add_request *request);

static void answer_add(struct lt_add_request *request, int code, const char *message)
{
    lt_request_end(request->scheduler);
    lt_reply_send(&request->reply, code, message);
}

static void tell_added(struct lt_scheduler *s, struct lt_task *task)
{
    s->look = s->look || task->options != NULL;
    lt_emit(s, LT_EVENT_ADDED, task, NULL);
}

static void tell_work(struct lt_scheduler *s)
{
    s->work = s->unlooked = true;
    lt_pump_post(s);
    if (!s->busy)
        lt_busy_review(s);
}

static void tasks_added(struct lt_add_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    tell_work(s);
    for (uint32_t i = 0; i < request->count; i++)
        tell_added(s, request->tasks[i]);
    answer_add(request, LT_OK, NULL);
}

static void stop_waiting_for_room(struct lt_reply *reply, void *arg)
{
    (void)reply;
    struct lt_add_request *request = arg;
    struct lt_scheduler *s = request->scheduler;
    if (request == TAILQ_FIRST(&s->for_room))
        lt_room(s); /* the next may want less */
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

/* Whether it is worth waiting: something has not ended, and may make room. */
static bool may_wait(const struct lt_add_request *request)
{
    const struct lt_scheduler *s = request->scheduler;
    return request->waits && !request->reply.unwanted && !s->closing;
}

static void on_add(struct lt_reply *reply)
{
    struct lt_add_request *request = lt_container_of(reply, struct lt_add_request, add.reply);
    struct lt_scheduler *s = request->scheduler;
    bool was_first = request->waited;
    bool room_came = s->rooms != request->rooms; /* "full" is older than that */
    if (was_first)
        s->admitting = false;
    else if (reply->code != LT_OK && request->count > 1)
        lt_room(s); /* some of them may have been in for a moment, and taken the room */
    if (reply->code == LT_FULL && may_wait(request) && (room_came || lt_work_left(s))) {
        lt_reply_clear(reply);
        wait_for_room(request);
        if (room_came)
            lt_room(s);
        return;
    }
    if (reply->code == LT_OK)
        tasks_added(request);
    else
        answer_add(request, reply->code, lt_reply_message(reply));
    lt_reply_clear(reply);
    if (was_first)
        lt_room(s); /* there may be room for the next */
}

static void submit_add(struct lt_add_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    request->rooms = s->rooms;
    request->add.tasks = request->tasks;
    request->add.count = request->count;
    lt_reply_begin(&request->add.reply, s->loop, on_add);
    s->config.container->ops->add(s->config.container, &request->add);
    lt_reply_end(&request->add.reply);
}

/* Whose init is called. */
static struct lt_actuator *actuator_for_init(const struct lt_scheduler *s)
{
    struct lt_actuator *actuator = s->config.actuator;
    return actuator->front != NULL ? actuator->front : actuator;
}

/* The answer about one task. False: it was a refusal, and is passed on. */
static bool init_answer(struct lt_add_request *request)
{
    struct lt_reply *reply = &request->init.reply;
    int code = reply->code;
    request->tasks[request->next++] = request->init.task;
    if (code == LT_OK)
        return true;
    answer_add(request, code == LT_TIMEOUT ? LT_TIMEOUT : LT_REFUSED, lt_reply_message(reply));
    lt_reply_clear(reply);
    return false;
}

static void on_init(struct lt_reply *reply)
{
    struct lt_add_request *request = lt_container_of(reply, struct lt_add_request, init.reply);
    if (init_answer(request))
        add_next(request);
}

/* Asks the actuator about one task. False: the answer will come, or it was a refusal. */
static bool init_one(struct lt_add_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    struct lt_actuator *actuator = actuator_for_init(s);
    request->init.task = request->tasks[request->next];
    lt_reply_begin(&request->init.reply, s->loop, on_init);
    actuator->ops->init(actuator, &request->init);
    return lt_reply_end_now(&request->init.reply) && init_answer(request);
}

/* Asks the actuator about each task in turn, then stores them all. */
static void add_next(struct lt_add_request *request)
{
    struct lt_scheduler *s = request->scheduler;
    bool asks = actuator_for_init(s)->ops->init != NULL;
    while (!s->closing && asks && request->next < request->count) {
        if (!init_one(request))
            return;
    }
    if (s->closing)
        answer_add(request, LT_CLOSED, "the scheduler is closed");
    else if (request->waits && !request->reply.unwanted && !TAILQ_EMPTY(&s->for_room))
        wait_for_room(request); /* behind those who came before */
    else
        submit_add(request);
}

bool lt_scheduler_add_now(struct lt_scheduler *s, struct lt_task *task, int *code, struct lt_error *error)
{
    struct lt_container *container = s->config.container;
    if (container->ops->add_now == NULL || actuator_for_init(s)->ops->init != NULL || s->closing)
        return false;
    *code = container->ops->add_now(container, task, error);
    if (*code == LT_OK) {
        tell_work(s);
        tell_added(s, task);
    }
    return true;
}

void lt_scheduler_expect(const struct lt_scheduler *s, uint32_t hash)
{
    const struct lt_container *container = s->config.container;
    if (container->ops->expect != NULL)
        container->ops->expect(container, hash);
}

void lt_scheduler_add(struct lt_scheduler *s, struct lt_add_request *request)
{
    request->scheduler = s;
    request->next = 0;
    if (lt_scheduler_inside(s)) {
        lt_reply_send(&request->reply, LT_REFUSED, lt_inside_message);
        return;
    }
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
    submit_add(request);
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
