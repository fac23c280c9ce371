#include "containers/combine/window.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "containers/combine/combine_state.h"

static const char *entry_id(const void *object, size_t *len)
{
    const struct lt_entry *entry = object;
    *len = entry->task->id_len;
    return entry->task->data;
}

void lt_window_open(struct lt_window *window)
{
    *window = (struct lt_window){.entries.key = entry_id};
    lt_window_unsure(window);
}

void lt_window_close(struct lt_window *window)
{
    uint32_t position = 0;
    struct lt_entry *entry;
    while ((entry = lt_map_next(&window->entries, &position)) != NULL) {
        entry->known = false;
        lt_entry_unref(entry);
    }
    lt_map_free(&window->entries);
}

struct lt_entry *lt_window_find(const struct lt_window *window, const struct lt_task *task)
{
    return lt_map_find(&window->entries, task->hash, task->data, task->id_len);
}

struct lt_entry *lt_entry_ref(struct lt_entry *entry)
{
    entry->refs++;
    return entry;
}

void lt_entry_unref(struct lt_entry *entry)
{
    if (--entry->refs > 0)
        return;
    lt_task_unref(entry->task);
    lt_task_unref(entry->shadow);
    free(entry);
}

static struct lt_entry *new_entry(struct lt_window *window, struct lt_task *task, struct lt_task *shadow)
{
    struct lt_entry *entry = lt_zalloc(sizeof *entry);
    entry->refs = 1;
    entry->known = true;
    entry->task = lt_task_ref(task);
    entry->shadow = shadow;
    lt_map_put(&window->entries, task->hash, entry);
    return entry;
}

static void set_waiting(struct lt_window *window, struct lt_entry *entry)
{
    window->waiting += !entry->waits;
    entry->waits = true;
}

void lt_window_take(struct lt_window *window, struct lt_entry *entry)
{
    window->waiting -= entry->waits;
    entry->waits = false;
}

void lt_window_forget(struct lt_window *window, struct lt_entry *entry)
{
    if (!entry->known)
        return;
    lt_window_take(window, entry);
    entry->known = false;
    lt_map_remove(&window->entries, entry->task->hash, entry);
    lt_entry_unref(entry);
}

uint32_t lt_window_room(const struct lt_window *window)
{
    enum { MOST = 65536 };
    return window->waiting < MOST ? window->waiting + LT_WINDOW : 0;
}

void lt_window_unsure(struct lt_window *window)
{
    window->complete = false;
    window->floor = INT64_MAX;
}

/* What is asked of the memory part. */

struct told {
    union {
        struct lt_change_op change;
        struct lt_add_op add;
        struct lt_update_op update;
    } op; /* each begins with its reply */
    struct lt_combine *c;
    struct lt_entry *entry; /* with a reference */
    struct lt_task *next;   /* of the memory part */
    struct lt_task *task;   /* of the store */
    lt_window_then *then;
    void *arg;
};

static struct told *new_told(struct lt_combine *c, struct lt_entry *entry, lt_window_then *then, void *arg)
{
    struct told *told = lt_zalloc(sizeof *told);
    told->c = c;
    told->entry = lt_entry_ref(entry);
    told->then = then;
    told->arg = arg;
    c->telling++;
    return told;
}

static void told_over(struct told *told)
{
    lt_window_then *then = told->then;
    void *arg = told->arg;
    struct lt_combine *c = told->c;
    lt_reply_clear(&told->op.add.reply);
    lt_entry_unref(told->entry);
    free(told);
    if (then != NULL)
        then(arg);
    c->telling--;
    c->told(c);
}

/* The store has said how it is; so what the memory part does not take is only not in its order any more. */
static void memory_failed(struct told *told, const struct lt_reply *reply)
{
    struct lt_combine *c = told->c;
    if (reply->code != LT_FULL)
        lt_log_gated(&c->log, LT_LOG_WARN, "the memory part of a container did not take what its store did",
                     LT_S("container", c->memory->ops->name), LT_S("task", told->entry->task->data),
                     LT_S("error", lt_reply_message(reply)));
    lt_window_forget(&c->window, told->entry);
    lt_window_unsure(&c->window);
    c->window.failed = true;
}

/* Adding. */

static void on_added(struct lt_reply *reply)
{
    struct told *told = lt_container_of(reply, struct told, op.add.reply);
    if (reply->code != LT_OK)
        memory_failed(told, reply);
    free(told->op.add.tasks);
    told_over(told);
}

static void add_entry(struct lt_combine *c, struct lt_entry *entry, lt_window_then *then, void *arg)
{
    struct told *told = new_told(c, entry, then, arg);
    told->op.add.tasks = lt_alloc(sizeof(struct lt_task *));
    told->op.add.tasks[0] = entry->shadow;
    told->op.add.count = 1;
    lt_reply_begin(&told->op.add.reply, c->env.loop, on_added);
    c->memory->ops->add(c->memory, &told->op.add);
    lt_reply_end(&told->op.add.reply);
}

