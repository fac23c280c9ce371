/* The command line of the simulator; scripts/sim is the way in, and says what it takes. */
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shrink.h"

enum { JOBS_MOST = 64, BATCH = 50, FAILURES_MOST = 100, TAIL = 120 };

struct found {
    uint64_t seed;
    uint64_t times;
    struct failure failure;
    char kind[REPORT_SIZE];
};

struct run {
    struct plan plan; /* of one seed; `off` and `skipped` */
    bool one;         /* a seed was named */
    bool shrinks;
    uint64_t seeds; /* how many; UINT64_MAX: as many as there is time for */
    double seconds;
    unsigned jobs;
    unsigned failures; /* so many kinds, and it ends */
    const char *known; /* a file of seeds that are run first */
    bool terminal;
    /* as it goes */
    double began;
    struct tally tally;
    struct found found[FAILURES_MOST];
    unsigned found_count;
};

static double clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void add_tally(struct tally *sum, const struct tally *part)
{
    sum->seeds += part->seeds;
    sum->lives += part->lives;
    sum->runs += part->runs;
    sum->ends += part->ends;
    sum->turns += part->turns;
    sum->seconds += part->seconds;
    for (int i = 0; i < FAULT_COUNT; i++)
        sum->faults[i] += part->faults[i];
}

static uint64_t faults_of(const struct tally *tally)
{
    uint64_t sum = 0;
    for (int i = 0; i < FAULT_COUNT; i++)
        sum += tally->faults[i];
    return sum;
}

static void tell_progress(const struct run *run)
{
    if (run->terminal)
        fprintf(stderr, "\r\033[K%llu seeds, %llu lives, %llu faults, %.0f s%s", (unsigned long long)run->tally.seeds,
                (unsigned long long)run->tally.lives, (unsigned long long)faults_of(&run->tally),
                clock_now() - run->began, run->found_count > 0 ? ", FAILURES" : "");
}

static void clear_progress(const struct run *run)
{
    if (run->terminal)
        fprintf(stderr, "\r\033[K");
}

static void tell_summary(const struct run *run)
{
    const struct tally *tally = &run->tally;
    printf("%llu seeds, %llu task lives, %llu runs, %.1f virtual days, %llu turns, %llu faults in %.0f s\n",
           (unsigned long long)tally->seeds, (unsigned long long)tally->lives, (unsigned long long)tally->runs,
           tally->seconds / 86400, (unsigned long long)tally->turns, (unsigned long long)faults_of(tally),
           clock_now() - run->began);
    int column = 0;
    for (int i = 0; i < FAULT_COUNT; i++) {
        if (tally->faults[i] > 0)
            printf("%14s %-8llu%s", fault_names[i], (unsigned long long)tally->faults[i],
                   ++column % 5 == 0 ? "\n" : "");
    }
    printf("%s", column % 5 != 0 ? "\n" : "");
}

/* Notes a failure; one of its kind is known already, or it is new. */
static void note_failure(struct run *run, const struct shared *shared)
{
    char kind[REPORT_SIZE];
    failure_kind(&shared->failure, kind);
    for (unsigned i = 0; i < run->found_count; i++) {
        if (strcmp(run->found[i].kind, kind) == 0) {
            run->found[i].times++;
            return;
        }
    }
    if (run->found_count == FAILURES_MOST)
        return;
    struct found *found = &run->found[run->found_count++];
    found->seed = shared->seed;
    found->times = 1;
    found->failure = shared->failure;
    memcpy(found->kind, kind, sizeof kind);
    clear_progress(run);
    printf("seed %llu fails: %s\n", (unsigned long long)found->seed, found->failure.message);
    fflush(stdout);
}

/* ---- many seeds ---- */

/* Leaks that only the sanitizer saw, at the end of a batch: which seed it was. */
static void find_seed(struct run *run, struct job *job)
{
    for (uint64_t i = 0; i < job->count; i++) {
        struct plan plan = run->plan;
        plan.seed = job->first + i;
        if (!run_once(job->shared, &plan, job->output))
            return;
    }
}

static void batch_ended(struct run *run, struct job *job, int status)
{
    uint64_t first = job->first, count = job->count;
    bool went_well = job_ended(job, status);
    add_tally(&run->tally, &job->shared->tally);
    if (went_well)
        return;
    bool at_end = job->shared->tally.seeds == count;
    if (at_end)
        find_seed(run, job);
    note_failure(run, job->shared);
    uint64_t next = job->shared->seed + 1;
    job->first = at_end ? first + count : next;
    job->count = at_end || next >= first + count ? 0 : first + count - next;
}

