#include "sqlite/patience.h"

#include <stdbool.h>
#include <time.h>

/* Short at first: most others are through in a moment. */
static double nap_after(int tries)
{
    return tries < 20 ? 0.0002 : tries < 100 ? 0.002 : 0.02; /* seconds */
}

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int lt_sql_wait(void *arg, int tries)
{
    struct lt_sql_patience *patience = arg;
    double now = monotonic();
    if (tries == 0)
        patience->since = now;
    patience->waited = now - patience->since;
    if ((atomic_load(&patience->hurry) && patience->waited >= patience->hurried) ||
        (patience->seconds >= 0 && patience->waited >= patience->seconds))
        return 0;
    nanosleep(&(struct timespec){.tv_nsec = (long)(nap_after(tries) * 1e9)}, NULL);
    return 1;
}
