/* TLS of one connection, by OpenSSL, without a socket: bytes go in and out through memory, so that whoever has the socket
 * reads and writes it as any other.
 *
 *     socket -- what came --> lt_tls_take --> plain bytes
 *     socket <-- lt_tls_give <-- lt_tls_say <-- plain bytes
 *
 * This side is a client. The server's certificate must be signed by whom the context trusts and be for the server's name. A
 * context may be used by many threads, a connection by one at a time. */
#ifndef LTSH_NET_TLS_H
#define LTSH_NET_TLS_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/error.h"

struct lt_tls_context;
struct lt_tls;

/* Files in PEM; NULL: the system's authorities, no certificate of this side. */
struct lt_tls_files {
    const char *ca, *cert, *key;
};

/* NULL with a message that names the file: it cannot be used. */
struct lt_tls_context *lt_tls_context_new(const struct lt_tls_files *files, struct lt_error *error);

/* NULL is fine. Connections must be gone. */
void lt_tls_context_free(struct lt_tls_context *context);

/* A connection to the server of this name, or numeric address. */
struct lt_tls *lt_tls_new(struct lt_tls_context *context, const char *name);
void lt_tls_free(struct lt_tls *tls);

/* Takes what came from the socket (nothing, at the beginning), and appends what it says to `plain`. False: it is over,
 * lt_tls_error says why. After it there may be something to give. */
bool lt_tls_take(struct lt_tls *tls, const char *bytes, size_t len, struct lt_buffer *plain);

/* Whether the server is who it should be: then lt_tls_say may be called. */
bool lt_tls_is_open(const struct lt_tls *tls);

/* What is to be said. Whether it is over is told by the next lt_tls_take. */
void lt_tls_say(struct lt_tls *tls, const char *plain, size_t len);

/* Appends what is to be written to the socket to `out`. */
void lt_tls_give(struct lt_tls *tls, struct lt_buffer *out);

/* Why it is over, and what may be done about it, valid as long as the connection; NULL: the server closed it. */
const char *lt_tls_error(const struct lt_tls *tls);

#endif
