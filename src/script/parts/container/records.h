/* Records: what a container in Lua and its scheduler know of the tasks that went through them. Each is in one place:
 *
 *     due        waits, in the order in which it became due
 *     delayed    waits, by run_at: when the container is to be asked again
 *     held       waits, but the table has made it running already (at task->run): there was no place for it
 *     active     runs, or is exported
 *     owed       is as `task` says, and the table is still to be told so; if it is deleted, nobody is shown it
 *     ended      kept for `get`, oldest first, within `keep`
 *     guest      nobody's: only there while something is asked about it
 *
 * The table of methods has the tasks; this is where a scheduler looks for what need not be asked. */
#ifndef LTSH_SCRIPT_PARTS_CONTAINER_RECORDS_H
#define LTSH_SCRIPT_PARTS_CONTAINER_RECORDS_H

#include "base/heap.h"
#include "base/map.h"
#include "scheduler/container.h"

enum lt_record_place {
    LT_RECORD_GUEST,
    LT_RECORD_DELAYED,
    LT_RECORD_ACTIVE,
    LT_RECORD_DUE, /* from here on in a list */
    LT_RECORD_HELD,
    LT_RECORD_OWED,
    LT_RECORD_ENDED,
    LT_RECORD_PLACES
};

struct lt_record {
    struct lt_task *task; /* as it was last seen, with a reference */
    enum lt_record_place place;
    uint8_t status;         /* under which it is counted */
    bool busy;              /* something is asked about it right now */
    bool runs;              /* owed: it runs in the table by now */
    struct lt_task *before; /* owed: what is to be shown again then, with a reference; NULL: nothing */
    uint32_t heap_place;
    uint32_t users; /* who asks something about it, or waits to */
    uint64_t order; /* of coming */
    TAILQ_ENTRY(lt_record) link;
};

TAILQ_HEAD(lt_record_list, lt_record);

struct lt_records {
    struct lt_map ids;
    struct lt_record_list lists[LT_RECORD_PLACES];
    struct lt_heap delayed;
    uint32_t held;
    uint64_t order;
    uint64_t counts[LT_STATUSES]; /* of those that are shown */
    uint64_t ended_bytes;
    uint64_t keep_tasks;
    uint64_t keep_bytes;
};

void lt_records_open(struct lt_records *records, uint64_t keep_tasks, uint64_t keep_bytes);
void lt_records_close(struct lt_records *records);

/* NULL: there is none. */
struct lt_record *lt_records_find(const struct lt_records *records, const struct lt_task *task);
struct lt_record *lt_records_find_id(const struct lt_records *records, const char *id, size_t len);

/* The first of the due, held, owed or ended ones. */
struct lt_record *lt_records_first(const struct lt_records *records, enum lt_record_place place);

/* Whether a scheduler is to know of it. Of NULL: no. */
bool lt_record_shown(const struct lt_record *record);

/* The record of the task's id, made as a guest if there is none, with one user more. */
struct lt_record *lt_records_use(struct lt_records *records, struct lt_task *task);
void lt_records_unuse(struct lt_records *records, struct lt_record *record);

/* Puts a task where its status belongs at `now` (Unix seconds): into a new record, or into the one of its id, which shows
 * this object from then on. The oldest ended ones beyond `keep` go, those aside that something is asked about. */
void lt_records_file(struct lt_records *records, struct lt_task *task, double now);

/* The same for one that is held, or owed. */
void lt_records_hold(struct lt_records *records, struct lt_task *task);
struct lt_record *lt_records_owe(struct lt_records *records, struct lt_task *task);

/* The task is nobody's any more: its record is dropped, or shows this object as a guest while something is asked about
 * it. */
void lt_records_forget(struct lt_records *records, struct lt_task *task);

/* Takes note of the time: delayed ones become due. True if any is due. */
bool lt_records_any_due(struct lt_records *records, double now);

/* When the next delayed one becomes due; 0: none. */
double lt_records_next(const struct lt_records *records);

/* How many due ones come before this task, if it is due: by priority, and then in the order of becoming due. */
uint64_t lt_records_ahead(const struct lt_records *records, const struct lt_task *task);

/* Does what the operation asks, from the records alone, and answers it. */
void lt_records_list(const struct lt_records *records, struct lt_loop *loop, struct lt_list_op *op);

#endif
