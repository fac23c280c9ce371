#include "containers/listing.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"

enum {
    STEP = 8192,      /* slots of the map that are looked at in a turn: half a millisecond */
    SORT_STEP = 1024, /* tasks that are put in order, or passed over, in a turn */
};

/* One list. It goes through the map, keeps the first ones, puts them in order, passes over those of the offset, and shows those
 * that are still wanted then: all at once, as what it shows is to be so by the end. Should it be short for that, it goes through
 * once more, for what comes after those. */
struct listing {
    struct lt_turn turn;
    struct lt_loop *loop;
    const struct lt_map *tasks;
    lt_listed *listed;
    struct lt_list_op *op;
    uint64_t place;        /* in the map */
    uint64_t skip;         /* of the offset, what is still to be passed over */
    struct lt_tasks first; /* a heap, the last of them on top, then in order; with a reference each */
    uint64_t most;         /* how many of them are kept */
    bool walked;           /* through all of the map */
    bool left_out;         /* there are more */
    uint64_t last;         /* the place of the last of them */
    uint32_t unsorted;     /* so many are still a heap; what is behind them is in order */
    uint32_t passed;       /* so many were passed over or shown, and have no reference any more */
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

/* In place of the one on top, in a heap of so many. */
static void put_on_top(struct listing *listing, struct lt_task *task, uint32_t count)
{
    struct lt_task **items = listing->first.items;
    uint32_t at = 0, child;
    for (; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && comes_later(listing->op, items[child + 1], items[child]))
            child++;
        if (!comes_later(listing->op, items[child], task))
            break;
        items[at] = items[child];
    }
    items[at] = task;
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
    if (listing->most > 0 && comes_later(listing->op, listing->first.items[0], task)) {
        lt_task_unref(listing->first.items[0]);
        put_on_top(listing, lt_task_ref(task), listing->first.count);
    }
}

/* The task of its id and place that is wanted now: another object may go on for it. */
static struct lt_task *as_it_is(const struct listing *listing, const struct lt_task *task)
{
    void *object = lt_map_find(listing->tasks, task->hash, task->data, task->id_len);
    struct lt_task *now = object != NULL ? listing->listed(object, listing->op) : NULL;
    return now != NULL && now->added_at == task->added_at ? now : NULL;
}

/* The three steps from the heap to what is shown. False: it goes on. */

static bool sort_on(struct listing *listing)
{
    struct lt_task **items = listing->first.items;
    for (uint32_t i = 0; i < SORT_STEP && listing->unsorted > 1; i++) {
        struct lt_task *task = items[--listing->unsorted];
        items[listing->unsorted] = items[0];
        put_on_top(listing, task, listing->unsorted);
    }
    return listing->unsorted <= 1;
}

static bool pass_over(struct listing *listing)
{
    const struct lt_tasks *first = &listing->first;
    for (uint32_t i = 0; i < SORT_STEP && listing->skip > 0 && listing->passed < first->count; i++) {
        struct lt_task *task = first->items[listing->passed++];
        if (as_it_is(listing, task) != NULL)
            listing->skip--;
        lt_task_unref(task);
    }
    return listing->skip == 0 || listing->passed == first->count;
}

static void show_rest(struct listing *listing)
{
    struct lt_tasks *first = &listing->first;
    struct lt_list_op *op = listing->op;
    if (first->count == 0)
        return;
    while (listing->passed < first->count) {
        struct lt_task *task = first->items[listing->passed++];
        struct lt_task *now = as_it_is(listing, task);
        if (now != NULL)
            lt_tasks_push(&op->tasks, lt_task_ref(now));
        lt_task_unref(task);
    }
    first->count = 0;
    op->next = op->after = listing->last;
}

static void begin_walk(struct listing *listing)
{
    uint64_t more = listing->op->limit - listing->op->tasks.count;
    listing->most = listing->skip + more < more ? UINT64_MAX : listing->skip + more;
    listing->place = 0;
    listing->walked = listing->left_out = false;
}

static bool walk_on(struct listing *listing)
{
    const struct lt_tasks *first = &listing->first;
    if (listing->walked)
        return true;
    if (lt_map_walk(listing->tasks, &listing->place, STEP, look_at, listing))
        return false;
    listing->walked = true;
    listing->unsorted = first->count;
    listing->passed = 0;
    if (first->count > 0)
        listing->last = lt_list_place(first->items[0]);
    return true;
}

/* False: it goes on. */
static bool go_on(struct listing *listing)
{
    if (!walk_on(listing) || !sort_on(listing) || !pass_over(listing))
        return false;
    show_rest(listing);
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
    if (go_on(listing))
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
    if (go_on(listing))
        answer(listing);
    else
        lt_loop_post(loop, &listing->turn);
}
