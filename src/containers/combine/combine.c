/* The container `combine`: tasks are in a store (a container that outlives the host), and another container, in memory, says
 * in which order they run. Every transition is the store's first; what is asked is answered by the store.
 *
 *     add      the store; then the memory part, if the task comes before all that is not there
 *     claim    the memory part chooses, the store takes (choose.c)
 *     change   the store; then the memory part (joint.c)
 *     the rest the store
 *
 * The memory part holds a window of what is due: it is filled with the first of it, in the store's order, when it has no more
 * that may start; so a million tasks that wait need no memory, and what is more urgent than all that is left out goes there
 * at once. What other hosts add, what was delayed and becomes due, and whatever the memory part failed to take, is found by
 * looking at what comes first in the store, when the store has said that there is something.
 *
 * State x event, of an entry of the window:
 *
 *                        waits                  chosen               runs
 *     store: taken       -                      runs                 -
 *     store: no room     -                      waits, where it was  -
 *     store: gone        -                      forgotten            -
 *     ends, deleted      forgotten              forgotten            forgotten
 *     waits again        -                      -                    waits, if nothing was left out; else forgotten
 *     lease lost         -                      -                    forgotten
 *     not taken by the memory part: forgotten, and read again from the store
 */
#include "containers/combine/combine.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "containers/combine/combine_state.h"

/* News. */

static void lose_entry(struct lt_combine *c, const struct lt_news *news)
{
    struct lt_entry *entry = lt_map_find(&c->window.entries, lt_hash(news->id, news->id_len), news->id, news->id_len);
    if (entry != NULL && !entry->waits && entry->task->run == news->run)
        lt_window_drop(c, entry, NULL, NULL);
}

static void store_tells(void *arg, const struct lt_news *news)
{
    struct lt_combine *c = arg;
    if (!c->open)
        return;
    if (news->kind == LT_NEWS_WORK)
        c->window.missed = true;
    else if (news->kind == LT_NEWS_LEASE_LOST)
        lose_entry(c, news);
    c->env.tell(c->env.tell_arg, news);
}

/* Of the memory part only its work counts: tasks end in the store. */
static void memory_tells(void *arg, const struct lt_news *news)
{
    const struct lt_combine *c = arg;
    if (c->open && news->kind == LT_NEWS_WORK)
        c->env.tell(c->env.tell_arg, news);
}

/* Life. */

static void open_combine(struct lt_container *container, const struct lt_container_env *env)
{
    struct lt_combine *c = lt_combine_of(container);
    struct lt_container_env part = *env;
    c->env = *env;
    c->open = c->memory->in_use = c->store->in_use = true;
    part.tell_arg = c;
    part.tell = store_tells;
    c->store->ops->open(c->store, &part);
    part.tell = memory_tells;
    part.keep_tasks = part.keep_bytes = 0; /* what has ended is the store's affair */
    c->memory->ops->open(c->memory, &part);
}

static void free_combine(struct lt_combine *c)
{
    c->memory->ops->release(c->memory);
    c->store->ops->release(c->store);
    lt_choose_free(&c->choose);
    lt_tasks_free(&c->held);
    lt_window_close(&c->window);
    lt_reply_clear(&c->close_memory);
    lt_reply_clear(&c->close_store);
    free(c);
}

/* Answers the close, when all is over. */
static void answer_close(struct lt_combine *c)
{
    bool over = c->closing != NULL && c->parts_open == 0 && c->telling == 0;
    if (!over)
        return;
    const struct lt_reply *failed = c->close_store.code != LT_OK ? &c->close_store : &c->close_memory;
    struct lt_reply *closing = c->closing;
    c->closing = NULL;
    lt_reply_send(closing, failed->code, failed->code != LT_OK ? lt_reply_message(failed) : NULL);
    if (c->released)
        free_combine(c);
}

static void on_memory_closed(struct lt_reply *reply)
{
    struct lt_combine *c = lt_container_of(reply, struct lt_combine, close_memory);
    c->parts_open--;
    answer_close(c);
}

static void on_store_closed(struct lt_reply *reply)
{
    struct lt_combine *c = lt_container_of(reply, struct lt_combine, close_store);
    c->parts_open--;
    lt_reply_begin(&c->close_memory, c->env.loop, on_memory_closed);
    c->memory->ops->close(c->memory, &c->close_memory);
    lt_reply_end(&c->close_memory);
}

static void close_combine(struct lt_container *container, struct lt_reply *reply)
{
    struct lt_combine *c = lt_combine_of(container);
    c->open = false;
    c->closing = reply;
    c->parts_open = 2;
    lt_reply_begin(&c->close_store, c->env.loop, on_store_closed);
    c->store->ops->close(c->store, &c->close_store);
    lt_reply_end(&c->close_store);
}

static void release_combine(struct lt_container *container)
{
    struct lt_combine *c = lt_combine_of(container);
    c->released = true;
    if (!c->open && c->closing == NULL)
        free_combine(c);
}

/* What is the store's alone. */

