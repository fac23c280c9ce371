#include "scheduler/policy.h"

#include <string.h>

struct lt_bytes *lt_run_reason(struct lt_run *run, const char *text)
{
    lt_bytes_set(&run->report.reason, lt_bytes_new(text, strlen(text)));
    return run->report.reason;
}

double lt_run_backoff(struct lt_run *run, struct lt_bytes *reason, uint32_t tries)
{
    struct lt_scheduler *s = run->scheduler;
    struct lt_task *task = run->work.task;
    if (run->report.retry_after >= 0)
        return run->report.retry_after;
    if (task->options != NULL && task->options->has_backoff)
        return lt_backoff_delay(&task->options->backoff, tries);
    if (s->config.backoff_fn && s->config.hooks.backoff != NULL)
        return s->config.hooks.backoff(s->config.hooks.arg, tries, reason, task);
    return lt_backoff_delay(&s->config.backoff, tries);
}

int64_t lt_run_max_retries(const struct lt_run *run)
{
    const struct lt_task *task = run->work.task;
    bool own = task->options != NULL && task->options->max_retries >= 0;
    return own ? task->options->max_retries : run->scheduler->config.max_retries;
}

double lt_run_timeout(const struct lt_run *run)
{
    const struct lt_task *task = run->work.task;
    bool own = task->options != NULL && task->options->timeout >= 0;
    return own ? task->options->timeout : run->scheduler->config.timeout;
}

bool lt_run_shares_store(const struct lt_run *run)
{
    struct lt_persister *persister = run->scheduler->config.persister;
    return persister != NULL && persister->ops->shares != NULL &&
           persister->ops->shares(persister, run->scheduler->config.container);
}
