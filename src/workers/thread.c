/* A worker in a thread of this process: two queues of messages under a lock, and a uv_async_t on either side.
 *
 * Two own it, the host and the thread; the last one to leave frees it. A thread that does not come back (a C function
 * that blocks) is left alone: it keeps its half for ever. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "workers/worker.h"
#include "workers/worker_end.h"

struct thread {
    struct lt_worker base;
    LIST_ENTRY(thread) link;
    struct lt_timer patience;
    pthread_t id;
    _Atomic uint64_t stopped; /* the run that is to end */
    pthread_mutex_t lock;     /* of all below, up to the empty line */
    struct lt_messages to_worker;
    struct lt_messages to_host;
    uv_async_t *wake_worker; /* NULL: it does not listen yet, or not any more */
    uv_async_t *wake_host;
    unsigned owners;

    uv_async_t async; /* the host's; wake_host while it is open */
    bool held;        /* the host's loop is, until it has ended */
    bool disowned;
};

/* Those whose host's side is open; the host's own thread uses this. */
static LIST_HEAD(, thread) threads = LIST_HEAD_INITIALIZER(threads);

static const double END_GRACE = 1; /* seconds that a thread which was asked to end may hold the loop */

struct inside {
    struct lt_worker_end end;
    struct thread *thread;
    uv_async_t async;
};

static void free_messages(struct lt_messages *messages)
{
    struct lt_message *message;
    while ((message = STAILQ_FIRST(messages)) != NULL) {
        STAILQ_REMOVE_HEAD(messages, link);
        free(message);
    }
}

static void leave(struct thread *thread)
{
    pthread_mutex_lock(&thread->lock);
    bool last = --thread->owners == 0;
    pthread_mutex_unlock(&thread->lock);
    if (!last)
        return;
    free_messages(&thread->to_worker);
    free_messages(&thread->to_host);
    pthread_mutex_destroy(&thread->lock);
    free(thread);
}

static void take(struct thread *thread, struct lt_messages *from, struct lt_messages *messages)
{
    STAILQ_INIT(messages);
    pthread_mutex_lock(&thread->lock);
    STAILQ_CONCAT(messages, from);
    pthread_mutex_unlock(&thread->lock);
}

/* The thread's side. */

static void post_to_host(struct thread *thread, struct lt_message *message)
{
    pthread_mutex_lock(&thread->lock);
    STAILQ_INSERT_TAIL(&thread->to_host, message, link);
    if (thread->wake_host != NULL)
        uv_async_send(thread->wake_host);
    pthread_mutex_unlock(&thread->lock);
}

static void send_to_host(struct lt_worker_end *end, struct lt_message *message)
{
    post_to_host(((struct inside *)end)->thread, message);
    if (end->over)
        lt_loop_stop(end->loop);
}

static void receive(uv_async_t *async)
{
    struct inside *inside = (struct inside *)((char *)async - offsetof(struct inside, async));
    struct lt_messages messages;
    struct lt_message *message;
    take(inside->thread, &inside->thread->to_worker, &messages);
    while ((message = STAILQ_FIRST(&messages)) != NULL) {
        STAILQ_REMOVE_HEAD(&messages, link);
        if (!inside->end.over)
            lt_worker_end_receive(&inside->end, message);
        free(message);
    }
    if (inside->end.over)
        lt_loop_stop(inside->end.loop);
}

static void listen_to_host(struct thread *thread, uv_async_t *async)
{
    pthread_mutex_lock(&thread->lock);
    thread->wake_worker = async;
    pthread_mutex_unlock(&thread->lock);
    if (async != NULL)
        uv_async_send(async); /* what came before */
}

