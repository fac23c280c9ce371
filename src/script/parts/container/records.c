#include "script/parts/container/records.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* Copies. */

static void copy_options(struct lt_task *task, const struct lt_task *from)
{
    struct lt_task_options *options = lt_task_options(task);
    *options = *from->options;
    lt_bytes_ref(options->key);
    options->task = task;
    options->expiry_place = LT_HEAP_NONE;
}

static void share_history(struct lt_task *task, const struct lt_task *from)
{
    if (from->extra == NULL || from->extra->past == NULL)
        return;
    from->extra->past->refs++;
    lt_task_extra(task)->past = from->extra->past;
}

struct lt_task *lt_task_clone(const struct lt_task *task)
{
    struct lt_task *clone = lt_task_new(task->data, task->id_len, lt_task_item(task), task->item_len);
    clone->status = task->status;
    clone->snoozes = task->snoozes;
    clone->attempts = task->attempts;
    clone->lost = task->lost;
    clone->run = task->run;
    clone->priority = task->priority;
    clone->added_at = task->added_at;
    clone->run_at = task->run_at;
    clone->delayed = task->delayed;
    clone->started_at = task->started_at;
    clone->ended_at = task->ended_at;
    clone->output = lt_bytes_ref(task->output);
    clone->reason = lt_bytes_ref(task->reason);
    if (task->options != NULL)
        copy_options(clone, task);
    if (task->extra != NULL) {
        struct lt_task_extra *extra = lt_task_extra(clone);
        extra->progress = lt_bytes_ref(task->extra->progress);
        extra->handle = lt_bytes_ref(task->extra->handle);
        extra->version = lt_bytes_ref(task->extra->version);
        extra->host = lt_bytes_ref(task->extra->host);
        share_history(clone, task);
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
    if (task->options == NULL && earlier->options != NULL)
        copy_options(task, earlier);
    bool has_history = task->extra != NULL && task->extra->past != NULL;
    if (!has_history)
        share_history(task, earlier);
}

/* Records. */

static const char *id_of(const void *object, size_t *len)
{
    const struct lt_record *record = object;
    *len = record->task->id_len;
    return record->task->data;
}

void lt_records_open(struct lt_records *records, uint64_t keep_tasks, uint64_t keep_bytes)
{
    *records = (struct lt_records){
        .ids.key = id_of,
        .delayed.place = offsetof(struct lt_record, heap_place),
        .keep_tasks = keep_tasks,
        .keep_bytes = keep_bytes,
    };
    TAILQ_INIT(&records->due);
    TAILQ_INIT(&records->ended);
    TAILQ_INIT(&records->claimed);
}

void lt_records_close(struct lt_records *records)
{
    uint32_t position = 0;
    struct lt_record *record;
    while ((record = lt_map_next(&records->ids, &position)) != NULL) {
        lt_task_unref(record->task);
        lt_task_unref(record->claimed);
        free(record);
    }
    lt_map_free(&records->ids);
    lt_heap_free(&records->delayed);
}

struct lt_record *lt_records_find(const struct lt_records *records, const struct lt_task *task)
{
    return lt_map_find(&records->ids, task->hash, task->data, task->id_len);
}

struct lt_record *lt_records_find_id(const struct lt_records *records, const char *id, size_t len)
{
    return lt_map_find(&records->ids, lt_hash(id, len), id, len);
}

static void put_due(struct lt_records *records, struct lt_record *record)
{
    record->place = LT_RECORD_DUE;
    TAILQ_INSERT_TAIL(&records->due, record, link);
}

uint64_t lt_records_ahead(const struct lt_records *records, const struct lt_task *task)
{
    const struct lt_record *own = lt_records_find(records, task);
    if (own == NULL || own->place != LT_RECORD_DUE)
        return 0;
    uint64_t ahead = 0;
    bool before = true;
    const struct lt_record *record;
    TAILQ_FOREACH(record, &records->due, link) {
        before = before && record != own;
        int64_t priority = record->task->priority;
        ahead += priority > own->task->priority || (before && priority == own->task->priority);
    }
    return ahead;
}

static void take_record_out(struct lt_records *records, struct lt_record *record)
{
    switch (record->place) {
    case LT_RECORD_DUE:
        TAILQ_REMOVE(&records->due, record, link);
        break;
    case LT_RECORD_DELAYED:
        lt_heap_remove(&records->delayed, record->heap_place);
        break;
    case LT_RECORD_ENDED:
        TAILQ_REMOVE(&records->ended, record, link);
        records->ended_bytes -= lt_task_bytes(record->task);
        break;
    case LT_RECORD_ACTIVE:
    case LT_RECORD_GUEST:
        break;
    }
    if (record->place != LT_RECORD_GUEST)
        records->counts[record->status]--;
    record->place = LT_RECORD_GUEST;
}

static bool is_record_in_use(const struct lt_record *record)
{
    return record->busy || record->asked > 0 || record->claimed != NULL;
}

void lt_records_tidy(struct lt_records *records, struct lt_record *record)
{
    if (record->place != LT_RECORD_GUEST || is_record_in_use(record))
        return;
    lt_map_remove(&records->ids, record->task->hash, record);
    lt_task_unref(record->task);
    free(record);
}

void lt_records_forget(struct lt_records *records, struct lt_record *record)
{
    take_record_out(records, record);
    lt_records_tidy(records, record);
}

void lt_records_delete(struct lt_records *records, struct lt_record *record, struct lt_task *deleted)
{
    take_record_out(records, record);
    lt_task_ref(deleted);
    lt_task_unref(record->task);
    record->task = deleted;
    lt_records_tidy(records, record);
}

static void trim_records(struct lt_records *records)
{
    struct lt_record *oldest;
    while ((oldest = TAILQ_FIRST(&records->ended)) != NULL && !is_record_in_use(oldest)) {
        uint64_t count = records->counts[LT_SUCCESS] + records->counts[LT_FAILED] + records->counts[LT_STOPPED];
        if (count <= records->keep_tasks && records->ended_bytes <= records->keep_bytes)
            return;
        lt_records_forget(records, oldest);
    }
}

static struct lt_record *make_record(struct lt_records *records, struct lt_task *task)
{
    struct lt_record *record = lt_alloc(sizeof *record);
    *record = (struct lt_record){.task = lt_task_ref(task), .heap_place = LT_HEAP_NONE, .order = ++records->order};
    lt_map_put(&records->ids, task->hash, record);
    return record;
}

struct lt_record *lt_records_hold(struct lt_records *records, struct lt_task *task)
{
    struct lt_record *record = lt_records_find(records, task);
    return record != NULL ? record : make_record(records, task);
}

static void put_record(struct lt_records *records, struct lt_record *record, double now)
{
    const struct lt_task *task = record->task;
    record->status = task->status;
    records->counts[record->status]++;
    if (task->status == LT_WAITING && task->run_at > now) {
        record->place = LT_RECORD_DELAYED;
        lt_heap_push(&records->delayed, lt_heap_time(task->run_at), ++records->order, record);
    } else if (task->status == LT_WAITING) {
        put_due(records, record);
    } else if (lt_status_ended(task->status)) {
        record->place = LT_RECORD_ENDED;
        TAILQ_INSERT_TAIL(&records->ended, record, link);
        records->ended_bytes += lt_task_bytes(task);
    } else {
        record->place = LT_RECORD_ACTIVE;
    }
}

void lt_records_file(struct lt_records *records, struct lt_task *task, double now)
{
    struct lt_record *record = lt_records_hold(records, task);
    take_record_out(records, record);
    lt_task_ref(task);
    lt_task_unref(record->task);
    record->task = task;
    put_record(records, record, now);
    trim_records(records);
}

void lt_records_unclaim(struct lt_records *records, struct lt_record *record)
{
    if (record->claimed == NULL)
        return;
    TAILQ_REMOVE(&records->claimed, record, claimed_link);
    records->claimed_count--;
    lt_task_unref(record->claimed);
    record->claimed = NULL;
}

void lt_records_claim(struct lt_records *records, struct lt_record *record, struct lt_task *claimed)
{
    lt_records_unclaim(records, record);
    TAILQ_INSERT_TAIL(&records->claimed, record, claimed_link);
    records->claimed_count++;
    record->claimed = claimed;
}

bool lt_records_any_due(struct lt_records *records, double now)
{
    const struct lt_heap_entry *first;
    while ((first = lt_heap_first(&records->delayed)) != NULL && first->rank <= lt_heap_time(now)) {
        struct lt_record *record = first->object;
        lt_heap_remove(&records->delayed, record->heap_place);
        put_due(records, record);
    }
    return !TAILQ_EMPTY(&records->due);
}

double lt_records_next(const struct lt_records *records)
{
    const struct lt_heap_entry *first = lt_heap_first(&records->delayed);
    return first != NULL ? (double)first->rank * 1e-9 : 0;
}

/* Listing. */

static bool is_listed(const struct lt_list_op *op, const struct lt_record *record)
{
    if (record->place == LT_RECORD_GUEST || (op->status >= 0 && record->status != op->status))
        return false;
    const struct lt_bytes *key = lt_task_key(record->task);
    return op->key == NULL ||
           (key != NULL && key->len == op->key->len && memcmp(key->data, op->key->data, key->len) == 0);
}

static int by_added(const void *a, const void *b)
{
    const struct lt_record *left = *(struct lt_record *const *)a;
    const struct lt_record *right = *(struct lt_record *const *)b;
    if (left->task->added_at != right->task->added_at)
        return left->task->added_at < right->task->added_at ? -1 : 1;
    return left->order < right->order ? -1 : left->order > right->order;
}

void lt_records_list(const struct lt_records *records, struct lt_list_op *op)
{
    struct lt_record **all = lt_alloc((records->ids.count + 1) * sizeof(struct lt_record *));
    uint32_t count = 0;
    uint32_t position = 0;
    struct lt_record *record;
    while ((record = lt_map_next(&records->ids, &position)) != NULL) {
        if (is_listed(op, record))
            all[count++] = record;
    }
    qsort(all, count, sizeof(struct lt_record *), by_added);
    for (uint64_t i = op->offset; i < count && op->tasks.count < op->limit; i++)
        lt_tasks_push(&op->tasks, lt_task_ref(all[op->descending ? count - 1 - i : i]->task));
    free(all);
}
