#include "http/server.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "http/connection.h"

/* Closing. */

static void free_if_closed(struct lt_http_server *server)
{
    if (!server->closing || server->listens || server->count > 0)
        return;
    lt_timer_stop(server->loop, &server->drain);
    if (server->options.holds)
        lt_loop_release(server->loop);
    void (*closed)(void *) = server->closed;
    void *arg = server->arg;
    free(server);
    if (closed != NULL)
        closed(arg);
}

static void connection_gone(struct lt_http_connection *connection)
{
    struct lt_http_server *server = connection->server;
    LIST_REMOVE(connection, link);
    server->count--;
    free(connection);
    free_if_closed(server);
}

static void listener_closed(uv_handle_t *handle)
{
    struct lt_http_server *server = lt_container_of((uv_tcp_t *)handle, struct lt_http_server, tcp);
    server->listens = false;
    free_if_closed(server);
}

static bool is_at_work(const struct lt_http_connection *connection)
{
    return connection->state == LT_HTTP_HANDLING || connection->state == LT_HTTP_WRITING ||
           connection->state == LT_HTTP_CLOSING;
}

static void close_connections(struct lt_http_server *server, bool all)
{
    struct lt_http_connection *connection, *next;
    for (connection = LIST_FIRST(&server->connections); connection != NULL; connection = next) {
        next = LIST_NEXT(connection, link);
        if (all || !is_at_work(connection))
            lt_http_connection_close(connection);
    }
}

static void drain_over(struct lt_timer *timer)
{
    close_connections(lt_container_of(timer, struct lt_http_server, drain), true);
}

void lt_http_server_close(struct lt_http_server *server, double drain, void (*closed)(void *arg))
{
    if (server->closing && drain <= 0) {
        server->closed = closed;
        close_connections(server, true);
    }
    if (server->closing)
        return;
    server->closing = true;
    server->closed = closed;
    uv_close((uv_handle_t *)&server->tcp, listener_closed);
    close_connections(server, drain <= 0);
    if (drain > 0)
        lt_timer_start(server->loop, &server->drain, lt_loop_tick(server->loop) + drain, drain_over);
}

/* Opening. */

static void client_comes(uv_stream_t *listener, int status)
{
    struct lt_http_server *server = lt_container_of((uv_tcp_t *)listener, struct lt_http_server, tcp);
    if (status == 0 && !server->closing)
        lt_http_connection_open(server, listener);
}

static int read_address(const struct lt_http_options *options, struct sockaddr_storage *address)
{
    if (uv_ip4_addr(options->host, options->port, (struct sockaddr_in *)address) == 0)
        return 0;
    return uv_ip6_addr(options->host, options->port, (struct sockaddr_in6 *)address);
}

static int find_port(const uv_tcp_t *tcp)
{
    struct sockaddr_storage address;
    int len = sizeof address;
    if (uv_tcp_getsockname(tcp, (struct sockaddr *)&address, &len) != 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

static int listen_at(struct lt_http_server *server)
{
    struct sockaddr_storage address;
    int code = read_address(&server->options, &address);
    if (code == 0)
        code = uv_tcp_bind(&server->tcp, (struct sockaddr *)&address, 0);
    if (code == 0)
        code = uv_listen((uv_stream_t *)&server->tcp, 511, client_comes);
    return code;
}

static void failed_closed(uv_handle_t *handle)
{
    free(lt_container_of((uv_tcp_t *)handle, struct lt_http_server, tcp));
}

struct lt_http_server *lt_http_server_open(struct lt_loop *loop, const struct lt_http_options *options,
                                           void (*on_request)(void *arg, struct lt_http_request *request), void *arg,
                                           struct lt_error *error)
{
    struct lt_http_server *server = lt_zalloc(sizeof *server);
    server->loop = loop;
    server->options = *options;
    server->on_request = on_request;
    server->arg = arg;
    server->drain = LT_TIMER_INIT;
    server->gone = connection_gone;
    LIST_INIT(&server->connections);
    TAILQ_INIT(&server->held);
    http_parser_set_max_header_size(1 << 30); /* it is ours to count */
    uv_tcp_init(&loop->uv, &server->tcp);
    server->tcp.data = loop;
    int code = listen_at(server);
    if (code != 0) {
        bool v6 = strchr(options->host, ':') != NULL;
        lt_fail(error, LT_ERROR, "http://%s%s%s:%d/: %s", v6 ? "[" : "", options->host, v6 ? "]" : "", options->port,
                code == UV_EINVAL ? "the host must be an address, as 127.0.0.1 or ::1" : uv_strerror(code));
        uv_close((uv_handle_t *)&server->tcp, failed_closed);
        return NULL;
    }
    server->options.host = NULL; /* the caller's */
    server->listens = true;
    server->port = find_port(&server->tcp);
    uv_unref((uv_handle_t *)&server->tcp);
    if (options->holds)
        lt_loop_hold(loop);
    return server;
}

int lt_http_server_port(const struct lt_http_server *server)
{
    return server->port;
}
