/* What is heard of a run while it runs: its handle and progress, which are stored as they change, its output as it
 * comes, and its end, of which the first one counts. */
#include <string.h>

#include "base/alloc.h"
#include "scheduler/state.h"

bool lt_run_note_handle(struct lt_run *run)
{
    if (run->work.handle == NULL)
        return false;
    lt_bytes_set(&lt_task_extra(run->work.task)->handle, run->work.handle);
    run->work.handle = NULL;
    return true;
}

static bool may_progress(const struct lt_run *run)
{
    return run->report.status == LT_RUNNING && run->why == LT_WHY_WORK &&
           (run->state == LT_RUN_STARTING || run->state == LT_RUN_RUNNING || run->state == LT_RUN_LOOKING);
}

void lt_run_set_progress(struct lt_run *run, struct lt_bytes *progress)
{
    lt_bytes_set(&lt_task_extra(run->work.task)->progress, progress);
    lt_run_ref(run); /* the script may end it in either */
    lt_store_update(run);
    lt_emit(run->scheduler, LT_EVENT_PROGRESS, run->work.task, NULL);
    lt_run_unref(run);
}

bool lt_scheduler_progress(struct lt_scheduler *s, struct lt_work *work, struct lt_bytes *progress)
{
    (void)s;
    struct lt_run *run = lt_run_of(work);
    if (!may_progress(run)) {
        lt_bytes_unref(progress);
        return false;
    }
    lt_run_set_progress(run, progress);
    return true;
}

static void take_news(struct lt_run *run, struct lt_report *report)
{
    struct lt_bytes *progress = report->progress;
    bool fresh = may_progress(run);
    report->progress = NULL;
    lt_report_clear(report);
    if (!fresh)
        run->scheduler->stats.stale++;
    if (fresh && progress != NULL)
        lt_run_set_progress(run, progress);
    else
        lt_bytes_unref(progress);
}

/* The end is kept here; what it means is up to the machine. */
void lt_run_take_report(struct lt_run *run, struct lt_report *report)
{
    if (report->status == LT_RUNNING) {
        take_news(run, report);
        return;
    }
    if (run->report.status != LT_RUNNING || run->state == LT_RUN_GONE) {
        run->scheduler->stats.stale++;
        lt_report_clear(report);
        return;
    }
    lt_report_clear(&run->report);
    run->report = *report;
    lt_signal(run, LT_EV_REPORT);
}

void lt_scheduler_push(struct lt_scheduler *s, struct lt_push *push)
{
    struct lt_run *run = lt_run_find(s, push->id, push->id_len);
    if (run == NULL || (push->run != 0 && push->run != run->work.run)) {
        s->stats.stale++;
        lt_report_clear(&push->report);
        return;
    }
    lt_run_take_report(run, &push->report);
}

/* Actions. */

/* It ended by itself after its end had been decided: only what it left is kept. */
void lt_keep_remains(struct lt_run *run)
{
    run->scheduler->stats.stale++;
    lt_bytes_set(&run->report.reason, NULL);
    run->report.snooze = 0;
}

void lt_discard_report(struct lt_run *run)
{
    run->scheduler->stats.stale++;
    lt_report_clear(&run->report);
    run->report = LT_REPORT(LT_RUNNING);
}

/* Live output. */

bool lt_run_put_out(struct lt_run *run, enum lt_stream stream, struct lt_bytes *bytes)
{
    struct lt_scheduler *s = run->scheduler;
    if ((s->events >> LT_EVENT_OUTPUT & 1) == 0 || run->state == LT_RUN_GONE) {
        lt_bytes_unref(bytes);
        return true;
    }
    lt_run_note_handle(run); /* start was answered, and that is not driven yet */
    struct lt_run_extra *extra = lt_run_extra(run);
    if (extra->flow == NULL) {
        extra->flow = lt_zalloc(sizeof *extra->flow);
        extra->flow->refs = 1;
        extra->flow->run = run;
    }
    struct lt_flow *flow = extra->flow;
    flow->telling = true;
    lt_run_ref(run);
    lt_emit(s, LT_EVENT_OUTPUT, run->work.task,
            &(struct lt_event_data){.stream = stream, .bytes = bytes, .flow = flow});
    flow->telling = false;
    bool more = flow->holds == 0;
    lt_run_unref(run);
    lt_bytes_unref(bytes);
    return more;
}
