#include "redis/route.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum { MOST_TOLD = 5 };

struct lt_redis_place lt_redis_route_next(const struct lt_redis_route *route)
{
    const struct lt_redis_servers *servers = route->servers;
    bool asks = servers->sentinel_count > 0;
    if (route->host != NULL)
        return (struct lt_redis_place){
            .by = &servers->urls[asks ? 0 : route->turn], .host = route->host, .port = route->port};
    const struct lt_redis_address *by = asks ? &servers->sentinels[route->turn] : &servers->urls[route->turn];
    return (struct lt_redis_place){.by = by, .host = by->host, .port = by->port, .is_sentinel = asks};
}

static void forget_told(struct lt_redis_route *route)
{
    free(route->host);
    route->host = NULL;
}

bool lt_redis_route_told(struct lt_redis_route *route, const char *host, size_t len, int port)
{
    char *copy = lt_alloc(len + 1);
    memcpy(copy, host, len);
    copy[len] = 0;
    forget_told(route);
    route->host = copy;
    route->port = port;
    return ++route->told <= MOST_TOLD;
}

bool lt_redis_route_failed(struct lt_redis_route *route)
{
    const struct lt_redis_servers *servers = route->servers;
    size_t count = servers->sentinel_count > 0 ? servers->sentinel_count : servers->count;
    forget_told(route);
    route->told = 0;
    route->turn = (route->turn + 1) % count;
    if (++route->tried < count)
        return true;
    route->tried = 0;
    return false;
}

void lt_redis_route_reached(struct lt_redis_route *route)
{
    route->tried = route->told = 0;
}

void lt_redis_route_free(struct lt_redis_route *route)
{
    forget_told(route);
}
