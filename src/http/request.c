/* Reading: from bytes to a request that is whole and means one thing. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "http/connection.h"

enum { MOST_HEADERS = 1000 };

const struct lt_http_header *lt_http_header(const struct lt_http_request *request, const char *name)
{
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (strcmp(request->headers[i].name, name) == 0)
            return &request->headers[i];
    }
    return NULL;
}

/* What the parser finds. */

static struct lt_http_connection *connection_of(http_parser *parser)
{
    return lt_container_of(parser, struct lt_http_connection, parser);
}

static int wrong(struct lt_http_connection *connection, int status, const char *code, const char *text)
{
    connection->refusal = status;
    connection->refusal_code = code;
    connection->refusal_text = text;
    return 1;
}

static bool is_too_large(const struct lt_http_connection *connection, size_t more)
{
    return connection->head.len + more > connection->server->options.max_header;
}

static int on_target(http_parser *parser, const char *bytes, size_t len)
{
    struct lt_http_connection *connection = connection_of(parser);
    if (is_too_large(connection, len))
        return wrong(connection, 414, "too_large", "the address is longer than this server takes");
    lt_buffer_append(&connection->head, bytes, len);
    connection->target.len += (uint32_t)len;
    return 0;
}

/* Each part is followed by a NUL, so that its end can be written when it is known. */
static int add_to_span(struct lt_http_connection *connection, bool is_value, const char *bytes, size_t len)
{
    if (connection->head_over)
        return 0; /* a trailer: nobody wants one */
    if (is_too_large(connection, len + 4))
        return wrong(connection, 431, "too_large", "the head of the request is larger than this server takes");
    if (connection->span_count == 0 || connection->in_value != is_value) {
        if (connection->span_count == 2 * MOST_HEADERS)
            return wrong(connection, 431, "too_large", "there are too many headers");
        if (connection->span_count == connection->span_size) {
            connection->span_size = connection->span_size > 0 ? connection->span_size * 2 : 32;
            connection->spans = lt_realloc(connection->spans, connection->span_size * sizeof(struct lt_http_span));
        }
        lt_buffer_append(&connection->head, "", 1);
        connection->spans[connection->span_count++] = (struct lt_http_span){.at = (uint32_t)connection->head.len};
        connection->in_value = is_value;
    }
    size_t at = connection->head.len;
    lt_buffer_append(&connection->head, bytes, len);
    connection->spans[connection->span_count - 1].len += (uint32_t)len;
    for (size_t i = at; i < connection->head.len; i++) {
        unsigned char c = (unsigned char)connection->head.data[i];
        if (!is_value && c == ' ')
            return wrong(connection, 400, "bad_request", "the name of a header has a space");
        if (!is_value)
            connection->head.data[i] = (char)tolower(c);
        else if ((c < 0x20 && c != '\t') || c == 0x7f)
            return wrong(connection, 400, "bad_request", "a header has a control character");
    }
    return 0;
}

static int on_name(http_parser *parser, const char *bytes, size_t len)
{
    return add_to_span(connection_of(parser), false, bytes, len);
}

static int on_value(http_parser *parser, const char *bytes, size_t len)
{
    return add_to_span(connection_of(parser), true, bytes, len);
}

/* Nothing is added to the head any more, so its parts have their places. */
static void place_headers(struct lt_http_connection *connection)
{
    struct lt_http_request *request = &connection->request;
    char *head = connection->head.data;
    request->header_count = connection->span_count / 2;
    request->headers = lt_realloc(request->headers, (request->header_count + 1) * sizeof(struct lt_http_header));
    for (uint32_t i = 0; i < request->header_count; i++) {
        struct lt_http_span name = connection->spans[2 * i], value = connection->spans[2 * i + 1];
        while (value.len > 0 && (head[value.at + value.len - 1] == ' ' || head[value.at + value.len - 1] == '\t'))
            value.len--;
        head[value.at + value.len] = '\0';
        request->headers[i] = (struct lt_http_header){head + name.at, head + value.at, name.len, value.len};
    }
    request->target = head;
    request->target_len = connection->target.len;
}

static uint32_t count_headers(const struct lt_http_request *request, const char *name)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < request->header_count; i++)
        count += strcmp(request->headers[i].name, name) == 0;
    return count;
}

