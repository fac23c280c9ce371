#include "redis/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "base/container_of.h"

enum {
    READ_SIZE = 64 << 10,
    IDLE_SECONDS = 5,      /* then the kernel asks whether the other side is there, */
    ASK_SECONDS = 2,       /* this often, */
    ASKS = 3,              /* and gives up */
    UNHEARD_MS = 10 * 1000 /* that what was sent may stay without an acknowledgement */
};

/* A socket closes in its own time: the stream may have another by then, or be gone. */
struct socket {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uv_connect_t connect;
    struct lt_redis_stream *stream; /* NULL: given up */
    char buffer[READ_SIZE];
};

struct lt_redis_stream {
    uv_loop_t *uv;
    struct lt_redis_peers peers;
    unsigned peer; /* which it is connected to, or tries */
    struct socket *socket;
    struct lt_tls *tls;     /* NULL: plain */
    struct lt_buffer plain; /* what came by TLS */
    bool open;
    struct lt_redis_stream_user user;
    void *arg;
    uv_timer_t *fails; /* in a later turn: nothing is told from within a call */
    int failure;
};

struct write {
    uv_write_t request;
    char *data;
};

/* Failing. */

static void fail_by(struct lt_redis_stream *stream, const char *what, int code)
{
    char *why = lt_format("%s: %s", what, uv_strerror(code));
    stream->user.failed(stream->arg, why, false);
    free(why);
}

/* Sockets. */

static void socket_closed(uv_handle_t *handle)
{
    free(lt_container_of(handle, struct socket, uv.handle));
}

static void drop_socket(struct lt_redis_stream *stream)
{
    if (stream->socket == NULL)
        return;
    stream->socket->stream = NULL;
    uv_close(&stream->socket->uv.handle, socket_closed);
    stream->socket = NULL;
}

/* Writing. */

/* What is wrong with the socket is told by reading, behind what the server said last: perhaps why it closed it. */
static void written(uv_write_t *request, int status)
{
    struct write *write = lt_container_of(request, struct write, request);
    (void)status;
    free(write->data);
    free(write);
}

static void write_bytes(struct lt_redis_stream *stream, struct lt_buffer *bytes)
{
    struct write *write = lt_alloc(sizeof *write);
    uv_buf_t buffer = uv_buf_init(bytes->data, (unsigned)bytes->len);
    write->data = bytes->data;
    *bytes = (struct lt_buffer){0};
    if (uv_write(&write->request, &stream->socket->uv.stream, &buffer, 1, written) == 0)
        return; /* see there */
    free(write->data);
    free(write);
}

static void give_by_tls(struct lt_redis_stream *stream)
{
    struct lt_buffer out = {0};
    lt_tls_give(stream->tls, &out);
    if (out.len > 0)
        write_bytes(stream, &out);
}

void lt_redis_stream_write(struct lt_redis_stream *stream, struct lt_buffer *bytes)
{
    if (stream->tls == NULL) {
        write_bytes(stream, bytes);
        return;
    }
    lt_tls_say(stream->tls, bytes->data, bytes->len); /* what is wrong with it is told by the next reading */
    lt_buffer_free(bytes);
    give_by_tls(stream);
}

/* Reading. */

static void take_by_tls(struct lt_redis_stream *stream, const char *bytes, size_t len)
{
    struct socket *socket = stream->socket;
    bool fine = lt_tls_take(stream->tls, bytes, len, &stream->plain);
    give_by_tls(stream); /* also why this side gives up */
    if (fine && !stream->open && lt_tls_is_open(stream->tls)) {
        stream->open = true;
        stream->user.opened(stream->arg);
    }
    if (socket->stream != NULL && stream->plain.len > 0) {
        struct lt_buffer plain = stream->plain;
        stream->plain = (struct lt_buffer){0};
        stream->user.came(stream->arg, plain.data, plain.len);
        lt_buffer_free(&plain);
    }
    if (socket->stream == NULL || fine)
        return;
    const char *error = lt_tls_error(stream->tls);
    char *why = lt_strdup(error != NULL ? error : "the server closed the connection"); /* it may outlive the stream */
    stream->user.failed(stream->arg, why, error != NULL);
    free(why);
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct socket *socket = lt_container_of(handle, struct socket, uv.handle);
    (void)suggested;
    *buffer = uv_buf_init(socket->buffer, sizeof socket->buffer);
}

