/* The containers `queue` and `priority`: tasks in memory, every operation answered at once, but for
 * lists of many.
 *
 *     ids ----> every task that is known
 *     ready     waiting and due, in the order in which they will be claimed (see ready.h)
 *     delayed   waiting for a time from when they were put in, by the monotonic clock
 *     dated     waiting for their run_at, by the wall clock
 *     expiring  waiting, with a time by which they must have begun
 *     ended     kept for `get`, oldest first, within `keep`
 *
 * Running and exporting tasks are in `ids` alone: the scheduler holds them. What a task is here is said by `stored` and
 * `place`; `status` is what its scheduler knows by now. An add, a claim, a lookup and a transition
 * cost O(1), with priorities or delays O(log n), however many wait. */
#include "containers/memory.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/listing.h"
#include "containers/ready.h"

enum place {
    NOWHERE, /* in `ids` alone */
    READY,
    DELAYED,
    DATED,
    ENDED,
    LEFT, /* not here any more: forgotten, deleted, or another object goes on in its place */
};

/* At most so many become due or expire in one claim, so that none takes long; the others do in the next. */
enum { BATCH = 512 };

enum { UNREAD = 16 }; /* adds that go by one reading of the clock */

struct memory {
    struct lt_container base;
    struct lt_container_env env;
    uint64_t size;
    uint64_t next_run; /* numbers are used once in the life of the container */
    struct lt_map ids;
    struct lt_ready ready;
    struct lt_heap delayed;
    struct lt_heap dated;
    struct lt_heap expiring;
    struct lt_task_list ended;
    uint64_t ended_bytes;
    double last_added;
    uint64_t added_in; /* the round of the loop in which the clock was read for an add */
    unsigned added_unread;
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

static double memory_wall(const struct memory *memory)
{
    return lt_loop_wall(memory->env.loop);
}

static double memory_now(const struct memory *memory)
{
    return lt_loop_now(memory->env.loop);
}

/* The monotonic time that is now so far away as `time` is on the wall clock. */
static double as_monotonic(const struct memory *memory, double time)
{
    return memory_now(memory) + (time - memory_wall(memory));
}

static uint64_t count_unfinished(const struct memory *memory)
{
    return memory->counts[LT_WAITING] + memory->counts[LT_RUNNING] + memory->counts[LT_EXPORTING];
}

/* Where a task is kept. */

static void set_stored(struct memory *memory, struct lt_task *task, enum lt_status status)
{
    memory->counts[task->stored]--;
    memory->counts[status]++;
    task->stored = (uint8_t)status;
}

static void take_task_out(struct memory *memory, struct lt_task *task)
{
    switch ((enum place)task->place) {
    case READY:
        lt_ready_remove(&memory->ready, task);
        break;
    case DELAYED:
        lt_heap_remove(&memory->delayed, task->heap_place);
        break;
    case DATED:
        lt_heap_remove(&memory->dated, task->heap_place);
        break;
    case ENDED:
        TAILQ_REMOVE(&memory->ended, task, link);
        memory->ended_bytes -= task->seq;
        break;
    case NOWHERE:
    case LEFT:
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
static void forget_task(struct memory *memory, struct lt_task *task)
{
    take_task_out(memory, task);
    stop_expiring(memory, task);
    lt_map_remove(&memory->ids, task->hash, task);
    memory->counts[task->stored]--;
    task->place = LEFT;
    lt_task_unref(task);
}

/* Takes over the caller's reference to an object that waits. */
static void put_waiting(struct memory *memory, struct lt_task *task)
{
    lt_map_put(&memory->ids, task->hash, task);
    task->stored = LT_WAITING;
    memory->counts[LT_WAITING]++;
    if (task->run_at <= memory_wall(memory)) {
        task->place = READY;
        lt_ready_push(&memory->ready, task);
    } else if (task->delayed) {
        task->place = DELAYED;
        lt_heap_push(&memory->delayed, lt_heap_time(as_monotonic(memory, task->run_at)), ++memory->ready.seq, task);
    } else {
        task->place = DATED;
        lt_heap_push(&memory->dated, lt_heap_time(task->run_at), ++memory->ready.seq, task);
    }
    struct lt_task_options *options = task->options;
    if (options != NULL && options->expires_at > 0 && task->run == 0)
        lt_heap_push(&memory->expiring, lt_heap_time(as_monotonic(memory, options->expires_at)), ++memory->ready.seq,
                     options);
}

static bool beyond_keep(const struct memory *memory)
{
    uint64_t ended = memory->counts[LT_SUCCESS] + memory->counts[LT_FAILED] + memory->counts[LT_STOPPED];
    return ended > memory->env.keep_tasks || memory->ended_bytes > memory->env.keep_bytes;
}

/* The next one to go has been ended for long, and is in no cache: its place in the map is fetched now, and the task after
 * it, so that they are there when the next task ends. */
static void expect_to_forget(const struct memory *memory)
{
    const struct lt_task *next = TAILQ_FIRST(&memory->ended);
    const struct lt_task *then = next != NULL ? TAILQ_NEXT(next, link) : NULL;
    if (then == NULL)
        return;
    lt_map_prefetch(&memory->ids, next->hash);
    __builtin_prefetch(then);
    __builtin_prefetch(&then->link);
}

/* An ended task needs its place in the order no more: that is where its size stands. */
static void put_ended(struct memory *memory, struct lt_task *task, const struct lt_transition *transition)
{
    stop_expiring(memory, task);
    task->place = ENDED;
    task->seq = lt_task_bytes(task) + (transition->output != NULL ? transition->output->len : 0) +
                (transition->reason != NULL ? transition->reason->len : 0);
    TAILQ_INSERT_TAIL(&memory->ended, task, link);
    memory->ended_bytes += task->seq;
    while (!TAILQ_EMPTY(&memory->ended) && beyond_keep(memory)) {
        forget_task(memory, TAILQ_FIRST(&memory->ended));
        expect_to_forget(memory);
    }
}

/* Ends a task that waits and that nobody else changes. */
static void end_waiting(struct memory *memory, struct lt_task *task, const struct lt_transition *transition)
{
    lt_task_ref(task); /* it may be forgotten at once */
    take_task_out(memory, task);
    lt_task_apply(task, transition);
    set_stored(memory, task, transition->to);
    put_ended(memory, task, transition);
}

/* Operations. */

static void open_memory(struct lt_container *container, const struct lt_container_env *env)
{
    struct memory *memory = memory_of(container);
    memory->env = *env;
    memory->open = true;
}

static struct lt_task *find_known(const struct memory *memory, const struct lt_task *task)
{
    return lt_map_find(&memory->ids, task->hash, task->data, task->id_len);
}

/* `known`: what is there of the same id, or NULL. */
static int check_add(const struct memory *memory, const struct lt_task *task, const struct lt_task *known,
                     struct lt_error *error)
{
    if (task->priority != 0 && !memory->base.ops->priorities)
        return lt_fail(error, LT_REFUSED, "task '%s' has priority %lld, and a queue has no priorities", task->data,
                       (long long)task->priority);
    if (known == NULL)
        return LT_OK;
    bool once = task->options != NULL && task->options->once;
    if (once || !lt_status_ended(known->stored))
        return lt_fail(error, LT_EXISTS, "task '%s' exists and is %s", task->data, lt_status_name(known->stored));
    return LT_OK;
}

static void store_task(struct memory *memory, struct lt_task *task, struct lt_task *known)
{
    if (known != NULL)
        forget_task(memory, known);
    /* Each later than the one before: the order of adding can be read from it. The clock is read once for several that
     * are added in one turn. */
    struct lt_loop *loop = memory->env.loop;
    if (memory->added_in != loop->rounds || ++memory->added_unread >= UNREAD) {
        lt_loop_tick(loop);
        memory->added_in = loop->rounds;
        memory->added_unread = 0;
    }
    double time = memory_wall(memory);
    memory->last_added = time > memory->last_added ? time : nextafter(memory->last_added, INFINITY);
    lt_task_apply_added(task, memory->last_added);
    put_waiting(memory, lt_task_ref(task));
}

/* No id may come twice in one add. */
static int check_twice(const struct lt_add_op *op, struct lt_error *error)
{
    struct lt_map seen = {.key = id_of};
    int code = LT_OK;
    for (uint32_t i = 0; op->count > 1 && code == LT_OK && i < op->count; i++) {
        struct lt_task *task = op->tasks[i];
        if (lt_map_find(&seen, task->hash, task->data, task->id_len) != NULL)
            code = lt_fail(error, LT_EXISTS, "task '%s' is in the list twice", task->data);
        else
            lt_map_put(&seen, task->hash, task);
    }
    lt_map_free(&seen);
    return code;
}

static int check_room(const struct memory *memory, uint64_t more, struct lt_error *error)
{
    if (count_unfinished(memory) + more <= memory->size)
        return LT_OK;
    return lt_fail(error, LT_FULL, "the %s is full: %llu of %llu tasks have not ended", memory->base.ops->name,
                   (unsigned long long)count_unfinished(memory), (unsigned long long)memory->size);
}

static int memory_add_now(struct lt_container *container, struct lt_task *task, struct lt_error *error)
{
    struct memory *memory = memory_of(container);
    int code = check_room(memory, 1, error);
    if (code != LT_OK)
        return code;
    struct lt_task *known = find_known(memory, task);
    code = check_add(memory, task, known, error);
    if (code == LT_OK)
        store_task(memory, task, known);
    return code;
}

static void memory_expect(const struct lt_container *container, uint32_t hash)
{
    lt_map_prefetch(&((const struct memory *)container)->ids, hash);
}

static void memory_add(struct lt_container *container, struct lt_add_op *op)
{
    struct memory *memory = memory_of(container);
    struct lt_error error;
    int code = check_room(memory, op->count, &error);
    if (code == LT_OK)
        code = check_twice(op, &error);
    for (uint32_t i = 0; code == LT_OK && i < op->count; i++)
        code = check_add(memory, op->tasks[i], find_known(memory, op->tasks[i]), &error);
    for (uint32_t i = 0; code == LT_OK && i < op->count; i++)
        store_task(memory, op->tasks[i], find_known(memory, op->tasks[i]));
    lt_reply_send(&op->reply, code, code == LT_OK ? NULL : error.message);
}

/* Those of a heap that are due go to the ready ones; false: there may be more. */
static bool ready_due(struct memory *memory, struct lt_heap *heap, double time)
{
    const struct lt_heap_entry *first;
    int64_t due = lt_heap_time(time);
    for (int i = 0; (first = lt_heap_first(heap)) != NULL && first->rank <= due; i++) {
        struct lt_task *task = first->object;
        if (i == BATCH)
            return false;
        lt_heap_remove(heap, task->heap_place);
        task->place = READY;
        lt_ready_push(&memory->ready, task);
    }
    return true;
}

static bool expire_due(struct memory *memory, struct lt_tasks *expired)
{
    int64_t due = lt_heap_time(memory_now(memory));
    const struct lt_heap_entry *first = lt_heap_first(&memory->expiring);
    if (first == NULL || first->rank > due)
        return true;
    struct lt_transition transition = {
        .to = LT_FAILED, .now = memory_wall(memory), .reason = lt_bytes_printf("expired")};
    for (int i = 0; i < BATCH && first != NULL && first->rank <= due; i++) {
        struct lt_task *task = ((struct lt_task_options *)first->object)->task;
        end_waiting(memory, task, &transition);
        lt_tasks_push(expired, task); /* with the reference of that */
        first = lt_heap_first(&memory->expiring);
    }
    lt_transition_clear(&transition);
    return first == NULL || first->rank > due;
}

/* Rounded up: at that time it is due. */
static double first_time_of(const struct lt_heap *heap)
{
    const struct lt_heap_entry *first = lt_heap_first(heap);
    return first != NULL ? lt_heap_due(first->rank) : 0;
}

static void memory_claim(struct lt_container *container, struct lt_claim_op *op)
{
    struct memory *memory = memory_of(container);
    bool all = true;
    if (memory->expiring.count > 0)
        all = expire_due(memory, &op->expired);
    if (memory->delayed.count > 0)
        all &= ready_due(memory, &memory->delayed, memory_now(memory));
    if (memory->dated.count > 0)
        all &= ready_due(memory, &memory->dated, memory_wall(memory));
    while (op->claimed.count < op->limit) {
        struct lt_task *task = lt_ready_claim(&memory->ready, op->limiter);
        if (task == NULL)
            break;
        task->place = NOWHERE;
        stop_expiring(memory, task);
        lt_task_apply_claimed(task, ++memory->next_run, memory_wall(memory));
        set_stored(memory, task, LT_RUNNING);
        lt_claims_push(&op->claimed, (struct lt_claimed){.task = lt_task_ref(task)});
    }
    op->more = lt_ready_any(&memory->ready);
    op->waits = memory->counts[LT_WAITING] > 0;
    op->next_at =
        all ? lt_earlier(first_time_of(&memory->delayed), first_time_of(&memory->expiring)) : memory_now(memory);
    op->next_date = first_time_of(&memory->dated);
    lt_reply_ok(&op->reply);
}

/* Another object goes on in the place of this one. */
static void put_successor(struct memory *memory, const struct lt_change_op *op)
{
    struct lt_task *next = lt_task_next(op->task, &op->transition);
    set_stored(memory, op->task, LT_WAITING);
    forget_task(memory, op->task);
    put_waiting(memory, next);
    if (op->next != NULL)
        *op->next = lt_task_ref(next);
}

static void move_task(struct memory *memory, const struct lt_change_op *op)
{
    struct lt_task *task = op->task;
    const struct lt_transition *transition = &op->transition;
    if (transition->to == LT_WAITING) {
        put_successor(memory, op);
        return;
    }
    take_task_out(memory, task);
    set_stored(memory, task, transition->to);
    if (transition->to == LT_DELETED)
        forget_task(memory, task);
    else if (lt_status_ended(transition->to))
        put_ended(memory, task, transition);
}

static int check_change(const struct memory *memory, const struct lt_change_op *op, struct lt_error *error)
{
    const struct lt_task *task = op->task;
    const struct lt_transition *transition = &op->transition;
    if (task->place == LEFT && lt_status_ended(task->stored))
        return lt_fail(error, LT_UNKNOWN, "task '%s' is not known any more", task->data);
    if (task->place == LEFT)
        return lt_fail(error, LT_STALE, "task '%s' has moved on", task->data);
    int code = lt_transition_check(transition, task, task->stored, error);
    bool comes_back = code == LT_OK && lt_status_ended(task->stored) && transition->to == LT_WAITING;
    if (comes_back && count_unfinished(memory) >= memory->size)
        return lt_fail(error, LT_FULL, "the %s is full", memory->base.ops->name);
    return code;
}

static void memory_change(struct lt_container *container, struct lt_change_op *op)
{
    struct memory *memory = memory_of(container);
    struct lt_task *task = op->task;
    struct lt_error error;
    if (op->again && task->stored == op->transition.to && task->run == op->transition.run) {
        lt_reply_ok(&op->reply); /* it was done the first time */
        return;
    }
    int code = check_change(memory, op, &error);
    if (code == LT_OK)
        move_task(memory, op);
    lt_reply_send(&op->reply, code, code == LT_OK ? NULL : error.message);
}

static void memory_update(struct lt_container *container, struct lt_update_op *op)
{
    (void)container; /* the scheduler shows handle and progress in the object, which is the one here */
    lt_reply_ok(&op->reply);
}

static void memory_get(struct lt_container *container, struct lt_get_op *op)
{
    struct memory *memory = memory_of(container);
    struct lt_task *task = lt_map_find(&memory->ids, lt_hash(op->id, op->id_len), op->id, op->id_len);
    op->task = task != NULL ? lt_task_ref(task) : NULL;
    lt_reply_send(&op->reply, task != NULL ? LT_OK : LT_UNKNOWN, "no such task");
}

static struct lt_task *listed(void *object, const struct lt_list_op *op)
{
    struct lt_task *task = object;
    if (op->status >= 0 && task->stored != op->status)
        return NULL;
    return lt_list_wants(op, task) ? task : NULL;
}

static void memory_list(struct lt_container *container, struct lt_list_op *op)
{
    struct memory *memory = memory_of(container);
    lt_list(memory->env.loop, &memory->ids, listed, op);
}

static void memory_count(struct lt_container *container, struct lt_count_op *op)
{
    struct memory *memory = memory_of(container);
    ready_due(memory, &memory->delayed, memory_now(memory));
    ready_due(memory, &memory->dated, memory_wall(memory));
    memcpy(op->counts, memory->counts, sizeof op->counts);
    op->delayed = memory->delayed.count + memory->dated.count;
    lt_reply_ok(&op->reply);
}

static double memory_oldest(const struct lt_container *container)
{
    const struct memory *memory = (const struct memory *)container;
    const struct lt_task *task = lt_ready_oldest(&memory->ready);
    return task != NULL ? lt_task_waiting_since(task) : 0;
}

static void memory_key_full(struct lt_container *container, const struct lt_bytes *key)
{
    lt_ready_close_key(&memory_of(container)->ready, key);
}

static void memory_key_open(struct lt_container *container, const struct lt_bytes *key)
{
    lt_ready_open_key(&memory_of(container)->ready, key);
}

static void memory_key_turn(struct lt_container *container, const struct lt_bytes *key, uint64_t turn)
{
    struct memory *memory = memory_of(container);
    if (memory->base.fair)
        lt_ready_set_turn(&memory->ready, key, turn);
}

static uint64_t memory_ahead(const struct lt_container *container, const struct lt_task *task)
{
    const struct memory *memory = (const struct memory *)container;
    return task->place == READY ? lt_ready_ahead(&memory->ready, task) : 0;
}

static bool abandon_waiting(struct lt_container *container, struct lt_bytes *reason, double when, uint32_t limit,
                            struct lt_tasks *stopped)
{
    struct memory *memory = memory_of(container);
    struct lt_transition transition = {.to = LT_STOPPED, .now = when, .reason = reason};
    bool all = ready_due(memory, &memory->delayed, INFINITY) && ready_due(memory, &memory->dated, INFINITY);
    struct lt_task *task = NULL;
    while (limit-- > 0 && (task = lt_ready_oldest(&memory->ready)) != NULL) {
        end_waiting(memory, task, &transition);
        lt_tasks_push(stopped, task); /* with the reference of that */
    }
    return all && task == NULL;
}

static void free_memory(struct memory *memory)
{
    uint32_t position = 0;
    struct lt_task *task;
    while ((task = lt_map_next(&memory->ids, &position)) != NULL) {
        task->place = LEFT;
        lt_task_unref(task);
    }
    lt_map_free(&memory->ids);
    lt_ready_close(&memory->ready);
    lt_heap_free(&memory->delayed);
    lt_heap_free(&memory->dated);
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

static void release_memory(struct lt_container *container)
{
    struct memory *memory = memory_of(container);
    memory->released = true;
    if (!memory->open)
        free_memory(memory);
}

#define MEMORY_OPS                                                                                                     \
    .announces = true, .open = open_memory, .add = memory_add, .add_now = memory_add_now, .expect = memory_expect,     \
    .claim = memory_claim, .change = memory_change, .update = memory_update, .get = memory_get, .list = memory_list,   \
    .count = memory_count, .oldest = memory_oldest, .ahead = memory_ahead, .key_full = memory_key_full,                \
    .key_open = memory_key_open, .key_turn = memory_key_turn, .abandon = abandon_waiting, .close = close_memory,       \
    .release = release_memory

static const struct lt_container_ops queue_ops = {.name = "queue", MEMORY_OPS};
static const struct lt_container_ops priority_ops = {.name = "priority container", .priorities = true, MEMORY_OPS};

static struct lt_container *new_memory(const struct lt_container_ops *ops, uint64_t size, bool fair)
{
    struct memory *memory = lt_zalloc(sizeof *memory);
    memory->base.ops = ops;
    memory->base.fair = fair;
    memory->size = size;
    memory->ids.key = id_of;
    memory->delayed.place = memory->dated.place = offsetof(struct lt_task, heap_place);
    memory->expiring.place = offsetof(struct lt_task_options, expiry_place);
    TAILQ_INIT(&memory->ended);
    lt_ready_open(&memory->ready, ops->priorities, fair);
    return &memory->base;
}

struct lt_container *lt_queue_new(uint64_t size, bool fair)
{
    return new_memory(&queue_ops, size, fair);
}

struct lt_container *lt_priority_new(uint64_t size, bool fair)
{
    return new_memory(&priority_ops, size, fair);
}
