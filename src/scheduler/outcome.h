/* What the end of a run means for its task: pure functions of what is known of it. */
#ifndef LTSH_SCHEDULER_OUTCOME_H
#define LTSH_SCHEDULER_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

/* What ended a run; of several, the last in this order counts. */
enum lt_why {
    LT_WHY_WORK, /* by itself */
    LT_WHY_GONE, /* it was found gone after its host had died */
    LT_WHY_TIMEOUT,
    LT_WHY_NOT_NOW, /* there is no place for it: an earlier run is not dead, or a limit was lowered meanwhile */
    LT_WHY_EXPIRED, /* it was to have begun before */
    LT_WHY_STOP,
    LT_WHY_SHUTDOWN,
    LT_WHY_LEASE, /* it is another host's */
};

struct lt_end {
    enum lt_why why;
    bool late;         /* it ended by itself after its deadline */
    bool succeeded;    /* what was reported */
    bool snoozes;      /* it asks to be tried again later, which is no failure */
    bool no_retry;     /* a further attempt makes no sense */
    bool not_begun;    /* its work never began */
    bool exports;      /* a success has an output to be fetched or saved */
    bool durable;      /* its container outlives the host */
    uint32_t attempts; /* this one counted */
    int64_t max_retries;
    uint32_t lost; /* so often it was lost with its host before */
    uint32_t max_lost;
};

enum lt_verdict {
    LT_VERDICT_SUCCEED,
    LT_VERDICT_EXPORT,
    LT_VERDICT_SNOOZE,
    LT_VERDICT_RETRY,
    LT_VERDICT_FAIL,
    LT_VERDICT_TIME_OUT_RETRY,
    LT_VERDICT_TIME_OUT_FAIL,
    LT_VERDICT_LOST_RETRY,
    LT_VERDICT_LOST_FAIL,
    LT_VERDICT_EXPIRE,
    LT_VERDICT_STOP,
    LT_VERDICT_WAIT, /* the host goes away: it waits again, no attempt used */
    LT_VERDICT_WAIT_A_WHILE,
    LT_VERDICT_WAIT_AS_BEFORE, /* at the place that it had, as if it had not been claimed */
    LT_VERDICT_DROP,           /* nothing is to be stored */
};

enum lt_verdict lt_end_verdict(const struct lt_end *end);

/* Whether an export that failed is tried again: it has failed `tries` times, this one counted. */
bool lt_export_again(bool snoozes, bool no_retry, uint32_t tries, int64_t max_retries);

/* Seconds until a task that asked for it `snoozes` times in a row before is tried again, when it named no time. */
double lt_snooze_delay(uint32_t snoozes);

#endif
