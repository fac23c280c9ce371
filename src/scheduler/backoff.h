/* Backoff: how long to wait before a further attempt. */
#ifndef LTSH_SCHEDULER_BACKOFF_H
#define LTSH_SCHEDULER_BACKOFF_H

#include <stdint.h>

/* base * factor^(attempt - 1), spread by +- jitter (a share of it, 0 to 1), and never more than max. */
struct lt_backoff {
    double base;
    double factor;
    double max; /* 0: no bound */
    double jitter;
};

/* Seconds to wait after the failure of attempt number `attempt` (1: the first). */
double lt_backoff_delay(const struct lt_backoff *backoff, uint32_t attempt);

#endif
