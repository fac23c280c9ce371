/* The containers `queue` and `priority`: tasks in memory, every operation answered at once.
 *
 *     ids ----> every task that is known
 *     ready     waiting and due, in the order in which they will be claimed (see ready.h)
 *     delayed   waiting for their run_at
 *     expiring  waiting, with a time by which they must have begun
 *     ended     kept for `get`, oldest first, within `keep`
 *
 * Running and exporting tasks are in `ids` alone: the scheduler holds them. An add, a claim, a lookup and a transition
 * cost O(1), with priorities or delays O(log n), however many wait. */
#include "containers/memory.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/ready.h"

enum place { NOWHERE, READY, DELAYED, ENDED };

struct memory {
    struct lt_container base;
    struct lt_container_env env;
    uint64_t size;
    uint64_t next_run; /* numbers are used once in the life of the container */
    struct lt_map ids;
    struct lt_ready ready;
    struct lt_heap delayed;
    struct lt_heap expiring;
    struct lt_task_list ended;
    uint64_t ended_bytes;
    double last_added;
    uint64_t counts[LT_STATUSES];
    bool open;
    bool released;
};

static struct memory *memory_of(struct lt_container *container)
{
    return (struct memory *)container;
}

static const char *id_of(const void *object, size_t *len)
{
    const struct lt_task *task = object;
    *len = task->id_len;
    return task->data;
}

static double wall(const struct memory *memory)
{
    return lt_loop_wall(memory->env.loop);
}

static uint64_t pending(const struct lt_container *container)
{
    const struct memory *memory = (const struct memory *)container;
    return memory->counts[LT_WAITING] + memory->counts[LT_RUNNING] + memory->counts[LT_EXPORTING];
}

/* Where a task is kept. */

static void set_status(struct memory *memory, struct lt_task *task, uint8_t before)
{
    memory->counts[before]--;
    memory->counts[task->status]++;
}

static uint64_t bytes_of(const struct lt_task *task)
{
    return sizeof *task + task->id_len + task->item_len + (task->output != NULL ? task->output->len : 0) +
           (task->reason != NULL ? task->reason->len : 0);
}

static void take_out(struct memory *memory, struct lt_task *task)
{
    switch ((enum place)task->place) {
    case READY:
        lt_ready_remove(&memory->ready, task);
        break;
    case DELAYED:
        lt_heap_remove(&memory->delayed, task->heap_place);
        break;
    case ENDED:
        TAILQ_REMOVE(&memory->ended, task, link);
        memory->ended_bytes -= bytes_of(task);
        break;
    case NOWHERE:
        break;
    }
    task->place = NOWHERE;
}

static void stop_expiring(struct memory *memory, const struct lt_task *task)
{
    if (task->options != NULL && task->options->expiry_place != LT_HEAP_NONE)
        lt_heap_remove(&memory->expiring, task->options->expiry_place);
}

/* Drops the container's own reference. */
static void forget(struct memory *memory, struct lt_task *task)
{
    take_out(memory, task);
    stop_expiring(memory, task);
    lt_map_remove(&memory->ids, task->hash, task);
    memory->counts[task->status]--;
    lt_task_unref(task);
}

static void put_waiting(struct memory *memory, struct lt_task *task)
{
    if (task->run_at > wall(memory)) {
        task->place = DELAYED;
        lt_heap_push(&memory->delayed, lt_heap_time(task->run_at), ++memory->ready.seq, task);
    } else {
        task->place = READY;
        lt_ready_push(&memory->ready, task);
    }
    struct lt_task_options *options = task->options;
    if (options != NULL && options->expires_at > 0 && task->attempts == 0)
        lt_heap_push(&memory->expiring, lt_heap_time(options->expires_at), ++memory->ready.seq, options);
}

static void put_ended(struct memory *memory, struct lt_task *task)
{
    stop_expiring(memory, task);
    task->place = ENDED;
    TAILQ_INSERT_TAIL(&memory->ended, task, link);
    memory->ended_bytes += bytes_of(task);
    while (
        !TAILQ_EMPTY(&memory->ended) &&
        (memory->counts[LT_SUCCESS] + memory->counts[LT_FAILED] + memory->counts[LT_STOPPED] > memory->env.keep_tasks ||
         memory->ended_bytes > memory->env.keep_bytes))
        forget(memory, TAILQ_FIRST(&memory->ended));
}

