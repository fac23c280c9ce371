/* The inside of the server: shared by server.c (listening, closing), request.c (reading), answer.c (writing), and connection.c,
 * the life of a connection, which those go by.
 *
 *     state      a byte comes     whole          answered        the client ends it   the server closes   time
 *     IDLE       READING          -              -               closed               closed              idle: closed
 *     READING    -                HANDLING       -               closed               closed              408, CLOSING
 *     HANDLING   waits            -              WRITING         goes on (it may      when drained: gone  -
 *                                                                only have ended
 *                                                                its sending)
 *     STREAMING  waits            -              WRITING (end)   gone, closed         gone, closed        not read: gone, closed
 *     WRITING    waits            -              IDLE, or        closed when written  closed when         not read: closed
 *                                                CLOSING                              written
 *     CLOSING    thrown away      -              -               closed               -                   closed
 */
#ifndef LTSH_HTTP_CONNECTION_H
#define LTSH_HTTP_CONNECTION_H

#include <http_parser.h>
#include <sys/queue.h>

#include "http/server.h"

enum lt_http_state {
    LT_HTTP_IDLE,
    LT_HTTP_READING,
    LT_HTTP_HANDLING,
    LT_HTTP_STREAMING,
    LT_HTTP_WRITING,
    LT_HTTP_CLOSING, /* an answer that is the last was written: the client may read it to its end */
    LT_HTTP_CLOSED,
};

/* Where the parts of the head are in `head`. */
struct lt_http_span {
    uint32_t at, len;
};

struct lt_http_connection {
    uv_tcp_t tcp;
    struct lt_http_server *server;
    enum lt_http_state state;
    http_parser parser;
    struct lt_http_request request;
    char remote[64];
    struct lt_buffer head; /* target, names and values */
    struct lt_http_span target;
    struct lt_http_span *spans; /* of names and values in turn */
    uint32_t span_count, span_size;
    bool in_value;  /* the last span is a value */
    bool head_over; /* all headers are there */
    struct lt_buffer body;
    struct lt_buffer ahead; /* bytes behind the request that is being handled */
    int refusal;            /* the status of what is wrong with the request; 0: nothing */
    const char *refusal_code, *refusal_text;
    uv_shutdown_t shutdown;
    struct lt_turn turn;
    bool freed; /* by the turn that is posted */
    bool whole;
    bool feeding;
    bool paused;     /* nothing is read */
    bool ended;      /* the client sends no more */
    bool keep_alive; /* after this request */
    bool head_only;  /* the request was HEAD */
    bool chunked;
    bool wants_drain;
    bool broken;        /* nothing can be written: it is closed from a turn of its own */
    bool finishing;     /* what is being written is the last of an answer */
    uint32_t writes;    /* under way */
    size_t seen_unread; /* by the client, when it was last looked at */
    struct lt_timer timer;
    struct lt_http_held *held; /* the last of an answer, to be written from `turn` at the latest */
    bool (*write_held)(struct lt_http_connection *connection); /* false: not all is written */
    TAILQ_ENTRY(lt_http_connection) held_link;
    struct lt_http_file *file; /* that is being sent */
    void (*drop_file)(struct lt_http_connection *connection);
    void (*late)(struct lt_http_connection *connection);            /* a request is not whole in time */
    void (*read)(struct lt_http_connection *connection, bool more); /* more is read, or nothing */
    LIST_ENTRY(lt_http_connection) link;
};

struct lt_http_server {
    uv_tcp_t tcp;
    struct lt_loop *loop;
    struct lt_http_options options;
    void (*on_request)(void *arg, struct lt_http_request *request);
    void *arg;
    int port;
    uint32_t count;
    bool closing;
    bool listens; /* its handle is open */
    double date_at;
    char date[40]; /* a header */
    struct lt_timer drain;
    void (*closed)(void *arg);
    void (*gone)(struct lt_http_connection *connection); /* it is closed, and was freed but for itself */
    LIST_HEAD(, lt_http_connection) connections;
    TAILQ_HEAD(, lt_http_connection) held; /* those that hold something */
    unsigned held_count;
    char input[65536]; /* what is being read */
};

enum { LT_HTTP_AHEAD = 65536 }; /* bytes that a client may send ahead before it is not read any more */

/* connection.c */

/* Ends it at once: the request under way is gone. */
void lt_http_connection_close(struct lt_http_connection *connection);
/* An answer is through: the next request, or the end. */
void lt_http_connection_next(struct lt_http_connection *connection);
/* Begins to wait for something of the client, for as long as its state says. */
void lt_http_connection_await(struct lt_http_connection *connection);
/* Its handle is closed. */
void lt_http_connection_free(struct lt_http_connection *connection);

/* request.c: one comes. */
void lt_http_connection_open(struct lt_http_server *server, uv_stream_t *listener);

/* answer.c: answers with an error, which is the last answer. */
void lt_http_refuse(struct lt_http_connection *connection, int status, const char *code, const char *text);
/* Writes the answer that is held, and what follows it is done. */
void lt_http_release(struct lt_http_connection *connection);
void lt_http_write_text(struct lt_http_connection *connection, const char *text);

#endif
