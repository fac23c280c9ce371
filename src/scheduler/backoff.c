#include "scheduler/backoff.h"

#include <math.h>
#include <stdlib.h>

enum { LONGEST = 366 * 24 * 3600 };

double lt_backoff_delay(const struct lt_backoff *backoff, uint32_t attempt)
{
    if (backoff->base <= 0)
        return 0;
    double delay = backoff->base * pow(backoff->factor, attempt > 0 ? attempt - 1 : 0);
    double max = backoff->max > 0 ? backoff->max : LONGEST;
    delay = fmin(delay, max); /* before the jitter too: the power may be infinite */
    return fmin(delay * (1 + backoff->jitter * (2 * drand48() - 1)), max);
}
