/* A worker in a thread of this process: a mailbox for it, and one for the host.
 *
 * Two own it, the host and the thread; the last one to leave frees it. A thread that does not come back (a C function
 * that blocks) is left alone: it keeps its half for ever. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "script/values/marks.h"
#include "workers/worker.h"
#include "workers/worker_end.h"

struct thread {
    struct lt_worker base;
    pthread_t id;
    _Atomic uint64_t stopped; /* the run that is to end */
    _Atomic unsigned owners;
    struct lt_mailbox to_worker;
    struct lt_mailbox to_host;

    /* The host's own. */
    uv_poll_t poll;
    struct lt_timer patience;
    bool held; /* the host's loop is, until it has ended */
    bool open; /* poll is */
    bool disowned;
};

static const double END_GRACE = 1; /* seconds that a thread which was asked to end may hold the loop */

struct inside {
    struct lt_worker_end end;
    struct thread *thread;
    uv_poll_t poll;
};

static void leave_thread(struct thread *thread)
{
    if (atomic_fetch_sub(&thread->owners, 1) > 1)
        return;
    lt_messages_free(&thread->to_worker.mails);
    lt_messages_free(&thread->to_host.mails);
    lt_mailbox_close(&thread->to_worker);
    lt_mailbox_close(&thread->to_host);
    free(thread);
}

/* The thread's side. */

static void send_to_host(struct lt_worker_end *end, struct lt_message *message)
{
    struct thread *thread = ((struct inside *)end)->thread;
    lt_mailbox_put(&thread->to_host, &message->mail);
    if (end->over)
        lt_loop_stop(end->loop);
}

LT_RUNS_LUA static void receive_from_host(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct inside *inside = lt_container_of(poll, struct inside, poll);
    struct lt_mails messages;
    struct lt_message *message;
    lt_mailbox_take(&inside->thread->to_worker, &messages);
    while ((message = lt_messages_take(&messages)) != NULL) {
        if (inside->end.over)
            free(message);
        else
            lt_worker_end_receive(&inside->end, message);
    }
    if (inside->end.over)
        lt_loop_stop(inside->end.loop);
}

LT_RUNS_LUA static void *run_thread(void *arg)
{
    struct thread *thread = arg;
    struct lt_loop loop;
    struct inside inside = {
        .end = {.loop = &loop, .send = send_to_host, .stopped = &thread->stopped},
        .thread = thread,
    };
    const char *how = "ended";
    lt_worker_end_open(&inside.end);
    int error = lt_loop_open(&loop);
    if (error != 0) {
        how = uv_strerror(error);
    } else {
        uv_poll_init(&loop.uv, &inside.poll, thread->to_worker.event);
        inside.poll.data = &loop;
        uv_poll_start(&inside.poll, UV_READABLE, receive_from_host);
        lt_loop_run(&loop);
        uv_poll_stop(&inside.poll); /* it holds up the end no more */
        lt_worker_end_close(&inside.end);
        lt_loop_close(&loop);
    }
    struct lt_message *gone = lt_message_new(LT_MESSAGE_GONE, 0, how, strlen(how) + 1);
    lt_mailbox_put(&thread->to_host, &gone->mail);
    leave_thread(thread);
    return NULL;
}

/* The host's side. */

static void host_poll_closed(uv_handle_t *handle)
{
    leave_thread(lt_container_of(handle, struct thread, poll));
}

/* Nobody waits for it any more. */
static void release_loop(struct thread *thread)
{
    lt_timer_stop(thread->base.loop, &thread->patience);
    if (!thread->held)
        return;
    thread->held = false;
    lt_loop_release(thread->base.loop);
    uv_unref((uv_handle_t *)&thread->poll);
}

static void patience_over(struct lt_timer *timer)
{
    struct thread *thread = lt_container_of(timer, struct thread, patience);
    lt_log(LT_LOG_WARN, "a worker's thread does not end, it is left alone");
    release_loop(thread);
}

