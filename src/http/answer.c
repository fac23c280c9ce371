/* Writing: answers as a whole, from files, and piece by piece. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "http/connection.h"

enum {
    SMALL = 16384,    /* bytes of an answer that are written as one piece */
    STREAMED = 65536, /* that may wait for a client before it is said so */
    FILE_PIECE = 131072,
    HELD_MOST = 16, /* answers */
};

const char *lt_http_reason(int status)
{
    const char *reason = http_status_str((enum http_status)status);
    return strcmp(reason, "<unknown>") != 0 ? reason : "Status";
}

/* Bytes. */

struct write {
    uv_write_t request;
    struct lt_http_connection *connection;
    struct lt_bytes *body; /* with a reference */
    size_t len;
    char bytes[];
};

static void send_file(struct lt_http_connection *connection);

static void tell_drained(struct lt_http_connection *connection)
{
    bool room = uv_stream_get_write_queue_size((uv_stream_t *)&connection->tcp) < STREAMED / 2;
    if (connection->state != LT_HTTP_STREAMING || !connection->wants_drain || !room)
        return;
    connection->wants_drain = false;
    if (connection->request.drained != NULL)
        connection->request.drained(&connection->request);
}

/* All that was to be written is written. */
static void all_written(struct lt_http_connection *connection)
{
    if (connection->finishing) {
        connection->finishing = false;
        lt_http_connection_next(connection);
    } else if (connection->file != NULL) {
        send_file(connection);
    }
}

static void on_written(uv_write_t *request, int status)
{
    struct write *write = lt_container_of(request, struct write, request);
    struct lt_http_connection *connection = write->connection;
    lt_bytes_unref(write->body);
    free(write);
    connection->writes--;
    if (connection->state == LT_HTTP_CLOSED)
        return;
    if (status < 0) {
        lt_http_connection_close(connection);
        return;
    }
    if (connection->writes == 0)
        all_written(connection);
    tell_drained(connection);
}

static void break_off(struct lt_http_connection *connection)
{
    connection->broken = true;
    lt_http_connection_await(connection);
}

/* What the kernel does not take at once is copied and waits, the body by reference. True: all is written. */
static bool write_bytes(struct lt_http_connection *connection, const char *head, size_t head_len, struct lt_bytes *body)
{
    uv_stream_t *stream = (uv_stream_t *)&connection->tcp;
    size_t body_len = body != NULL ? body->len : 0, done = 0;
    uv_buf_t buffers[2] = {{(char *)(uintptr_t)head, head_len}, {body != NULL ? body->data : NULL, body_len}};
    if (connection->state == LT_HTTP_CLOSED || connection->broken)
        return false;
    if (connection->writes == 0) {
        int count = uv_try_write(stream, buffers, body_len > 0 ? 2 : 1);
        if (count < 0 && count != UV_EAGAIN) {
            break_off(connection);
            return false;
        }
        done = count > 0 ? (size_t)count : 0;
    }
    if (done == head_len + body_len)
        return connection->writes == 0;
    size_t head_done = done < head_len ? done : head_len;
    struct write *write = lt_alloc(sizeof *write + head_len - head_done);
    write->connection = connection;
    write->body = lt_bytes_ref(body);
    write->len = head_len - head_done;
    memcpy(write->bytes, head + head_done, write->len);
    buffers[0] = (uv_buf_t){write->bytes, write->len};
    buffers[1] = (uv_buf_t){body != NULL ? body->data + (done - head_done) : NULL, body_len - (done - head_done)};
    connection->writes++;
    if (uv_write(&write->request, stream, buffers, body_len > 0 ? 2 : 1, on_written) != 0) {
        connection->writes--;
        lt_bytes_unref(write->body);
        free(write);
        break_off(connection);
    }
    return false;
}

/* The last of an answer is held until the turn is over, or some are held, and goes with those of other connections then: a
 * client that sleeps is woken once for all that it gets, and not for each (redis writes its replies before it sleeps itself);
 * and it has something to do while the others are made. */

struct lt_http_held {
    struct lt_bytes *body; /* with a reference */
    size_t len;
    char bytes[];
};

static bool write_held(struct lt_http_connection *connection)
{
    struct lt_http_held *held = connection->held;
    connection->held = NULL;
    TAILQ_REMOVE(&connection->server->held, connection, held_link);
    connection->server->held_count--;
    connection->finishing = true;
    bool all = write_bytes(connection, held->bytes, held->len, held->body);
    lt_bytes_unref(held->body);
    free(held);
    return all;
}

