/* A worker in a process: this program again, told by an option, with a socket as its descriptor 3. It is gone when it
 * has exited and all that it said was read. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "script/values/marks.h"
#include "workers/worker.h"
#include "workers/worker_end.h"

enum { SOCKET = 3, READ_SIZE = 65536 };
static const double END_GRACE = 1;   /* seconds for a process that was asked to end */
static const double DRAIN_GRACE = 1; /* seconds to read what an ended process said: others may hold its socket */

/* Frames. */

/* Puts messages together from what was read. */
struct reader {
    char *piece; /* what uv reads into */
    struct lt_buffer rest;
    bool nonsense; /* was read, and nothing more is to be */
};

static void give_piece(struct reader *reader, uv_buf_t *buffer)
{
    if (reader->piece == NULL)
        reader->piece = lt_alloc(READ_SIZE);
    *buffer = uv_buf_init(reader->piece, READ_SIZE);
}

/* Takes the first whole message out of the bytes from *at on; NULL: there is none, or nonsense. The caller frees it. */
static struct lt_message *next_message(struct reader *reader, size_t *at)
{
    struct lt_message_head head;
    size_t left = reader->rest.len - *at;
    if (left == 0 || reader->nonsense)
        return NULL;
    reader->nonsense = !lt_message_may_begin(reader->rest.data + *at, left);
    if (left < sizeof head || reader->nonsense)
        return NULL;
    memcpy(&head, reader->rest.data + *at, sizeof head);
    if (left - sizeof head < head.len)
        return NULL;
    struct lt_message *message =
        lt_message_new((enum lt_message_kind)head.kind, head.seq, reader->rest.data + *at + sizeof head, head.len);
    message->head = head;
    *at += sizeof head + head.len;
    return message;
}

static void forget_read(struct reader *reader, size_t len)
{
    reader->rest.len -= len;
    memmove(reader->rest.data, reader->rest.data + len, reader->rest.len);
}

static void free_reader(struct reader *reader)
{
    free(reader->piece);
    lt_buffer_free(&reader->rest);
}

/* The process's side. */

struct inside {
    struct lt_worker_end end;
    struct lt_loop loop;
    uv_pipe_t pipe;
    struct reader reader;
};

static void write_all(const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(SOCKET, data, len);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){.fd = SOCKET, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            _exit(1); /* the host is gone */
        }
    }
}

static void send_to_host(struct lt_worker_end *end, struct lt_message *message)
{
    write_all(lt_message_frame(message), lt_message_frame_len(message));
    free(message);
    if (end->over)
        lt_loop_stop(end->loop);
}

static struct inside *inside_of(void *handle)
{
    return lt_container_of(handle, struct inside, pipe);
}

static void give_inside(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    (void)size;
    give_piece(&inside_of(handle)->reader, buffer);
}

LT_RUNS_LUA static void receive_from_host(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct inside *inside = inside_of(stream);
    size_t at = 0;
    struct lt_message *message;
    if (count < 0)
        _exit(1); /* the host is gone: nobody wants what runs here */
    lt_buffer_append(&inside->reader.rest, buffer->base, (size_t)count);
    while (!inside->end.over && (message = next_message(&inside->reader, &at)) != NULL)
        lt_worker_end_receive(&inside->end, message);
    forget_read(&inside->reader, at);
    if (inside->reader.nonsense)
        _exit(1); /* a task has read what was not meant for it */
    if (inside->end.over)
        lt_loop_stop(&inside->loop);
}

static pid_t host;

/* What a task prints reaches nobody: that is for the host to know. Once: a task that prints on would flood it with signals,
 * and it would come to nothing else. */
static void tell_of_broken_output(int number)
{
    static volatile sig_atomic_t told;
    if (told || !lt_output_is_broken() || getppid() != host) /* NOLINT(bugprone-signal-handler): it is safe there */
        return;
    told = 1;
    kill(host, number);
}

static void ignore_signal(int number)
{
    (void)number;
}

/* What a task waits for in C goes on afterwards. */
static void handle_signal(int number, void (*handler)(int number))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(number, &action, NULL);
}