static void bytes_came(uv_stream_t *handle, ssize_t count, const uv_buf_t *buffer)
{
    struct lt_redis_stream *stream = lt_container_of(handle, struct socket, uv.stream)->stream;
    if (stream == NULL || count == 0)
        return;
    if (count < 0)
        fail_by(stream, "the connection was cut", (int)count);
    else if (stream->tls != NULL)
        take_by_tls(stream, buffer->base, (size_t)count);
    else
        stream->user.came(stream->arg, buffer->base, (size_t)count);
}

/* Connecting. */

/* A server that is gone without a word is noticed by the kernel also where nothing is asked. */
static void set_tcp_options(struct socket *socket)
{
    const int idle = IDLE_SECONDS, every = ASK_SECONDS, most = ASKS, on = 1;
    const unsigned unheard = UNHEARD_MS;
    uv_os_fd_t fd;
    if (uv_fileno(&socket->uv.handle, &fd) < 0)
        return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof every);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &most, sizeof most);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unheard, sizeof unheard);
}

static void try_peer(struct lt_redis_stream *stream);

static void not_connected(struct lt_redis_stream *stream, int code)
{
    if (++stream->peer < stream->peers.count) {
        drop_socket(stream);
        try_peer(stream);
    } else {
        stream->peer = 0;
        fail_by(stream, "it cannot be connected to", code);
    }
}

static void connected(uv_connect_t *request, int status)
{
    struct socket *socket = lt_container_of(request, struct socket, connect);
    struct lt_redis_stream *stream = socket->stream;
    if (stream == NULL)
        return;
    if (status < 0) {
        not_connected(stream, status);
        return;
    }
    if (lt_redis_stream_peer(stream)->ss_family != AF_UNIX)
        set_tcp_options(socket);
    int code = uv_read_start(&socket->uv.stream, give_buffer, bytes_came);
    if (code < 0) {
        fail_by(stream, "nothing can be read", code);
    } else if (stream->tls != NULL) {
        take_by_tls(stream, NULL, 0);
    } else {
        stream->open = true;
        stream->user.opened(stream->arg);
    }
}

static int begin_connecting(struct lt_redis_stream *stream, const struct sockaddr_storage *peer)
{
    struct socket *socket = stream->socket;
    if (peer->ss_family == AF_UNIX) {
        uv_pipe_init(stream->uv, &socket->uv.pipe, 0);
        uv_pipe_connect(&socket->connect, &socket->uv.pipe, ((const struct sockaddr_un *)peer)->sun_path, connected);
        return 0;
    }
    uv_tcp_init(stream->uv, &socket->uv.tcp);
    return uv_tcp_connect(&socket->connect, &socket->uv.tcp, (const struct sockaddr *)peer, connected);
}

static void free_timer(uv_handle_t *handle)
{
    free(handle);
}

static void fail_now(uv_timer_t *timer)
{
    struct lt_redis_stream *stream = timer->data;
    stream->fails = NULL;
    uv_close((uv_handle_t *)timer, free_timer);
    not_connected(stream, stream->failure);
}

static void fail_later(struct lt_redis_stream *stream, int code)
{
    stream->failure = code;
    stream->fails = lt_alloc(sizeof *stream->fails);
    uv_timer_init(stream->uv, stream->fails);
    stream->fails->data = stream;
    uv_timer_start(stream->fails, fail_now, 0, 0);
}

static void try_peer(struct lt_redis_stream *stream)
{
    stream->socket = lt_alloc(sizeof *stream->socket);
    stream->socket->stream = stream;
    int code = begin_connecting(stream, lt_redis_stream_peer(stream));
    if (code < 0)
        fail_later(stream, code);
}

struct lt_redis_stream *lt_redis_stream_open(uv_loop_t *uv, const struct lt_redis_peers *peers,
                                             struct lt_tls_context *tls, const char *name,
                                             const struct lt_redis_stream_user *user, void *arg)
{
    struct lt_redis_stream *stream = lt_zalloc(sizeof *stream);
    stream->uv = uv;
    stream->peers = *peers;
    stream->tls = tls != NULL ? lt_tls_new(tls, name) : NULL;
    stream->user = *user;
    stream->arg = arg;
    try_peer(stream);
    return stream;
}

const struct sockaddr_storage *lt_redis_stream_peer(const struct lt_redis_stream *stream)
{
    return &stream->peers.list[stream->peer];
}

void lt_redis_stream_close(struct lt_redis_stream *stream)
{
    if (stream == NULL)
        return;
    drop_socket(stream);
    if (stream->fails != NULL)
        uv_close((uv_handle_t *)stream->fails, free_timer);
    lt_tls_free(stream->tls);
    lt_buffer_free(&stream->plain);
    free(stream);
}
