#include "scheduler/task.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/heap.h"
#include "base/map.h"

static const char *const status_names[LT_STATUSES] = {
    "unstarted", "waiting", "running", "exporting", "success", "failed", "stopped", "deleted",
};

const char *lt_status_name(enum lt_status status)
{
    return status_names[status];
}

int lt_status_parse(const char *name, size_t len)
{
    for (int i = 0; i < LT_STATUSES; i++) {
        if (strlen(status_names[i]) == len && memcmp(status_names[i], name, len) == 0)
            return i;
    }
    return -1;
}

/* The length of the UTF-8 sequence at `s`, or 0 if there is none: no surrogates, nothing overlong. */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
    if (s[0] < 0x80)
        return 1;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n > len)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

bool lt_task_id_valid(const char *id, size_t len)
{
    if (len < 1 || len > LT_ID_MAX)
        return false;
    const unsigned char *s = (const unsigned char *)id;
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_sequence(s + i, len - i);
        bool control = s[i] < 0x20 || s[i] == 0x7f || (s[i] == 0xc2 && n == 2 && s[i + 1] < 0xa0);
        if (n == 0 || control)
            return false;
    }
    return true;
}

struct lt_task *lt_task_new(const char *id, size_t id_len, const char *item, size_t item_len)
{
    struct lt_task *task = lt_alloc(sizeof *task + id_len + 1 + item_len);
    memset(task, 0, offsetof(struct lt_task, link));
    task->refs = 1;
    task->hash = lt_hash(id, id_len);
    task->status = LT_UNSTARTED;
    task->id_len = (uint8_t)id_len;
    task->heap_place = LT_HEAP_NONE;
    task->item_len = (uint32_t)item_len;
    memcpy(task->data, id, id_len);
    task->data[id_len] = '\0';
    if (item_len > 0)
        memcpy(task->data + id_len + 1, item, item_len);
    return task;
}

struct lt_task *lt_task_restart(const struct lt_task *task)
{
    struct lt_task *again = lt_task_new(task->data, task->id_len, lt_task_item(task), task->item_len);
    again->run = task->run;
    again->priority = task->priority;
    again->added_at = task->added_at;
    again->status = task->status;
    if (task->options != NULL) {
        struct lt_task_options *options = lt_task_options(again);
        *options = *task->options;
        lt_bytes_ref(options->key);
        options->expires_at = 0;
        options->task = again;
        options->expiry_place = LT_HEAP_NONE;
    }
    return again;
}

static void free_extra(struct lt_task_extra *extra)
{
    lt_bytes_unref(extra->progress);
    lt_bytes_unref(extra->handle);
    lt_bytes_unref(extra->version);
    while (extra->past != NULL) {
        struct lt_past_run *past = extra->past;
        extra->past = past->next;
        lt_bytes_unref(past->reason);
        lt_bytes_unref(past->version);
        free(past);
    }
    free(extra);
}

void lt_task_unref(struct lt_task *task)
{
    if (task == NULL || --task->refs > 0)
        return;
    if (task->options != NULL) {
        lt_bytes_unref(task->options->key);
        free(task->options);
    }
    if (task->extra != NULL)
        free_extra(task->extra);
    lt_bytes_unref(task->output);
    lt_bytes_unref(task->reason);
    free(task);
}

struct lt_task_options *lt_task_options(struct lt_task *task)
{
    if (task->options == NULL) {
        task->options = lt_alloc(sizeof *task->options);
        *task->options =
            (struct lt_task_options){.timeout = -1, .max_retries = -1, .task = task, .expiry_place = LT_HEAP_NONE};
    }
    return task->options;
}

struct lt_task_extra *lt_task_extra(struct lt_task *task)
{
    if (task->extra == NULL)
        task->extra = lt_zalloc(sizeof *task->extra);
    return task->extra;
}

void lt_tasks_push(struct lt_tasks *tasks, struct lt_task *task)
{
    if (tasks->count == tasks->size) {
        tasks->size = tasks->size > 0 ? tasks->size * 2 : 16;
        tasks->items = lt_realloc(tasks->items, tasks->size * sizeof(struct lt_task *));
    }
    tasks->items[tasks->count++] = task;
}

void lt_tasks_clear(struct lt_tasks *tasks)
{
    for (uint32_t i = 0; i < tasks->count; i++)
        lt_task_unref(tasks->items[i]);
    tasks->count = 0;
}

