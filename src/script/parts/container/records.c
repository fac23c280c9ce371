#include "script/parts/container/records.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/listing.h"

static const char *record_id(const void *object, size_t *len)
{
    const struct lt_record *record = object;
    *len = record->task->id_len;
    return record->task->data;
}

void lt_records_open(struct lt_records *records, uint64_t keep_tasks, uint64_t keep_bytes)
{
    *records = (struct lt_records){
        .ids.key = record_id,
        .delayed.place = offsetof(struct lt_record, heap_place),
        .keep_tasks = keep_tasks,
        .keep_bytes = keep_bytes,
    };
    for (int place = 0; place < LT_RECORD_PLACES; place++)
        TAILQ_INIT(&records->lists[place]);
}

void lt_records_close(struct lt_records *records)
{
    uint32_t position = 0;
    struct lt_record *record;
    while ((record = lt_map_next(&records->ids, &position)) != NULL) {
        lt_task_unref(record->task);
        lt_task_unref(record->before);
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

struct lt_record *lt_records_first(const struct lt_records *records, enum lt_record_place place)
{
    return TAILQ_FIRST(&records->lists[place]);
}

bool lt_record_shown(const struct lt_record *record)
{
    return record != NULL && record->place != LT_RECORD_GUEST && record->status != LT_DELETED;
}

/* Moving. */

static void take_record_out(struct lt_records *records, struct lt_record *record)
{
    if (lt_record_shown(record))
        records->counts[record->status]--;
    if (record->place == LT_RECORD_DELAYED)
        lt_heap_remove(&records->delayed, record->heap_place);
    else if (record->place >= LT_RECORD_DUE)
        TAILQ_REMOVE(&records->lists[record->place], record, link);
    if (record->place == LT_RECORD_ENDED)
        records->ended_bytes -= lt_task_bytes(record->task);
    records->held -= record->place == LT_RECORD_HELD;
    record->place = LT_RECORD_GUEST;
}

static void put_record(struct lt_records *records, struct lt_record *record, enum lt_record_place place)
{
    record->place = place;
    record->status = record->task->status;
    record->runs = false;
    if (lt_record_shown(record))
        records->counts[record->status]++;
    if (place == LT_RECORD_DELAYED)
        lt_heap_push(&records->delayed, lt_heap_time(record->task->run_at), ++records->order, record);
    else if (place >= LT_RECORD_DUE)
        TAILQ_INSERT_TAIL(&records->lists[place], record, link);
    if (place == LT_RECORD_ENDED)
        records->ended_bytes += lt_task_bytes(record->task);
    records->held += place == LT_RECORD_HELD;
}

static struct lt_record *record_of(struct lt_records *records, struct lt_task *task)
{
    struct lt_record *record = lt_records_find(records, task);
    if (record != NULL)
        return record;
    record = lt_zalloc(sizeof *record);
    record->task = lt_task_ref(task);
    record->heap_place = LT_HEAP_NONE;
    record->order = ++records->order;
    lt_map_put(&records->ids, task->hash, record);
    return record;
}

static struct lt_record *move_record(struct lt_records *records, struct lt_task *task, enum lt_record_place place)
{
    struct lt_record *record = record_of(records, task);
    take_record_out(records, record);
    lt_task_ref(task);
    lt_task_unref(record->task);
    lt_task_unref(record->before);
    record->task = task;
    record->before = NULL;
    put_record(records, record, place);
    return record;
}

static void drop_guest(struct lt_records *records, struct lt_record *record)
{
    if (record->place != LT_RECORD_GUEST || record->users > 0)
        return;
    lt_map_remove(&records->ids, record->task->hash, record);
    lt_task_unref(record->task);
    free(record);
}

struct lt_record *lt_records_use(struct lt_records *records, struct lt_task *task)
{
    struct lt_record *record = record_of(records, task);
    record->users++;
    return record;
}

void lt_records_unuse(struct lt_records *records, struct lt_record *record)
{
    record->users--;
    drop_guest(records, record);
}

void lt_records_forget(struct lt_records *records, struct lt_task *task)
{
    drop_guest(records, move_record(records, task, LT_RECORD_GUEST));
}

static void trim_ended(struct lt_records *records)
{
    struct lt_record *oldest;
    while ((oldest = lt_records_first(records, LT_RECORD_ENDED)) != NULL && oldest->users == 0) {
        uint64_t count = records->counts[LT_SUCCESS] + records->counts[LT_FAILED] + records->counts[LT_STOPPED];
        if (count <= records->keep_tasks && records->ended_bytes <= records->keep_bytes)
            return;
        lt_records_forget(records, oldest->task);
    }
}

static enum lt_record_place place_for(const struct lt_task *task, double now)
{
    if (task->status == LT_WAITING)
        return task->run_at > now ? LT_RECORD_DELAYED : LT_RECORD_DUE;
    return lt_status_ended(task->status) ? LT_RECORD_ENDED : LT_RECORD_ACTIVE;
}

void lt_records_file(struct lt_records *records, struct lt_task *task, double now)
{
    move_record(records, task, place_for(task, now));
    trim_ended(records);
}

void lt_records_hold(struct lt_records *records, struct lt_task *task)
{
    move_record(records, task, LT_RECORD_HELD);
}

struct lt_record *lt_records_owe(struct lt_records *records, struct lt_task *task)
{
    return move_record(records, task, LT_RECORD_OWED);
}

/* What waits. */

bool lt_records_any_due(struct lt_records *records, double now)
{
    const struct lt_heap_entry *first;
    while ((first = lt_heap_first(&records->delayed)) != NULL && first->rank <= lt_heap_time(now)) {
        struct lt_record *record = first->object;
        take_record_out(records, record);
        put_record(records, record, LT_RECORD_DUE);
    }
    return lt_records_first(records, LT_RECORD_DUE) != NULL;
}

double lt_records_next(const struct lt_records *records)
{
    const struct lt_heap_entry *first = lt_heap_first(&records->delayed);
    return first != NULL ? (double)first->rank * 1e-9 : 0;
}

uint64_t lt_records_ahead(const struct lt_records *records, const struct lt_task *task)
{
    const struct lt_record *own = lt_records_find(records, task);
    if (own == NULL || own->place != LT_RECORD_DUE)
        return 0;
    uint64_t ahead = 0;
    bool before = true;
    const struct lt_record *record;
    TAILQ_FOREACH(record, &records->lists[LT_RECORD_DUE], link) {
        before = before && record != own;
        int64_t priority = record->task->priority;
        ahead += priority > own->task->priority || (before && priority == own->task->priority);
    }
    return ahead;
}

/* Listing. */

static struct lt_task *listed(void *object, const struct lt_list_op *op)
{
    const struct lt_record *record = object;
    if (!lt_record_shown(record) || (op->status >= 0 && record->status != op->status))
        return NULL;
    return lt_list_wants(op, record->task) ? record->task : NULL;
}

void lt_records_list(const struct lt_records *records, struct lt_loop *loop, struct lt_list_op *op)
{
    lt_list(loop, &records->ids, listed, op);
}
