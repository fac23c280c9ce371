/* Chance, all of it from one seed.
 *
 * There is no stream of numbers that everybody draws from: who decides something makes a generator from the seed and
 * from what the decision is about (a task, a run, the number of a try). So when the shrinker leaves out a step, whatever
 * does not depend on that step goes as it did before. */
#ifndef LTSH_SIM_RNG_H
#define LTSH_SIM_RNG_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

/* splitmix64: good enough for dice, and any state will do. */
static inline uint64_t rng_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t rng_next(struct rng *rng)
{
    rng->state += UINT64_C(0x9e3779b97f4a7c15);
    return rng_mix(rng->state);
}

/* The generator for one decision: `what` is the kind, `a` and `b` what it is about. */
static inline struct rng rng_of(uint64_t seed, uint64_t what, uint64_t a, uint64_t b)
{
    return (struct rng){rng_mix(rng_mix(rng_mix(seed ^ what * UINT64_C(0x9e3779b97f4a7c15)) ^ a) + b)};
}

/* A name as a number, the same in every process. */
static inline uint64_t rng_text(const char *text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return hash;
}

/* 0 <= x < 1 */
static inline double rng_unit(struct rng *rng)
{
    return (double)(rng_next(rng) >> 11) * 0x1p-53;
}

static inline bool rng_chance(struct rng *rng, double share)
{
    return rng_unit(rng) < share;
}

/* 0 <= n < below */
static inline uint32_t rng_below(struct rng *rng, uint32_t below)
{
    return (uint32_t)(((rng_next(rng) >> 32) * below) >> 32);
}

static inline double rng_between(struct rng *rng, double from, double to)
{
    return from + (to - from) * rng_unit(rng);
}

/* Most are short, some are long. */
static inline double rng_exponential(struct rng *rng, double mean)
{
    return -mean * log(1 - rng_unit(rng));
}

#endif
