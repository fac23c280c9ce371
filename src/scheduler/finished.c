/* The finished list: the ends that nobody has read yet, a ring that grows up to finished_size; then its oldest entry goes.
 * Whoever has the scheduler may keep the list when that is freed. */
#include <stdlib.h>

#include "base/alloc.h"
#include "scheduler/state.h"

static void grow_ring(struct lt_finished *list, uint64_t most)
{
    uint64_t room = list->room > 0 ? list->room * 2 : 64;
    if (room > most)
        room = most;
    struct lt_task **bigger = lt_alloc(room * sizeof(struct lt_task *));
    for (uint64_t i = 0; i < list->count; i++)
        bigger[i] = list->tasks[(list->first + i) % list->room];
    free(list->tasks);
    list->tasks = bigger;
    list->first = 0;
    list->room = room;
}

struct lt_task *lt_finished_next(struct lt_finished *list)
{
    if (list->count == 0)
        return NULL;
    struct lt_task *task = list->tasks[list->first];
    if (++list->first == list->room)
        list->first = 0;
    list->count--;
    return task;
}

void lt_finished_free(struct lt_finished *list)
{
    struct lt_task *task;
    while ((task = lt_finished_next(list)) != NULL)
        lt_task_unref(task);
    free(list->tasks);
    *list = (struct lt_finished){0};
}

void lt_finished_push(struct lt_scheduler *s, struct lt_task *task)
{
    struct lt_finished *list = &s->finished;
    uint64_t most = s->config.finished_size;
    if (most == 0)
        return;
    if (list->count == list->room && list->room < most)
        grow_ring(list, most);
    if (list->count == list->room) {
        lt_task_unref(lt_finished_next(list));
        s->stats.finished_dropped++;
    }
    uint64_t last = list->first + list->count;
    if (last >= list->room)
        last -= list->room;
    list->tasks[last] = lt_task_ref(task);
    list->count++;
}

struct lt_task *lt_scheduler_next_finished(struct lt_scheduler *s)
{
    return lt_finished_next(&s->finished);
}

struct lt_finished lt_scheduler_take_finished(struct lt_scheduler *s)
{
    struct lt_finished list = s->finished;
    s->finished = (struct lt_finished){0};
    return list;
}

void lt_scheduler_await_finished(struct lt_scheduler *s)
{
    s->finished_awaited = true;
}

void lt_finished_wake(struct lt_scheduler *s)
{
    if (!s->finished_awaited || s->config.hooks.finished == NULL)
        return;
    s->finished_awaited = false;
    s->config.hooks.finished(s->config.hooks.arg);
}
