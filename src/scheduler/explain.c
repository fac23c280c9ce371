/* Why a task is where it is: a sentence for people, and a code. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "scheduler/state.h"

enum { MOST_HOLDERS = 5 };

struct text {
    char data[1024];
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text->data + text->len, sizeof text->data - text->len, format, args);
    va_end(args);
    if (n > 0)
        text->len += (size_t)n;
    if (text->len >= sizeof text->data)
        text->len = sizeof text->data - 1;
}

/* "1.5 s", "12 min", "3 h". */
static void say_span(struct text *text, double seconds)
{
    static const double MINUTES = 120, HOURS = 7200, DAYS = 172800;
    if (seconds < MINUTES)
        say(text, "%.1f s", seconds > 0 ? seconds : 0);
    else if (seconds < HOURS)
        say(text, "%.0f min", seconds / 60);
    else if (seconds < DAYS)
        say(text, "%.1f h", seconds / 3600);
    else
        say(text, "%.1f days", seconds / 86400);
}

static bool same_key(const struct lt_bytes *a, const struct lt_bytes *b)
{
    return a != NULL && b != NULL && a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* Who holds the slots: all, or those of a key. */
static void say_holders(struct text *text, const struct lt_scheduler *s, const struct lt_bytes *key)
{
    const struct lt_run_list *lists[] = {&s->active, &s->to_start};
    uint32_t count = 0;
    for (int i = 0; i < 2; i++) {
        const struct lt_run *run;
        TAILQ_FOREACH(run, lists[i], link) {
            if (key != NULL && !same_key(key, lt_task_key(run->work.task)))
                continue;
            if (count++ < MOST_HOLDERS)
                say(text, "%s'%s'", count == 1 ? ": held by " : ", ", run->work.task->data);
        }
    }
    if (count > MOST_HOLDERS)
        say(text, " and %u more", count - MOST_HOLDERS);
}

static uint32_t count_holders(const struct lt_scheduler *s, const struct lt_bytes *key)
{
    const struct lt_run_list *lists[] = {&s->active, &s->to_start};
    uint32_t count = 0;
    for (int i = 0; i < 2; i++) {
        const struct lt_run *run;
        TAILQ_FOREACH(run, lists[i], link)
            count += same_key(key, lt_task_key(run->work.task));
    }
    return count;
}

static void say_ahead(struct text *text, const struct lt_scheduler *s, const struct lt_task *task)
{
    const struct lt_container *container = s->config.container;
    uint64_t ahead = container->ops->ahead != NULL ? container->ops->ahead(container, task) : 0;
    if (ahead > 0)
        say(text, "; %llu due before it", (unsigned long long)ahead);
}

/* A task that waits. */

static const char *explain_key(struct text *text, const struct lt_scheduler *s, struct lt_bytes *key)
{
    struct lt_key_state state;
    lt_limiter_look(&s->limiter, key, &state);
    if (s->limiter.limits.shared_key_limit > 0) { /* the container's: what this scheduler runs of it is a part */
        state.limit = s->limiter.limits.shared_key_limit;
        state.running = count_holders(s, key);
    }
    if (state.limit == 0) {
        say(text, "the key '%s' may have none running now: its limit is 0", key->data);
        return "key";
    }
    if (state.running >= state.limit) {
        say(text, "the key '%s' is full: %u of %u run", key->data, state.running, state.limit);
        say_holders(text, s, key);
        return "key";
    }
    if (state.token_in > 0) {
        say(text, "the rate of the key '%s' is used up: the next start may be in ", key->data);
        say_span(text, state.token_in);
        return "rate";
    }
    return NULL;
}

static const char *explain_limits(struct text *text, const struct lt_scheduler *s, const struct lt_task *task)
{
    const struct lt_limiter *limiter = &s->limiter;
    uint32_t capacity = s->config.actuator->capacity;
    struct lt_bytes *key = lt_task_key(task);
    const char *code = key != NULL ? explain_key(text, s, key) : NULL;
    if (code != NULL)
        return code;
    if (limiter->running >= limiter->limits.slots) {
        say(text, "the limit is reached: %u of %u run", limiter->running, limiter->limits.slots);
        say_holders(text, s, NULL);
        return "limit";
    }
    if (limiter->running >= capacity) {
        say(text, "the actuator takes no more than %u at once", capacity);
        say_holders(text, s, NULL);
        return "capacity";
    }
    if (s->claim.queue_full > 0) {
        say(text, "all hosts together run as many as global_limit allows: %u", s->claim.queue_full);
        return "limit";
    }
    if (s->claim.token_at > lt_loop_now(s->loop)) {
        say(text, "the rate of the queue is used up: the next start may be in ");
        say_span(text, s->claim.token_at - lt_loop_now(s->loop));
        return "rate";
    }
    double token_in = lt_limiter_token_in(limiter, lt_loop_now(s->loop));
    if (token_in > 0) {
        say(text, "the rate of %g in %g s is used up: the next start may be in ", limiter->limits.rate.burst,
            limiter->limits.rate.per);
        say_span(text, token_in);
        return "rate";
    }
    return NULL;
}

static void say_delay(struct text *text, double until, double now)
{
    const double year_10000 = 253402300800; /* from there on a date has no four digits, and at last no year */
    if (until >= year_10000) {
        say(text, "delayed beyond the year 9999");
        return;
    }
    time_t at = (time_t)until;
    struct tm tm;
    char when[32];
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &tm));
    say(text, "delayed until %s, in ", when);
    say_span(text, until - now);
}

