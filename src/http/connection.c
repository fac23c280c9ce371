/* The life of a connection: its states, its time, its end. */
#include "http/connection.h"

#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/container_of.h"

static const double LINGER = 2; /* seconds for a client to read the last answer */

/* The end. */

void lt_http_connection_free(struct lt_http_connection *connection)
{
    lt_buffer_free(&connection->head);
    lt_buffer_free(&connection->body);
    lt_buffer_free(&connection->ahead);
    free(connection->spans);
    free(connection->request.headers);
    connection->server->gone(connection);
}

static void connection_closed(uv_handle_t *handle)
{
    struct lt_http_connection *connection = lt_container_of((uv_tcp_t *)handle, struct lt_http_connection, tcp);
    connection->freed = true;
    if (!connection->turn.posted)
        lt_http_connection_free(connection);
}

void lt_http_connection_close(struct lt_http_connection *connection)
{
    enum lt_http_state state = connection->state;
    if (state == LT_HTTP_CLOSED)
        return;
    if (connection->held != NULL)
        connection->write_held(connection);
    connection->state = LT_HTTP_CLOSED;
    lt_timer_stop(connection->server->loop, &connection->timer);
    if (connection->file != NULL)
        connection->drop_file(connection);
    bool told = state == LT_HTTP_HANDLING || state == LT_HTTP_STREAMING;
    if (told && connection->request.gone != NULL)
        connection->request.gone(&connection->request);
    uv_close((uv_handle_t *)&connection->tcp, connection_closed);
}

/* Time. */

/* What the client has not read of what was written: the kernel has megabytes of it, and takes more only when a third of that
 * has gone. */
static size_t bytes_unread(const struct lt_http_connection *connection)
{
    size_t ours = uv_stream_get_write_queue_size((const uv_stream_t *)&connection->tcp);
    int fd, kernels = 0;
    if (ours > 0 && uv_fileno((const uv_handle_t *)&connection->tcp, &fd) == 0)
        ioctl(fd, SIOCOUTQ, &kernels);
    return ours + (size_t)kernels;
}

static void is_late(struct lt_timer *timer)
{
    struct lt_http_connection *connection = lt_container_of(timer, struct lt_http_connection, timer);
    size_t unread = bytes_unread(connection);
    bool writes = connection->state == LT_HTTP_WRITING || connection->state == LT_HTTP_STREAMING;
    bool goes_on = writes && (unread == 0 || unread < connection->seen_unread);
    if (connection->state == LT_HTTP_READING && !connection->broken)
        connection->late(connection);
    else if (goes_on && !connection->broken)
        lt_http_connection_await(connection);
    else
        lt_http_connection_close(connection);
}

void lt_http_connection_await(struct lt_http_connection *connection)
{
    const struct lt_http_options *options = &connection->server->options;
    struct lt_loop *loop = connection->server->loop;
    double seconds = options->timeout;
    connection->seen_unread = bytes_unread(connection);
    if (connection->state == LT_HTTP_IDLE)
        seconds = options->idle_timeout;
    else if (connection->state == LT_HTTP_CLOSING)
        seconds = LINGER;
    if (connection->broken)
        seconds = 0;
    if (connection->state == LT_HTTP_CLOSED || (connection->state == LT_HTTP_HANDLING && !connection->broken))
        lt_timer_stop(loop, &connection->timer);
    else
        lt_timer_start(loop, &connection->timer, lt_loop_now(loop) + seconds, is_late);
}

void lt_http_connection_next(struct lt_http_connection *connection)
{
    if (connection->body.size > LT_HTTP_AHEAD)
        lt_buffer_free(&connection->body);
    if (!connection->keep_alive || connection->server->closing) {
        connection->state = LT_HTTP_CLOSING;
        lt_http_connection_await(connection);
        if (connection->ended || uv_shutdown(&connection->shutdown, (uv_stream_t *)&connection->tcp, NULL) != 0)
            lt_http_connection_close(connection);
        else
            connection->read(connection,
                             true); /* to its end: what is unread at the close may cost the client the answer */
        return;
    }
    connection->state = LT_HTTP_IDLE;
    lt_http_connection_await(connection);
    if (!connection->feeding && (connection->ahead.len > 0 || connection->paused))
        lt_loop_post(connection->server->loop, &connection->turn);
}
