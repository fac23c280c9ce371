/* Busy or idle: the owner keeps the process alive while a scheduler is busy, and the finished list ends when it is idle.
 *
 * What waits is known from what the last claim said, and not from a count: the store may be shared. */
#include "scheduler/state.h"

bool lt_work_left(const struct lt_scheduler *s)
{
    return !s->recovered || s->run_count > 0 || lt_reply_pending(&s->claim.reply) || s->claimed || s->unlooked ||
           s->waits || s->expired_next < s->expired.count;
}

bool lt_scheduler_idle(const struct lt_scheduler *s)
{
    return s->closed || (s->requests == 0 && !lt_work_left(s));
}

static void set_busy(struct lt_scheduler *s, bool busy)
{
    if (busy == s->busy)
        return;
    s->busy = busy;
    if (s->config.hooks.busy != NULL)
        s->config.hooks.busy(s->config.hooks.arg, busy);
}

void lt_busy_review(struct lt_scheduler *s)
{
    bool busy = !lt_scheduler_idle(s);
    if (s->closing && !s->closed) {
        set_busy(s, true);
        return;
    }
    if (!busy)
        lt_finished_wake(s);
    set_busy(s, busy);
}

/* What it asks for may have to wait for itself. */
const char lt_inside_message[] =
    "a method of the scheduler's own container would have to wait for itself here: do this "
    "in a job of its own, ltsh.spawn(function() ... end)";

bool lt_scheduler_inside(const struct lt_scheduler *s)
{
    const struct lt_container *container = s->config.container;
    return container->ops->inside != NULL && container->ops->inside(container);
}

void lt_request_begin(struct lt_scheduler *s)
{
    s->requests++;
    if (!s->busy)
        lt_busy_review(s);
}

void lt_request_end(struct lt_scheduler *s)
{
    if (--s->requests == 0)
        lt_pump_post(s); /* it may be idle now */
}
