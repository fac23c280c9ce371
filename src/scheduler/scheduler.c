/* A scheduler's life: opened with its parts, set, paused, told of news, freed. */
#include "scheduler/scheduler.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "scheduler/pump.h"
#include "scheduler/state.h"

/* What the parts tell. */

static void on_report(void *arg, struct lt_work *work, struct lt_report *report)
{
    (void)arg;
    lt_run_take_report(lt_run_of(work), report);
}

static bool on_output(void *arg, struct lt_work *work, enum lt_stream stream, struct lt_bytes *bytes)
{
    (void)arg;
    return lt_run_put_out(lt_run_of(work), stream, bytes);
}

static void on_push(void *arg, struct lt_push *push)
{
    lt_scheduler_push(arg, push);
}

static void look_for_work(struct lt_scheduler *s)
{
    s->work = s->unlooked = true;
    lt_pump_post(s);
}

static void capacity_changed(void *arg)
{
    look_for_work(arg);
}

static void on_clock_set(struct lt_clock_watch *watch)
{
    look_for_work(lt_container_of(watch, struct lt_scheduler, clock));
}

static void is_key_open(void *arg, struct lt_bytes *key)
{
    struct lt_scheduler *s = arg;
    if (s->config.container->ops->key_open != NULL)
        s->config.container->ops->key_open(s->config.container, key);
    look_for_work(s);
}

/* The run that the news are about: this very one, and none that came after it. */
static struct lt_run *run_of_news(struct lt_scheduler *s, const struct lt_news *news)
{
    struct lt_run *run = lt_run_find(s, news->id, news->id_len);
    return run != NULL && run->work.run == news->run ? run : NULL;
}

static void on_lease_lost(struct lt_scheduler *s, const struct lt_news *news)
{
    struct lt_run *run = run_of_news(s, news);
    if (run == NULL || run->token != news->token) {
        s->stats.stale++;
        return;
    }
    if (s->config.go_on_without_lease && run->state != LT_RUN_CLAIMED) /* what has not begun does not */
        lt_log(LT_LOG_WARN, "the lease of a task was lost, its work goes on", LT_S("scheduler", s->name),
               LT_S("task", run->work.task->data), LT_I("run", (int64_t)run->work.run));
    else
        lt_signal(run, LT_EV_LEASE_LOST);
}

static void on_news(void *arg, const struct lt_news *news)
{
    struct lt_scheduler *s = arg;
    struct lt_run *run;
    switch (news->kind) {
    case LT_NEWS_WORK:
        look_for_work(s);
        break;
    case LT_NEWS_LEASE_LOST:
        on_lease_lost(s, news);
        break;
    case LT_NEWS_STOP:
        if ((run = run_of_news(s, news)) != NULL)
            lt_run_ask_stop(run, LT_WHY_STOP, news->reason);
        break;
    case LT_NEWS_ENDED:
        if (news->on)
            lt_tell_end(s, news->task);
        else
            lt_waits_ended(s, news->task);
        lt_requests_elsewhere(s, news->task->data, news->task->id_len);
        lt_room(s);
        look_for_work(s);
        break;
    case LT_NEWS_FORGOTTEN:
        lt_forget(s, news->task);
        break;
    case LT_NEWS_PAUSED:
        s->paused_by_queue = news->on;
        look_for_work(s);
        break;
    case LT_NEWS_AVAILABLE:
        lt_store_available(s, news->on, news->why);
        if (news->on)
            lt_recover_at_once(s);
        break;
    }
}

/* Life. */

static struct lt_actuator_env actuator_env(struct lt_scheduler *s)
{
    return (struct lt_actuator_env){
        .loop = s->loop,
        .name = s->name,
        .durable = s->config.container->ops->durable,
        .call_limits = {s->config.callback_timeout, s->config.max_stall},
        .notify = {on_report, on_output, s},
        .push = on_push,
        .push_arg = s,
        .query_run = lt_query_run,
        .capacity_changed = capacity_changed,
        .attach = s->config.attach,
    };
}

/* Closing parts that could be opened, because another could not: nothing runs in them, and nobody waits for them. */

struct undo {
    struct lt_reply reply;
};

static void part_undone(struct lt_reply *reply)
{
    lt_reply_clear(reply);
    free(lt_container_of(reply, struct undo, reply));
}

static struct lt_reply *begin_undo(struct lt_scheduler *s)
{
    struct undo *undo = lt_zalloc(sizeof *undo);
    lt_reply_begin(&undo->reply, s->loop, part_undone);
    return &undo->reply;
}

static void undo_actuator(struct lt_scheduler *s, struct lt_actuator *actuator)
{
    struct lt_reply *reply = begin_undo(s);
    actuator->ops->close(actuator, reply);
    lt_reply_end(reply);
}

static void undo_persister(struct lt_scheduler *s, struct lt_persister *persister)
{
    struct lt_reply *reply = begin_undo(s);
    persister->ops->close(persister, reply);
    lt_reply_end(reply);
}

