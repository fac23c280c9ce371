/* What a server's errors mean. */
#include <stdlib.h>
#include <string.h>

#include "redis/connection.h"

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

bool lt_redis_is_passing(const char *error)
{
    static const char *const passing[] = {"LOADING",
                                          "BUSY",
                                          "MISCONF",
                                          "CLUSTERDOWN",
                                          "TRYAGAIN",
                                          "MOVED",
                                          "ASK",
                                          "READONLY",
                                          "MASTERDOWN",
                                          "NOREPLICAS",
                                          "OOM",
                                          "UNBLOCKED",
                                          "NOSCRIPT",
                                          "ERR Function not found",
                                          "ERR max number of clients"};
    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
        if (begins(error, passing[i]))
            return true;
    }
    return false;
}

const char *lt_redis_advice(const char *error)
{
    static const struct {
        const char *begins, *advice;
    } list[] = {
        {"WRONGPASS", " (give the right user and password in the url)"},
        {"NOAUTH", " (give a user and a password in the url: redis://user:password@host)"},
        {"ERR AUTH", " (leave the password out of the url, or set one on the server)"},
        {"ERR Client sent AUTH", " (leave the password out of the url, or set one on the server)"},
        {"ERR invalid password", " (give the right password in the url)"},
        {"NOPERM", " (give this user the rights that docs/redis.md names)"},
        {"ERR DB index", " (put a database that is there at the end of the url)"},
        {"ERR invalid DB index", " (put a database that is there at the end of the url)"},
        {"ERR SELECT is not allowed", " (a cluster has database 0 only: leave it out of the url)"},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        if (begins(error, list[i].begins))
            return list[i].advice;
    }
    return "";
}

/* MOVED 3999 10.0.0.5:6381 */
bool lt_redis_names_node(const char *error, const char **host, size_t *len, int *port)
{
    if (!begins(error, "MOVED "))
        return false;
    const char *slot_end = strchr(error + 6, ' '), *colon = strrchr(error, ':');
    if (slot_end == NULL || colon == NULL || colon < slot_end)
        return false;
    *host = slot_end + 1;
    *len = (size_t)(colon - *host);
    long number = strtol(colon + 1, NULL, 10);
    *port = (int)number;
    return number > 0 && number < 65536;
}
