#include "loop/lane.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"

enum { STACK = 256 << 10 };

STAILQ_HEAD(lane_jobs, lt_lane_job);

/* What the loop is woken with; it closes in its own time, after the lane. */
struct lane_wake {
    uv_async_t async;
    struct lt_lane *lane; /* NULL: closed */
};

struct lt_lane {
    struct lt_loop *loop;
    struct lane_wake *wake;
    unsigned threads;   /* as many as there may be, */
    unsigned under_way; /* and jobs that were handed in and not answered yet: of the loop's thread */
    pthread_t *ids;
    char name[16];

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t some;
    struct lane_jobs queue;
    struct lane_jobs answers;
    unsigned running; /* threads, */
    unsigned idle;    /* and those that wait */
    bool closing;     /* a thread ends when there is nothing to do */
    bool left;        /* nobody is there to be woken */
};

static void *lane_thread(void *arg)
{
    struct lt_lane *lane = arg;
    pthread_mutex_lock(&lane->lock);
    for (;;) {
        struct lt_lane_job *job;
        while ((job = STAILQ_FIRST(&lane->queue)) == NULL && !lane->closing) {
            lane->idle++;
            pthread_cond_wait(&lane->some, &lane->lock);
            lane->idle--;
        }
        if (job == NULL)
            break;
        STAILQ_REMOVE_HEAD(&lane->queue, link);
        pthread_mutex_unlock(&lane->lock);
        job->work(job);
        pthread_mutex_lock(&lane->lock);
        bool first = STAILQ_EMPTY(&lane->answers);
        STAILQ_INSERT_TAIL(&lane->answers, job, link);
        if (first && !lane->left)
            uv_async_send(&lane->wake->async);
    }
    pthread_mutex_unlock(&lane->lock);
    return NULL;
}

/* One wake-up may stand for many answers. */
static void take_answers(uv_async_t *async)
{
    struct lane_wake *wake = lt_container_of(async, struct lane_wake, async);
    struct lt_lane *lane = wake->lane;
    if (lane == NULL)
        return;
    struct lane_jobs answers = STAILQ_HEAD_INITIALIZER(answers);
    pthread_mutex_lock(&lane->lock);
    STAILQ_CONCAT(&answers, &lane->answers);
    pthread_mutex_unlock(&lane->lock);
    lt_loop_tick(lane->loop);
    while (!STAILQ_EMPTY(&answers) && wake->lane != NULL) { /* an answer may close it */
        struct lt_lane_job *job = STAILQ_FIRST(&answers);
        STAILQ_REMOVE_HEAD(&answers, link);
        if (--lane->under_way == 0)
            lt_loop_release(lane->loop);
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

struct lt_lane *lt_lane_open(struct lt_loop *loop, unsigned threads, const char *name)
{
    struct lt_lane *lane = lt_zalloc(sizeof *lane);
    lane->loop = loop;
    lane->threads = threads;
    lane->ids = lt_zalloc(threads * sizeof *lane->ids);
    snprintf(lane->name, sizeof lane->name, "%s", name);
    pthread_mutex_init(&lane->lock, NULL);
    pthread_cond_init(&lane->some, NULL);
    STAILQ_INIT(&lane->queue);
    STAILQ_INIT(&lane->answers);
    lane->wake = lt_zalloc(sizeof *lane->wake);
    lane->wake->lane = lane;
    uv_async_init(&loop->uv, &lane->wake->async, take_answers);
    lane->wake->async.data = loop;
    uv_unref((uv_handle_t *)&lane->wake->async);
    return lane;
}

bool lt_lane_send(struct lt_lane *lane, struct lt_lane_job *job)
{
    pthread_mutex_lock(&lane->lock);
    if (lane->idle == 0 && lane->running < lane->threads)
        start_thread(lane);
    bool taken = lane->running > 0;
    if (taken) {
        STAILQ_INSERT_TAIL(&lane->queue, job, link);
        pthread_cond_signal(&lane->some);
    }
    pthread_mutex_unlock(&lane->lock);
    if (taken && lane->under_way++ == 0)
        lt_loop_hold(lane->loop);
    return taken;
}

static void free_wake(uv_handle_t *handle)
{
    free(lt_container_of((uv_async_t *)handle, struct lane_wake, async));
}

void lt_lane_close(struct lt_lane *lane, bool leave)
{
    pthread_mutex_lock(&lane->lock);
    lane->left = true;
    lane->closing = !leave;
    pthread_cond_broadcast(&lane->some);
    pthread_mutex_unlock(&lane->lock);
    lane->wake->lane = NULL;
    if (!uv_is_closing((uv_handle_t *)&lane->wake->async))
        uv_close((uv_handle_t *)&lane->wake->async, free_wake);
    if (lane->under_way > 0)
        lt_loop_release(lane->loop);
    if (leave)
        return; /* its threads go on waiting in it */
    for (unsigned i = 0; i < lane->running; i++)
        pthread_join(lane->ids[i], NULL);
    pthread_cond_destroy(&lane->some);
    pthread_mutex_destroy(&lane->lock);
    free(lane->ids);
    free(lane);
}
