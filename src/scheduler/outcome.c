#include "scheduler/outcome.h"

static bool may_retry(const struct lt_end *end)
{
    return !end->no_retry && (int64_t)end->attempts <= end->max_retries;
}

static enum lt_verdict verdict_of_work(const struct lt_end *end)
{
    if (end->succeeded)
        return end->exports ? LT_VERDICT_EXPORT : LT_VERDICT_SUCCEED;
    if (end->not_begun)
        return LT_VERDICT_WAIT_AS_BEFORE;
    if (end->snoozes)
        return LT_VERDICT_SNOOZE;
    return may_retry(end) ? LT_VERDICT_RETRY : LT_VERDICT_FAIL;
}

enum lt_verdict lt_end_verdict(const struct lt_end *end)
{
    switch (end->why) {
    case LT_WHY_LEASE:
        return LT_VERDICT_DROP;
    case LT_WHY_SHUTDOWN:
        return end->durable ? LT_VERDICT_WAIT : LT_VERDICT_STOP;
    case LT_WHY_NOT_NOW:
        return LT_VERDICT_WAIT_A_WHILE;
    case LT_WHY_EXPIRED:
        return LT_VERDICT_EXPIRE;
    case LT_WHY_STOP:
        return LT_VERDICT_STOP;
    case LT_WHY_GONE:
        return end->lost < end->max_lost ? LT_VERDICT_LOST_RETRY : LT_VERDICT_LOST_FAIL;
    case LT_WHY_WORK:
        if (!end->late)
            return verdict_of_work(end);
        break;
    case LT_WHY_TIMEOUT:
        break;
    }
    return may_retry(end) ? LT_VERDICT_TIME_OUT_RETRY : LT_VERDICT_TIME_OUT_FAIL;
}

bool lt_export_again(bool snoozes, bool no_retry, uint32_t tries, int64_t max_retries)
{
    return snoozes || (!no_retry && (int64_t)tries <= max_retries);
}

double lt_snooze_delay(uint32_t snoozes)
{
    enum { LONGEST = 30, DOUBLINGS = 5 };
    return snoozes < DOUBLINGS ? (double)(1u << snoozes) : LONGEST;
}
