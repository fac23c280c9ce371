#include "script/flow/watchdog.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

static const double LOOK = 0.5;     /* seconds between two looks */
static const double FIRST = 1;      /* seconds until it is logged; doubles */
static const double LONGEST = 60;   /* between two lines */
static const double PATIENCE = 0.2; /* for the answer of a thread */

_Atomic bool lt_watchdog_sleeps;

static pthread_mutex_t life = PTHREAD_MUTEX_INITIALIZER; /* for its start and its end, which has been joined */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below */
static pthread_cond_t changed;
static LIST_HEAD(, lt_watched) threads = LIST_HEAD_INITIALIZER(threads);
static pthread_t watchdog;
static bool runs;
static bool ends;
static bool can_sleep;
static sem_t answers;

static double watchdog_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static struct timespec time_after(double seconds)
{
    return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
}

void lt_watchdog_answered(struct lt_watched *watched)
{
    atomic_store(&watched->asked, 0);
    sem_post(&answers);
}

/* The thread of the watchdog. */

/* Asks a thread where it is. The lock is held, so it does not go away. */
static bool ask_script(struct lt_watched *watched)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until = time_after((double)until.tv_sec + (double)until.tv_nsec * 1e-9 + PATIENCE);
    atomic_store(&watched->asked, 1);
    if (syscall(SYS_tgkill, getpid(), watched->thread, SIGURG) != 0)
        return false;
    while (atomic_load(&watched->asked) != 0) {
        if (sem_timedwait(&answers, &until) != 0 && errno != EINTR)
            return false;
    }
    return watched->place[0] != '\0';
}

static void tell_held(struct lt_watched *watched, double seconds)
{
    if (!ask_script(watched))
        return;
    lt_log(LT_LOG_WARN,
           watched->in_c ? "a function of C holds up its thread"
                         : "Lua holds up its thread where it cannot be preempted",
           LT_S("function", watched->function[0] != '\0' ? watched->function : NULL), LT_S("at", watched->place),
           LT_S("task", watched->task[0] != '\0' ? watched->task : NULL), LT_N("seconds", seconds));
}

static void look_at_script(struct lt_watched *watched, double time)
{
    unsigned beat = atomic_load(&watched->beat);
    if (beat != watched->seen || beat % 2 == 0) {
        watched->seen = beat;
        watched->since = time;
        watched->remind = FIRST;
        return;
    }
    double seconds = time - watched->since;
    if (seconds < watched->remind)
        return;
    tell_held(watched, seconds);
    watched->remind = watched->remind < LONGEST ? watched->remind * 2 : watched->remind + LONGEST;
}

static bool all_idle(void)
{
    struct lt_watched *watched;
    LIST_FOREACH(watched, &threads, link) {
        unsigned beat = atomic_load(&watched->beat);
        if (beat % 2 != 0 || beat != watched->seen)
            return false;
    }
    return true;
}

/* Sleeps until a thread enters Lua, or one is added, or it is to end. A thread either sees that it sleeps, or has
 * entered before and is seen here: the barrier is for both. */
static void sleep_while_idle(void)
{
    atomic_store(&lt_watchdog_sleeps, true);
    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    while (!ends && all_idle() && atomic_load(&lt_watchdog_sleeps))
        pthread_cond_wait(&changed, &lock);
    atomic_store(&lt_watchdog_sleeps, false);
}

static void *watchdog_main(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    while (!ends) {
        struct timespec until = time_after(watchdog_now() + LOOK);
        while (!ends && pthread_cond_timedwait(&changed, &lock, &until) != ETIMEDOUT)
            ;
        double time = watchdog_now();
        bool idle = can_sleep && all_idle();
        struct lt_watched *watched;
        LIST_FOREACH(watched, &threads, link)
            look_at_script(watched, time);
        if (idle && !ends)
            sleep_while_idle();
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void start_watchdog(void)
{
    sigset_t all, old;
    pthread_condattr_t attributes;
    can_sleep = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
    sem_init(&answers, 0, 0);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
    pthread_condattr_destroy(&attributes);
    ends = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    runs = pthread_create(&watchdog, NULL, watchdog_main, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void lt_watchdog_wake(void)
{
    pthread_mutex_lock(&lock);
    atomic_store(&lt_watchdog_sleeps, false);
    if (runs)
        pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

void lt_watchdog_add(struct lt_watched *watched)
{
    watched->thread = gettid();
    watched->remind = FIRST;
    watched->since = watchdog_now();
    pthread_mutex_lock(&life);
    pthread_mutex_lock(&lock);
    LIST_INSERT_HEAD(&threads, watched, link);
    if (!runs)
        start_watchdog();
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&life);
}

void lt_watchdog_remove(struct lt_watched *watched)
{
    pthread_mutex_lock(&life);
    pthread_mutex_lock(&lock);
    LIST_REMOVE(watched, link);
    bool last = LIST_EMPTY(&threads) && runs;
    if (last) {
        ends = true;
        runs = false;
        pthread_cond_signal(&changed);
    }
    pthread_mutex_unlock(&lock);
    if (last)
        pthread_join(watchdog, NULL);
    pthread_mutex_unlock(&life);
}
