/* A container that forgets a task that ended long ago says so: what was saved of it goes too. The row first, then this: what
 * is left when the host ends between is an output that nobody asks for. */
#include <stdlib.h>

#include "base/alloc.h"
#include "scheduler/state.h"

struct forgotten {
    struct lt_load_op op;
    struct lt_scheduler *scheduler;
};

static void on_forgotten(struct lt_reply *reply)
{
    struct forgotten *forgotten = lt_container_of(reply, struct forgotten, op.reply);
    struct lt_scheduler *s = forgotten->scheduler;
    if (reply->code != LT_OK && reply->code != LT_UNKNOWN)
        lt_log(LT_LOG_WARN, "what was saved of a task that is not kept any more could not be deleted",
               LT_S("scheduler", s->name), LT_S("task", forgotten->op.task->data),
               LT_S("error", lt_reply_message(reply)));
    lt_reply_clear(reply);
    lt_task_unref(forgotten->op.task);
    free(forgotten);
    lt_call_over(s);
}

void lt_forget(struct lt_scheduler *s, struct lt_task *task)
{
    struct lt_persister *persister = s->config.persister;
    if (persister == NULL || s->parts_closing)
        return;
    struct forgotten *forgotten = lt_zalloc(sizeof *forgotten);
    forgotten->scheduler = s;
    forgotten->op.task = lt_task_ref(task);
    lt_call_under_way(s);
    lt_reply_begin(&forgotten->op.reply, s->loop, on_forgotten);
    persister->ops->erase(persister, &forgotten->op);
    lt_reply_end(&forgotten->op.reply);
}