static const char *explain_waiting(struct text *text, const struct lt_scheduler *s, const struct lt_task *task)
{
    double now = lt_loop_wall(s->loop);
    const char *code = NULL;
    say(text, "waits: ");
    if (task->run_at > now) {
        say_delay(text, task->run_at, now);
        if (task->reason != NULL)
            say(text, "; its last run: %s", task->reason->data);
        return "delayed";
    }
    if (s->store.down) {
        say(text, "the store is down since ");
        say_span(text, now - s->store.down_since);
        return "down";
    }
    if (s->paused || s->paused_by_queue) {
        say(text, s->paused ? "the scheduler is paused" : "the queue is paused for all hosts");
        say_ahead(text, s, task);
        return "paused";
    }
    if (s->closing) {
        say(text, "the scheduler is closing");
        return "paused";
    }
    if (!s->recovered) {
        say(text, "the tasks of the host before are being recovered");
        return "down";
    }
    code = explain_limits(text, s, task);
    if (code == NULL) {
        say(text, "due, and will start as soon as it is its turn");
        code = "due";
    }
    say_ahead(text, s, task);
    return code;
}

/* One that runs here. */

static void say_since(struct text *text, const struct lt_scheduler *s, double since)
{
    if (since <= 0)
        return;
    say(text, " since ");
    say_span(text, lt_loop_wall(s->loop) - since);
}

static const char *explain_stopping(struct text *text, const struct lt_run *run)
{
    static const char *const whys[] = {
        [LT_WHY_WORK] = "it ended",
        [LT_WHY_GONE] = "its work is gone",
        [LT_WHY_TIMEOUT] = "its time was over",
        [LT_WHY_NOT_NOW] = "there is no place for it now",
        [LT_WHY_STOP] = "a stop was asked for",
        [LT_WHY_SHUTDOWN] = "the scheduler closes",
        [LT_WHY_LEASE] = "its lease was lost",
    };
    const struct lt_run_extra *extra = run->extra;
    say(text, "is being stopped");
    if (extra != NULL)
        say_since(text, run->scheduler, extra->stopping_since);
    say(text, ", because %s", whys[run->why]);
    if (extra != NULL && extra->stop_answer != NULL)
        say(text, "; its actuator last answered: %s", extra->stop_answer->data);
    return "stopping";
}

static const char *explain_run(struct text *text, const struct lt_run *run)
{
    const struct lt_scheduler *s = run->scheduler;
    const struct lt_task *task = run->work.task;
    switch ((enum lt_run_state)run->state) {
    case LT_RUN_CLAIMED:
        say(text, s->paused || s->paused_by_queue ? "has its slot, and the scheduler is paused"
                                                  : "has its slot, and is about to start");
        return s->paused || s->paused_by_queue ? "paused" : "due";
    case LT_RUN_RECOVERING:
    case LT_RUN_RECOVERING_ENDED:
        say(text, "ran on a host that died; its actuator is asked whether it still does");
        return "running";
    case LT_RUN_STARTING:
    case LT_RUN_STARTING_ENDED:
        say(text, "is being started");
        say_since(text, s, task->started_at);
        return "running";
    case LT_RUN_RUNNING:
    case LT_RUN_LOOKING:
        say(text, "runs");
        say_since(text, s, task->started_at);
        if (run->work.deadline > 0) {
            say(text, ", and has ");
            say_span(text, run->work.deadline - lt_loop_now(s->loop));
        }
        return "running";
    case LT_RUN_RECOVERING_ENDING:
    case LT_RUN_STARTING_ENDING:
    case LT_RUN_STOPPING:
    case LT_RUN_STOPPING_ENDED:
    case LT_RUN_STOP_PAUSE:
    case LT_RUN_MARKING_ENDING:
    case LT_RUN_OUTPUT_ENDING:
    case LT_RUN_SAVING_ENDING:
        return explain_stopping(text, run);
    case LT_RUN_MARK_OWED:
    case LT_RUN_SETTLE_OWED:
        say(text, "has ended, and the store could not take its end");
        say_since(text, s, s->store.down ? s->store.down_since : 0);
        return "down";
    case LT_RUN_MARKING:
    case LT_RUN_OUTPUT:
    case LT_RUN_SAVING:
        say(text, "has succeeded, and its output is being saved");
        return "exporting";
    case LT_RUN_EXPORT_PAUSE:
        say(text, "has succeeded; saving its output failed %u times and will be tried again", run->tries);
        if (run->report.reason != NULL)
            say(text, ": %s", run->report.reason->data);
        return "exporting";
    default:
        say(text, "has ended, and its end is being stored");
        return lt_machine_exports(run->state) ? "exporting" : "running";
    }
}

struct lt_bytes *lt_explain(struct lt_scheduler *s, const struct lt_task *task, const char **code)
{
    struct text text = {.len = 0};
    const struct lt_run *run = lt_run_find(s, task->data, task->id_len);
    say(&text, "task '%s' ", task->data);
    if (task->status == LT_WAITING) {
        *code = explain_waiting(&text, s, task);
    } else if (lt_status_ended(task->status) || task->status == LT_DELETED) {
        say(&text, "has ended: %s", lt_status_name(task->status));
        if (task->reason != NULL)
            say(&text, ", %s", task->reason->data);
        *code = "ended";
    } else if (run != NULL) {
        *code = explain_run(&text, run);
    } else {
        say(&text, "runs on another host");
        say_since(&text, s, task->started_at);
        *code = task->status == LT_EXPORTING ? "exporting" : "running";
    }
    return lt_bytes_new(text.data, text.len);
}
