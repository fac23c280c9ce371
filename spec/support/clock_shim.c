/* Preloaded by spec/support/clock.lua: moves the wall clock of a process, JUMP_AT seconds after its first look at a clock, by
 * JUMP_BY seconds. The kernel knows nothing of it. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static double seconds(clockid_t id)
{
    struct timespec t;
    syscall(SYS_clock_gettime, id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    static double jump_at;
    long result = syscall(SYS_clock_gettime, id, t);
    if (jump_at == 0)
        jump_at = seconds(CLOCK_MONOTONIC) + atof(getenv("JUMP_AT"));
    if (id == CLOCK_REALTIME && seconds(CLOCK_MONOTONIC) >= jump_at)
        t->tv_sec += atol(getenv("JUMP_BY"));
    return (int)result;
}
