/* What both containers are told: the store first, and what it says is answered; the memory part when it has said yes. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "containers/combine/combine_state.h"

/* Adding. */

struct joint_add {
    struct lt_add_op store;
    struct lt_combine *c;
    struct lt_add_op *outer;
    uint32_t pending;
};

static void add_told(void *arg)
{
    struct joint_add *add = arg;
    if (--add->pending > 0)
        return;
    struct lt_reply *reply = &add->store.reply;
    lt_reply_send(&add->outer->reply, reply->code, reply->code != LT_OK ? lt_reply_message(reply) : NULL);
    lt_reply_clear(reply);
    free(add);
}

static void on_stored(struct lt_reply *reply)
{
    struct joint_add *add = lt_container_of(reply, struct joint_add, store.reply);
    add->pending = 1;
    for (uint32_t i = 0; reply->code == LT_OK && i < add->store.count; i++) {
        add->pending++;
        lt_window_offer(add->c, add->store.tasks[i], false, add_told, add);
    }
    add_told(add);
}

/* What the memory part would refuse is not stored. */
static bool is_refused(const struct lt_combine *c, struct lt_add_op *op)
{
    struct lt_error error;
    for (uint32_t i = 0; !c->memory->ops->priorities && i < op->count; i++) {
        if (op->tasks[i]->priority == 0)
            continue;
        lt_fail(&error, LT_REFUSED, "task '%s' has priority %lld, and a %s has no priorities", op->tasks[i]->data,
                (long long)op->tasks[i]->priority, c->memory->ops->name);
        lt_reply_send(&op->reply, LT_REFUSED, error.message);
        return true;
    }
    return false;
}

void lt_combine_add(struct lt_container *container, struct lt_add_op *op)
{
    struct lt_combine *c = lt_combine_of(container);
    if (is_refused(c, op))
        return;
    struct joint_add *add = lt_zalloc(sizeof *add);
    add->c = c;
    add->outer = op;
    add->store.tasks = op->tasks;
    add->store.count = op->count;
    lt_reply_begin(&add->store.reply, c->env.loop, on_stored);
    c->store->ops->add(c->store, &add->store);
    lt_reply_end(&add->store.reply);
}

/* Changes. */

struct joint_change {
    struct lt_change_op store; /* it has no references of its own: what it names is there until `outer` is answered */
    struct lt_combine *c;
    struct lt_change_op *outer;
};

static void change_told(void *arg)
{
    struct joint_change *change = arg;
    struct lt_reply *reply = &change->store.reply;
    change->outer->reply.cancel_arg = NULL;
    lt_reply_send(&change->outer->reply, reply->code, reply->code != LT_OK ? lt_reply_message(reply) : NULL);
    lt_reply_clear(reply);
    free(change);
}

/* The store's object of a task that waits from now on. */
static struct lt_task *next_object(const struct lt_change_op *op)
{
    struct lt_task *next = lt_task_next(op->task, &op->transition);
    next->seq = op->task->seq; /* the store's own: where it is */
    return next;
}

static void offer_next(struct joint_change *change)
{
    struct lt_task *next = next_object(&change->store);
    lt_window_offer(change->c, next, false, change_told, change);
    lt_task_unref(next);
}

/* A run of it is over, and it waits again: in the memory part too, if it comes before what is not there. */
static void wait_again(struct joint_change *change, struct lt_entry *entry)
{
    const struct lt_transition *transition = &change->store.transition;
    struct lt_task *next = next_object(&change->store);
    if (transition->not_begun || (next->run_at <= lt_loop_wall(change->c->env.loop) && change->c->window.complete)) {
        lt_window_tell(change->c, entry, transition, next, change_told, change);
        return;
    }
    lt_window_unsure(&change->c->window);
    lt_task_unref(next);
    lt_window_drop(change->c, entry, change_told, change);
}

static void on_change_stored(struct lt_reply *reply)
{
    struct joint_change *change = lt_container_of(reply, struct joint_change, store.reply);
    const struct lt_transition *transition = &change->store.transition;
    struct lt_entry *entry = lt_window_find(&change->c->window, change->store.task);
    bool moved_on = (reply->code == LT_STALE || reply->code == LT_UNKNOWN) && entry != NULL && !entry->waits &&
                    entry->task->run == change->store.task->run;
    if (moved_on)
        lt_window_drop(change->c, entry, change_told, change);
    else if (reply->code != LT_OK || (entry == NULL && transition->to != LT_WAITING))
        change_told(change);
    else if (entry == NULL)
        offer_next(change);
    else if (transition->to == LT_WAITING)
        wait_again(change, entry);
    else
        lt_window_tell(change->c, entry, transition, NULL, change_told, change);
}

