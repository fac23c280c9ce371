#include "base/histogram.h"

#include <stddef.h>

/* Durations are rounded to half microseconds, the units below. The first 32 buckets hold one unit each; every power
 * of two from there on has 32 steps. So bucket b >= 32 holds the units from (32 + b % 32) << shift on, where shift is
 * b / 32 - 1 and 1 << shift is the number of units in it. The 37 groups of 32 end at 2^41 units, which is 12.7 days.
 *
 * A bucket is reported as its middle: at most 1.6 % off, or a quarter of a microsecond below 16 microseconds. */
#define UNITS_PER_SECOND 2e6
#define END_UNITS 0x1p41

enum { STEP_BITS = 5, STEPS = 1 << STEP_BITS };

_Static_assert(LT_HISTOGRAM_BUCKETS == (41 - STEP_BITS + 1) * STEPS, "the buckets end at END_UNITS");

static size_t bucket_of(double seconds)
{
    double rounded = seconds * UNITS_PER_SECOND + 0.5;
    if (!(rounded >= 1)) /* NaN too */
        return 0;
    if (rounded >= END_UNITS)
        return LT_HISTOGRAM_BUCKETS - 1;
    uint64_t units = (uint64_t)rounded;
    if (units < STEPS)
        return (size_t)units;
    unsigned top = 63 - (unsigned)__builtin_clzll(units);
    unsigned shift = top - STEP_BITS;
    return (size_t)shift * STEPS + (size_t)(units >> shift);
}

static double middle_of(size_t bucket)
{
    if (bucket < STEPS)
        return (double)bucket / UNITS_PER_SECOND;
    unsigned shift = (unsigned)(bucket / STEPS) - 1;
    uint64_t low = (uint64_t)(STEPS + bucket % STEPS) << shift;
    uint64_t high = low + (UINT64_C(1) << shift) - 1;
    return (double)(low + high) / 2 / UNITS_PER_SECOND;
}

/* Keeps the shares while making room: a process that runs for months can fill 32 bits. */
static void halve_counts(struct lt_histogram *histogram)
{
    for (size_t i = 0; i < LT_HISTOGRAM_BUCKETS; i++)
        histogram->counts[i] -= histogram->counts[i] / 2;
}

void lt_histogram_add(struct lt_histogram *histogram, double seconds)
{
    size_t bucket = bucket_of(seconds);
    if (histogram->counts[bucket] == UINT32_MAX)
        halve_counts(histogram);
    histogram->counts[bucket]++;
    histogram->total++;
}

/* Which of `counted` durations in ascending order, from 1, is the quantile. */
static uint64_t rank_of(uint64_t counted, double q)
{
    if (!(q > 0))
        return 1;
    if (q >= 1)
        return counted;
    double exact = q * (double)counted;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact)
        rank++;
    return rank < counted ? rank : counted;
}

double lt_histogram_quantile(const struct lt_histogram *histogram, double q)
{
    uint64_t counted = 0; /* not the total: that is not halved */
    for (size_t i = 0; i < LT_HISTOGRAM_BUCKETS; i++)
        counted += histogram->counts[i];
    if (counted == 0)
        return 0;
    uint64_t rank = rank_of(counted, q);
    uint64_t seen = 0;
    for (size_t i = 0; i < LT_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= rank)
            return middle_of(i);
    }
    return middle_of(LT_HISTOGRAM_BUCKETS - 1);
}
