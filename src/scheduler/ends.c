/* Ends: who is told when a task has ended, and the figures.
 *
 * After the change was made, in this order: the counts, the finished list, the events, those who wait for this task or
 * for room. */
#include "scheduler/state.h"

/* Observers. */

/* One round of telling them; who is removed meanwhile is stepped over. */
struct lt_telling {
    struct lt_observer *next;
    struct lt_telling *outer;
};

void lt_emit(struct lt_scheduler *s, enum lt_event event, struct lt_task *task, const struct lt_event_data *data)
{
    if ((s->events >> event & 1) == 0)
        return;
    struct lt_telling telling = {.next = TAILQ_FIRST(&s->observers), .outer = s->telling};
    s->telling = &telling;
    while (telling.next != NULL) {
        struct lt_observer *observer = telling.next;
        telling.next = TAILQ_NEXT(observer, link);
        if ((observer->events >> event & 1) != 0)
            observer->fn(observer, event, task, data);
    }
    s->telling = telling.outer;
}

static void count_wanted(struct lt_scheduler *s)
{
    const struct lt_observer *observer;
    s->events = 0;
    TAILQ_FOREACH(observer, &s->observers, link)
        s->events |= observer->events;
}

void lt_scheduler_observe(struct lt_scheduler *s, struct lt_observer *observer)
{
    TAILQ_INSERT_TAIL(&s->observers, observer, link);
    count_wanted(s);
}

void lt_scheduler_observe_again(struct lt_scheduler *s)
{
    count_wanted(s);
}

void lt_scheduler_unobserve(struct lt_scheduler *s, struct lt_observer *observer)
{
    for (struct lt_telling *telling = s->telling; telling != NULL; telling = telling->outer) {
        if (telling->next == observer)
            telling->next = TAILQ_NEXT(observer, link);
    }
    TAILQ_REMOVE(&s->observers, observer, link);
    count_wanted(s);
}

/* The figures. */

static void count_rate(struct lt_scheduler *s)
{
    int64_t second = (int64_t)lt_loop_now(s->loop);
    unsigned slot = (unsigned)second % LT_RATE_SECONDS;
    if (s->rate_second[slot] != second) {
        s->rate_second[slot] = second;
        s->rate_count[slot] = 0;
    }
    s->rate_count[slot]++;
}

/* Ends a second, over the whole seconds before this one. */
static double rate_of(const struct lt_scheduler *s)
{
    int64_t second = (int64_t)lt_loop_now(s->loop);
    uint64_t sum = 0;
    for (int i = 0; i < LT_RATE_SECONDS; i++) {
        if (s->rate_second[i] < second && s->rate_second[i] >= second - (LT_RATE_SECONDS - 1))
            sum += s->rate_count[i];
    }
    return (double)sum / (LT_RATE_SECONDS - 1);
}

void lt_scheduler_stats(struct lt_scheduler *s, struct lt_stats *stats)
{
    *stats = s->stats;
    stats->exporting = s->exporting;
    stats->running = s->limiter.running - s->exporting;
    double oldest = s->config.container->ops->oldest(s->config.container);
    stats->oldest_waiting = oldest > 0 && lt_loop_wall(s->loop) > oldest ? lt_loop_wall(s->loop) - oldest : 0;
    stats->wait_p50 = lt_histogram_quantile(&s->wait_times, 0.5);
    stats->wait_p99 = lt_histogram_quantile(&s->wait_times, 0.99);
    stats->run_p50 = lt_histogram_quantile(&s->run_times, 0.5);
    stats->run_p99 = lt_histogram_quantile(&s->run_times, 0.99);
    stats->rate = rate_of(s);
    struct lt_actuator *actuator = s->config.actuator;
    stats->abandoned = actuator->ops->abandoned != NULL ? actuator->ops->abandoned(actuator) : 0;
}

void lt_room(struct lt_scheduler *s)
{
    s->rooms++;
    if (TAILQ_EMPTY(&s->for_room))
        return;
    s->room = true;
    lt_pump_post(s);
}

void lt_tell_end(struct lt_scheduler *s, struct lt_task *task)
{
    uint64_t *counts[LT_STATUSES] = {
        [LT_SUCCESS] = &s->stats.success, [LT_FAILED] = &s->stats.failed, [LT_STOPPED] = &s->stats.stopped};
    (*counts[task->status])++;
    count_rate(s);
    lt_finished_push(s, task);
    lt_emit(s, LT_EVENT_FINISHED, task, NULL);
    lt_waits_ended(s, task);
    lt_room(s);
    lt_finished_wake(s);
}
