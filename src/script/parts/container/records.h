/* Records: what a container in Lua and its scheduler know of the tasks that went through them.
 *
 *     waiting, due        in the order in which they became due
 *     waiting, delayed    by run_at: when the container is to be asked again
 *     running, exporting  found by id
 *     ended               kept for `get`, oldest first, within `keep`
 *     claimed             beside all that: running in the table, and not here yet
 *     guests              nobody's: only there while something is asked about them
 *
 * The table of methods has the tasks; this is where a scheduler looks for what need not be asked. */
#ifndef LTSH_SCRIPT_PARTS_CONTAINER_RECORDS_H
#define LTSH_SCRIPT_PARTS_CONTAINER_RECORDS_H

#include "base/heap.h"
#include "base/map.h"
#include "scheduler/container.h"

enum lt_record_place { LT_RECORD_GUEST, LT_RECORD_DUE, LT_RECORD_DELAYED, LT_RECORD_ACTIVE, LT_RECORD_ENDED };

struct lt_record {
    struct lt_task *task; /* as it was last seen, with a reference */
    enum lt_record_place place;
    uint8_t status; /* under which it is counted */
    uint32_t heap_place;
    uint64_t order;              /* of coming */
    uint32_t asked;              /* how many are under way that ask something about it, or wait; */
    bool busy;                   /* one is under way */
    struct lt_task *claimed;     /* the run that it is to have here, with a reference; NULL: none */
    TAILQ_ENTRY(lt_record) link; /* due or ended */
    TAILQ_ENTRY(lt_record) claimed_link;
};

TAILQ_HEAD(lt_record_list, lt_record);

struct lt_records {
    struct lt_map ids;
    struct lt_record_list due;
    struct lt_record_list ended;
    struct lt_record_list claimed;
    uint32_t claimed_count;
    struct lt_heap delayed;
    uint64_t order;
    uint64_t counts[LT_STATUSES]; /* guests are not counted */
    uint64_t ended_bytes;
    uint64_t keep_tasks;
    uint64_t keep_bytes;
};

void lt_records_open(struct lt_records *records, uint64_t keep_tasks, uint64_t keep_bytes);
void lt_records_close(struct lt_records *records);

struct lt_record *lt_records_find(const struct lt_records *records, const struct lt_task *task);
struct lt_record *lt_records_find_id(const struct lt_records *records, const char *id, size_t len);

/* Files a task under its status at `now` (Unix seconds): in a new record, or in the one of its id, which shows this
 * object from then on. The oldest ended ones beyond `keep` go, those aside that something is asked about. */
void lt_records_file(struct lt_records *records, struct lt_task *task, double now);

/* The record of the task's id, made as a guest if there is none. */
struct lt_record *lt_records_hold(struct lt_records *records, struct lt_task *task);

/* It is nobody's any more: dropped, or a guest while there is something to be asked about it. */
void lt_records_forget(struct lt_records *records, struct lt_record *record);

/* As lt_records_forget, of a task that was deleted: what is still to be asked about it sees that. */
void lt_records_delete(struct lt_records *records, struct lt_record *record, struct lt_task *deleted);

/* Drops it if it is a guest that nothing is asked about any more. */
void lt_records_tidy(struct lt_records *records, struct lt_record *record);

/* Takes note of the time: delayed ones become due. True if any is due. */
bool lt_records_any_due(struct lt_records *records, double now);

/* When the next delayed one becomes due; 0: none. */
double lt_records_next(const struct lt_records *records);

/* The table has made it running, in the order of that; and it is not so, or not any more. Takes over the reference. */
void lt_records_claim(struct lt_records *records, struct lt_record *record, struct lt_task *claimed);
void lt_records_unclaim(struct lt_records *records, struct lt_record *record);

/* How many due ones come before this task, if it is due: by priority, and then in the order of becoming due. */
uint64_t lt_records_ahead(const struct lt_records *records, const struct lt_task *task);

/* Does what the operation asks, from the records alone. */
void lt_records_list(const struct lt_records *records, struct lt_list_op *op);

/* A copy of the task as it is, with one reference. */
struct lt_task *lt_task_clone(const struct lt_task *task);

/* Gives the task what only a host knows of it, and what it lacks, from an earlier object of the same task. */
void lt_task_inherit(struct lt_task *task, const struct lt_task *earlier);

#endif
