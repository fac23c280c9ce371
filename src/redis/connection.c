#include "redis/connection.h"

#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "net/lookup.h"
#include "redis/route.h"
#include "redis/stream.h"

enum {
    CONNECT_MS = 4000,       /* until it is ready: the lookup of the name included */
    ONE_OF_MANY_MS = 1500,   /* the same where there are others to try */
    FIRST_PAUSE_MS = 50,     /* from the beginning of one attempt to that of the next; doubles */
    LONGEST_PAUSE_MS = 2000, /* so that it is back soon after the network is */
};

enum state { PAUSING, LOOKING, CONNECTING, GREETING, READY, CLOSED };

/* What is said first, and what the answer means. */
enum greeting { AUTH, SELECT, NAME, ROLE, MASTER, MOST_GREETINGS };

struct lt_redis_connection {
    uv_loop_t *uv;
    struct lt_redis_route route;
    struct lt_redis_place place; /* of this attempt */
    struct lt_redis_peers peers;
    bool beside; /* the peer never changes */
    double patience;
    struct lt_redis_user user;
    void *arg;
    enum state state;
    struct lt_lookup *lookup; /* it may take longer than an attempt: the next one takes it up */
    char *looked_up;          /* which host */
    unsigned silent;          /* attempts in a row that were given up: then another address comes first */
    struct lt_redis_stream *stream;
    redisReader *reader;
    uv_timer_t timer; /* of whatever is waited for: an answer, the next attempt */
    unsigned expected;
    enum greeting greetings[MOST_GREETINGS]; /* whose answers are to come */
    unsigned greeted, greeting_count;
    double pause_ms;
    uint64_t began; /* of the attempt, in milliseconds */
};

static void begin_attempt(struct lt_redis_connection *connection);

/* Losing it. */

static void let_go(struct lt_redis_connection *connection)
{
    lt_redis_stream_close(connection->stream);
    connection->stream = NULL;
    if (connection->reader != NULL)
        redisReaderFree(connection->reader);
    connection->reader = NULL;
    connection->expected = 0;
}

static void pause_over(uv_timer_t *timer)
{
    begin_attempt(lt_container_of(timer, struct lt_redis_connection, timer));
}

/* Between half and all of the pause, so that many hosts do not come at once; without what the attempt itself took. */
static void pause_attempts(struct lt_redis_connection *connection)
{
    uint32_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = (uint32_t)uv_hrtime();
    double pause = connection->pause_ms * (0.5 + random / (2.0 * UINT32_MAX));
    double passed = (double)(uv_now(connection->uv) - connection->began);
    connection->pause_ms = fmin(connection->pause_ms * 2, LONGEST_PAUSE_MS);
    connection->state = PAUSING;
    uv_timer_start(&connection->timer, pause_over, pause > passed ? (uint64_t)(pause - passed) : 0, 0);
}

/* Where it was, as a person would say it. */
static char *shown_place(const struct lt_redis_connection *connection)
{
    const struct lt_redis_place *place = &connection->place;
    if (place->host == NULL || place->host == place->by->host)
        return lt_format("%s%s", place->is_sentinel ? "the sentinel " : "", place->by->shown);
    return lt_format("%s:%d, of which %s told,", place->host, place->port, place->by->shown);
}

static void lose(struct lt_redis_connection *connection, const char *why, bool final)
{
    bool was_ready = connection->state == READY;
    if (connection->state == PAUSING || connection->state == CLOSED)
        return;
    char *place = shown_place(connection);
    let_go(connection);
    /* The same server is tried again first, unless sentinels know better. */
    bool elsewhere = !connection->beside && (!was_ready || connection->route.servers->sentinel_count > 0);
    bool at_once = elsewhere && lt_redis_route_failed(&connection->route) && !was_ready && !final;
    if (at_once) {
        begin_attempt(connection);
    } else {
        char *text = lt_format("%s: %s", place, why);
        pause_attempts(connection);
        connection->user.lost(connection->arg, text, final);
        free(text);
    }
    free(place);
}

static void lose_by_error(struct lt_redis_connection *connection, const char *error)
{
    const char *host;
    size_t len;
    int port;
    if (lt_redis_is_passing(error)) {
        lose(connection, error, false);
        if (connection->state == PAUSING && lt_redis_names_node(error, &host, &len, &port) && len > 0)
            lt_redis_route_told(&connection->route, host, len, port);
        return;
    }
    char *why = lt_format("%s%s", error, lt_redis_advice(error));
    lose(connection, why, true);
    free(why);
}