static bool goes_on(const struct run *run)
{
    return run->found_count < run->failures;
}

static void run_range(struct run *run, uint64_t first, uint64_t count, double deadline)
{
    struct job jobs[JOBS_MOST] = {{.pid = 0}};
    uint64_t next = first, end = count > UINT64_MAX - first ? UINT64_MAX : first + count;
    unsigned running = 0;
    for (unsigned i = 0; i < run->jobs; i++) {
        jobs[i].shared = shared_new();
        jobs[i].output = fileno(tmpfile());
    }
    for (;;) {
        bool timely = deadline <= 0 || clock_now() < deadline;
        for (unsigned i = 0; i < run->jobs && goes_on(run) && timely; i++) {
            struct plan plan = run->plan;
            if (jobs[i].pid != 0)
                continue;
            uint64_t batch = jobs[i].count;
            plan.seed = jobs[i].first;
            if (batch == 0 && next < end) {
                plan.seed = next;
                batch = end - next < BATCH ? end - next : BATCH;
                next += batch;
            }
            if (batch == 0)
                continue;
            job_start(&jobs[i], &plan, batch, deadline);
            running++;
        }
        if (running == 0)
            break;
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        for (unsigned i = 0; i < run->jobs; i++) {
            if (jobs[i].pid != pid)
                continue;
            jobs[i].pid = 0;
            running--;
            uint64_t whole = jobs[i].count;
            batch_ended(run, &jobs[i], status);
            if (jobs[i].count == whole)
                jobs[i].count = 0;
        }
        tell_progress(run);
    }
    for (unsigned i = 0; i < run->jobs; i++)
        close(jobs[i].output);
}

static void run_known(struct run *run)
{
    enum { MOST = 1000 };
    static uint64_t seeds[MOST];
    unsigned count = 0;
    FILE *file = run->known != NULL ? fopen(run->known, "r") : NULL;
    char line[500];
    while (file != NULL && count < MOST && fgets(line, sizeof line, file) != NULL) {
        char *end;
        seeds[count] = strtoull(line, &end, 10);
        count += end != line;
    }
    if (file != NULL)
        fclose(file); /* before a process is forked that would share its place in it */
    for (unsigned i = 0; i < count && goes_on(run); i++)
        run_range(run, seeds[i], 1, 0);
}

/* ---- one ---- */

static void print_list(const struct plan *plan)
{
    uint64_t on = world_faults(plan->seed);
    bool first = true;
    for (int i = 0; i < FAULT_COUNT; i++) {
        if ((plan->off & on) >> i & 1) {
            printf("%s%s", first ? " --off " : ",", fault_names[i]);
            first = false;
        }
    }
    uint32_t count = world_steps(plan->seed);
    first = true;
    for (uint32_t i = 0; i < count; i++) {
        if (plan->skipped[i])
            continue;
        uint32_t last = i;
        while (last + 1 < count && !plan->skipped[last + 1])
            last++;
        printf("%s%u", first ? " --only " : ",", i);
        if (last > i)
            printf("-%u", last);
        first = false;
        i = last;
    }
    printf("%s\n", first ? " --only none" : "");
}

static bool trace_one(const struct plan *plan, long tail)
{
    struct shared *shared = shared_new();
    struct plan traced = *plan;
    FILE *file = tmpfile();
    traced.tracing = true;
    bool good = run_once(shared, &traced, fileno(file));
    rewind(file);
    char line[2000];
    long lines = 0, n = 0;
    while (fgets(line, sizeof line, file) != NULL)
        lines++;
    rewind(file);
    if (tail > 0 && lines > tail)
        printf("... %ld lines before; all of them: scripts/sim with what is after `replay:`\n", lines - tail);
    while (fgets(line, sizeof line, file) != NULL) {
        if (tail <= 0 || n++ >= lines - tail)
            fputs(line, stdout);
    }
    fclose(file);
    if (!good)
        printf("seed %llu fails: %s\n", (unsigned long long)plan->seed, shared->failure.message);
    return good;
}

