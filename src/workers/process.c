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
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
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
};

static void give_piece(struct reader *reader, uv_buf_t *buffer)
{
    if (reader->piece == NULL)
        reader->piece = lt_alloc(READ_SIZE);
    *buffer = uv_buf_init(reader->piece, READ_SIZE);
}

/* Takes the first whole message out of the bytes from *at on; NULL: there is none. The caller frees it. */
static struct lt_message *next_message(const struct reader *reader, size_t *at)
{
    struct lt_message_head head;
    size_t left = reader->rest.len - *at;
    if (left < sizeof head)
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
    write_all((const char *)&message->head, sizeof message->head);
    write_all(message->data, message->head.len);
    free(message);
    if (end->over)
        lt_loop_stop(end->loop);
}

static struct inside *inside_of(void *handle)
{
    return (struct inside *)((char *)handle - offsetof(struct inside, pipe));
}

static void give_inside(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    (void)size;
    give_piece(&inside_of(handle)->reader, buffer);
}

static void receive(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct inside *inside = inside_of(stream);
    size_t at = 0;
    struct lt_message *message;
    if (count < 0)
        _exit(1); /* the host is gone: nobody wants what runs here */
    lt_buffer_append(&inside->reader.rest, buffer->base, (size_t)count);
    while (!inside->end.over && (message = next_message(&inside->reader, &at)) != NULL) {
        lt_worker_end_receive(&inside->end, message);
        free(message);
    }
    forget_read(&inside->reader, at);
    if (inside->end.over)
        lt_loop_stop(&inside->loop);
}

static void ignore(int number)
{
    (void)number;
}

int lt_process_worker_main(void)
{
    static struct inside inside;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fcntl(SOCKET, F_SETFD, FD_CLOEXEC);
    signal(SIGINT, ignore); /* they are the host's; what a task executes gets them again */
    signal(SIGTERM, ignore);
    if (lt_loop_open(&inside.loop) != 0)
        return 1;
    inside.end = (struct lt_worker_end){.loop = &inside.loop, .send = send_to_host, .may_exit = true};
    uv_pipe_init(&inside.loop.uv, &inside.pipe, 0);
    inside.pipe.data = &inside.loop;
    if (uv_pipe_open(&inside.pipe, SOCKET) != 0) {
        fputs("ltsh: a worker is started by its host\n", stderr);
        return 2;
    }
    uv_read_start((uv_stream_t *)&inside.pipe, give_inside, receive);
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
    char how[64];             /* it ended */
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

static void on_handle_closed(uv_handle_t *handle)
{
    struct process *process = handle->type == UV_PROCESS
                                  ? (struct process *)((char *)handle - offsetof(struct process, child))
                                  : (struct process *)((char *)handle - offsetof(struct process, pipe));
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
    uv_close((uv_handle_t *)&process->child, on_handle_closed);
    uv_close((uv_handle_t *)&process->pipe, on_handle_closed);
}

static void drained(struct lt_timer *timer)
{
    struct process *process = (struct process *)((char *)timer - offsetof(struct process, patience));
    process->silent = true;
    check_gone(process);
}

static void on_exit_of_child(uv_process_t *child, int64_t status, int number)
{
    struct process *process = (struct process *)((char *)child - offsetof(struct process, child));
    if (number != 0)
        snprintf(process->how, sizeof process->how, "signal %d", number);
    else
        snprintf(process->how, sizeof process->how, "exit code %d", (int)status);
    process->exited = true;
    lt_timer_start(process->base.loop, &process->patience, lt_loop_tick(process->base.loop) + DRAIN_GRACE, drained);
    check_gone(process);
}

static struct process *process_of_pipe(void *handle)
{
    return (struct process *)((char *)handle - offsetof(struct process, pipe));
}

static void give_host(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    (void)size;
    give_piece(&process_of_pipe(handle)->reader, buffer);
}

static void hear(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct process *process = process_of_pipe(stream);
    struct lt_message *message;
    size_t at = 0;
    if (count < 0) {
        uv_read_stop(stream);
        process->silent = true;
        check_gone(process);
        return;
    }
    lt_buffer_append(&process->reader.rest, buffer->base, (size_t)count);
    while ((message = next_message(&process->reader, &at)) != NULL) {
        if (!process->disowned)
            process->base.received(&process->base, message);
        free(message);
    }
    forget_read(&process->reader, at);
}

static void written(uv_write_t *request, int status)
{
    struct writing *writing = (struct writing *)request;
    (void)status; /* if it cannot be written to, it is gone, and that is heard of */
    free(writing->message);
    free(writing);
}

static void tell(struct lt_worker *worker, struct lt_message *message)
{
    struct process *process = (struct process *)worker;
    struct writing *writing = lt_alloc(sizeof *writing);
    writing->message = message;
    const uv_buf_t buffers[] = {
        uv_buf_init((char *)&message->head, sizeof message->head),
        uv_buf_init(message->data, message->head.len),
    };
    if (process->gone || uv_write(&writing->request, (uv_stream_t *)&process->pipe, buffers,
                                  message->head.len > 0 ? 2 : 1, written) != 0)
        written(&writing->request, 0);
}

static void stop(struct lt_worker *worker, uint64_t seq)
{
    tell(worker, lt_message_new(LT_MESSAGE_STOP, seq, NULL, 0));
}

static bool kill_process(struct lt_worker *worker)
{
    struct process *process = (struct process *)worker;
    if (!process->exited)
        uv_process_kill(&process->child, SIGKILL);
    return true;
}

static void out_of_patience(struct lt_timer *timer)
{
    struct process *process = (struct process *)((char *)timer - offsetof(struct process, patience));
    kill_process(&process->base);
}

static void end(struct lt_worker *worker)
{
    struct process *process = (struct process *)worker;
    if (process->exited)
        return;
    tell(worker, lt_message_new(LT_MESSAGE_END, 0, NULL, 0));
    uv_ref((uv_handle_t *)&process->child);
    lt_timer_start(worker->loop, &process->patience, lt_loop_tick(worker->loop) + END_GRACE, out_of_patience);
}

static void disown(struct lt_worker *worker)
{
    ((struct process *)worker)->disowned = true;
}

static int spawn(struct process *process)
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
        .exit_cb = on_exit_of_child,
        .flags = UV_PROCESS_DETACHED, /* a terminal's Ctrl-C is for the host */
        .stdio_count = SOCKET + 1,
        .stdio = stdio,
    };
    return uv_spawn(&process->base.loop->uv, &process->child, &options);
}

struct lt_worker *lt_process_worker_new(struct lt_loop *loop)
{
    static const struct lt_worker_ops ops = {tell, stop, end, kill_process, disown};
    struct process *process = lt_zalloc(sizeof *process);
    process->base = (struct lt_worker){.ops = &ops, .loop = loop};
    process->patience = LT_TIMER_INIT;
    uv_pipe_init(&loop->uv, &process->pipe, 0);
    process->handles = 2;
    int error = spawn(process);
    process->pipe.data = process->child.data = loop;
    uv_unref((uv_handle_t *)&process->child);
    if (error == 0) {
        uv_read_start((uv_stream_t *)&process->pipe, give_host, hear);
        uv_unref((uv_handle_t *)&process->pipe);
    } else {
        snprintf(process->how, sizeof process->how, "it could not be started: %s", uv_strerror(error));
        process->exited = true;
        lt_timer_start(loop, &process->patience, 0, drained);
    }
    return &process->base;
}