static void is_late(uv_timer_t *timer)
{
    struct lt_redis_connection *connection = lt_container_of(timer, struct lt_redis_connection, timer);
    connection->silent++;
    lose(connection,
         connection->state == LOOKING      ? "its name is not looked up in time"
         : connection->state != CONNECTING ? "it does not answer in time"
         : connection->place.by->by_tls    ? "no connection in time (does it speak TLS at this port?)"
                                           : "no connection in time",
         false);
}

/* Answers. */

static void was_reached(struct lt_redis_connection *connection)
{
    lt_redis_route_reached(&connection->route);
    connection->state = READY;
    connection->pause_ms = FIRST_PAUSE_MS;
    connection->silent = 0;
    uv_timer_stop(&connection->timer);
    connection->user.ready(connection->arg);
}

static const char *text_at(const redisReply *reply, size_t i)
{
    bool there =
        reply->type == REDIS_REPLY_ARRAY && i < reply->elements && reply->element[i]->type == REDIS_REPLY_STRING;
    return there ? reply->element[i]->str : NULL;
}

/* A sentinel told where the master is: there. */
static void take_master(struct lt_redis_connection *connection, const redisReply *reply)
{
    const char *host = text_at(reply, 0), *port = text_at(reply, 1);
    long number = port != NULL ? strtol(port, NULL, 10) : 0;
    if (host == NULL || number <= 0 || number > 65535) {
        bool is_last = connection->route.tried + 1 >= connection->route.servers->sentinel_count;
        char *why = lt_format("it knows no master that is named '%s' (the host in the url)",
                              connection->route.servers->urls[0].host);
        lose(connection, why, is_last);
        free(why);
        return;
    }
    lt_redis_route_told(&connection->route, host, strlen(host), (int)number);
    let_go(connection);
    begin_attempt(connection);
}

static bool refuses_greeting(enum greeting greeting, const redisReply *reply)
{
    bool optional = greeting == NAME || greeting == ROLE; /* a user may lack the rights for these */
    return reply->type == REDIS_REPLY_ERROR && !(optional && strncmp(reply->str, "NOPERM", 6) == 0);
}

static void take_greeting(struct lt_redis_connection *connection, const redisReply *reply)
{
    enum greeting greeting = connection->greetings[connection->greeted++];
    const char *role = greeting == ROLE ? text_at(reply, 0) : NULL;
    if (refuses_greeting(greeting, reply))
        lose_by_error(connection, reply->str);
    else if (role != NULL && strcmp(role, "master") != 0)
        lose(connection, "it is no master (any more)", false);
    else if (greeting == MASTER)
        take_master(connection, reply);
    else if (connection->greeted == connection->greeting_count)
        was_reached(connection);
}

static void take_reply(struct lt_redis_connection *connection, redisReply *reply)
{
    if (connection->state == GREETING) {
        take_greeting(connection, reply);
        freeReplyObject(reply);
        return;
    }
    if (connection->expected > 0 && --connection->expected > 0)
        uv_timer_again(&connection->timer);
    else
        uv_timer_stop(&connection->timer);
    connection->user.answer(connection->arg, reply);
}

/* What is no Redis says something else at once. */
static void lose_by_protocol(struct lt_redis_connection *connection, const char *bytes, size_t len)
{
    char *why;
    if (len >= 2 && bytes[0] == 0x15 && bytes[1] == 0x03) { /* an alert */
        why = lt_format("it speaks TLS (begin the url with rediss://)");
    } else {
        char begin[33] = "";
        for (size_t i = 0; i < sizeof begin - 1 && i < len && bytes[i] >= ' ' && bytes[i] <= '~'; i++)
            begin[i] = bytes[i];
        why = lt_format("this is no Redis server: it says \"%s\" (put the host and port of one in the url)", begin);
    }
    lose(connection, why, connection->state == GREETING);
    free(why);
}

static void came(void *arg, const char *bytes, size_t len)
{
    struct lt_redis_connection *connection = arg;
    redisReader *reader = connection->reader;
    redisReaderFeed(reader, bytes, len);
    while (connection->reader == reader) {
        void *reply = NULL;
        if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
            lose_by_protocol(connection, bytes, len);
            return;
        }
        if (reply == NULL)
            return;
        take_reply(connection, reply);
    }
}

