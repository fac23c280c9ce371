/* Which server the next attempt goes to: the URLs in turn, or whom a sentinel or a node of a cluster told of. */
#ifndef LTSH_REDIS_ROUTE_H
#define LTSH_REDIS_ROUTE_H

#include "redis/address.h"

struct lt_redis_route {
    const struct lt_redis_servers *servers;
    size_t turn;   /* of the URLs, or of the sentinels where there are some */
    size_t tried;  /* of these, since one was reached */
    unsigned told; /* how often in a row one told of another */
    char *host;    /* of whom was told; NULL: of nobody */
    int port;
};

/* A server to connect to, borrowed from the route. */
struct lt_redis_place {
    const struct lt_redis_address *by; /* user, database, TLS are as there */
    const char *host;                  /* NULL: a unix socket, by->path */
    int port;
    bool is_sentinel;
};

struct lt_redis_place lt_redis_route_next(const struct lt_redis_route *route);

/* One told of another. False: they do so without end. */
bool lt_redis_route_told(struct lt_redis_route *route, const char *host, size_t len, int port);

/* It was not reached, or is not any more. True: another one may be tried at once. */
bool lt_redis_route_failed(struct lt_redis_route *route);

/* It was reached. */
void lt_redis_route_reached(struct lt_redis_route *route);

void lt_redis_route_free(struct lt_redis_route *route);

#endif
