/* Claiming: tasks are taken from the container as long as the limits allow, and become runs. When nobody announces
 * anything, a timer knows when to look again. */
#include "scheduler/state.h"

static const double CLOCK_LOOK = 0.5; /* seconds: a date is waited for, and the wall clock may be set unnoticed */
enum { BATCH = 256 };

/* The answer. */

/* There is no place for it after all: it goes back. */
static void send_task_back(struct lt_run *run)
{
    lt_run_ask_stop(run, LT_WHY_NOT_NOW, NULL);
}

/* What it was admitted with is free at once. */
static void end_expired(struct lt_run *run)
{
    if (run->has_slot)
        lt_limiter_return(&run->scheduler->limiter, lt_task_key(run->work.task));
    run->has_slot = false;
    lt_run_ask_stop(run, LT_WHY_EXPIRED, NULL);
}

static void begin_run(struct lt_scheduler *s, const struct lt_claimed *claimed)
{
    struct lt_task *task = claimed->task;
    struct lt_run *run = lt_run_new(s, task, claimed->token);
    lt_histogram_add(&s->wait_times, task->started_at - lt_task_waiting_since(task));
    run->has_slot =
        !s->config.container->ops->ordered || lt_limiter_admit(&s->limiter, lt_task_key(task)) == LT_ADMITTED;
    run->in_line = true;
    lt_run_list(run, &s->to_start);
    lt_requests_elsewhere(s, task->data, task->id_len);
    if (claimed->expired)
        end_expired(run);
    else if (!run->has_slot || run->twin)
        send_task_back(run);
    else if (s->closing)
        lt_run_ask_stop(run, LT_WHY_SHUTDOWN, s->close_reason);
}

static void take_claimed(struct lt_scheduler *s)
{
    struct lt_claims *claimed = &s->claim.claimed;
    bool taken_over = false;
    for (uint32_t i = 0; i < claimed->count; i++) {
        if (claimed->items[i].taken_over)
            taken_over = true;
        else
            begin_run(s, &claimed->items[i]);
    }
    uint32_t count = claimed->count;
    claimed->count = 0; /* the references moved to the runs */
    if (taken_over)
        lt_recover_take(s, claimed->items, count);
}

static void take_expired(struct lt_scheduler *s)
{
    struct lt_tasks *expired = &s->claim.expired;
    for (uint32_t i = 0; i < expired->count; i++)
        lt_tasks_push(&s->expired, expired->items[i]);
    expired->count = 0;
}

void lt_claim_handle(struct lt_scheduler *s)
{
    struct lt_claim_op *op = &s->claim;
    s->claimed = false;
    lt_store_claimed(s, &op->reply);
    bool is_old = s->unclear; /* it may be the answer of long ago, which knows nothing of what came since */
    s->unclear = op->reply.code != LT_OK;
    if (!s->unclear) {
        op->number++;
        s->work = s->work || op->more || is_old;
        s->unlooked = s->unlooked || is_old;
        s->waits = op->waits;
        s->next_at = op->next_at;
        s->next_date = op->next_date;
        if (!s->config.container->ops->announces && !op->more)
            s->ask_at = lt_loop_now(s->loop) + s->config.schedule_interval;
    }
    take_claimed(s);
    take_expired(s);
    lt_requests_again(s, &s->for_claim);
}

static void on_claim(struct lt_reply *reply)
{
    struct lt_scheduler *s = lt_container_of(reply, struct lt_scheduler, claim.reply);
    s->claimed = true;
    lt_pump_post(s);
}

/* The question. */

/* Whether the container can be asked at all now. */
static bool may_claim(const struct lt_scheduler *s)
{
    return s->recovered && !s->closing && !s->claimed && !lt_reply_pending(&s->claim.reply);
}

/* How many may start, those aside that ends under way will make room for. */
static uint32_t room_now(struct lt_scheduler *s)
{
    uint32_t room = lt_limiter_room(&s->limiter, lt_loop_now(s->loop));
    uint32_t capacity = s->config.actuator->capacity;
    uint32_t free_capacity = capacity > s->limiter.running ? capacity - s->limiter.running : 0;
    return free_capacity < room ? free_capacity : room;
}

/* Whether something has become due that a claim must see to, be there room or not. */
static bool is_due(const struct lt_scheduler *s)
{
    /* Compared as timers are: one that is rounded must not come too early again and again. */
    return s->look || (s->next_at > 0 && lt_heap_time(lt_loop_now(s->loop)) >= lt_heap_time(s->next_at)) ||
           (s->next_date > 0 && lt_loop_wall(s->loop) >= s->next_date);
}

static bool is_paused(const struct lt_scheduler *s)
{
    return s->paused || s->paused_by_queue;
}

bool lt_claim(struct lt_scheduler *s)
{
    struct lt_claim_op *op = &s->claim;
    if (!may_claim(s) || !lt_store_claim_ok(s))
        return false;
    if (s->ask_at > 0 && lt_loop_now(s->loop) >= s->ask_at) {
        s->ask_at = 0;
        s->work = true;
    }
    uint32_t room = is_paused(s) ? 0 : room_now(s);
    uint32_t ends = is_paused(s) || s->limiter.limits.rate.per > 0 ? 0 : s->end_count;
    bool asleep = s->unlooked && s->run_count == 0 && room == 0; /* is there anything at all that waits? */
    if (s->store.claim_probe && room + ends == 0) {
        lt_store_not_probed(s);
        return false;
    }
    if (!is_due(s) && !asleep && (room + ends == 0 || !s->work))
        return false;
    s->look = s->unlooked = false;
    s->next_at = s->next_date = 0;
    op->limit = room < BATCH ? room : BATCH;
    op->ends = s->ends;
    op->end_count = ends;
    if (room + ends > 0)
        s->work = false; /* what is announced from here on counts */
    lt_reply_begin(&op->reply, s->loop, on_claim);
    s->config.container->ops->claim(s->config.container, op);
    if (!lt_reply_end_now(&op->reply))
        return false;
    lt_claim_handle(s);
    return true;
}

/* The timer. */

static void on_claim_time(struct lt_timer *timer)
{
    lt_pump_post(lt_container_of(timer, struct lt_scheduler, wake));
}

static double next_claim_time(const struct lt_scheduler *s)
{
    double now = lt_loop_now(s->loop);
    double at = lt_earlier(s->ask_at, s->next_at);
    if (s->next_date > 0) {
        double in = s->next_date - lt_loop_wall(s->loop);
        at = lt_earlier(at, now + (in < CLOCK_LOOK ? in : CLOCK_LOOK));
    }
    if (!is_paused(s) && (s->work || s->limiter.reopening.count > 0)) /* it is not asked, so its times stay */
        at = lt_earlier(at, lt_limiter_next(&s->limiter));
    double not_before = s->store.claim_not_before; /* whatever is due before, it is not asked */
    if (s->work && not_before > now)
        at = lt_earlier(at, not_before);
    return at > 0 && at < not_before ? not_before : at;
}

void lt_claim_plan(struct lt_scheduler *s)
{
    /* What makes a claim possible again posts the pump. */
    double at = may_claim(s) && !s->store.down ? next_claim_time(s) : 0;
    if (at <= 0)
        lt_timer_stop(s->loop, &s->wake);
    else if (!lt_timer_active(&s->wake) || s->wake.due != at)
        lt_timer_start(s->loop, &s->wake, at, on_claim_time);
}

void lt_claim_close(struct lt_scheduler *s)
{
    lt_timer_stop(s->loop, &s->wake);
}
