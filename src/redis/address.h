/* Where a Redis server is, and who asks: redis://[user:password@]host[:port][/database], or unix:///path[?db=N]. */
#ifndef LTSH_REDIS_ADDRESS_H
#define LTSH_REDIS_ADDRESS_H

#include <stdbool.h>

#include "base/error.h"

struct lt_redis_address {
    char *shown; /* the address without what is secret: for logs */
    char *host;  /* NULL: a unix socket */
    char *path;  /* of that */
    int port;
    int database;
    char *user; /* NULL: the default one */
    char *password;
};

/* Reads `url`. False with a message that names what is wrong; `address` holds nothing then. */
bool lt_redis_address_read(struct lt_redis_address *address, const char *url, struct lt_error *error);

void lt_redis_address_free(struct lt_redis_address *address);

#endif