LT_RUNS_LUA int lt_process_worker_main(void)
{
    static struct inside inside;
    static const int host_signals[] = {SIGINT, SIGTERM, SIGHUP}; /* what a task executes gets them again */
    host = getppid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fcntl(SOCKET, F_SETFD, FD_CLOEXEC);
    /* What a script of the host has opened is none of a task's business. */
    syscall(SYS_close_range, SOCKET + 1U, ~0U, 0);
    for (size_t i = 0; i < sizeof host_signals / sizeof *host_signals; i++)
        handle_signal(host_signals[i], ignore_signal);
    handle_signal(SIGPIPE, tell_of_broken_output);
    if (lt_loop_open(&inside.loop) != 0)
        return 1;
    inside.end = (struct lt_worker_end){.loop = &inside.loop, .send = send_to_host, .may_exit = true};
    lt_worker_end_open(&inside.end);
    uv_pipe_init(&inside.loop.uv, &inside.pipe, 0);
    inside.pipe.data = &inside.loop;
    if (uv_pipe_open(&inside.pipe, SOCKET) != 0) {
        fputs("ltsh: a worker is started by its host\n", stderr);
        return 2;
    }
    uv_read_start((uv_stream_t *)&inside.pipe, give_inside, receive_from_host);
    lt_loop_run(&inside.loop);
    uv_read_stop((uv_stream_t *)&inside.pipe);
    uv_unref((uv_handle_t *)&inside.pipe);
    lt_worker_end_close(&inside.end);
    free_reader(&inside.reader);
    lt_loop_close(&inside.loop);
    fflush(NULL);
    return 0;
}

/* The host's side. */

struct process {
    struct lt_worker base;
    uv_process_t child;
    uv_pipe_t pipe;
    struct reader reader;
    struct lt_timer patience; /* until it is killed; then until it is given up to hear of more */
    char how[80];             /* it ended */
    unsigned handles;         /* open ones */
    bool exited;
    bool silent; /* all was read */
    bool disowned;
    bool gone;
};

struct writing {
    uv_write_t request;
    struct lt_message *message;
};

static void process_handle_closed(uv_handle_t *handle)
{
    struct process *process = handle->type == UV_PROCESS ? lt_container_of(handle, struct process, child)
                                                         : lt_container_of(handle, struct process, pipe);
    if (--process->handles > 0)
        return;
    free_reader(&process->reader);
    free(process);
}

static void check_gone(struct process *process)
{
    if (!process->exited || !process->silent || process->gone)
        return;
    process->gone = true;
    lt_timer_stop(process->base.loop, &process->patience);
    if (!process->disowned)
        process->base.gone(&process->base, process->how);
    uv_close((uv_handle_t *)&process->child, process_handle_closed);
    uv_close((uv_handle_t *)&process->pipe, process_handle_closed);
}

static void drain_over(struct lt_timer *timer)
{
    struct process *process = lt_container_of(timer, struct process, patience);
    process->silent = true;
    check_gone(process);
}

static void process_exited(uv_process_t *child, int64_t status, int number)
{
    struct process *process = lt_container_of(child, struct process, child);
    if (!process->reader.nonsense && number != 0)
        snprintf(process->how, sizeof process->how, "signal %d", number);
    else if (!process->reader.nonsense)
        snprintf(process->how, sizeof process->how, "exit code %d", (int)status);
    process->exited = true;
    lt_timer_start(process->base.loop, &process->patience, lt_loop_tick(process->base.loop) + DRAIN_GRACE, drain_over);
    check_gone(process);
}

static bool kill_process(struct lt_worker *worker)
{
    struct process *process = (struct process *)worker;
    if (!process->exited)
        uv_process_kill(&process->child, SIGKILL);
    return true;
}

static void patience_over(struct lt_timer *timer)
{
    struct process *process = lt_container_of(timer, struct process, patience);
    kill_process(&process->base);
}

static struct process *process_of_pipe(void *handle)
{
    return lt_container_of(handle, struct process, pipe);
}

static void give_host(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    (void)size;
    give_piece(&process_of_pipe(handle)->reader, buffer);
}

/* Nothing more is read of it: it has ended, or will soon. */
static void silence_process(struct process *process)
{
    uv_read_stop((uv_stream_t *)&process->pipe);
    process->silent = true;
    check_gone(process);
}

static void hear_messages(struct process *process)
{
    struct lt_message *message;
    size_t at = 0;
    while ((message = next_message(&process->reader, &at)) != NULL) {
        process->reader.nonsense = !lt_message_from_worker(message);
        if (!process->reader.nonsense && !process->disowned)
            process->base.received(&process->base, message);
        free(message);
    }
    forget_read(&process->reader, at);
}

