/* Where Redis servers are, and who asks. A URL:
 *
 *     redis[s]://[user:password@]host[:port][/database]        unix:///path[?db=N]
 *
 * rediss: by TLS. */
#ifndef LTSH_REDIS_ADDRESS_H
#define LTSH_REDIS_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "net/tls.h"

struct lt_redis_address {
    char *shown; /* the address without what is secret: for logs */
    char *host;  /* NULL: a unix socket */
    char *path;  /* of that */
    int port;
    int database;
    bool by_tls;
    char *user; /* NULL: the default one */
    char *password;
};

/* Reads `url`; `port` is meant where it names none. False with a message that names what is wrong; `address` holds nothing
 * then. */
bool lt_redis_address_read(struct lt_redis_address *address, const char *url, int port, struct lt_error *error);

void lt_redis_address_free(struct lt_redis_address *address);

/* A list of URLs that ends with NULL; itself NULL: none. */
typedef const char *const *lt_redis_urls;

/* All ways to the server that has the queue. */
struct lt_redis_servers {
    struct lt_redis_address
        *urls; /* of one server, of nodes of a cluster, of a master and its replicas; one at least */
    size_t count;
    struct lt_redis_address *sentinels; /* which know the master that has the name of the host in the only URL */
    size_t sentinel_count;
    struct lt_tls_context *tls; /* where a URL begins with rediss:// */
    char *tls_name;             /* whom certificates must be for; NULL: the host */
};

/* False with a message, and nothing is held. */
bool lt_redis_servers_read(struct lt_redis_servers *servers, lt_redis_urls urls, lt_redis_urls sentinels,
                           const struct lt_tls_files *tls, const char *tls_name, struct lt_error *error);

void lt_redis_servers_free(struct lt_redis_servers *servers);

#endif