/* What may be read in more than one way is refused: somebody before us may have read it in the other. */
static int check_head(struct lt_http_connection *connection)
{
    const struct lt_http_request *request = &connection->request;
    const http_parser *parser = &connection->parser;
    const struct lt_http_header *coding = lt_http_header(request, "transfer-encoding");
    uint32_t hosts = count_headers(request, "host");
    if (parser->http_major != 1 || parser->http_minor > 1)
        return wrong(connection, 505, "bad_request", "only HTTP/1.1 and HTTP/1.0 are spoken here");
    if (hosts > 1 || (hosts == 0 && parser->http_minor == 1))
        return wrong(connection, 400, "bad_request", "a request has one Host header");
    if (coding != NULL && (parser->http_minor == 0 || count_headers(request, "transfer-encoding") > 1 ||
                           strcasecmp(coding->value, "chunked") != 0))
        return wrong(connection, 400, "bad_request", "only chunked is known as a transfer encoding");
    if (count_headers(request, "content-length") + (coding != NULL) > 1)
        return wrong(connection, 400, "bad_request", "the length of the body is given twice");
    if (parser->content_length != UINT64_MAX && parser->content_length > connection->server->options.max_body)
        return wrong(connection, 413, "too_large", "the body is larger than this server takes");
    return 0;
}

static int on_head(http_parser *parser)
{
    struct lt_http_connection *connection = connection_of(parser);
    const struct lt_http_header *expect;
    if (connection->refusal != 0)
        return -1;
    lt_buffer_append(&connection->head, "", 1);
    place_headers(connection);
    connection->head_over = true;
    connection->keep_alive = http_should_keep_alive(parser);
    connection->head_only = parser->method == HTTP_HEAD;
    if (check_head(connection) != 0)
        return -1;
    if (parser->method != HTTP_CONNECT)
        parser->upgrade = 0; /* none is offered */
    expect = lt_http_header(&connection->request, "expect");
    if (expect != NULL && strcasecmp(expect->value, "100-continue") == 0 && parser->http_minor == 1)
        lt_http_write_text(connection, "HTTP/1.1 100 Continue\r\n\r\n");
    return 0;
}

static int on_body(http_parser *parser, const char *bytes, size_t len)
{
    struct lt_http_connection *connection = connection_of(parser);
    if (connection->body.len + len > connection->server->options.max_body)
        return wrong(connection, 413, "too_large", "the body is larger than this server takes");
    if (!lt_buffer_try_reserve(&connection->body, len))
        return wrong(connection, 413, "too_large", "there is not enough memory for the body");
    lt_buffer_append(&connection->body, bytes, len);
    return 0;
}

