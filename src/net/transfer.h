/* HTTP transfers on the loop, by libcurl's multi interface: many at once, over TCP, TLS or a unix socket, connections kept
 * for the next.
 *
 *     user -- lt_transfer_start --> curl <-- descriptors, one timer --> libuv
 *          <-- begun, data, done ---       each from a turn: a user may start or cancel any transfer in them
 *
 * The source of the technique is libcurl's documentation of curl_multi_socket_action. One thread: the loop's. */
#ifndef LTSH_NET_TRANSFER_H
#define LTSH_NET_TRANSFER_H

#include <curl/curl.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "loop/loop.h"

struct lt_net;

/* Opens what transfers of a loop share. NULL: libcurl cannot be used. */
struct lt_net *lt_net_open(struct lt_loop *loop);

/* Closes it with its connections. All transfers must be over or cancelled. */
void lt_net_close(struct lt_net *net);

/* One transfer. It belongs to its user from lt_transfer_new until `done` has returned or it is cancelled. */
struct lt_transfer {
    void *user; /* the user's own */
    /* The response has begun: `status` is known. (optional) */
    void (*begun)(struct lt_transfer *transfer);
    /* Bytes of the body, as they come. NULL: they are gathered in `body`. */
    void (*data)(struct lt_transfer *transfer, const char *bytes, size_t len);
    /* All of what lt_transfer_upload was given has been written to the connection. (optional) */
    void (*sent)(struct lt_transfer *transfer);
    /* It is over: see `result`, `status` and `body`. */
    void (*done)(struct lt_transfer *transfer);
    size_t body_limit; /* bytes of a gathered body beyond which the transfer fails; 0: none */
    bool unheld;       /* the loop may end while it is under way */
    CURL *easy;        /* for curl_easy_setopt before the start: URL, method, body to send, limits in time */

    /* Read only, from `begun` on. */
    long status;
    /* Read only, in `done`. */
    CURLcode result;
    char problem[CURL_ERROR_SIZE]; /* what happened, in libcurl's words, if result is not CURLE_OK */
    struct lt_buffer body;

    /* Its own. */
    struct lt_net *net;
    struct lt_loop *loop;
    struct curl_slist *headers;
    struct lt_buffer arrived; /* for `data` */
    const char *upload;
    size_t upload_len, upload_at;
    struct lt_turn turn;
    bool started, has_begun, told_begun, has_sent, told_sent, over, paused, held_back, cancelled, upload_waits;
};

/* A new one, with what all of ours have: no signals, only HTTP, errors in words. Never NULL. */
struct lt_transfer *lt_transfer_new(struct lt_net *net, void *user);

/* Adds a header line, as "Content-Type: application/json" (copied). */
void lt_transfer_header(struct lt_transfer *transfer, const char *line);

/* Has it POST these bytes, which must stay until it is over. */
void lt_transfer_post(struct lt_transfer *transfer, const char *bytes, size_t len);

/* The same, but they are sent when the response has begun and not before: for a server that takes over the connection then,
 * and forgets what came with the request. See `sent`. */
void lt_transfer_upload(struct lt_transfer *transfer, const char *bytes, size_t len);

/* Sets out. What cannot even begin is told by `done` too, never from within this call. */
void lt_transfer_start(struct lt_transfer *transfer);

/* Ends it, started or not: nothing is told any more, its connection is closed if it was under way, and it is gone. Not
 * from within its own `done`. */
void lt_transfer_cancel(struct lt_transfer *transfer);

/* While held back, `data` is not called, and when some has gathered no more is read. */
void lt_transfer_hold_back(struct lt_transfer *transfer, bool hold);

#endif
