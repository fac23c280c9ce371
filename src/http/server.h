/* An HTTP/1.1 server on the loop, for scripts and for the console.
 *
 *     client --> connection: bytes -> http_parser -> a request that is whole --> on_request
 *            <-- answer: all at once, a file, or piece by piece            <--  lt_http_answer, _file, _stream
 *
 * A connection has one request at a time; what a client sends ahead waits. What is refused before anybody hears of it
 * (malformed, ambiguous or endless requests) is answered here, with a status and {"error":, "code":}, and the connection ends.
 *
 * http_parser and not libmicrohttpd: that one takes messages with two lengths, and looks at no client while an answer is waited
 * for; here a stream of libuv tells when the client has gone, and how much of an answer it has not read. One thread: the loop's. */
#ifndef LTSH_HTTP_SERVER_H
#define LTSH_HTTP_SERVER_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/error.h"
#include "loop/loop.h"

struct lt_http_server;
struct lt_http_connection;

struct lt_http_options {
    const char *host; /* an address */
    int port;         /* 0: a free one */
    size_t max_body;  /* bytes */
    size_t max_header;
    double timeout;           /* seconds for a request to be whole, and for a client to read some of an answer */
    double idle_timeout;      /* seconds that a connection may be idle */
    uint32_t max_connections; /* those beyond are closed at once */
    bool holds;               /* it keeps the loop going */
};

struct lt_http_header {
    const char *name; /* in small letters */
    const char *value;
    uint32_t name_len, value_len;
};

/* A request. It belongs to the connection, and ends with its answer, or when `gone` has returned. */
struct lt_http_request {
    struct lt_http_connection *connection;
    const char *method;
    const char *target; /* as it was sent: path and query */
    size_t target_len;
    struct lt_http_header *headers;
    uint32_t header_count;
    const char *body;
    size_t body_len;
    const char *remote; /* the client's address */
    void *user;
    /* The client has gone, or the server closes: it cannot be answered any more. (optional) */
    void (*gone)(struct lt_http_request *request);
    /* Of a stream: what was sent has been taken. (optional) */
    void (*drained)(struct lt_http_request *request);
};

/* NULL with a message: the address cannot be had. `on_request` is never called from within a function of this header. */
struct lt_http_server *lt_http_server_open(struct lt_loop *loop, const struct lt_http_options *options,
                                           void (*on_request)(void *arg, struct lt_http_request *request), void *arg,
                                           struct lt_error *error);

/* The port that it has. */
int lt_http_server_port(const struct lt_http_server *server);

/* Takes no more requests; those under way may be answered for so many seconds, then they are gone. Then `closed` is called
 * (optional), and it is gone. */
void lt_http_server_close(struct lt_http_server *server, double drain, void (*closed)(void *arg));

/* The header of this name (small letters), or NULL; the first of several. */
const struct lt_http_header *lt_http_header(const struct lt_http_request *request, const char *name);

/* Answers: all at once. `headers` are whole lines with their ends, without those that frame the message, and the body's
 * reference moves (NULL: none). */
void lt_http_answer(struct lt_http_request *request, int status, const char *headers, size_t headers_len,
                    struct lt_bytes *body);

/* The same with a part of a file, whose descriptor is closed then. */
void lt_http_answer_file(struct lt_http_request *request, int status, const char *headers, size_t headers_len, int fd,
                         uint64_t offset, uint64_t length);

/* Piece by piece: begins; sends (false: enough waits to be read by the client, `drained` tells when there is room); ends. */
void lt_http_stream(struct lt_http_request *request, int status, const char *headers, size_t headers_len);
bool lt_http_send(struct lt_http_request *request, const char *bytes, size_t len);
void lt_http_finish(struct lt_http_request *request);

/* The words of a status, "Not Found"; "Status" for one that has none. */
const char *lt_http_reason(int status);

#endif
