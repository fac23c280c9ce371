/* Bytes to and from one server: a socket to the first of its addresses that takes it, with TLS or without.
 *
 *     lt_redis_stream_open --> opened --> came ... --> failed, at any time, once
 *
 * What is told is told from a flat stack, and the stream may be closed in it. One uv loop and its thread. */
#ifndef LTSH_REDIS_STREAM_H
#define LTSH_REDIS_STREAM_H

#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>

#include "base/bytes.h"
#include "net/tls.h"

enum { LT_REDIS_MOST_PEERS = 8 };

/* Addresses of a server: unix sockets, IPv4, IPv6. */
struct lt_redis_peers {
    struct sockaddr_storage list[LT_REDIS_MOST_PEERS];
    unsigned count;
};

struct lt_redis_stream;

struct lt_redis_stream_user {
    void (*opened)(void *arg);
    void (*came)(void *arg, const char *bytes, size_t len);
    /* It is to be closed. `final`: it makes no sense to try again (a certificate that is not accepted). */
    void (*failed)(void *arg, const char *why, bool final);
};

/* Begins. `tls`: NULL, or what it trusts; `name`: whom the server's certificate must be for. */
struct lt_redis_stream *lt_redis_stream_open(uv_loop_t *uv, const struct lt_redis_peers *peers,
                                             struct lt_tls_context *tls, const char *name,
                                             const struct lt_redis_stream_user *user, void *arg);

/* Sends; takes over the buffer's memory. What fails is told later. Only when it is open. */
void lt_redis_stream_write(struct lt_redis_stream *stream, struct lt_buffer *bytes);

/* Which of the peers it is connected to. */
const struct sockaddr_storage *lt_redis_stream_peer(const struct lt_redis_stream *stream);

/* Nothing is told any more. NULL is fine. */
void lt_redis_stream_close(struct lt_redis_stream *stream);

#endif