void lt_combine_change(struct lt_container *container, struct lt_change_op *op)
{
    struct lt_combine *c = lt_combine_of(container);
    struct joint_change *change = lt_zalloc(sizeof *change);
    change->c = c;
    change->outer = op;
    change->store.task = op->task;
    change->store.token = op->token;
    change->store.again = op->again;
    change->store.transition = op->transition;
    op->reply.cancel_arg = change;
    lt_reply_begin(&change->store.reply, c->env.loop, on_change_stored);
    c->store->ops->change(c->store, &change->store);
    lt_reply_end(&change->store.reply);
}

struct lt_change_op *lt_combine_change_asked(const struct lt_change_op *op, bool *stored)
{
    struct joint_change *change = op->reply.cancel_arg;
    bool asked = change != NULL && change->store.reply.state == LT_REPLY_WAITING;
    *stored = change != NULL && !asked && change->store.reply.code == LT_OK;
    return asked ? &change->store : NULL;
}

/* Updates. */

struct joint_update {
    struct lt_update_op op; /* of the store, and then of the memory part */
    struct lt_combine *c;
    struct lt_update_op *outer;
    struct lt_task *shadow; /* with a reference */
};

static void answer_update(struct joint_update *update, int code, const char *message)
{
    lt_reply_send(&update->outer->reply, code, code != LT_OK ? message : NULL);
    lt_task_unref(update->shadow);
    lt_reply_clear(&update->op.reply);
    free(update);
}

static void on_update_told(struct lt_reply *reply)
{
    answer_update(lt_container_of(reply, struct joint_update, op.reply), LT_OK, NULL); /* it is stored all the same */
}

static void on_update_stored(struct lt_reply *reply)
{
    struct joint_update *update = lt_container_of(reply, struct joint_update, op.reply);
    struct lt_combine *c = update->c;
    const struct lt_entry *entry = lt_window_find(&c->window, update->op.task);
    bool runs = entry != NULL && !entry->waits && entry->task->run == update->op.run;
    if (reply->code != LT_OK || !runs || c->memory->ops->add_running == NULL) {
        answer_update(update, reply->code, lt_reply_message(reply));
        return;
    }
    update->shadow = lt_task_ref(entry->shadow);
    struct lt_task_extra *extra = lt_task_extra(update->shadow);
    lt_bytes_set(&extra->handle, lt_bytes_ref(update->op.handle));
    lt_bytes_set(&extra->progress, lt_bytes_ref(update->op.progress));
    update->op.task = update->shadow;
    update->op.run = update->shadow->run;
    lt_reply_begin(reply, c->env.loop, on_update_told);
    c->memory->ops->update(c->memory, &update->op);
    lt_reply_end(reply);
}

void lt_combine_update(struct lt_container *container, struct lt_update_op *op)
{
    struct lt_combine *c = lt_combine_of(container);
    struct joint_update *update = lt_zalloc(sizeof *update);
    update->op = (struct lt_update_op){
        .task = op->task, .run = op->run, .token = op->token, .handle = op->handle, .progress = op->progress};
    update->c = c;
    update->outer = op;
    lt_reply_begin(&update->op.reply, c->env.loop, on_update_stored);
    c->store->ops->update(c->store, &update->op);
    lt_reply_end(&update->op.reply);
}

/* Recovery. */

struct joint_recover {
    struct lt_recover_op store;
    struct lt_combine *c;
    struct lt_recover_op *outer;
    uint32_t pending;
};

static void recover_told(void *arg)
{
    struct joint_recover *recover = arg;
    if (--recover->pending > 0)
        return;
    struct lt_reply *reply = &recover->store.reply;
    lt_reply_send(&recover->outer->reply, reply->code, reply->code != LT_OK ? lt_reply_message(reply) : NULL);
    lt_reply_clear(reply);
    free(recover->store.tasks.items);
    free(recover);
}

static void on_recovered(struct lt_reply *reply)
{
    struct joint_recover *recover = lt_container_of(reply, struct joint_recover, store.reply);
    struct lt_claims *tasks = &recover->store.tasks;
    recover->pending = 1;
    for (uint32_t i = 0; i < tasks->count; i++) {
        lt_claims_push(&recover->outer->tasks, tasks->items[i]); /* its reference moves */
        recover->pending++;
        lt_window_adopt(recover->c, tasks->items[i].task, recover_told, recover);
    }
    tasks->count = 0;
    recover_told(recover);
}

void lt_combine_recover(struct lt_container *container, struct lt_recover_op *op)
{
    struct lt_combine *c = lt_combine_of(container);
    struct joint_recover *recover = lt_zalloc(sizeof *recover);
    recover->c = c;
    recover->outer = op;
    lt_reply_begin(&recover->store.reply, c->env.loop, on_recovered);
    c->store->ops->recover(c->store, &recover->store);
    lt_reply_end(&recover->store.reply);
}