/* Signals are the host's; but for those of faults and SIGURG, which is this thread's own timer. */
static void block_signals(void)
{
    static const int own[] = {SIGURG, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        sigdelset(&set, own[i]);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void *run(void *arg)
{
    struct thread *thread = arg;
    struct lt_loop loop;
    struct inside inside = {
        .end = {.loop = &loop, .send = send_to_host, .stopped = &thread->stopped},
        .thread = thread,
    };
    block_signals();
    if (lt_loop_open(&loop) == 0) {
        uv_async_init(&loop.uv, &inside.async, receive);
        inside.async.data = &loop;
        listen_to_host(thread, &inside.async);
        lt_loop_run(&loop);
        listen_to_host(thread, NULL);
        uv_unref((uv_handle_t *)&inside.async); /* it holds up the end no more */
        lt_worker_end_close(&inside.end);
        lt_loop_close(&loop);
    }
    post_to_host(thread, lt_message_new(LT_MESSAGE_GONE, 0, NULL, 0));
    leave(thread);
    return NULL;
}

/* The host's side. */

static void on_closed(uv_handle_t *handle)
{
    leave((struct thread *)((char *)handle - offsetof(struct thread, async)));
}

/* Nobody waits for it any more. */
static void release(struct thread *thread)
{
    lt_timer_stop(thread->base.loop, &thread->patience);
    if (!thread->held)
        return;
    thread->held = false;
    lt_loop_release(thread->base.loop);
    uv_unref((uv_handle_t *)&thread->async);
}

static void out_of_patience(struct lt_timer *timer)
{
    struct thread *thread = (struct thread *)((char *)timer - offsetof(struct thread, patience));
    lt_log(LT_LOG_WARN, "a worker's thread does not end, it is left alone");
    release(thread);
}

static void close_host_side(struct thread *thread)
{
    pthread_mutex_lock(&thread->lock);
    bool open = thread->wake_host != NULL;
    thread->wake_host = NULL;
    pthread_mutex_unlock(&thread->lock);
    release(thread);
    if (!open)
        return;
    LIST_REMOVE(thread, link);
    uv_close((uv_handle_t *)&thread->async, on_closed);
}

void lt_thread_workers_leave(void)
{
    struct thread *thread;
    LIST_FOREACH(thread, &threads, link) {
        pthread_mutex_lock(&thread->lock);
        thread->wake_host = NULL;
        pthread_mutex_unlock(&thread->lock);
    }
}

static void on_gone(struct thread *thread)
{
    if (!thread->disowned)
        thread->base.gone(&thread->base, "ended");
    close_host_side(thread);
}

static void hear(uv_async_t *async)
{
    struct thread *thread = (struct thread *)((char *)async - offsetof(struct thread, async));
    struct lt_messages messages;
    struct lt_message *message;
    take(thread, &thread->to_host, &messages);
    while ((message = STAILQ_FIRST(&messages)) != NULL) {
        STAILQ_REMOVE_HEAD(&messages, link);
        if (message->head.kind == LT_MESSAGE_GONE)
            on_gone(thread);
        else if (!thread->disowned)
            thread->base.received(&thread->base, message);
        free(message);
    }
}

static void tell(struct lt_worker *worker, struct lt_message *message)
{
    struct thread *thread = (struct thread *)worker;
    pthread_mutex_lock(&thread->lock);
    STAILQ_INSERT_TAIL(&thread->to_worker, message, link);
    if (thread->wake_worker != NULL)
        uv_async_send(thread->wake_worker);
    pthread_mutex_unlock(&thread->lock);
}

static void stop(struct lt_worker *worker, uint64_t seq)
{
    atomic_store(&((struct thread *)worker)->stopped, seq);
    tell(worker, lt_message_new(LT_MESSAGE_STOP, seq, NULL, 0));
}

static void end(struct lt_worker *worker)
{
    struct thread *thread = (struct thread *)worker;
    if (!thread->held) {
        thread->held = true;
        lt_loop_hold(worker->loop);
        uv_ref((uv_handle_t *)&thread->async); /* also when the loop is being finished */
        lt_timer_start(worker->loop, &thread->patience, lt_loop_tick(worker->loop) + END_GRACE, out_of_patience);
    }
    tell(worker, lt_message_new(LT_MESSAGE_END, 0, NULL, 0));
}

static bool give_up(struct lt_worker *worker)
{
    end(worker); /* in case that it comes back */
    release((struct thread *)worker);
    return false;
}

static void disown(struct lt_worker *worker)
{
    struct thread *thread = (struct thread *)worker;
    thread->disowned = true;
    if (!thread->held) /* nobody waits for it */
        close_host_side(thread);
}

/* The thread's half ends here. */
static void start_failed(struct thread *thread)
{
    thread->owners--;
    post_to_host(thread, lt_message_new(LT_MESSAGE_GONE, 0, NULL, 0));
}

struct lt_worker *lt_thread_worker_new(struct lt_loop *loop)
{
    static const struct lt_worker_ops ops = {tell, stop, end, give_up, disown};
    struct thread *thread = lt_zalloc(sizeof *thread);
    thread->base = (struct lt_worker){.ops = &ops, .loop = loop};
    pthread_mutex_init(&thread->lock, NULL);
    STAILQ_INIT(&thread->to_worker);
    STAILQ_INIT(&thread->to_host);
    thread->owners = 2;
    thread->patience = LT_TIMER_INIT;
    LIST_INSERT_HEAD(&threads, thread, link);
    uv_async_init(&loop->uv, &thread->async, hear);
    thread->async.data = loop;
    thread->wake_host = &thread->async;
    uv_unref((uv_handle_t *)&thread->async);
    if (pthread_create(&thread->id, NULL, run, thread) == 0)
        pthread_detach(thread->id);
    else
        start_failed(thread);
    return &thread->base;
}
