/* Ends: who is told when a task has ended, and the figures.
 *
 * After the change was made, in this order: the counts, the events, the finished list, those who wait for this task or
 * for room. */
#include <stdlib.h>

#include "base/alloc.h"
#include "scheduler/state.h"

void lt_emit(struct lt_scheduler *s, enum lt_event event, struct lt_task *task, const struct lt_event_data *data)
{
    if ((s->events >> event & 1) != 0)
        s->config.hooks.event(s->config.hooks.arg, event, task, data);
}

void lt_scheduler_subscribe(struct lt_scheduler *s, unsigned events)
{
    s->events = events;
}

/* The finished list: a ring that grows up to finished_size; then its oldest entry goes. */

static void grow_finished(struct lt_scheduler *s)
{
    uint64_t room = s->finished_room > 0 ? s->finished_room * 2 : 64;
    if (room > s->config.finished_size)
        room = s->config.finished_size;
    struct lt_task **bigger = lt_alloc(room * sizeof(struct lt_task *));
    for (uint64_t i = 0; i < s->finished_count; i++)
        bigger[i] = s->finished[(s->finished_first + i) % s->finished_room];
    free(s->finished);
    s->finished = bigger;
    s->finished_first = 0;
    s->finished_room = room;
}

struct lt_task *lt_scheduler_next_finished(struct lt_scheduler *s)
{
    if (s->finished_count == 0)
        return NULL;
    struct lt_task *task = s->finished[s->finished_first];
    if (++s->finished_first == s->finished_room)
        s->finished_first = 0;
    s->finished_count--;
    return task;
}

static void push_finished(struct lt_scheduler *s, struct lt_task *task)
{
    if (s->config.finished_size == 0)
        return;
    if (s->finished_count == s->finished_room && s->finished_room < s->config.finished_size)
        grow_finished(s);
    if (s->finished_count == s->finished_room) {
        lt_task_unref(lt_scheduler_next_finished(s));
        s->stats.finished_dropped++;
    }
    uint64_t last = s->finished_first + s->finished_count;
    if (last >= s->finished_room)
        last -= s->finished_room;
    s->finished[last] = lt_task_ref(task);
    s->finished_count++;
}

void lt_scheduler_await_finished(struct lt_scheduler *s)
{
    s->finished_awaited = true;
}

void lt_ends_wake(struct lt_scheduler *s)
{
    if (!s->finished_awaited || s->config.hooks.finished == NULL)
        return;
    s->finished_awaited = false;
    s->config.hooks.finished(s->config.hooks.arg);
}

/* The figures. */

static void count_rate(struct lt_scheduler *s)
{
    int64_t second = (int64_t)lt_loop_now(s->loop);
    unsigned slot = (unsigned)second % RATE_SECONDS;
    if (s->rate_second[slot] != second) {
        s->rate_second[slot] = second;
        s->rate_count[slot] = 0;
    }
    s->rate_count[slot]++;
}

/* Ends a second, over the whole seconds before this one. */
static double rate(const struct lt_scheduler *s)
{
    int64_t second = (int64_t)lt_loop_now(s->loop);
    uint64_t sum = 0;
    for (int i = 0; i < RATE_SECONDS; i++) {
        if (s->rate_second[i] < second && s->rate_second[i] >= second - (RATE_SECONDS - 1))
            sum += s->rate_count[i];
    }
    return (double)sum / (RATE_SECONDS - 1);
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
    stats->rate = rate(s);
    struct lt_actuator *actuator = s->config.actuator;
    stats->abandoned = actuator->ops->abandoned != NULL ? actuator->ops->abandoned(actuator) : 0;
}

void lt_end(struct lt_scheduler *s, struct lt_task *task)
{
    uint64_t *counts[LT_STATUSES] = {
        [LT_SUCCESS] = &s->stats.success, [LT_FAILED] = &s->stats.failed, [LT_STOPPED] = &s->stats.stopped};
    (*counts[task->status])++;
    count_rate(s);
    push_finished(s, task);
    lt_emit(s, LT_EVENT_FINISHED, task, NULL);
    lt_requests_ended(s, task);
    lt_ends_wake(s);
}

void lt_ends_close(struct lt_scheduler *s)
{
    struct lt_task *task;
    while ((task = lt_scheduler_next_finished(s)) != NULL)
        lt_task_unref(task);
    free(s->finished);
}
