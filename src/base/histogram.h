/* Durations counted in log-linear buckets, for percentiles with at most 3 % error in constant memory.
 *
 * The layout is HdrHistogram's: 32 linear steps in each power of two, here from 1 microsecond to about 12 days. */
#ifndef LTSH_BASE_HISTOGRAM_H
#define LTSH_BASE_HISTOGRAM_H

#include <stdint.h>

enum { LT_HISTOGRAM_BUCKETS = 37 * 32 };

/* Zero it to make one. */
struct lt_histogram {
    uint64_t total;
    uint32_t counts[LT_HISTOGRAM_BUCKETS];
};

/* Counts a duration in seconds; below 0 or NaN counts as 0, above the range as its end. */
void lt_histogram_add(struct lt_histogram *histogram, double seconds);

/* The duration in seconds below which a share `q` (0 to 1) of those counted lies; 0 when none was counted. */
double lt_histogram_quantile(const struct lt_histogram *histogram, double q);

#endif
