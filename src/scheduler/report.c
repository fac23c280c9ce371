/* What is heard of a run while it runs: its handle and progress, which are stored as they change, and its end, by a
 * push or a poll, of which the first one counts. */
#include "base/alloc.h"
#include "scheduler/run.h"

void lt_report_clear(struct lt_report *report)
{
    lt_bytes_set(&report->reason, NULL);
    lt_bytes_set(&report->output, NULL);
    lt_bytes_set(&report->progress, NULL);
}

/* Handle and progress. */

void lt_run_store_update(struct lt_run *run);

static void on_update(struct lt_reply *reply)
{
    struct lt_run_extra *own = lt_container_of(reply, struct lt_run_extra, update.reply);
    struct lt_run *run = own->run;
    if (reply->code != LT_OK && reply->code != LT_STALE)
        lt_log_gated(&lt_run_extra(run)->log, LT_LOG_ERROR, "handle or progress was not stored",
                     LT_S("scheduler", run->scheduler->name), LT_S("task", run->work.task->data),
                     LT_S("error", lt_reply_message(reply)));
    bool again = own->update_again && run->state == RUN_RUNNING;
    own->update_again = false;
    if (again)
        lt_run_store_update(run);
    lt_run_unref(run);
}

/* One at a time; what changes meanwhile is stored with the next. */
void lt_run_store_update(struct lt_run *run)
{
    struct lt_container *container = run->scheduler->config.container;
    struct lt_run_extra *own = lt_run_extra(run);
    if (lt_reply_pending(&own->update.reply)) {
        own->update_again = true;
        return;
    }
    run->refs++;
    own->update.task = run->work.task;
    own->update.run = run->work.run;
    lt_reply_begin(&own->update.reply, run->scheduler->loop, on_update);
    container->ops->update(container, &own->update);
    lt_reply_end(&own->update.reply);
}

static void set_progress(struct lt_run *run, struct lt_bytes *progress)
{
    lt_bytes_set(&lt_task_extra(run->work.task)->progress, progress);
    run->refs++; /* the script may end it in either */
    lt_run_store_update(run);
    lt_emit(run->scheduler, LT_EVENT_PROGRESS, run->work.task, NULL);
    lt_run_unref(run);
}

bool lt_scheduler_progress(struct lt_scheduler *s, struct lt_work *work, struct lt_bytes *progress)
{
    (void)s;
    struct lt_run *run = lt_run_of(work);
    if (run->reported || (run->state != RUN_STARTING && run->state != RUN_RUNNING)) {
        lt_bytes_unref(progress);
        return false;
    }
    set_progress(run, progress);
    return true;
}

/* Reports. */

static bool take_report(struct lt_run *run, struct lt_report *report)
{
    bool takes = !run->reported && run->why == WHY_WORK && (run->state == RUN_STARTING || run->state == RUN_RUNNING);
    if (!takes) {
        run->scheduler->stats.stale++;
        lt_report_clear(report);
        return false;
    }
    if (report->status == LT_RUNNING) {
        struct lt_bytes *progress = report->progress;
        report->progress = NULL;
        lt_report_clear(report);
        if (progress != NULL)
            set_progress(run, progress);
        return false;
    }
    if (report->progress != NULL)
        lt_bytes_set(&lt_task_extra(run->work.task)->progress, lt_bytes_ref(report->progress));
    run->report = *report;
    run->reported = true;
    return true;
}

void lt_run_report(struct lt_run *run, struct lt_report *report)
{
    struct lt_scheduler *s = run->scheduler;
    if (!take_report(run, report) || run->state == RUN_STARTING)
        return;
    TAILQ_REMOVE(&s->active, run, link);
    TAILQ_INSERT_TAIL(&s->reported, run, link);
    lt_pump_post(s);
}

void lt_scheduler_push(struct lt_scheduler *s, struct lt_push *push)
{
    struct lt_run *run = lt_run_find(s, push->id, push->id_len);
    if (run == NULL || (push->run != 0 && push->run != run->work.run)) {
        s->stats.stale++;
        lt_report_clear(&push->report);
        return;
    }
    lt_run_report(run, &push->report);
}

uint32_t lt_run_collect(struct lt_scheduler *s)
{
    uint32_t count = 0;
    if (s->poll_size < s->limiter.running) {
        s->poll_size = s->limiter.running;
        s->poll_works = lt_realloc(s->poll_works, s->poll_size * sizeof(struct lt_work *));
    }
    struct lt_run *run;
    TAILQ_FOREACH(run, &s->active, link) {
        if (run->state != RUN_RUNNING || run->looking)
            continue;
        run->refs++;
        run->work.seen = LT_REPORT(LT_RUNNING);
        s->poll_works[count++] = &run->work;
    }
    return count;
}

void lt_run_polled(struct lt_run *run, bool seen)
{
    struct lt_report report = run->work.seen;
    run->work.seen = LT_REPORT(LT_RUNNING);
    if (seen && run->state == RUN_RUNNING && !run->reported && run->why == WHY_WORK)
        lt_run_report(run, &report);
    else
        lt_report_clear(&report); /* it ended meanwhile: the poll is no second opinion */
    lt_run_unref(run);
}
