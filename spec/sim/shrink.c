/* See shrink.h. A failure is made small by leaving out faults, one by one, and steps, in ever smaller chunks, as long as
 * a failure of the same kind remains. */
#include "shrink.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST = 5 /* seconds that one simulation may take */, EXIT_SANITIZER = 99 };

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
    return "exitcode=99:detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=0";
}

const char *__ubsan_default_options(void)
{
    return "exitcode=99:print_stacktrace=1";
}

struct shared *shared_new(void)
{
    void *p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return p;
}

static double clock_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((noreturn)) static void child(struct job *job, const struct plan *plan, double deadline)
{
    struct plan mine = *plan;
    dup2(job->output, STDOUT_FILENO);
    dup2(job->output, STDERR_FILENO);
    report_to(&job->shared->failure);
    if (plan->tracing)
        setvbuf(stdout, NULL, _IOLBF, 0);
    for (uint64_t i = 0; i < job->count && (deadline <= 0 || clock_now() < deadline); i++) {
        mine.seed = job->first + i;
        job->shared->seed = mine.seed;
        alarm(LONGEST);
        world_run(&mine, &job->shared->tally);
    }
    fflush(stdout);
    exit(0);
}

void job_start(struct job *job, const struct plan *plan, uint64_t count, double deadline)
{
    job->first = plan->seed;
    job->count = count;
    job->shared->failure = (struct failure){.failed = false};
    job->shared->tally = (struct tally){.seeds = 0};
    job->shared->seed = plan->seed;
    if (ftruncate(job->output, 0) == 0)
        lseek(job->output, 0, SEEK_SET);
    fflush(stdout);
    job->pid = fork();
    if (job->pid == 0)
        child(job, plan, deadline);
    if (job->pid < 0) {
        perror("fork");
        exit(1);
    }
}

/* What a process that crashed said of that: a sanitizer's summary, an assertion. */
static void find_cause(int output, char *message, size_t size)
{
    static const char *const signs[] = {"Assertion", "runtime error", "SUMMARY:", "ERROR: AddressSanitizer"};
    lseek(output, 0, SEEK_SET);
    FILE *file = fdopen(dup(output), "r");
    char line[1000];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++) {
            const char *found = strstr(line, signs[i]);
            if (found == NULL || (i == 3 && message[0] != '\0'))
                continue;
            size_t len = strcspn(found, "\n");
            snprintf(message, size, "%.*s", (int)(len < size - 1 ? len : size - 1), found);
            if (i < 2) {
                fclose(file);
                return;
            }
        }
    }
    if (file != NULL)
        fclose(file);
}

bool job_ended(struct job *job, int status)
{
    struct failure *failure = &job->shared->failure;
    job->pid = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_FAILED && failure->failed)
        return false;
    char cause[REPORT_SIZE - 40] = "";
    find_cause(job->output, cause, sizeof cause);
    failure->failed = true;
    failure->at = 0;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(failure->message, sizeof failure->message, "it goes on for ever");
    else if (WIFSIGNALED(status))
        snprintf(failure->message, sizeof failure->message, "%s: %s", strsignal(WTERMSIG(status)), cause);
    else
        snprintf(failure->message, sizeof failure->message, "exit status %d: %s", WEXITSTATUS(status), cause);
    return false;
}

bool run_once(struct shared *shared, const struct plan *plan, int output)
{
    struct job job = {.shared = shared, .output = output};
    int status = 0;
    job_start(&job, plan, 1, 0);
    while (waitpid(job.pid, &status, 0) != job.pid)
        continue;
    return job_ended(&job, status);
}

/* "task t12.3 run 45" and "task m1 run 2" are of one kind. */
void failure_kind(const struct failure *failure, char kind[REPORT_SIZE])
{
    size_t len = 0;
    for (const char *c = failure->message; *c != '\0' && len < REPORT_SIZE - 1;) {
        bool begins = c == failure->message || !isalnum((unsigned char)c[-1]);
        size_t word = strspn(c, "abcdefghijklmnopqrstuvwxyz");
        bool is_id = begins && word > 0 && isdigit((unsigned char)c[word]) &&
                     ((word == 1 && (*c == 't' || *c == 'm')) || strncmp(c, "orphan", 6) == 0);
        if (is_id || isdigit((unsigned char)*c)) {
            kind[len++] = is_id ? 'T' : '#';
            c += is_id ? word : 0;
            c += strspn(c, "0123456789.e+-x");
        } else {
            kind[len++] = *c++;
        }
    }
    kind[len] = '\0';
}

struct shrinker {
    struct shared *shared;
    int output;
    char kind[REPORT_SIZE];
    struct plan *plan;
    struct failure *failure;
    double until; /* seconds of the monotonic clock: what was reached by then has to do */
};

/* Whether it still fails in the same way; if so, `plan` is what counts from here on. */
static bool still_fails(struct shrinker *shrinker, const struct plan *plan)
{
    char kind[REPORT_SIZE];
    if (clock_now() >= shrinker->until || run_once(shrinker->shared, plan, shrinker->output))
        return false;
    failure_kind(&shrinker->shared->failure, kind);
    if (strcmp(kind, shrinker->kind) != 0)
        return false;
    *shrinker->plan = *plan;
    *shrinker->failure = shrinker->shared->failure;
    return true;
}

static bool drop_faults(struct shrinker *shrinker)
{
    bool any = false;
    uint64_t on = world_faults(shrinker->plan->seed);
    for (int i = 0; i < FAULT_COUNT; i++) {
        struct plan plan = *shrinker->plan;
        if ((on >> i & 1) == 0 || (plan.off >> i & 1) != 0)
            continue;
        plan.off |= UINT64_C(1) << i;
        any = still_fails(shrinker, &plan) || any;
    }
    return any;
}

static bool drop_steps(struct shrinker *shrinker, uint32_t count)
{
    bool any = false;
    for (uint32_t size = count; size > 0; size /= 2) {
        for (uint32_t from = 0; from < count; from += size) {
            struct plan plan = *shrinker->plan;
            bool changes = false;
            for (uint32_t i = from; i < from + size && i < count; i++) {
                changes = changes || !plan.skipped[i];
                plan.skipped[i] = true;
            }
            any = (changes && still_fails(shrinker, &plan)) || any;
        }
    }
    return any;
}

void shrink(struct plan *plan, struct failure *failure)
{
    enum { LONGEST_SHRINK = 60 };
    struct shrinker shrinker = {
        .shared = shared_new(), .plan = plan, .failure = failure, .until = clock_now() + LONGEST_SHRINK};
    FILE *file = tmpfile();
    shrinker.output = fileno(file);
    failure_kind(failure, shrinker.kind);
    uint32_t count = world_steps(plan->seed);
    while (drop_steps(&shrinker, count) | drop_faults(&shrinker))
        continue;
    fclose(file);
    munmap(shrinker.shared, sizeof *shrinker.shared);
}
