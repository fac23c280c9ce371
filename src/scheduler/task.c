#include "scheduler/task.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/heap.h"
#include "base/map.h"
#include "base/utf8.h"

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

bool lt_task_id_valid(const char *id, size_t len)
{
    if (len < 1 || len > LT_ID_MAX)
        return false;
    for (size_t i = 0, step; i < len; i += step) {
        uint32_t c;
        step = lt_utf8_decode(id + i, len - i, &c);
        bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
        if (step == 0 || control)
            return false;
    }
    return true;
}

struct lt_task *lt_task_new(const char *id, size_t id_len, const char *item, size_t item_len)
{
    return lt_task_new_hashed(lt_hash(id, id_len), id, id_len, item, item_len);
}

struct lt_task *lt_task_new_hashed(uint32_t hash, const char *id, size_t id_len, const char *item, size_t item_len)
{
    struct lt_task *task = lt_alloc(sizeof *task + id_len + 1 + item_len);
    memset(task, 0, offsetof(struct lt_task, turn) + sizeof task->turn);
    task->refs = 1;
    task->hash = hash;
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

static void copy_options(struct lt_task *to, const struct lt_task *from)
{
    if (from->options == NULL)
        return;
    struct lt_task_options *options = lt_task_options(to);
    *options = *from->options;
    lt_bytes_ref(options->key);
    options->task = to;
    options->expiry_place = LT_HEAP_NONE;
}

struct lt_task *lt_task_restart(const struct lt_task *task)
{
    struct lt_task *again = lt_task_new(task->data, task->id_len, lt_task_item(task), task->item_len);
    again->run = task->run;
    again->priority = task->priority;
    again->added_at = task->added_at;
    again->status = task->status;
    copy_options(again, task);
    if (again->options != NULL)
        again->options->expires_at = 0;
    return again;
}

static void past_unref(struct lt_past_run *past)
{
    while (past != NULL && --past->refs == 0) {
        struct lt_past_run *older = past->older;
        lt_bytes_unref(past->reason);
        lt_bytes_unref(past->version);
        lt_bytes_unref(past->host);
        free(past);
        past = older;
    }
}

static void free_extra(struct lt_task_extra *extra)
{
    lt_bytes_unref(extra->progress);
    lt_bytes_unref(extra->handle);
    lt_bytes_unref(extra->version);
    lt_bytes_unref(extra->host);
    past_unref(extra->past);
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
static bool comes_after(enum lt_status from, enum lt_status to)
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

int lt_transition_check_row(const struct lt_transition *transition, const char *id, uint64_t run, enum lt_status status,
                            struct lt_error *error)
{
    if (run != transition->run)
        return lt_fail(error, LT_STALE, "task '%s' is at run %llu, not %llu", id, (unsigned long long)run,
                       (unsigned long long)transition->run);
    if (!comes_after(status, transition->to))
        return lt_fail(error, LT_STALE, "task '%s' is %s and cannot become %s", id, status_names[status],
                       status_names[transition->to]);
    return LT_OK;
}

int lt_transition_check(const struct lt_transition *transition, const struct lt_task *task, enum lt_status status,
                        struct lt_error *error)
{
    return lt_transition_check_row(transition, task->data, task->run, status, error);
}

void lt_transition_clear(struct lt_transition *transition)
{
    lt_bytes_set(&transition->reason, NULL);
    lt_bytes_set(&transition->output, NULL);
}

/* History. */

static struct lt_past_run *copy_run(const struct lt_past_run *run)
{
    struct lt_past_run *copy = lt_alloc(sizeof *copy);
    *copy = *run;
    copy->refs = 1;
    copy->older = NULL;
    lt_bytes_ref(copy->reason);
    lt_bytes_ref(copy->version);
    lt_bytes_ref(copy->host);
    return copy;
}

/* A copy of the latest `count` runs. */
static struct lt_past_run *latest_runs(const struct lt_past_run *past, uint32_t count)
{
    struct lt_past_run *latest = NULL, **link = &latest;
    for (; past != NULL && count > 0; past = past->older, count--) {
        *link = copy_run(past);
        (*link)->count = count < past->count ? count : past->count;
        link = &(*link)->older;
    }
    return latest;
}

/* The present run of `task`, which is over, becomes the latest of those in `extra`. Those beyond `keep` go, a quarter at
 * a time: that copies what stays. */
static void remember_run(struct lt_task_extra *extra, const struct lt_task *task, double ended_at,
                         struct lt_bytes *reason, uint32_t keep)
{
    enum { PAST_RUNS = 10000, FEW = 100 };
    const struct lt_task_extra *own = task->extra;
    if (keep == 0)
        keep = PAST_RUNS;
    if (extra->past != NULL && extra->past->count >= keep) {
        struct lt_past_run *latest = latest_runs(extra->past, keep > FEW ? keep - keep / 4 : keep - 1);
        past_unref(extra->past);
        extra->past = latest;
    }
    struct lt_past_run run = {
        .count = extra->past != NULL ? extra->past->count + 1 : 1,
        .run = task->run,
        .started_at = task->started_at,
        .ended_at = ended_at,
        .reason = reason,
        .version = own != NULL ? own->version : NULL,
        .host = own != NULL ? own->host : NULL,
    };
    struct lt_past_run *past = copy_run(&run);
    past->older = extra->past;
    extra->past = past;
}

static void share_history(struct lt_task *to, const struct lt_task *from)
{
    if (from->extra == NULL || from->extra->past == NULL)
        return;
    from->extra->past->refs++;
    lt_task_extra(to)->past = from->extra->past;
}

/* Applying. */

static double waits_until(const struct lt_transition *transition)
{
    if (transition->delay > 0)
        return transition->now + transition->delay;
    return transition->run_at > 0 ? transition->run_at : transition->now;
}

static void apply_waiting(struct lt_task *task, const struct lt_transition *transition)
{
    if (lt_status_under_way(task->status)) {
        struct lt_task_extra *extra = lt_task_extra(task);
        if (!transition->not_begun)
            remember_run(extra, task, transition->now, transition->reason, transition->keep_runs);
        if (transition->uncounted && task->attempts > 0)
            task->attempts--;
        if (transition->lost && task->lost < UINT16_MAX)
            task->lost++;
        if (!transition->not_begun)
            task->snoozes =
                transition->uncounted && !transition->lost && task->snoozes < UINT8_MAX ? task->snoozes + 1 : 0;
        lt_bytes_set(&task->extra->handle, NULL);
        lt_bytes_set(&task->extra->progress, NULL);
        lt_bytes_set(&task->output, NULL);
    }
    task->run_at = waits_until(transition);
    task->delayed = transition->delay > 0;
}

void lt_task_apply(struct lt_task *task, const struct lt_transition *transition)
{
    if (transition->to == LT_WAITING)
        apply_waiting(task, transition);
    if (lt_status_ended(transition->to)) {
        task->ended_at = transition->now;
        if (transition->output != NULL)
            lt_bytes_set(&task->output, lt_bytes_ref(transition->output));
    }
    if (transition->to != LT_EXPORTING)
        lt_bytes_set(&task->reason, lt_bytes_ref(transition->reason));
    task->status = (uint8_t)transition->to;
}

static struct lt_task *next_after_end(const struct lt_task *task, const struct lt_transition *transition)
{
    struct lt_task *next = lt_task_restart(task);
    share_history(next, task);
    if (transition->to == LT_WAITING && task->run > 0 && task->started_at > 0)
        remember_run(lt_task_extra(next), task, task->ended_at, task->reason, transition->keep_runs);
    return next;
}

static struct lt_task *next_after_run(const struct lt_task *task)
{
    struct lt_task *next = lt_task_new(task->data, task->id_len, lt_task_item(task), task->item_len);
    next->status = task->status;
    next->snoozes = task->snoozes;
    next->attempts = task->attempts;
    next->lost = task->lost;
    next->run = task->run;
    next->priority = task->priority;
    next->added_at = task->added_at;
    next->started_at = task->started_at;
    copy_options(next, task);
    share_history(next, task);
    if (task->extra != NULL && (task->extra->version != NULL || task->extra->host != NULL)) {
        lt_task_extra(next)->version = lt_bytes_ref(task->extra->version);
        next->extra->host = lt_bytes_ref(task->extra->host);
    }
    return next;
}

struct lt_task *lt_task_clone(const struct lt_task *task)
{
    struct lt_task *clone = next_after_run(task);
    clone->run_at = task->run_at;
    clone->delayed = task->delayed;
    clone->ended_at = task->ended_at;
    clone->output = lt_bytes_ref(task->output);
    clone->reason = lt_bytes_ref(task->reason);
    if (task->extra != NULL && (task->extra->handle != NULL || task->extra->progress != NULL)) {
        lt_task_extra(clone)->handle = lt_bytes_ref(task->extra->handle);
        clone->extra->progress = lt_bytes_ref(task->extra->progress);
    }
    return clone;
}

void lt_task_inherit(struct lt_task *task, const struct lt_task *earlier)
{
    if (task->snoozes == 0)
        task->snoozes = earlier->snoozes;
    if (task->lost < earlier->lost)
        task->lost = earlier->lost;
    if (task->added_at == 0)
        task->added_at = earlier->added_at;
    if (task->options == NULL)
        copy_options(task, earlier);
    if (task->extra == NULL || task->extra->past == NULL)
        share_history(task, earlier);
}

/* At the place that it had, and if that was its first run, it had none. */
static void forget_claim(struct lt_task *next, const struct lt_task *task)
{
    next->seq = task->seq;
    next->turn = task->turn;
    if (next->attempts == 0 && next->lost == 0 && next->snoozes == 0) {
        next->run = 0;
        next->started_at = 0;
    }
}

struct lt_task *lt_task_next(const struct lt_task *task, const struct lt_transition *transition)
{
    struct lt_task *next = lt_status_ended(task->status) ? next_after_end(task, transition) : next_after_run(task);
    lt_task_apply(next, transition);
    if (transition->not_begun)
        forget_claim(next, task);
    return next;
}

size_t lt_task_bytes(const struct lt_task *task)
{
    size_t bytes = sizeof *task + task->id_len + 1 + task->item_len;
    if (task->output != NULL)
        bytes += task->output->len;
    if (task->reason != NULL)
        bytes += task->reason->len;
    if (task->options != NULL)
        bytes += sizeof *task->options + (task->options->key != NULL ? task->options->key->len : 0);
    const struct lt_task_extra *extra = task->extra;
    if (extra == NULL)
        return bytes;
    bytes += sizeof *extra + (extra->progress != NULL ? extra->progress->len : 0) +
             (extra->handle != NULL ? extra->handle->len : 0);
    for (const struct lt_past_run *past = extra->past; past != NULL; past = past->older)
        bytes += sizeof *past + (past->reason != NULL ? past->reason->len : 0);
    return bytes;
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
