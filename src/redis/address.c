#include "redis/address.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/alloc.h"

enum { PORT = 6379, SENTINEL_PORT = 26379, MOST_DATABASES = 1 << 20 };

static char *copy(const char *from, size_t len)
{
    char *text = lt_alloc(len + 1);
    memcpy(text, from, len);
    text[len] = 0;
    return text;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A copy in which %XX is the byte that it stands for. NULL: it is no such text, or has a NUL. */
static char *decoded(const char *from, size_t len)
{
    char *text = lt_alloc(len + 1), *to = text;
    for (size_t i = 0; i < len; i++) {
        if (from[i] != '%') {
            *to++ = from[i];
            continue;
        }
        int high = i + 2 < len ? hex_digit(from[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(from[i + 2]) : -1;
        if (low < 0 || (high == 0 && low == 0)) {
            free(text);
            return NULL;
        }
        *to++ = (char)(high * 16 + low);
        i += 2;
    }
    *to = 0;
    return text;
}

static bool read_number(const char *text, size_t len, long most, int *number)
{
    long value = 0;
    if (len == 0 || len > 9)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *number = (int)value;
    return value <= most;
}

/* user:password, or :password */
static bool read_user(struct lt_redis_address *address, const char *text, size_t len)
{
    const char *colon = memchr(text, ':', len);
    size_t user = colon != NULL ? (size_t)(colon - text) : len;
    if (user > 0 && (address->user = decoded(text, user)) == NULL)
        return false;
    return colon == NULL || (address->password = decoded(colon + 1, len - user - 1)) != NULL;
}

/* host, host:port, [::1]:port */
static bool read_host(struct lt_redis_address *address, const char *text, size_t len)
{
    const char *end = text + len, *host_end;
    if (len > 0 && text[0] == '[') {
        host_end = memchr(text, ']', len);
        if (host_end == NULL)
            return false;
        address->host = copy(text + 1, (size_t)(host_end - text - 1));
        host_end++;
    } else {
        host_end = memchr(text, ':', len);
        host_end = host_end != NULL ? host_end : end;
        address->host = copy(text, (size_t)(host_end - text));
    }
    if (host_end == end)
        return address->host[0] != 0;
    return *host_end == ':' && address->host[0] != 0 &&
           read_number(host_end + 1, (size_t)(end - host_end - 1), 65535, &address->port) && address->port > 0;
}

static const char *read_tcp(struct lt_redis_address *address, const char *rest)
{
    const char *slash = strchr(rest, '/');
    const char *end = slash != NULL ? slash : rest + strlen(rest);
    const char *sign = memrchr(rest, '@', (size_t)(end - rest));
    if (sign != NULL && !read_user(address, rest, (size_t)(sign - rest)))
        return "its user or password is not written as in an address (%XX for special characters)";
    const char *host = sign != NULL ? sign + 1 : rest;
    if (!read_host(address, host, (size_t)(end - host)))
        return "its host or port cannot be read";
    if (slash != NULL && slash[1] != 0 &&
        !read_number(slash + 1, strlen(slash + 1), MOST_DATABASES, &address->database))
        return "its database is not a number";
    return NULL;
}

static const char *read_unix(struct lt_redis_address *address, const char *rest)
{
    const char *query = strchr(rest, '?');
    address->path = decoded(rest, query != NULL ? (size_t)(query - rest) : strlen(rest));
    if (address->path == NULL || address->path[0] != '/')
        return "its path is not an absolute one";
    if (strlen(address->path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return "its path is too long for a unix socket";
    if (query != NULL && (strncmp(query, "?db=", 4) != 0 ||
                          !read_number(query + 4, strlen(query + 4), MOST_DATABASES, &address->database)))
        return "what follows the path is not ?db=NUMBER";
    return NULL;
}

static char *shown(const struct lt_redis_address *address)
{
    if (address->path != NULL)
        return lt_format("unix://%s?db=%d", address->path, address->database);
    bool is_ipv6 = strchr(address->host, ':') != NULL;
    return lt_format("redis%s://%s%s%s:%d/%d", address->by_tls ? "s" : "", is_ipv6 ? "[" : "", address->host,
                     is_ipv6 ? "]" : "", address->port, address->database);
}

bool lt_redis_address_read(struct lt_redis_address *address, const char *url, int port, struct lt_error *error)
{
    const char *wrong;
    *address = (struct lt_redis_address){.port = port, .by_tls = strncmp(url, "rediss://", 9) == 0};
    if (address->by_tls || strncmp(url, "redis://", 8) == 0)
        wrong = read_tcp(address, strchr(url, '/') + 2);
    else if (strncmp(url, "unix://", 7) == 0)
        wrong = read_unix(address, url + 7);
    else
        wrong = "it begins with none of redis://, rediss:// and unix://";
    if (wrong == NULL) {
        address->shown = shown(address);
        return true;
    }
    lt_redis_address_free(address);
    lt_fail(error, LT_ERROR, "this is no address of a Redis server: %s",
            wrong); /* which may have a password: not shown */
    return false;
}

void lt_redis_address_free(struct lt_redis_address *address)
{
    free(address->shown);
    free(address->host);
    free(address->path);
    free(address->user);
    if (address->password != NULL)
        explicit_bzero(address->password, strlen(address->password));
    free(address->password);
    *address = (struct lt_redis_address){0};
}

/* All ways to a server. */

static void free_all(struct lt_redis_address *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        lt_redis_address_free(&list[i]);
    free(list);
}

static struct lt_redis_address *read_all(lt_redis_urls urls, int port, size_t *count, struct lt_error *error)
{
    size_t most = 0;
    while (urls != NULL && urls[most] != NULL)
        most++;
    struct lt_redis_address *list = lt_zalloc((most + 1) * sizeof *list);
    for (*count = 0; *count < most; ++*count) {
        if (!lt_redis_address_read(&list[*count], urls[*count], port, error))
            break;
    }
    if (*count == most)
        return list;
    free_all(list, *count);
    *count = 0;
    return NULL;
}

static bool is_by_tls(const struct lt_redis_address *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].by_tls)
            return true;
    }
    return false;
}

static bool read_servers(struct lt_redis_servers *servers, lt_redis_urls urls, lt_redis_urls sentinels,
                         const struct lt_tls_files *tls, struct lt_error *error)
{
    servers->urls = read_all(urls, PORT, &servers->count, error);
    if (servers->urls == NULL)
        return false;
    servers->sentinels = read_all(sentinels, SENTINEL_PORT, &servers->sentinel_count, error);
    if (servers->sentinels == NULL)
        return false;
    if (servers->sentinel_count > 0 && (servers->count > 1 || servers->urls[0].host == NULL)) {
        lt_fail(error, LT_ERROR, "with sentinels there is one url, whose host is the name of the master");
        return false;
    }
    if (!is_by_tls(servers->urls, servers->count) && !is_by_tls(servers->sentinels, servers->sentinel_count)) {
        if (tls->ca == NULL && tls->cert == NULL && tls->key == NULL)
            return true;
        lt_fail(error, LT_ERROR, "there are options for TLS, but no url begins with rediss://");
        return false;
    }
    servers->tls = lt_tls_context_new(tls, error);
    return servers->tls != NULL;
}

bool lt_redis_servers_read(struct lt_redis_servers *servers, lt_redis_urls urls, lt_redis_urls sentinels,
                           const struct lt_tls_files *tls, const char *tls_name, struct lt_error *error)
{
    *servers = (struct lt_redis_servers){0};
    servers->tls_name = tls_name != NULL ? lt_strdup(tls_name) : NULL;
    if (read_servers(servers, urls, sentinels, tls, error))
        return true;
    lt_redis_servers_free(servers);
    return false;
}

void lt_redis_servers_free(struct lt_redis_servers *servers)
{
    free_all(servers->urls, servers->count);
    free_all(servers->sentinels, servers->sentinel_count);
    lt_tls_context_free(servers->tls);
    free(servers->tls_name);
    *servers = (struct lt_redis_servers){0};
}