static void close_host_side(struct thread *thread)
{
    release_loop(thread);
    if (!thread->open)
        return;
    thread->open = false;
    uv_poll_stop(&thread->poll);
    uv_close((uv_handle_t *)&thread->poll, host_poll_closed);
}

static void thread_gone(struct thread *thread, const char *how)
{
    if (!thread->disowned)
        thread->base.gone(&thread->base, how);
    close_host_side(thread);
}

static void hear_thread(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct thread *thread = lt_container_of(poll, struct thread, poll);
    struct lt_mails messages;
    struct lt_message *message;
    lt_mailbox_take(&thread->to_host, &messages);
    while ((message = lt_messages_take(&messages)) != NULL) {
        if (message->head.kind == LT_MESSAGE_GONE)
            thread_gone(thread, message->data);
        else if (!thread->disowned)
            thread->base.received(&thread->base, message);
        free(message);
    }
}

static void tell_thread(struct lt_worker *worker, struct lt_message *message)
{
    struct thread *thread = (struct thread *)worker;
    lt_mailbox_put(&thread->to_worker, &message->mail);
}

static void stop_in_thread(struct lt_worker *worker, uint64_t seq)
{
    atomic_store(&((struct thread *)worker)->stopped, seq);
    tell_thread(worker, lt_message_new(LT_MESSAGE_STOP, seq, NULL, 0));
}

static void end_thread(struct lt_worker *worker)
{
    struct thread *thread = (struct thread *)worker;
    if (thread->open && !thread->held) {
        thread->held = true;
        lt_loop_hold(worker->loop);
        uv_ref((uv_handle_t *)&thread->poll); /* also when the loop is being finished */
        lt_timer_start(worker->loop, &thread->patience, lt_loop_tick(worker->loop) + END_GRACE, patience_over);
    }
    tell_thread(worker, lt_message_new(LT_MESSAGE_END, 0, NULL, 0));
}

static bool give_up_thread(struct lt_worker *worker)
{
    end_thread(worker); /* in case that it comes back */
    release_loop((struct thread *)worker);
    return false;
}

static void disown_thread(struct lt_worker *worker)
{
    struct thread *thread = (struct thread *)worker;
    thread->disowned = true;
    if (thread->open && !thread->held) /* nobody waits for it */
        close_host_side(thread);
}

/* There is no thread, and no half of it. */
static void thread_not_started(struct lt_timer *timer)
{
    struct thread *thread = lt_container_of(timer, struct thread, patience);
    if (!thread->disowned)
        thread->base.gone(&thread->base, "no thread could be started");
    leave_thread(thread);
}

static bool start_thread(struct thread *thread)
{
    bool open = lt_mailbox_open(&thread->to_worker);
    if (!lt_mailbox_open(&thread->to_host) || !open)
        return false;
    if (pthread_create(&thread->id, NULL, run_thread, thread) != 0)
        return false;
    pthread_detach(thread->id);
    return true;
}

struct lt_worker *lt_thread_worker_new(struct lt_loop *loop)
{
    static const struct lt_worker_ops ops = {tell_thread, stop_in_thread, end_thread, give_up_thread, disown_thread};
    struct thread *thread = lt_zalloc(sizeof *thread);
    thread->base = (struct lt_worker){.ops = &ops, .loop = loop};
    thread->owners = 2; /* before there is another one */
    thread->patience = LT_TIMER_INIT;
    thread->open = start_thread(thread);
    if (thread->open) {
        uv_poll_init(&loop->uv, &thread->poll, thread->to_host.event);
        thread->poll.data = loop;
        uv_poll_start(&thread->poll, UV_READABLE, hear_thread);
        uv_unref((uv_handle_t *)&thread->poll);
    } else {
        thread->owners = 1;
        lt_timer_start(loop, &thread->patience, 0, thread_not_started);
    }
    return &thread->base;
}