/* Operations. */

static void open_memory(struct lt_container *container, const struct lt_container_env *env)
{
    struct memory *memory = memory_of(container);
    memory->env = *env;
    memory->open = true;
}

static int check_add(const struct memory *memory, const struct lt_task *task, struct lt_error *error)
{
    if (task->priority != 0 && !memory->base.ops->priorities)
        return lt_fail(error, LT_REFUSED, "task '%s' has priority %lld, and a queue has no priorities", task->data,
                       (long long)task->priority);
    const struct lt_task *known = lt_map_find(&memory->ids, task->hash, task->data, task->id_len);
    if (known == NULL)
        return LT_OK;
    bool once = task->options != NULL && task->options->once;
    if (once || !lt_status_ended(known->status))
        return lt_fail(error, LT_EXISTS, "task '%s' exists and is %s", task->data, lt_status_name(known->status));
    return LT_OK;
}

static void store(struct memory *memory, struct lt_task *task)
{
    struct lt_task *known = lt_map_find(&memory->ids, task->hash, task->data, task->id_len);
    if (known != NULL)
        forget(memory, known);
    /* Each later than the one before: the order of adding can be read from it. */
    lt_loop_tick(memory->env.loop);
    memory->last_added = fmax(wall(memory), nextafter(memory->last_added, INFINITY));
    lt_task_apply_added(task, memory->last_added);
    lt_map_put(&memory->ids, task->hash, lt_task_ref(task));
    memory->counts[LT_WAITING]++;
    put_waiting(memory, task);
}

/* No id may come twice in one add. */
static int check_twice(const struct lt_add_op *op, struct lt_error *error)
{
    struct lt_map seen = {.key = id_of};
    int code = LT_OK;
    for (uint32_t i = 0; code == LT_OK && i < op->count; i++) {
        struct lt_task *task = op->tasks[i];
        if (lt_map_find(&seen, task->hash, task->data, task->id_len) != NULL)
            code = lt_fail(error, LT_EXISTS, "task '%s' is in the list twice", task->data);
        else
            lt_map_put(&seen, task->hash, task);
    }
    lt_map_free(&seen);
    return code;
}

static void add(struct lt_container *container, struct lt_add_op *op)
{
    struct memory *memory = memory_of(container);
    struct lt_error error;
    int code = LT_OK;
    if (pending(container) + op->count > memory->size)
        code = lt_fail(&error, LT_FULL, "the %s is full: %llu of %llu tasks have not ended", container->ops->name,
                       (unsigned long long)pending(container), (unsigned long long)memory->size);
    for (uint32_t i = 0; code == LT_OK && i < op->count; i++)
        code = check_add(memory, op->tasks[i], &error);
    if (code == LT_OK && op->count > 1)
        code = check_twice(op, &error);
    for (uint32_t i = 0; code == LT_OK && i < op->count; i++)
        store(memory, op->tasks[i]);
    lt_reply_send(&op->reply, code, code == LT_OK ? NULL : error.message);
}

static void wake_delayed(struct memory *memory, int64_t now)
{
    const struct lt_heap_entry *first;
    while ((first = lt_heap_first(&memory->delayed)) != NULL && first->rank <= now) {
        struct lt_task *task = first->object;
        lt_heap_remove(&memory->delayed, task->heap_place);
        task->place = READY;
        lt_ready_push(&memory->ready, task);
    }
}

static void expire(struct memory *memory, int64_t now, struct lt_tasks *expired)
{
    const struct lt_heap_entry *first = lt_heap_first(&memory->expiring);
    if (first == NULL || first->rank > now)
        return;
    struct lt_bytes *reason = lt_bytes_printf("expired");
    for (; first != NULL && first->rank <= now; first = lt_heap_first(&memory->expiring)) {
        struct lt_task *task = ((struct lt_task_options *)first->object)->task;
        lt_tasks_push(expired, lt_task_ref(task));
        take_out(memory, task);
        uint8_t before = task->status;
        lt_task_apply(task, &(struct lt_transition){.to = LT_FAILED, .now = wall(memory), .reason = reason});
        set_status(memory, task, before);
        put_ended(memory, task);
    }
    lt_bytes_unref(reason);
}