static int open_parts(struct lt_scheduler *s, struct lt_error *error)
{
    struct lt_scheduler_config *config = &s->config;
    struct lt_persister *persister = config->persister;
    struct lt_actuator *actuator = config->actuator, *front = actuator->front;
    struct lt_receiver *receiver = config->receiver;
    struct lt_actuator_env env = actuator_env(s);
    int code = persister != NULL ? persister->ops->open(persister, s->loop, env.call_limits, error) : LT_OK;
    if (code != LT_OK)
        return code;
    code = actuator->ops->open(actuator, &env, error);
    if (code != LT_OK)
        goto undo_persister;
    code = front != NULL ? front->ops->open(front, &env, error) : LT_OK;
    if (code != LT_OK)
        goto undo_actuator;
    code = receiver != NULL ? receiver->ops->open(receiver, &env, error) : LT_OK;
    if (code == LT_OK)
        return LT_OK;
    if (front != NULL)
        undo_actuator(s, front);
undo_actuator:
    undo_actuator(s, actuator);
undo_persister:
    if (persister != NULL)
        undo_persister(s, persister);
    return code;
}

static void open_container(struct lt_scheduler *s)
{
    struct lt_container *container = s->config.container;
    container->in_use = true;
    container->ops->open(container, &(struct lt_container_env){
                                        .loop = s->loop,
                                        .keep_tasks = s->config.keep_tasks,
                                        .keep_bytes = s->config.keep_bytes,
                                        .call_limits = {s->config.container_timeout, s->config.max_stall},
                                        .goes_on = s->config.go_on_without_lease,
                                        .tell = on_news,
                                        .tell_arg = s,
                                    });
}

static void init_lists(struct lt_scheduler *s)
{
    TAILQ_INIT(&s->signalled);
    TAILQ_INIT(&s->store.owed);
    TAILQ_INIT(&s->to_start);
    TAILQ_INIT(&s->active);
    TAILQ_INIT(&s->spare);
    TAILQ_INIT(&s->recoveries);
    TAILQ_INIT(&s->for_room);
    TAILQ_INIT(&s->for_claim);
    TAILQ_INIT(&s->elsewhere);
    TAILQ_INIT(&s->erasing);
    TAILQ_INIT(&s->again);
    TAILQ_INIT(&s->observers);
    STAILQ_INIT(&s->closers);
}

/* What the container keeps is none of the limiter's; but one in memory before a store is asked first, and is not to choose
 * what the store must refuse. */
static struct lt_limits limits_of(const struct lt_scheduler *s)
{
    struct lt_limits limits = s->config.limits;
    if (s->config.container->ops->keeps_limits) {
        limits.shared_rate = limits.rate;
        limits.rate = (struct lt_rate){0};
        limits.shared_key_limit = limits.key_limit;
        if (s->config.container->behind == NULL)
            limits.key_limit = 0;
    }
    return limits;
}

struct lt_scheduler *lt_scheduler_open(struct lt_loop *loop, const struct lt_scheduler_config *config,
                                       struct lt_error *error)
{
    struct lt_scheduler *s = lt_zalloc(sizeof *s);
    s->loop = loop;
    s->config = *config;
    s->name = lt_strdup(config->name);
    s->debug = lt_log_enabled(LT_LOG_DEBUG);
    s->pump.fn = lt_pump;
    s->close_timer = s->store.probe = s->wake = s->poll_timer = LT_TIMER_INIT;
    init_lists(s);
    for (int i = 0; i < LT_RATE_SECONDS; i++)
        s->rate_second[i] = -1;
    struct lt_limits limits = limits_of(s);
    lt_limiter_open(&s->limiter, &limits, lt_loop_now(loop));
    s->limiter.key_open = is_key_open;
    s->limiter.key_open_arg = s;
    s->claim.limiter = &s->limiter;
    s->claim.number = 1;
    if (open_parts(s, error) != LT_OK) {
        lt_limiter_close(&s->limiter);
        free(s->name);
        free(s);
        return NULL;
    }
    open_container(s);
    s->clock.fn = on_clock_set;
    lt_loop_watch_clock(loop, &s->clock);
    lt_recover_open(s);
    lt_pump_post(s);
    return s;
}

void lt_scheduler_free(struct lt_scheduler *s)
{
    lt_finished_free(&s->finished);
    lt_limiter_close(&s->limiter);
    lt_run_free_spare(s);
    lt_claims_free(&s->claim.claimed);
    lt_tasks_free(&s->claim.expired);
    lt_claims_free(&s->recover.tasks);
    lt_reply_clear(&s->claim.reply);
    lt_reply_clear(&s->recover.reply);
    lt_reply_clear(&s->poll.reply);
    lt_reply_clear(&s->close_reply);
    lt_bytes_unref(s->close_reason);
    free(s->expired.items);
    free(s->poll.seen);
    free(s->name);
    free(s);
}

struct lt_scheduler_config *lt_scheduler_config(struct lt_scheduler *s)
{
    return &s->config;
}

void lt_scheduler_set(struct lt_scheduler *s, unsigned named)
{
    struct lt_container *container = s->config.container;
    struct lt_limits limits = limits_of(s);
    lt_limiter_set(&s->limiter, &limits, lt_loop_tick(s->loop));
    if (container->ops->set_limits != NULL && named != 0)
        container->ops->set_limits(container, &limits, named);
    lt_poll_set(s);
    look_for_work(s);
}

bool lt_scheduler_paused(const struct lt_scheduler *s)
{
    return s->paused || s->paused_by_queue;
}

void lt_scheduler_pause(struct lt_scheduler *s, bool paused)
{
    if (s->closing)
        return;
    s->paused = paused;
    look_for_work(s);
}

bool lt_scheduler_closing(const struct lt_scheduler *s)
{
    return s->closing;
}

bool lt_scheduler_closed(const struct lt_scheduler *s)
{
    return s->closed;
}