void lt_http_release(struct lt_http_connection *connection)
{
    if (write_held(connection))
        all_written(connection);
    else
        lt_http_connection_await(connection);
}

static void write_last(struct lt_http_connection *connection, const char *head, size_t head_len, struct lt_bytes *body)
{
    struct lt_http_server *server = connection->server;
    struct lt_http_held *held = lt_alloc(sizeof *held + head_len);
    held->body = lt_bytes_ref(body);
    held->len = head_len;
    memcpy(held->bytes, head, head_len);
    connection->held = held;
    connection->write_held = write_held;
    TAILQ_INSERT_TAIL(&server->held, connection, held_link);
    lt_loop_post(server->loop, &connection->turn);
    if (++server->held_count < HELD_MOST)
        return;
    while (!TAILQ_EMPTY(&server->held))
        lt_http_release(TAILQ_FIRST(&server->held));
}

void lt_http_write_text(struct lt_http_connection *connection, const char *text)
{
    write_bytes(connection, text, strlen(text), NULL);
}

/* Heads. */

static const char *date_header(struct lt_http_server *server)
{
    double now = lt_loop_wall(server->loop);
    if (now - server->date_at < 1 && now >= server->date_at)
        return server->date;
    time_t seconds = (time_t)now;
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(server->date, sizeof server->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    server->date_at = (double)seconds;
    return server->date;
}

enum framing { WITHOUT_BODY, WITH_LENGTH, CHUNKED, UNTIL_CLOSED };

static size_t write_head(struct lt_http_connection *connection, char *out, int status, const char *headers,
                         size_t headers_len, enum framing framing, uint64_t length)
{
    int at = sprintf(out, "HTTP/1.1 %d %s\r\n%s", status, lt_http_reason(status), date_header(connection->server));
    memcpy(out + at, headers, headers_len);
    at += (int)headers_len;
    if (framing == WITH_LENGTH)
        at += sprintf(out + at, "Content-Length: %llu\r\n", (unsigned long long)length);
    else if (framing == CHUNKED)
        at += sprintf(out + at, "Transfer-Encoding: chunked\r\n");
    bool http10 = connection->parser.http_minor == 0;
    if (!connection->keep_alive || connection->server->closing)
        at += sprintf(out + at, "Connection: close\r\n");
    else if (http10)
        at += sprintf(out + at, "Connection: keep-alive\r\n");
    at += sprintf(out + at, "\r\n");
    return (size_t)at;
}

enum { HEAD_ROOM = 256 }; /* beside the headers that were given */

static bool has_body(int status)
{
    return status >= 200 && status != 204 && status != 304;
}

void lt_http_answer(struct lt_http_request *request, int status, const char *headers, size_t headers_len,
                    struct lt_bytes *body)
{
    struct lt_http_connection *connection = request->connection;
    char small[SMALL];
    size_t body_len = body != NULL ? body->len : 0;
    bool sends = body_len > 0 && !connection->head_only && has_body(status);
    size_t size = headers_len + HEAD_ROOM;
    char *out = size + body_len <= sizeof small ? small : lt_alloc(size);
    connection->state = LT_HTTP_WRITING;
    size_t len = write_head(connection, out, status, headers, headers_len,
                            has_body(status) ? WITH_LENGTH : WITHOUT_BODY, body_len);
    if (sends && out == small) {
        memcpy(out + len, body->data, body_len);
        len += body_len;
        sends = false;
    }
    write_last(connection, out, len, sends ? body : NULL);
    if (out != small)
        free(out);
    lt_bytes_unref(body);
}

void lt_http_refuse(struct lt_http_connection *connection, int status, const char *code, const char *text)
{
    static const char type[] = "Content-Type: application/json\r\n";
    connection->keep_alive = false;
    connection->request.connection = connection;
    lt_http_answer(&connection->request, status, type, sizeof type - 1,
                   lt_bytes_printf("{\"error\":\"%s\",\"code\":\"%s\"}", text, code));
}

/* Streams. */

void lt_http_stream(struct lt_http_request *request, int status, const char *headers, size_t headers_len)
{
    struct lt_http_connection *connection = request->connection;
    char *out = lt_alloc(headers_len + HEAD_ROOM);
    connection->chunked = connection->parser.http_minor == 1;
    if (!connection->chunked)
        connection->keep_alive = false;
    connection->state = LT_HTTP_STREAMING;
    size_t len =
        write_head(connection, out, status, headers, headers_len, connection->chunked ? CHUNKED : UNTIL_CLOSED, 0);
    write_bytes(connection, out, len, NULL);
    free(out);
    if (connection->ended)
        connection->broken = true; /* nobody is there any more */
    lt_http_connection_await(connection);
}

bool lt_http_send(struct lt_http_request *request, const char *bytes, size_t len)
{
    struct lt_http_connection *connection = request->connection;
    if (len == 0 || connection->head_only || connection->state != LT_HTTP_STREAMING)
        return true;
    char *out = lt_alloc(len + 32);
    int at = connection->chunked ? sprintf(out, "%zx\r\n", len) : 0;
    memcpy(out + at, bytes, len);
    size_t whole = (size_t)at + len;
    if (connection->chunked)
        whole += (size_t)sprintf(out + whole, "\r\n");
    write_bytes(connection, out, whole, NULL);
    free(out);
    bool room = connection->broken || uv_stream_get_write_queue_size((uv_stream_t *)&connection->tcp) < STREAMED;
    connection->wants_drain = !room;
    return room;
}

void lt_http_finish(struct lt_http_request *request)
{
    struct lt_http_connection *connection = request->connection;
    if (connection->state != LT_HTTP_STREAMING)
        return;
    connection->state = LT_HTTP_WRITING;
    bool chunked = connection->chunked && !connection->head_only;
    write_last(connection, "0\r\n\r\n", chunked ? 5 : 0, NULL);
}

/* Files: read in pieces by libuv's threads, each when the one before has been taken. */

struct lt_http_file {
    uv_fs_t read;
    struct lt_http_connection *connection; /* NULL: it was dropped */
    int fd;
    uint64_t offset, left;
    bool reading;
    char *piece;
};

static void free_file(struct lt_http_file *file)
{
    close(file->fd);
    free(file->piece);
    free(file);
}

static void drop_file(struct lt_http_connection *connection)
{
    struct lt_http_file *file = connection->file;
    connection->file = NULL;
    if (file == NULL)
        return;
    file->connection = NULL;
    if (!file->reading)
        free_file(file);
}

static void on_piece(uv_fs_t *read)
{
    struct lt_http_file *file = lt_container_of(read, struct lt_http_file, read);
    struct lt_http_connection *connection = file->connection;
    ssize_t len = read->result;
    uv_fs_req_cleanup(read);
    file->reading = false;
    if (connection == NULL) {
        free_file(file);
        return;
    }
    if (len <= 0) { /* it is shorter than was said: the client sees that it does not get all */
        lt_http_connection_close(connection);
        return;
    }
    file->offset += (uint64_t)len;
    file->left -= (uint64_t)len;
    if (file->left > 0) {
        if (write_bytes(connection, file->piece, (size_t)len, NULL))
            send_file(connection);
        return;
    }
    connection->file = NULL;
    write_last(connection, file->piece, (size_t)len, NULL);
    free_file(file);
}

static void send_file(struct lt_http_connection *connection)
{
    struct lt_http_file *file = connection->file;
    if (file->reading)
        return;
    size_t len = file->left < FILE_PIECE ? (size_t)file->left : FILE_PIECE;
    uv_buf_t buffer = uv_buf_init(file->piece, (unsigned)len);
    file->reading = true;
    uv_fs_read(&connection->server->loop->uv, &file->read, file->fd, &buffer, 1, (int64_t)file->offset, on_piece);
}

void lt_http_answer_file(struct lt_http_request *request, int status, const char *headers, size_t headers_len, int fd,
                         uint64_t offset, uint64_t length)
{
    struct lt_http_connection *connection = request->connection;
    char *out = lt_alloc(headers_len + HEAD_ROOM);
    connection->state = LT_HTTP_WRITING;
    size_t len = write_head(connection, out, status, headers, headers_len, WITH_LENGTH, length);
    bool sends = length > 0 && !connection->head_only;
    if (sends) {
        connection->drop_file = drop_file;
        connection->file = lt_zalloc(sizeof *connection->file);
        *connection->file = (struct lt_http_file){
            .connection = connection, .fd = fd, .offset = offset, .left = length, .piece = lt_alloc(FILE_PIECE)};
    } else {
        close(fd);
    }
    if (!sends) {
        write_last(connection, out, len, NULL);
    } else {
        bool through = write_bytes(connection, out, len, NULL);
        lt_http_connection_await(connection);
        if (through)
            send_file(connection);
    }
    free(out);
}