static double next_time(const struct memory *memory)
{
    const struct lt_heap_entry *delayed = lt_heap_first(&memory->delayed);
    const struct lt_heap_entry *expiring = lt_heap_first(&memory->expiring);
    int64_t next = delayed != NULL ? delayed->rank : INT64_MAX;
    if (expiring != NULL && expiring->rank < next)
        next = expiring->rank;
    return next < INT64_MAX ? (double)next * 1e-9 : 0;
}

static void claim(struct lt_container *container, struct lt_claim_op *op)
{
    struct memory *memory = memory_of(container);
    double now = wall(memory);
    if (memory->delayed.count > 0 || memory->expiring.count > 0) {
        expire(memory, lt_heap_time(now), &op->expired);
        wake_delayed(memory, lt_heap_time(now));
    }
    while (op->claimed.count < op->limit) {
        struct lt_task *task = lt_ready_claim(&memory->ready, op->limiter);
        if (task == NULL)
            break;
        task->place = NOWHERE;
        stop_expiring(memory, task);
        lt_task_apply_claimed(task, ++memory->next_run, now);
        set_status(memory, task, LT_WAITING);
        lt_tasks_push(&op->claimed, lt_task_ref(task));
    }
    op->more = lt_ready_any(&memory->ready);
    op->next_at = next_time(memory);
    lt_reply_ok(&op->reply);
}

/* A retry makes a new object, so that those who hold the ended one go on seeing how it ended. */
static struct lt_task *restart(struct memory *memory, struct lt_task *ended)
{
    struct lt_task *task = lt_task_restart(ended);
    memory->counts[task->status]++;
    forget(memory, ended);
    lt_map_put(&memory->ids, task->hash, task);
    return task;
}

static void apply(struct memory *memory, struct lt_change_op *op)
{
    struct lt_task *task = op->task;
    uint8_t before = task->status;
    if (op->transition.to == LT_DELETED) {
        lt_task_ref(task);
        forget(memory, task);
        lt_task_apply(task, &op->transition);
        lt_task_unref(task);
        return;
    }
    if (lt_status_ended(before)) {
        task = op->task = restart(memory, task);
    } else {
        take_out(memory, task);
    }
    lt_task_apply(task, &op->transition);
    set_status(memory, task, before);
    if (task->status == LT_WAITING)
        put_waiting(memory, task);
    else if (lt_status_ended(task->status))
        put_ended(memory, task);
}

static void change(struct lt_container *container, struct lt_change_op *op)
{
    struct memory *memory = memory_of(container);
    struct lt_task *task = op->task;
    struct lt_error error;
    int code = LT_OK;
    if (lt_status_ended(task->status) || task->status == LT_DELETED) {
        const struct lt_task *known = lt_map_find(&memory->ids, task->hash, task->data, task->id_len);
        if (known != task)
            code = lt_fail(&error, LT_UNKNOWN, "task '%s' is not known any more", task->data);
    }
    if (code == LT_OK)
        code = lt_task_check(task, &op->transition, &error);
    if (code == LT_OK && lt_status_ended(task->status) && op->transition.to == LT_WAITING &&
        pending(container) >= memory->size)
        code = lt_fail(&error, LT_FULL, "the %s is full", container->ops->name);
    if (code == LT_OK)
        apply(memory, op);
    lt_reply_send(&op->reply, code, code == LT_OK ? NULL : error.message);
}

static void update(struct lt_container *container, struct lt_update_op *op)
{
    (void)container; /* the fields are set in the shared object already */
    lt_reply_ok(&op->reply);
}

static void get(struct lt_container *container, struct lt_get_op *op)
{
    struct memory *memory = memory_of(container);
    struct lt_task *task = lt_map_find(&memory->ids, lt_hash(op->id, op->id_len), op->id, op->id_len);
    op->task = task != NULL ? lt_task_ref(task) : NULL;
    lt_reply_send(&op->reply, task != NULL ? LT_OK : LT_UNKNOWN, "no such task");
}

static bool listed(const struct lt_list_op *op, const struct lt_task *task)
{
    if (op->status >= 0 && task->status != op->status)
        return false;
    const struct lt_bytes *key = lt_task_key(task);
    return op->key == NULL ||
           (key != NULL && key->len == op->key->len && memcmp(key->data, op->key->data, key->len) == 0);
}

static int by_added(const void *a, const void *b)
{
    const struct lt_task *left = *(struct lt_task *const *)a;
    const struct lt_task *right = *(struct lt_task *const *)b;
    if (left->added_at != right->added_at)
        return left->added_at < right->added_at ? -1 : 1;
    return 0;
}