static void combine_get(struct lt_container *container, struct lt_get_op *op)
{
    struct lt_container *store = lt_combine_of(container)->store;
    store->ops->get(store, op);
}

static void combine_list(struct lt_container *container, struct lt_list_op *op)
{
    struct lt_container *store = lt_combine_of(container)->store;
    store->ops->list(store, op);
}

static void combine_count(struct lt_container *container, struct lt_count_op *op)
{
    struct lt_container *store = lt_combine_of(container)->store;
    store->ops->count(store, op);
}

static void combine_hosts(struct lt_container *container, struct lt_hosts_op *op)
{
    struct lt_container *store = lt_combine_of(container)->store;
    store->ops->hosts(store, op);
}

static void combine_ask_stop(struct lt_container *container, struct lt_ask_stop_op *op)
{
    struct lt_container *store = lt_combine_of(container)->store;
    store->ops->ask_stop(store, op);
}

static void combine_set_limits(struct lt_container *container, const struct lt_limits *limits, unsigned named)
{
    struct lt_container *store = lt_combine_of(container)->store;
    store->ops->set_limits(store, limits, named);
}

static void combine_pause_all(struct lt_container *container, bool paused, struct lt_reply *reply)
{
    struct lt_container *store = lt_combine_of(container)->store;
    store->ops->pause_all(store, paused, reply);
}

static double combine_oldest(const struct lt_container *container)
{
    const struct lt_container *store = ((const struct lt_combine *)container)->store;
    return store->ops->oldest(store);
}

static void combine_hurry(struct lt_container *container)
{
    struct lt_container *store = lt_combine_of(container)->store;
    store->ops->hurry(store);
}

/* Both. */

static bool combine_inside(const struct lt_container *container)
{
    const struct lt_combine *c = (const struct lt_combine *)container;
    bool store = c->store->ops->inside != NULL && c->store->ops->inside(c->store);
    return store || (c->memory->ops->inside != NULL && c->memory->ops->inside(c->memory));
}

static void combine_key_open(struct lt_container *container, const struct lt_bytes *key)
{
    struct lt_combine *c = lt_combine_of(container);
    if (c->memory->ops->key_open != NULL)
        c->memory->ops->key_open(c->memory, key);
    if (c->store->ops->key_open != NULL)
        c->store->ops->key_open(c->store, key);
    c->window.missed = c->window.missed || !c->window.complete; /* tasks of it may have been left out */
}

static bool combine_abandon(struct lt_container *container, struct lt_bytes *reason, double now, uint32_t limit,
                            struct lt_tasks *stopped)
{
    struct lt_combine *c = lt_combine_of(container);
    uint32_t before = stopped->count;
    bool all = c->store->ops->abandon(c->store, reason, now, limit, stopped);
    for (uint32_t i = before; i < stopped->count; i++) {
        struct lt_entry *entry = lt_window_find(&c->window, stopped->items[i]);
        if (entry != NULL)
            lt_window_drop(c, entry, NULL, NULL);
    }
    return all;
}

struct lt_container *lt_combine_new(struct lt_container *memory, struct lt_container *store, struct lt_error *error)
{
    bool fits = store->ops->chooses && memory != store;
    if (!fits || memory->ops->chooses || memory->behind != NULL) {
        lt_fail(error, LT_REFUSED, "a %s and a %s cannot be combined: first one in memory, then one that is durable",
                memory->ops->name, store->ops->name);
        return NULL;
    }
    struct lt_combine *c = lt_zalloc(sizeof *c);
    const struct lt_container_ops *has = store->ops;
    c->ops = (struct lt_container_ops){
        .name = "combination",
        .durable = has->durable,
        .announces = has->announces,
        .tells_availability = has->tells_availability,
        .ordered = has->ordered,
        .priorities = memory->ops->priorities,
        .keeps_limits = has->keeps_limits,
        .open = open_combine,
        .add = lt_combine_add,
        .claim = lt_combine_claim,
        .change = lt_combine_change,
        .update = lt_combine_update,
        .get = combine_get,
        .list = combine_list,
        .count = combine_count,
        .hosts = has->hosts != NULL ? combine_hosts : NULL,
        .recover = has->recover != NULL ? lt_combine_recover : NULL,
        .ask_stop = has->ask_stop != NULL ? combine_ask_stop : NULL,
        .set_limits = has->set_limits != NULL ? combine_set_limits : NULL,
        .pause_all = has->pause_all != NULL ? combine_pause_all : NULL,
        .oldest = combine_oldest,
        .inside = combine_inside,
        .key_open = combine_key_open,
        .abandon = has->abandon != NULL ? combine_abandon : NULL,
        .hurry = has->hurry != NULL ? combine_hurry : NULL,
        .close = close_combine,
        .release = release_combine,
    };
    c->base.ops = &c->ops;
    c->base.behind = store;
    c->base.fair = store->fair;
    c->memory = memory;
    c->store = store;
    c->told = answer_close;
    lt_window_open(&c->window);
    return &c->base;
}