/* What the memory part is to know of a task. */
static struct lt_task *new_shadow(const struct lt_combine *c, const struct lt_task *task)
{
    bool shows = c->memory->ops->add_running != NULL; /* it has methods that look at the item */
    struct lt_task *shadow;
    if (shows) {
        shadow = lt_task_clone(task);
    } else {
        shadow = lt_task_new_hashed(task->hash, task->data, task->id_len, "", 0);
        shadow->priority = task->priority;
        lt_task_inherit(shadow, task);
    }
    if (!c->memory->ops->priorities)
        shadow->priority = 0;
    shadow->run = 0; /* its own runs */
    if (shadow->options != NULL) {
        shadow->options->once = false;
        shadow->options->expires_at = 0; /* the store sees to that */
    }
    return shadow;
}

static bool comes_first(const struct lt_combine *c, const struct lt_task *task)
{
    const struct lt_window *window = &c->window;
    if (window->waiting >= LT_WINDOW)
        return false;
    return window->complete || (!c->store->fair && c->store->ops->priorities && task->priority > window->floor);
}

/* Fair, its key may be the next, whatever else waits: the first ones are looked at again. */
static void leave_out(struct lt_combine *c, const struct lt_task *task)
{
    struct lt_window *window = &c->window;
    window->missed = window->missed || c->store->fair;
    if (window->complete || task->priority > window->floor)
        window->floor = task->priority;
    window->complete = false;
}

void lt_window_offer(struct lt_combine *c, struct lt_task *task, bool seen, lt_window_then *then, void *arg)
{
    struct lt_window *window = &c->window;
    bool delayed = task->run_at > lt_loop_wall(c->env.loop);
    bool known = lt_window_find(window, task) != NULL;
    if (!seen && !delayed && (known || !comes_first(c, task)))
        leave_out(c, task);
    if (known || (!seen && (delayed || !comes_first(c, task)))) {
        then(arg);
        return;
    }
    struct lt_entry *entry = new_entry(window, task, new_shadow(c, task));
    set_waiting(window, entry);
    add_entry(c, entry, then, arg);
}

static void on_adopted(struct lt_reply *reply)
{
    struct told *told = lt_container_of(reply, struct told, op.update.reply);
    if (reply->code != LT_OK)
        memory_failed(told, reply);
    told_over(told);
}

void lt_window_adopt(struct lt_combine *c, struct lt_task *task, lt_window_then *then, void *arg)
{
    struct lt_entry *entry = lt_window_find(&c->window, task);
    if (c->memory->ops->add_running == NULL || entry != NULL) {
        then(arg);
        return;
    }
    entry = new_entry(&c->window, task, lt_task_clone(task));
    struct told *told = new_told(c, entry, then, arg);
    told->op.update.task = entry->shadow;
    told->op.update.run = entry->shadow->run;
    lt_reply_begin(&told->op.update.reply, c->env.loop, on_adopted);
    c->memory->ops->add_running(c->memory, &told->op.update);
    lt_reply_end(&told->op.update.reply);
}

/* Changing. */

static void set_shadow(struct lt_entry *entry, struct lt_task *shadow)
{
    lt_task_unref(entry->shadow);
    entry->shadow = shadow;
}

static void set_task(struct lt_entry *entry, struct lt_task *task)
{
    lt_task_unref(entry->task);
    entry->task = task;
}

static void on_changed(struct lt_reply *reply)
{
    struct told *told = lt_container_of(reply, struct told, op.change.reply);
    struct lt_entry *entry = told->entry;
    struct lt_window *window = &told->c->window;
    bool waits = told->op.change.transition.to == LT_WAITING;
    if (reply->code != LT_OK) {
        memory_failed(told, reply);
    } else if (waits && told->next != NULL && entry->known) {
        set_shadow(entry, lt_task_ref(told->next));
        set_waiting(window, entry);
    } else if (told->op.change.transition.to != LT_EXPORTING) {
        lt_window_forget(window, entry);
    }
    lt_task_unref(told->next);
    lt_task_unref(told->op.change.task);
    lt_transition_clear(&told->op.change.transition);
    told_over(told);
}

void lt_window_tell(struct lt_combine *c, struct lt_entry *entry, const struct lt_transition *transition,
                    struct lt_task *next, lt_window_then *then, void *arg)
{
    bool leaves = transition->to != LT_EXPORTING && transition->to != LT_WAITING;
    struct told *told = new_told(c, entry, then, arg);
    told->op.change.task = lt_task_ref(entry->shadow);
    told->op.change.transition = *transition;
    told->op.change.transition.run = entry->shadow->run;
    if (leaves) {
        lt_task_unref(next);
        lt_window_forget(&c->window, entry); /* another may come under its id */
    } else if (next != NULL && entry->known) {
        lt_map_remove(&c->window.entries, entry->task->hash, entry);
        set_task(entry, next);
        lt_map_put(&c->window.entries, entry->task->hash, entry);
    } else {
        lt_task_unref(next);
    }
    told->op.change.transition.reason = lt_bytes_ref(transition->reason);
    told->op.change.transition.output = lt_bytes_ref(transition->output);
    told->op.change.next = transition->to == LT_WAITING ? &told->next : NULL;
    lt_reply_begin(&told->op.change.reply, c->env.loop, on_changed);
    c->memory->ops->change(c->memory, &told->op.change);
    lt_reply_end(&told->op.change.reply);
}

void lt_window_drop(struct lt_combine *c, struct lt_entry *entry, lt_window_then *then, void *arg)
{
    struct lt_transition stopped = {.to = LT_STOPPED, .now = lt_loop_wall(c->env.loop)};
    lt_window_tell(c, entry, &stopped, NULL, then, arg);
}