/* Greeting. */

static void say(struct lt_redis_connection *connection, struct lt_buffer *commands, enum greeting greeting,
                const char *const *words)
{
    size_t count = 0;
    while (words[count] != NULL)
        count++;
    lt_redis_begin(commands, count);
    for (size_t i = 0; i < count; i++)
        lt_redis_append_text(commands, words[i]);
    connection->greetings[connection->greeting_count++] = greeting;
}

static void greet(struct lt_redis_connection *connection)
{
    const struct lt_redis_address *by = connection->place.by;
    struct lt_buffer commands = {0};
    connection->state = GREETING;
    connection->greeted = connection->greeting_count = 0;
    if (by->user != NULL)
        say(connection, &commands, AUTH,
            (const char *[]){"AUTH", by->user, by->password != NULL ? by->password : "", NULL});
    else if (by->password != NULL)
        say(connection, &commands, AUTH, (const char *[]){"AUTH", by->password, NULL});
    if (connection->place.is_sentinel) {
        say(connection, &commands, MASTER,
            (const char *[]){"SENTINEL", "GET-MASTER-ADDR-BY-NAME", connection->route.servers->urls[0].host, NULL});
    } else {
        char database[16];
        snprintf(database, sizeof database, "%d", by->database);
        if (by->database != 0)
            say(connection, &commands, SELECT, (const char *[]){"SELECT", database, NULL});
        if (connection->route.servers->sentinel_count > 0) /* which may not have noticed yet */
            say(connection, &commands, ROLE, (const char *[]){"ROLE", NULL});
        say(connection, &commands, NAME, (const char *[]){"CLIENT", "SETNAME", "ltsh", NULL});
    }
    lt_redis_stream_write(connection->stream, &commands);
}

static void opened(void *arg)
{
    greet(arg);
}

static void failed(void *arg, const char *why, bool final)
{
    struct lt_redis_connection *connection = arg;
    lose(connection, why, final && connection->state != READY);
}

/* Attempts. */

static void connect_to_peers(struct lt_redis_connection *connection)
{
    static const struct lt_redis_stream_user user = {.opened = opened, .came = came, .failed = failed};
    const struct lt_redis_servers *servers = connection->route.servers;
    const struct lt_redis_place *place = &connection->place;
    connection->state = CONNECTING;
    connection->reader = redisReaderCreate();
    if (connection->reader == NULL)
        lt_out_of_memory();
    connection->stream =
        lt_redis_stream_open(connection->uv, &connection->peers, place->by->by_tls ? servers->tls : NULL,
                             servers->tls_name != NULL ? servers->tls_name : place->host, &user, connection);
}

/* The addresses of the name, in their order; after attempts that were given up, from another one on. */
static void take_addresses(struct lt_redis_connection *connection, const struct addrinfo *found)
{
    struct lt_redis_peers all = {0};
    for (; found != NULL && all.count < LT_REDIS_MOST_PEERS; found = found->ai_next)
        memcpy(&all.list[all.count++], found->ai_addr, found->ai_addrlen);
    connection->peers.count = all.count;
    for (unsigned i = 0; i < all.count; i++)
        connection->peers.list[i] = all.list[(i + connection->silent) % all.count];
}

static void drop_lookup(struct lt_redis_connection *connection)
{
    lt_lookup_drop(connection->lookup);
    connection->lookup = NULL;
    free(connection->looked_up);
    connection->looked_up = NULL;
}

static void looked_up(void *arg)
{
    struct lt_redis_connection *connection = arg;
    const char *error = lt_lookup_error(connection->lookup);
    if (connection->state != LOOKING)
        return; /* the next attempt finds it */
    if (error != NULL) {
        char *why = lt_format("its name cannot be looked up: %s", error);
        drop_lookup(connection);
        lose(connection, why, false);
        free(why);
        return;
    }
    take_addresses(connection, lt_lookup_found(connection->lookup));
    drop_lookup(connection);
    connect_to_peers(connection);
}

