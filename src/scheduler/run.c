/* A run's life, how it is found, and how things that happen to it are signalled: the pump drives it then. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "scheduler/state.h"

/* Signals. */

void lt_pump_post(struct lt_scheduler *s)
{
    if (!s->closed) /* from then on it may be freed at any time */
        lt_loop_post(s->loop, &s->pump);
}

void lt_signal(struct lt_run *run, enum lt_run_event event)
{
    struct lt_scheduler *s = run->scheduler;
    if (event == LT_EV_NONE || run->state == LT_RUN_GONE)
        return;
    run->signals |= UINT64_C(1) << event;
    if (run->queued || run->driven)
        return;
    run->queued = true;
    TAILQ_INSERT_TAIL(&s->signalled, run, signal_link);
    if (!s->beginning)
        lt_pump_post(s);
}

bool lt_signalled(const struct lt_run *run, enum lt_run_event event)
{
    return (run->signals >> event & 1) != 0;
}

static void run_timer_over(struct lt_timer *timer)
{
    struct lt_run *run = lt_container_of(timer, struct lt_run, timer);
    lt_signal(run, run->timer_event);
}

void lt_run_arm_at(struct lt_run *run, double due, enum lt_run_event event)
{
    run->timer_event = (uint8_t)event;
    lt_timer_start(run->scheduler->loop, &run->timer, due, run_timer_over);
}

void lt_run_arm(struct lt_run *run, double seconds, enum lt_run_event event)
{
    lt_run_arm_at(run, lt_loop_now(run->scheduler->loop) + seconds, event);
}

double lt_run_grow_pause(struct lt_run *run)
{
    static const double FIRST = 1, LONGEST = 30; /* seconds */
    run->pause = run->pause > 0 ? run->pause * 2 : FIRST;
    if (run->pause > LONGEST)
        run->pause = LONGEST;
    return run->pause;
}

void lt_run_ask_stop(struct lt_run *run, enum lt_why why, struct lt_bytes *reason)
{
    struct lt_run_extra *extra = lt_run_extra(run);
    bool stays = run->wish == LT_WHY_STOP && why == LT_WHY_SHUTDOWN; /* it is stopped, also when the host goes away */
    if (run->wish < why && !stays) {
        run->wish = (uint8_t)why;
        lt_bytes_set(&extra->wish_reason, lt_bytes_ref(reason));
    }
    lt_signal(run, LT_EV_STOP);
}

/* Calls beside the machine. */

void lt_call_under_way(struct lt_scheduler *s)
{
    s->calls++;
}

void lt_call_over(struct lt_scheduler *s)
{
    s->calls--;
    if (s->closing)
        lt_pump_post(s);
}

/* Life. */

/* A used one is as good as new but for what is set here: see lt_run_unref. */
static struct lt_run *fresh_run(struct lt_scheduler *s)
{
    struct lt_run *run = lt_zalloc(sizeof *run);
    run->scheduler = s;
    run->timer = LT_TIMER_INIT;
    run->report = run->work.said = LT_REPORT(LT_RUNNING);
    return run;
}

struct lt_run *lt_run_new(struct lt_scheduler *s, struct lt_task *task, uint64_t token)
{
    struct lt_run *run = TAILQ_FIRST(&s->spare);
    if (run != NULL)
        TAILQ_REMOVE(&s->spare, run, link);
    else
        run = fresh_run(s);
    memset(&run->extra, 0, sizeof *run - offsetof(struct lt_run, extra));
    run->refs = 1;
    run->token = token;
    run->work.task = task;
    run->work.run = task->run;
    run->work.deadline = 0;
    run->change.again = false;
    run->change.transition.to = LT_UNSTARTED;
    TAILQ_INIT(&run->waiters);
    s->run_count++;
    return run;
}

/* Runs by id. There are as many as may run at once, and they come and go with each task: so a table of short lists, in
 * which coming and going costs a few instructions. */

static struct lt_run *find_run(const struct lt_scheduler *s, uint32_t hash, const char *id, size_t id_len)
{
    struct lt_run *run;
    if (s->runs == NULL)
        return NULL;
    LIST_FOREACH(run, &s->runs[hash & s->bucket_mask], bucket_link) {
        const struct lt_task *task = run->work.task;
        if (task->hash == hash && task->id_len == id_len && memcmp(task->data, id, id_len) == 0)
            return run;
    }
    return NULL;
}