void lt_tasks_free(struct lt_tasks *tasks)
{
    lt_tasks_clear(tasks);
    free(tasks->items);
    *tasks = (struct lt_tasks){0};
}

/* Which statuses may follow each; the one place that says so. */
static bool follows(enum lt_status from, enum lt_status to)
{
    static const uint16_t allowed[LT_STATUSES] = {
        [LT_UNSTARTED] = 1 << LT_WAITING | 1 << LT_DELETED,
        [LT_WAITING] = 1 << LT_RUNNING | 1 << LT_FAILED /* expired */ | 1 << LT_STOPPED | 1 << LT_DELETED,
        [LT_RUNNING] = 1 << LT_EXPORTING | 1 << LT_SUCCESS | 1 << LT_FAILED | 1 << LT_STOPPED | 1 << LT_WAITING,
        [LT_EXPORTING] = 1 << LT_SUCCESS | 1 << LT_FAILED | 1 << LT_STOPPED | 1 << LT_WAITING,
        [LT_SUCCESS] = 1 << LT_WAITING | 1 << LT_DELETED,
        [LT_FAILED] = 1 << LT_WAITING | 1 << LT_DELETED,
        [LT_STOPPED] = 1 << LT_WAITING | 1 << LT_DELETED,
    };
    return (allowed[from] >> to & 1) != 0;
}

int lt_task_check(const struct lt_task *task, const struct lt_transition *transition, struct lt_error *error)
{
    if (task->run != transition->run)
        return lt_fail(error, LT_STALE, "task '%s' is at run %llu, not %llu", task->data, (unsigned long long)task->run,
                       (unsigned long long)transition->run);
    if (!follows(task->status, transition->to))
        return lt_fail(error, LT_STALE, "task '%s' is %s and cannot become %s", task->data, status_names[task->status],
                       status_names[transition->to]);
    return LT_OK;
}

/* Keeps the run that ends now for the task's history: another one will follow it. */
static void remember_run(struct lt_task *task, const struct lt_transition *transition)
{
    struct lt_task_extra *extra = lt_task_extra(task);
    struct lt_past_run *past = lt_alloc(sizeof *past);
    *past = (struct lt_past_run){
        .run = task->run,
        .started_at = task->started_at,
        .ended_at = transition->now,
        .reason = lt_bytes_ref(transition->reason),
        .version = lt_bytes_ref(extra->version),
    };
    if (extra->past_last != NULL)
        extra->past_last->next = past;
    else
        extra->past = past;
    extra->past_last = past;
    enum { PAST_RUNS = 100 };
    if (++extra->past_count > PAST_RUNS) {
        struct lt_past_run *oldest = extra->past;
        extra->past = oldest->next;
        extra->past_count--;
        lt_bytes_unref(oldest->reason);
        lt_bytes_unref(oldest->version);
        free(oldest);
    }
}

static void apply_waiting(struct lt_task *task, const struct lt_transition *transition)
{
    if (task->status == LT_RUNNING || task->status == LT_EXPORTING) {
        remember_run(task, transition);
        if (transition->uncounted && task->attempts > 0)
            task->attempts--;
        if (transition->lost)
            task->lost++;
        task->snoozes = transition->uncounted && !transition->lost && task->snoozes < UINT8_MAX ? task->snoozes + 1 : 0;
        if (task->extra != NULL) {
            lt_bytes_set(&task->extra->handle, NULL);
            lt_bytes_set(&task->extra->progress, NULL);
        }
        lt_bytes_set(&task->output, NULL);
    }
    task->run_at = transition->run_at > 0 ? transition->run_at : transition->now;
}

void lt_task_apply(struct lt_task *task, const struct lt_transition *transition)
{
    if (transition->to == LT_WAITING)
        apply_waiting(task, transition);
    if (lt_status_ended(transition->to))
        task->ended_at = transition->now;
    if (transition->to == LT_SUCCESS && transition->output != NULL)
        lt_bytes_set(&task->output, lt_bytes_ref(transition->output));
    if (transition->to != LT_EXPORTING)
        lt_bytes_set(&task->reason, lt_bytes_ref(transition->reason));
    task->status = (uint8_t)transition->to;
}

void lt_task_apply_added(struct lt_task *task, double now)
{
    task->status = LT_WAITING;
    task->added_at = now;
}

void lt_task_apply_claimed(struct lt_task *task, uint64_t run, double now)
{
    task->status = LT_RUNNING;
    task->run = run;
    task->attempts++;
    task->started_at = now;
    task->ended_at = 0;
}