static void look_up(struct lt_redis_connection *connection)
{
    const struct lt_redis_place *place = &connection->place;
    connection->state = LOOKING;
    if (connection->lookup != NULL && strcmp(connection->looked_up, place->host) == 0) {
        if (lt_lookup_found(connection->lookup) != NULL || lt_lookup_error(connection->lookup) != NULL)
            looked_up(connection);
        return;
    }
    drop_lookup(connection);
    connection->lookup = lt_lookup_begin(connection->uv, place->host, place->port, looked_up, connection);
    if (connection->lookup == NULL) {
        char *why = lt_format("its name cannot be looked up: %s", strerror(errno));
        lose(connection, why, false);
        free(why);
        return;
    }
    connection->looked_up = lt_strdup(place->host);
}

static void use_path(struct lt_redis_peers *peers, const char *path)
{
    struct sockaddr_un *peer = (struct sockaddr_un *)&peers->list[0];
    *peer = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(peer->sun_path, path, strlen(path) + 1); /* it fits: lt_redis_address_read */
    peers->count = 1;
}

static void begin_attempt(struct lt_redis_connection *connection)
{
    const struct lt_redis_servers *servers = connection->route.servers;
    bool many = servers->count > 1 || servers->sentinel_count > 1;
    connection->place = lt_redis_route_next(&connection->route);
    connection->began = uv_now(connection->uv);
    uv_timer_start(&connection->timer, is_late, many ? ONE_OF_MANY_MS : CONNECT_MS, 0);
    if (connection->beside) {
        connect_to_peers(connection);
    } else if (connection->place.host == NULL) {
        use_path(&connection->peers, connection->place.by->path);
        connect_to_peers(connection);
    } else {
        look_up(connection);
    }
}

struct lt_redis_connection *lt_redis_connect(uv_loop_t *uv, const struct lt_redis_connect_options *options,
                                             const struct lt_redis_user *user, void *arg)
{
    struct lt_redis_connection *connection = lt_zalloc(sizeof *connection);
    const struct lt_redis_connection *beside = options->beside;
    connection->uv = uv;
    connection->route.servers = options->servers;
    if (beside != NULL) {
        connection->beside = true;
        connection->route.turn = beside->route.turn;
        if (beside->route.host != NULL)
            lt_redis_route_told(&connection->route, beside->route.host, strlen(beside->route.host), beside->route.port);
        connection->peers.list[0] = *lt_redis_stream_peer(beside->stream);
        connection->peers.count = 1;
    }
    connection->patience = options->patience;
    connection->user = *user;
    connection->arg = arg;
    connection->pause_ms = FIRST_PAUSE_MS;
    connection->state = PAUSING;
    uv_timer_init(uv, &connection->timer);
    uv_timer_start(&connection->timer, pause_over, 0, 0);
    return connection;
}

/* What its user does. */

void lt_redis_write(struct lt_redis_connection *connection, struct lt_buffer *commands, unsigned replies)
{
    uint64_t patience = (uint64_t)(connection->patience * 1e3);
    if (connection->state != READY) {
        lt_buffer_free(commands);
        return;
    }
    if (replies > 0 && connection->expected == 0)
        uv_timer_start(&connection->timer, is_late, patience, patience);
    connection->expected += replies;
    lt_redis_stream_write(connection->stream, commands);
}

void lt_redis_drop(struct lt_redis_connection *connection, const char *why)
{
    lose(connection, why, false);
}

void lt_redis_refuse(struct lt_redis_connection *connection, const char *error)
{
    lose_by_error(connection, error);
}

bool lt_redis_follow(struct lt_redis_connection *connection, const char *error)
{
    const char *host;
    size_t len;
    int port;
    if (connection->state != READY || !lt_redis_names_node(error, &host, &len, &port))
        return false;
    const char *same = connection->place.host;
    if (len == 0 && same == NULL)
        return false;
    char *named = len > 0 ? lt_format("%.*s", (int)len, host) : lt_strdup(same); /* none: the one that says so */
    bool follows = lt_redis_route_told(&connection->route, named, strlen(named), port);
    free(named);
    if (!follows)
        return false;
    let_go(connection);
    begin_attempt(connection);
    return true;
}

static void timer_closed(uv_handle_t *handle)
{
    free(lt_container_of((uv_timer_t *)handle, struct lt_redis_connection, timer));
}

void lt_redis_close(struct lt_redis_connection *connection)
{
    let_go(connection);
    drop_lookup(connection);
    lt_redis_route_free(&connection->route);
    connection->state = CLOSED;
    uv_close((uv_handle_t *)&connection->timer, timer_closed);
}
