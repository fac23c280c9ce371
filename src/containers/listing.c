#include "containers/listing.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"

enum { STEP = 8192 }; /* slots of the map that are looked at in a turn: half a millisecond */

/* One list. It goes through the map, keeps the first ones, and shows those that are still wanted then. Should it be short for
 * that, it goes through once more, for what comes after those. */
struct listing {
    struct lt_turn turn;
    struct lt_loop *loop;
    const struct lt_map *tasks;
    lt_listed *listed;
    struct lt_list_op *op;
    uint64_t place;        /* in the map */
    uint64_t skip;         /* of the offset, what is still to be passed over */
    struct lt_tasks first; /* a heap, the last of them on top; with a reference each */
    uint64_t most;         /* how many of them are kept */
    bool left_out;         /* there are more */
};

static bool comes_later(const struct lt_list_op *op, const struct lt_task *a, const struct lt_task *b)
{
    return op->descending ? a->added_at < b->added_at : a->added_at > b->added_at;
}

static void put_on_heap(struct listing *listing, struct lt_task *task)
{
    struct lt_tasks *first = &listing->first;
    uint32_t at = first->count;
    lt_tasks_push(first, lt_task_ref(task));
    for (; at > 0 && comes_later(listing->op, task, first->items[(at - 1) / 2]); at = (at - 1) / 2)
        first->items[at] = first->items[(at - 1) / 2];
    first->items[at] = task;
}

static void put_for_last(struct listing *listing, struct lt_task *task)
{
    struct lt_tasks *first = &listing->first;
    uint32_t at = 0, child;
    lt_task_unref(first->items[0]);
    for (; (child = 2 * at + 1) < first->count; at = child) {
        if (child + 1 < first->count && comes_later(listing->op, first->items[child + 1], first->items[child]))
            child++;
        if (!comes_later(listing->op, first->items[child], task))
            break;
        first->items[at] = first->items[child];
    }
    first->items[at] = lt_task_ref(task);
}

static void look_at(void *arg, void *object)
{
    struct listing *listing = arg;
    struct lt_task *task = listing->listed(object, listing->op);
    if (task == NULL)
        return;
    if (listing->first.count < listing->most) {
        put_on_heap(listing, task);
        return;
    }
    listing->left_out = true;
    if (listing->most > 0 && comes_later(listing->op, listing->first.items[0], task))
        put_for_last(listing, task);
}

static int by_added(const void *a, const void *b)
{
    const struct lt_task *left = *(struct lt_task *const *)a;
    const struct lt_task *right = *(struct lt_task *const *)b;
    if (left->added_at != right->added_at)
        return left->added_at < right->added_at ? -1 : 1;
    return 0;
}

/* The task of its id and place that is wanted now: another object may go on for it. */
static struct lt_task *as_it_is(const struct listing *listing, const struct lt_task *task)
{
    void *object = lt_map_find(listing->tasks, task->hash, task->data, task->id_len);
    struct lt_task *now = object != NULL ? listing->listed(object, listing->op) : NULL;
    return now != NULL && now->added_at == task->added_at ? now : NULL;
}

static void show_first(struct listing *listing)
{
    struct lt_tasks *first = &listing->first;
    struct lt_list_op *op = listing->op;
    if (first->count == 0)
        return;
    qsort(first->items, first->count, sizeof(struct lt_task *), by_added);
    for (uint32_t i = 0; i < first->count; i++) {
        struct lt_task *task = as_it_is(listing, first->items[op->descending ? first->count - 1 - i : i]);
        if (task != NULL && listing->skip > 0)
            listing->skip--;
        else if (task != NULL)
            lt_tasks_push(&op->tasks, lt_task_ref(task));
    }
    op->next = op->after = lt_list_place(first->items[op->descending ? 0 : first->count - 1]);
    lt_tasks_clear(first);
}

static void begin_walk(struct listing *listing)
{
    uint64_t more = listing->op->limit - listing->op->tasks.count;
    listing->most = listing->skip + more < more ? UINT64_MAX : listing->skip + more;
    listing->place = 0;
    listing->left_out = false;
}

/* False: it goes on. */
static bool walk_on(struct listing *listing)
{
    if (lt_map_walk(listing->tasks, &listing->place, STEP, look_at, listing))
        return false;
    show_first(listing);
    if (!listing->left_out || listing->op->tasks.count >= listing->op->limit)
        return true;
    begin_walk(listing);
    return false;
}

static void answer(struct listing *listing)
{
    struct lt_reply *reply = &listing->op->reply;
    lt_tasks_free(&listing->first);
    free(listing);
    lt_reply_ok(reply);
}

static void next_step(struct lt_turn *turn)
{
    struct listing *listing = lt_container_of(turn, struct listing, turn);
    if (walk_on(listing))
        answer(listing);
    else
        lt_loop_post(listing->loop, turn);
}

void lt_list(struct lt_loop *loop, const struct lt_map *tasks, lt_listed *listed, struct lt_list_op *op)
{
    struct listing *listing = lt_zalloc(sizeof *listing);
    *listing = (struct listing){
        .turn.fn = next_step, .loop = loop, .tasks = tasks, .listed = listed, .op = op, .skip = op->offset};
    begin_walk(listing);
    if (walk_on(listing))
        answer(listing);
    else
        lt_loop_post(loop, &listing->turn);
}