/* Sorts all that match: a list is for people, and nothing else may cost more for its sake. */
static void list(struct lt_container *container, struct lt_list_op *op)
{
    struct memory *memory = memory_of(container);
    struct lt_tasks all = {0};
    uint32_t position = 0;
    struct lt_task *task;
    while ((task = lt_map_next(&memory->ids, &position)) != NULL) {
        if (listed(op, task))
            lt_tasks_push(&all, task);
    }
    if (all.count > 0)
        qsort(all.items, all.count, sizeof(struct lt_task *), by_added);
    for (uint64_t i = op->offset; i < all.count && op->tasks.count < op->limit; i++)
        lt_tasks_push(&op->tasks, lt_task_ref(all.items[op->descending ? all.count - 1 - i : i]));
    free(all.items);
    lt_reply_ok(&op->reply);
}

static void count(struct lt_container *container, struct lt_count_op *op)
{
    struct memory *memory = memory_of(container);
    wake_delayed(memory, lt_heap_time(wall(memory)));
    memcpy(op->counts, memory->counts, sizeof op->counts);
    op->delayed = memory->delayed.count;
    lt_reply_ok(&op->reply);
}

static double oldest(const struct lt_container *container)
{
    const struct memory *memory = (const struct memory *)container;
    const struct lt_task *task = lt_ready_oldest(&memory->ready);
    return task != NULL ? lt_task_waiting_since(task) : 0;
}

static void key_open(struct lt_container *container, const struct lt_bytes *key)
{
    lt_ready_open_key(&memory_of(container)->ready, key);
}

static void abandon(struct lt_container *container, struct lt_bytes *reason, double now, struct lt_tasks *stopped)
{
    struct memory *memory = memory_of(container);
    wake_delayed(memory, INT64_MAX);
    struct lt_task *task;
    while ((task = lt_ready_oldest(&memory->ready)) != NULL) {
        lt_tasks_push(stopped, lt_task_ref(task));
        take_out(memory, task);
        lt_task_apply(task, &(struct lt_transition){.to = LT_STOPPED, .now = now, .reason = reason});
        set_status(memory, task, LT_WAITING);
        put_ended(memory, task);
    }
}

static void free_memory(struct memory *memory)
{
    uint32_t position = 0;
    struct lt_task *task;
    while ((task = lt_map_next(&memory->ids, &position)) != NULL) {
        task->place = NOWHERE;
        lt_task_unref(task);
    }
    lt_map_free(&memory->ids);
    lt_ready_close(&memory->ready);
    lt_heap_free(&memory->delayed);
    lt_heap_free(&memory->expiring);
    free(memory);
}

static void close_memory(struct lt_container *container, struct lt_reply *reply)
{
    struct memory *memory = memory_of(container);
    memory->open = false;
    if (memory->released)
        free_memory(memory);
    lt_reply_ok(reply);
}

static void release(struct lt_container *container)
{
    struct memory *memory = memory_of(container);
    memory->released = true;
    if (!memory->open)
        free_memory(memory);
}

#define MEMORY_OPS                                                                                                     \
    .announces = true, .open = open_memory, .add = add, .claim = claim, .change = change, .update = update,            \
    .get = get, .list = list, .count = count, .pending = pending, .oldest = oldest, .key_open = key_open,              \
    .abandon = abandon, .close = close_memory, .release = release

static const struct lt_container_ops queue_ops = {.name = "queue", MEMORY_OPS};
static const struct lt_container_ops priority_ops = {.name = "priority container", .priorities = true, MEMORY_OPS};

static struct lt_container *new_memory(const struct lt_container_ops *ops, uint64_t size)
{
    struct memory *memory = lt_zalloc(sizeof *memory);
    memory->base.ops = ops;
    memory->size = size;
    memory->ids.key = id_of;
    memory->delayed.place = offsetof(struct lt_task, heap_place);
    memory->expiring.place = offsetof(struct lt_task_options, expiry_place);
    TAILQ_INIT(&memory->ended);
    lt_ready_open(&memory->ready, ops->priorities);
    return &memory->base;
}

struct lt_container *lt_queue_new(uint64_t size)
{
    return new_memory(&queue_ops, size);
}

struct lt_container *lt_priority_new(uint64_t size)
{
    return new_memory(&priority_ops, size);
}