static int on_whole(http_parser *parser)
{
    connection_of(parser)->whole = true;
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings SETTINGS = {.on_url = on_target,
                                              .on_header_field = on_name,
                                              .on_header_value = on_value,
                                              .on_headers_complete = on_head,
                                              .on_body = on_body,
                                              .on_message_complete = on_whole};

/* Bytes. */

static void begin_request(struct lt_http_connection *connection)
{
    connection->head.len = connection->body.len = 0;
    connection->target = (struct lt_http_span){0};
    connection->span_count = 0;
    connection->in_value = connection->head_over = connection->whole = false;
    connection->refusal = 0;
    http_parser_init(&connection->parser, HTTP_REQUEST);
}

static void hand_over(struct lt_http_connection *connection)
{
    struct lt_http_request *request = &connection->request;
    request->connection = connection;
    request->method = http_method_str((enum http_method)connection->parser.method);
    request->body = connection->body.data;
    request->body_len = connection->body.len;
    request->user = NULL;
    request->gone = request->drained = NULL;
    connection->state = LT_HTTP_HANDLING;
    lt_http_connection_await(connection);
    connection->server->on_request(connection->server->arg, request);
}

/* Parses up to the end of a request; how many bytes that were. */
static size_t parse(struct lt_http_connection *connection, const char *bytes, size_t len)
{
    if (connection->state == LT_HTTP_IDLE) {
        /* Empty lines between requests are no request. */
        size_t skipped = 0;
        while (skipped < len && (bytes[skipped] == '\r' || bytes[skipped] == '\n'))
            skipped++;
        if (skipped > 0)
            return skipped;
        begin_request(connection);
        connection->state = LT_HTTP_READING;
        lt_http_connection_await(connection);
    }
    size_t parsed = http_parser_execute(&connection->parser, &SETTINGS, bytes, len);
    enum http_errno error = HTTP_PARSER_ERRNO(&connection->parser);
    if (connection->refusal != 0) {
        lt_http_refuse(connection, connection->refusal, connection->refusal_code, connection->refusal_text);
    } else if (connection->whole && connection->parser.method == HTTP_CONNECT) {
        lt_http_refuse(connection, 405, "bad_request", "this is no proxy");
    } else if (connection->whole) {
        hand_over(connection);
    } else if (error != HPE_OK) {
        lt_http_refuse(connection, 400, "bad_request", http_errno_description(error));
    }
    return parsed;
}

static bool takes_bytes(const struct lt_http_connection *connection)
{
    return connection->state == LT_HTTP_IDLE || connection->state == LT_HTTP_READING;
}

static void read_more(struct lt_http_connection *connection, bool more);

static void request_late(struct lt_http_connection *connection)
{
    lt_http_refuse(connection, 408, "bad_request", "the request was not whole in time");
}

/* What is not taken now waits; a client that sends very much ahead is not read until it is its turn. */
static void feed(struct lt_http_connection *connection, const char *bytes, size_t len)
{
    size_t at = 0;
    connection->feeding = true;
    while (at < len && takes_bytes(connection))
        at += parse(connection, bytes + at, len - at);
    connection->feeding = false;
    if (connection->state == LT_HTTP_CLOSED || connection->state == LT_HTTP_CLOSING)
        return;
    if (at < len)
        lt_buffer_append(&connection->ahead, bytes + at, len - at);
    if (connection->ahead.len > LT_HTTP_AHEAD)
        read_more(connection, false);
}

/* What came ahead, from a turn of its own: who answers is not entered again from below. */
static void feed_ahead(struct lt_http_connection *connection)
{
    struct lt_buffer ahead = connection->ahead;
    if (!takes_bytes(connection))
        return;
    connection->ahead = (struct lt_buffer){0};
    if (ahead.len > 0)
        feed(connection, ahead.data, ahead.len);
    free(ahead.data);
    if (connection->ahead.len <= LT_HTTP_AHEAD && connection->state != LT_HTTP_CLOSED)
        read_more(connection, true);
}

static void connection_turn(struct lt_turn *turn)
{
    struct lt_http_connection *connection = lt_container_of(turn, struct lt_http_connection, turn);
    if (connection->freed)
        lt_http_connection_free(connection);
    else if (connection->held != NULL)
        lt_http_release(connection);
    else
        feed_ahead(connection);
}

static void client_ended(struct lt_http_connection *connection)
{
    connection->ended = true;
    connection->keep_alive = false;
    if (connection->state == LT_HTTP_HANDLING || connection->state == LT_HTTP_WRITING)
        read_more(connection, false); /* it may wait for the answer all the same */
    else
        lt_http_connection_close(connection);
}

static void give_buffer(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    struct lt_http_connection *connection = lt_container_of((uv_tcp_t *)handle, struct lt_http_connection, tcp);
    (void)size;
    *buffer = uv_buf_init(connection->server->input, sizeof connection->server->input);
}

static void bytes_come(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct lt_http_connection *connection = lt_container_of((uv_tcp_t *)stream, struct lt_http_connection, tcp);
    if (len == UV_EOF)
        client_ended(connection);
    else if (len < 0)
        lt_http_connection_close(connection);
    else if (connection->state != LT_HTTP_CLOSING && connection->state != LT_HTTP_CLOSED)
        feed(connection, buffer->base, (size_t)len);
}

static void read_more(struct lt_http_connection *connection, bool more)
{
    if (more == !connection->paused || connection->ended)
        return;
    connection->paused = !more;
    if (more)
        uv_read_start((uv_stream_t *)&connection->tcp, give_buffer, bytes_come);
    else
        uv_read_stop((uv_stream_t *)&connection->tcp);
}

/* A new one. */

static void name_client(struct lt_http_connection *connection)
{
    struct sockaddr_storage address;
    int len = sizeof address;
    if (uv_tcp_getpeername(&connection->tcp, (struct sockaddr *)&address, &len) == 0)
        uv_ip_name((struct sockaddr *)&address, connection->remote, sizeof connection->remote);
    connection->request.remote = connection->remote;
}

static void unwanted_closed(uv_handle_t *handle)
{
    free(handle);
}

void lt_http_connection_open(struct lt_http_server *server, uv_stream_t *listener)
{
    if (server->count >= server->options.max_connections) {
        uv_tcp_t *unwanted = lt_zalloc(sizeof *unwanted);
        uv_tcp_init(&server->loop->uv, unwanted);
        unwanted->data = server->loop;
        uv_accept(listener, (uv_stream_t *)unwanted);
        uv_close((uv_handle_t *)unwanted, unwanted_closed);
        return;
    }
    struct lt_http_connection *connection = lt_zalloc(sizeof *connection);
    connection->server = server;
    connection->timer = LT_TIMER_INIT;
    connection->turn.fn = connection_turn;
    connection->late = request_late;
    connection->read = read_more;
    connection->paused = true;
    uv_tcp_init(&server->loop->uv, &connection->tcp);
    connection->tcp.data = server->loop;
    LIST_INSERT_HEAD(&server->connections, connection, link);
    server->count++;
    if (uv_accept(listener, (uv_stream_t *)&connection->tcp) != 0) {
        lt_http_connection_close(connection);
        return;
    }
    uv_unref((uv_handle_t *)&connection->tcp);
    uv_tcp_nodelay(&connection->tcp, 1);
    name_client(connection);
    lt_http_connection_await(connection);
    read_more(connection, true);
}