static void grow_buckets(struct lt_scheduler *s)
{
    enum { SMALLEST = 64 };
    uint32_t size = s->runs == NULL ? SMALLEST : (s->bucket_mask + 1) * 2;
    struct lt_run_bucket *old = s->runs;
    uint32_t old_size = s->runs == NULL ? 0 : s->bucket_mask + 1;
    s->runs = lt_zalloc(size * sizeof *s->runs);
    s->bucket_mask = size - 1;
    for (uint32_t i = 0; i < old_size; i++) {
        struct lt_run *run;
        while ((run = LIST_FIRST(&old[i])) != NULL) {
            LIST_REMOVE(run, bucket_link);
            LIST_INSERT_HEAD(&s->runs[run->work.task->hash & s->bucket_mask], run, bucket_link);
        }
    }
    free(old);
}

void lt_run_list(struct lt_run *run, struct lt_run_list *list)
{
    struct lt_scheduler *s = run->scheduler;
    const struct lt_task *task = run->work.task;
    if (s->runs == NULL || s->run_count > s->bucket_mask)
        grow_buckets(s);
    run->twin = find_run(s, task->hash, task->data, task->id_len) != NULL;
    if (!run->twin)
        LIST_INSERT_HEAD(&s->runs[task->hash & s->bucket_mask], run, bucket_link);
    TAILQ_INSERT_TAIL(list, run, link);
}

void lt_run_unlist(struct lt_run *run, struct lt_run_list *list)
{
    if (!run->twin)
        LIST_REMOVE(run, bucket_link);
    TAILQ_REMOVE(list, run, link);
}

struct lt_run *lt_run_find(struct lt_scheduler *s, const char *id, size_t id_len)
{
    return s->run_count > 0 ? find_run(s, lt_hash(id, id_len), id, id_len) : NULL;
}

struct lt_run_extra *lt_run_extra(struct lt_run *run)
{
    if (run->extra == NULL) {
        run->extra = lt_zalloc(sizeof *run->extra);
        run->extra->run = run;
        run->extra->look_seen.report = LT_REPORT(LT_RUNNING);
    }
    return run->extra;
}

static void flow_unref(struct lt_flow *flow)
{
    if (--flow->refs == 0)
        free(flow);
}

static void free_extra(struct lt_run_extra *extra)
{
    lt_reply_clear(&extra->update.reply);
    lt_reply_clear(&extra->look.reply);
    lt_reply_clear(&extra->save.reply);
    lt_reply_clear(&extra->erase.reply);
    lt_report_clear(&extra->look_seen.report);
    lt_bytes_unref(extra->save.data);
    lt_bytes_unref(extra->wish_reason);
    lt_bytes_unref(extra->stop_reason);
    lt_bytes_unref(extra->stop_answer);
    if (extra->flow != NULL) {
        extra->flow->run = NULL;
        flow_unref(extra->flow);
    }
    free(extra);
}

void lt_run_ref(struct lt_run *run)
{
    run->refs++;
}

static void clear_report(struct lt_report *report)
{
    lt_report_clear(report);
    *report = LT_REPORT(LT_RUNNING);
}

void lt_run_unref(struct lt_run *run)
{
    if (--run->refs > 0)
        return;
    clear_report(&run->report);
    clear_report(&run->work.said);
    lt_bytes_set(&run->work.handle, NULL);
    lt_reply_clear(&run->work.reply);
    lt_reply_clear(&run->change.reply);
    lt_transition_clear(&run->change.transition);
    if (run->extra != NULL)
        free_extra(run->extra);
    lt_task_unref(run->work.task);
    TAILQ_INSERT_HEAD(&run->scheduler->spare, run, link);
}

void lt_run_free_spare(struct lt_scheduler *s)
{
    struct lt_run *run;
    while ((run = TAILQ_FIRST(&s->spare)) != NULL) {
        TAILQ_REMOVE(&s->spare, run, link);
        free(run);
    }
    free(s->runs);
}

/* Live output. */

void lt_flow_hold(struct lt_flow *flow)
{
    flow->refs++;
    flow->holds++;
}

void lt_flow_release(struct lt_flow *flow)
{
    struct lt_run *run = flow->run;
    bool lives = run != NULL && run->state < LT_RUN_ENDED && run->report.status == LT_RUNNING;
    if (--flow->holds == 0 && !flow->telling && lives) {
        struct lt_actuator *actuator = run->scheduler->config.actuator;
        if (actuator->ops->more != NULL)
            actuator->ops->more(actuator, &run->work);
    }
    flow_unref(flow);
}