static void explain(const struct run *run, struct found *found)
{
    struct plan plan = run->plan;
    plan.seed = found->seed;
    printf("\n---- seed %llu (of %llu that fail so): %s\n", (unsigned long long)found->seed,
           (unsigned long long)found->times, found->failure.message);
    if (run->shrinks) {
        fflush(stdout);
        shrink(&plan, &found->failure);
        printf("replay: scripts/sim %llu", (unsigned long long)plan.seed);
        print_list(&plan);
    }
    trace_one(&plan, TAIL);
}

/* ---- the command line ---- */

static int usage(const char *what)
{
    fprintf(stderr, "sim: %s; scripts/sim --help says more\n", what);
    return 2;
}

static bool parse_off(struct plan *plan, char *list)
{
    for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
        int i = 0;
        while (i < FAULT_COUNT && strcmp(fault_names[i], name) != 0)
            i++;
        if (i == FAULT_COUNT)
            return false;
        plan->off |= UINT64_C(1) << i;
    }
    return true;
}

static bool parse_only(struct plan *plan, char *list)
{
    for (int i = 0; i < STEPS_MOST; i++)
        plan->skipped[i] = true;
    if (strcmp(list, "none") == 0)
        return true;
    for (char *part = strtok(list, ","); part != NULL; part = strtok(NULL, ",")) {
        char *end;
        unsigned long from = strtoul(part, &end, 10), to = *end == '-' ? strtoul(end + 1, &end, 10) : from;
        if (*end != '\0' || to >= STEPS_MOST)
            return false;
        for (unsigned long i = from; i <= to; i++)
            plan->skipped[i] = false;
    }
    return true;
}

static uint64_t random_seed(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t mixed = rng_mix((uint64_t)t.tv_nsec ^ ((uint64_t)t.tv_sec << 20) ^ ((uint64_t)getpid() << 48));
    return mixed % 1000000000 * 1000;
}

static int parse(struct run *run, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *option = argv[i], *end;
        char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (option[0] != '-') {
            run->plan.seed = strtoull(option, &end, 10);
            run->one = true;
            if (*end != '\0')
                return usage("a seed is a number");
            continue;
        }
        if (strcmp(option, "--no-shrink") == 0) {
            run->shrinks = false;
            continue;
        }
        if (value == NULL)
            return usage("an option lacks its value, or there is none of that name");
        i++;
        if (strcmp(option, "--seeds") == 0)
            run->seeds = strtoull(value, NULL, 10);
        else if (strcmp(option, "--minutes") == 0)
            run->seconds = 60 * strtod(value, NULL);
        else if (strcmp(option, "--seconds") == 0)
            run->seconds = strtod(value, NULL);
        else if (strcmp(option, "--jobs") == 0)
            run->jobs = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(option, "--failures") == 0)
            run->failures = (unsigned)strtoul(value, NULL, 10);
        else if (strcmp(option, "--known") == 0)
            run->known = value;
        else if (strcmp(option, "--off") == 0 && parse_off(&run->plan, value))
            continue;
        else if (strcmp(option, "--only") == 0 && parse_only(&run->plan, value))
            continue;
        else
            return usage("there is no option of that name, or with that value");
    }
    if (run->jobs < 1 || run->jobs > JOBS_MOST || run->failures < 1 || run->failures > FAILURES_MOST)
        return usage("--jobs and --failures are 1 to 64");
    return 0;
}

int main(int argc, char **argv)
{
    struct run run = {.shrinks = true, .seeds = UINT64_MAX, .seconds = 0, .failures = 1};
    run.jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    run.terminal = isatty(STDERR_FILENO);
    run.began = clock_now();
    int wrong = parse(&run, argc, argv);
    if (wrong != 0)
        return wrong;
    bool many = run.seeds != UINT64_MAX || run.seconds > 0;
    if (run.one && !many)
        return trace_one(&run.plan, 0) ? 0 : 1;
    if (!many)
        run.seconds = 10;
    run_known(&run);
    double deadline = run.seconds > 0 ? clock_now() + run.seconds : 0;
    if (goes_on(&run))
        run_range(&run, run.one ? run.plan.seed : random_seed(), run.seeds, deadline);
    clear_progress(&run);
    for (unsigned i = 0; i < run.found_count; i++)
        explain(&run, &run.found[i]);
    tell_summary(&run);
    return run.found_count > 0 ? 1 : 0;
}