static void hear_process(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct process *process = process_of_pipe(stream);
    if (count < 0) {
        if (!process->exited && !lt_timer_active(&process->patience)) /* or a task has closed what it talks on */
            lt_timer_start(process->base.loop, &process->patience, lt_loop_tick(process->base.loop) + END_GRACE,
                           patience_over);
        silence_process(process);
        return;
    }
    lt_buffer_append(&process->reader.rest, buffer->base, (size_t)count);
    hear_messages(process);
    if (!process->reader.nonsense)
        return;
    snprintf(process->how, sizeof process->how, "something else wrote to descriptor %d, on which it talks", SOCKET);
    kill_process(&process->base);
    silence_process(process);
}

static void message_written(uv_write_t *request, int status)
{
    struct writing *writing = (struct writing *)request;
    (void)status; /* if it cannot be written to, it is gone, and that is heard of */
    free(writing->message);
    free(writing);
}

/* What the socket does not take at once. Takes over the message. */
static void write_later(struct process *process, struct lt_message *message, uv_buf_t rest)
{
    struct writing *writing = lt_alloc(sizeof *writing);
    writing->message = message;
    if (uv_write(&writing->request, (uv_stream_t *)&process->pipe, &rest, 1, message_written) != 0)
        message_written(&writing->request, 0);
}

static void tell_process(struct lt_worker *worker, struct lt_message *message)
{
    struct process *process = (struct process *)worker;
    uv_buf_t frame = {.base = lt_message_frame(message), .len = lt_message_frame_len(message)};
    if (process->gone) {
        free(message);
        return;
    }
    int done = uv_try_write((uv_stream_t *)&process->pipe, &frame, 1); /* a third of the cost of a request */
    if (done > 0) {
        frame.base += done;
        frame.len -= (size_t)done;
    }
    if (frame.len > 0)
        write_later(process, message, frame);
    else
        free(message);
}

static void stop_in_process(struct lt_worker *worker, uint64_t seq)
{
    tell_process(worker, lt_message_new(LT_MESSAGE_STOP, seq, NULL, 0));
}

static void end_process(struct lt_worker *worker)
{
    struct process *process = (struct process *)worker;
    if (process->exited)
        return;
    tell_process(worker, lt_message_new(LT_MESSAGE_END, 0, NULL, 0));
    uv_ref((uv_handle_t *)&process->child);
    lt_timer_start(worker->loop, &process->patience, lt_loop_tick(worker->loop) + END_GRACE, patience_over);
}

static void disown_process(struct lt_worker *worker)
{
    ((struct process *)worker)->disowned = true;
}

static int spawn_process(struct process *process)
{
    static char level[16], format[8];
    char program[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    if (len < 0)
        return -errno;
    program[len] = '\0';
    snprintf(level, sizeof level, "%s", lt_log_level_name());
    snprintf(format, sizeof format, "%s", lt_log_is_json() ? "json" : "text");
    char *arguments[] = {"ltsh", "--worker", "--log-level", level, "--log-format", format, NULL};
    uv_stdio_container_t stdio[SOCKET + 1] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = STDOUT_FILENO},
        {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
        {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&process->pipe},
    };
    const uv_process_options_t options = {
        .file = program,
        .args = arguments,
        .exit_cb = process_exited,
        .flags = UV_PROCESS_DETACHED, /* a terminal's Ctrl-C is for the host */
        .stdio_count = SOCKET + 1,
        .stdio = stdio,
    };
    return uv_spawn(&process->base.loop->uv, &process->child, &options);
}

struct lt_worker *lt_process_worker_new(struct lt_loop *loop)
{
    static const struct lt_worker_ops ops = {tell_process, stop_in_process, end_process, kill_process, disown_process};
    struct process *process = lt_zalloc(sizeof *process);
    process->base = (struct lt_worker){.ops = &ops, .loop = loop};
    process->patience = LT_TIMER_INIT;
    uv_pipe_init(&loop->uv, &process->pipe, 0);
    process->handles = 2;
    int error = spawn_process(process);
    process->pipe.data = process->child.data = loop;
    uv_unref((uv_handle_t *)&process->child);
    if (error == 0) {
        uv_read_start((uv_stream_t *)&process->pipe, give_host, hear_process);
        uv_unref((uv_handle_t *)&process->pipe);
    } else {
        snprintf(process->how, sizeof process->how, "it could not be started: %s", uv_strerror(error));
        process->exited = true;
        lt_timer_start(loop, &process->patience, 0, drain_over);
    }
    return &process->base;
}
