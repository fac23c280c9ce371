#include "loop/lane.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"

enum { STACK = 256 << 10 };

/* By which the loop hears of answers; it closes in its own time, after the lane. */
struct lane_poll {
    uv_poll_t poll;
    struct lt_lane *lane; /* NULL: closed */
};

struct lt_lane {
    struct lt_loop *loop;
    struct lane_poll *poll;
    struct lt_mailbox answers;
    unsigned threads;   /* as many as there may be, */
    unsigned under_way; /* and jobs that were handed in and not answered yet: of the loop's thread */
    pthread_t *ids;
    char name[16];
    double every; /* seconds until something is done that is done now and then; 0: there is nothing */
    double (*now_and_then)(void *arg);
    void *now_and_then_arg;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t some;
    struct lt_mails queue;
    unsigned running; /* threads, */
    unsigned idle;    /* and those that wait */
    bool closing;     /* a thread ends when there is nothing to do */
};

/* Waits for a job, or until it is time for what is done now and then: true. */
static bool wait_for_job(struct lt_lane *lane)
{
    struct timespec until;
    if (lane->every <= 0) {
        pthread_cond_wait(&lane->some, &lane->lock);
        return false;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)lane->every;
    until.tv_nsec += (long)((lane->every - (double)(time_t)lane->every) * 1e9);
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    return pthread_cond_timedwait(&lane->some, &lane->lock, &until) == ETIMEDOUT;
}

static void *lane_thread(void *arg)
{
    struct lt_lane *lane = arg;
    pthread_mutex_lock(&lane->lock);
    for (;;) {
        struct lt_mail *first;
        while ((first = STAILQ_FIRST(&lane->queue)) == NULL && !lane->closing) {
            lane->idle++;
            bool is_time = wait_for_job(lane);
            lane->idle--;
            if (is_time && STAILQ_EMPTY(&lane->queue) && !lane->closing) {
                pthread_mutex_unlock(&lane->lock);
                double next = lane->now_and_then(lane->now_and_then_arg);
                pthread_mutex_lock(&lane->lock);
                lane->every = next;
            }
        }
        if (first == NULL)
            break;
        struct lt_lane_job *job = lt_container_of(first, struct lt_lane_job, mail);
        STAILQ_REMOVE_HEAD(&lane->queue, link);
        pthread_mutex_unlock(&lane->lock);
        job->work(job);
        lt_mailbox_put(&lane->answers, &job->mail);
        pthread_mutex_lock(&lane->lock);
    }
    pthread_mutex_unlock(&lane->lock);
    return NULL;
}

/* Nothing is under way. */
static void end_hold(struct lt_lane *lane)
{
    lt_loop_release(lane->loop);
    uv_unref((uv_handle_t *)&lane->poll->poll);
}

/* One wake-up may stand for many answers. */
static void take_answers(uv_poll_t *poll, int status, int events)
{
    const struct lane_poll *hears = lt_container_of(poll, struct lane_poll, poll);
    struct lt_lane *lane = hears->lane;
    struct lt_mails answers;
    (void)status;
    (void)events;
    lt_mailbox_take(&lane->answers, &answers);
    lt_loop_tick(lane->loop);
    while (!STAILQ_EMPTY(&answers) && hears->lane != NULL) { /* an answer may close it */
        struct lt_lane_job *job = lt_container_of(STAILQ_FIRST(&answers), struct lt_lane_job, mail);
        STAILQ_REMOVE_HEAD(&answers, link);
        if (--lane->under_way == 0)
            end_hold(lane);
        job->done(job);
    }
}

static bool start_thread(struct lt_lane *lane)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errno = pthread_create(&lane->ids[lane->running], &attributes, lane_thread, lane);
    bool started = errno == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (started)
        pthread_setname_np(lane->ids[lane->running++], lane->name);
    return started;
}

static void free_lane(struct lt_lane *lane)
{
    lt_mailbox_close(&lane->answers);
    pthread_cond_destroy(&lane->some);
    pthread_mutex_destroy(&lane->lock);
    free(lane->ids);
    free(lane);
}

struct lt_lane *lt_lane_open(struct lt_loop *loop, unsigned threads, const char *name)
{
    struct lt_lane *lane = lt_zalloc(sizeof *lane);
    lane->loop = loop;
    lane->threads = threads;
    lane->ids = lt_zalloc(threads * sizeof *lane->ids);
    snprintf(lane->name, sizeof lane->name, "%s", name);
    pthread_mutex_init(&lane->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&lane->some, &monotonic);
    pthread_condattr_destroy(&monotonic);
    STAILQ_INIT(&lane->queue);
    if (!lt_mailbox_open(&lane->answers)) {
        free_lane(lane);
        return NULL;
    }
    lane->poll = lt_zalloc(sizeof *lane->poll);
    lane->poll->lane = lane;
    uv_poll_init(&loop->uv, &lane->poll->poll, lane->answers.event);
    lane->poll->poll.data = loop;
    uv_poll_start(&lane->poll->poll, UV_READABLE, take_answers);
    uv_unref((uv_handle_t *)&lane->poll->poll);
    return lane;
}

bool lt_lane_send(struct lt_lane *lane, struct lt_lane_job *job)
{
    pthread_mutex_lock(&lane->lock);
    if (lane->idle == 0 && lane->running < lane->threads)
        start_thread(lane);
    bool taken = lane->running > 0;
    if (taken) {
        STAILQ_INSERT_TAIL(&lane->queue, &job->mail, link);
        pthread_cond_signal(&lane->some);
    }
    pthread_mutex_unlock(&lane->lock);
    if (taken && lane->under_way++ == 0) {
        lt_loop_hold(lane->loop);
        uv_ref((uv_handle_t *)&lane->poll->poll); /* also when the loop is being finished */
    }
    return taken;
}

void lt_lane_every(struct lt_lane *lane, double (*fn)(void *arg), void *arg)
{
    lane->every = 0.1;
    lane->now_and_then = fn;
    lane->now_and_then_arg = arg;
}

static void free_poll(uv_handle_t *handle)
{
    free(lt_container_of((uv_poll_t *)handle, struct lane_poll, poll));
}

void lt_lane_close(struct lt_lane *lane, bool leave)
{
    pthread_mutex_lock(&lane->lock);
    lane->closing = !leave;
    pthread_cond_broadcast(&lane->some);
    pthread_mutex_unlock(&lane->lock);
    lane->poll->lane = NULL;
    if (lane->under_way > 0)
        end_hold(lane);
    if (!uv_is_closing((uv_handle_t *)&lane->poll->poll)) {
        uv_poll_stop(&lane->poll->poll);
        uv_close((uv_handle_t *)&lane->poll->poll, free_poll);
    }
    if (leave)
        return; /* its threads go on waiting in it */
    for (unsigned i = 0; i < lane->running; i++)
        pthread_join(lane->ids[i], NULL);
    free_lane(lane);
}
