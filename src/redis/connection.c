#include "redis/connection.h"

#include <math.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/container_of.h"

enum {
    CONNECT_MS = 5000, /* until it is ready: the lookup of the name and the greeting included */
    SILENT_MS =
        5000, /* that an answer may take. More than what keeps a server busy for moments, far less than a lease */
    FIRST_PAUSE_MS = 50,
    LONGEST_PAUSE_MS = 3000,
    KEEPALIVE = 15, /* seconds */
    READ_SIZE = 64 << 10,
};

enum state { CONNECTING, GREETING, READY, PAUSING, REFUSED, CLOSED };

/* A socket, which closes in its own time: the connection may have another by then. */
struct socket {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } uv;
    uv_connect_t connect;
    uv_getaddrinfo_t lookup;
    struct lt_redis_connection *connection; /* NULL: it is given up */
    bool looking;                           /* the name is being looked up */
    bool open;                              /* it has a handle */
    redisReader *reader;
    char buffer[READ_SIZE];
};

struct lt_redis_connection {
    uv_loop_t *uv;
    const struct lt_redis_address *address;
    char *name;
    struct lt_redis_user user;
    void *arg;
    enum state state;
    struct socket *socket;
    uv_timer_t timer; /* of whatever is waited for: an answer, the next attempt */
    unsigned expected;
    unsigned greetings; /* answers of its own to come */
    double pause_ms;
    bool telling; /* the user is being told of something: it may close the connection */
    unsigned closing;
};

struct write {
    uv_write_t request;
    char *data;
};

static const char *const PASSING[] = {
    "LOADING",  "BUSY",       "MISCONF",    "CLUSTERDOWN", "TRYAGAIN",
    "READONLY", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED",   "ERR max number of clients"};

bool lt_redis_is_passing(const char *error)
{
    for (size_t i = 0; i < sizeof PASSING / sizeof PASSING[0]; i++) {
        if (strncmp(error, PASSING[i], strlen(PASSING[i])) == 0)
            return true;
    }
    return false;
}

static void connect_again(uv_timer_t *timer);

/* Sockets. */

static void free_socket(struct socket *socket)
{
    if (socket->reader != NULL)
        redisReaderFree(socket->reader);
    free(socket);
}

static void socket_closed(uv_handle_t *handle)
{
    struct socket *socket = lt_container_of(handle, struct socket, uv.handle);
    socket->open = false;
    if (!socket->looking)
        free_socket(socket);
}

static void drop_socket(struct lt_redis_connection *connection)
{
    struct socket *socket = connection->socket;
    connection->socket = NULL;
    if (socket == NULL)
        return;
    socket->connection = NULL;
    if (socket->looking)
        uv_cancel((uv_req_t *)&socket->lookup);
    if (socket->open)
        uv_close(&socket->uv.handle, socket_closed);
    else if (!socket->looking)
        free_socket(socket);
}

/* Losing it. */

/* Between half and all of the pause, so that many hosts do not come at once. */
static uint64_t next_pause(struct lt_redis_connection *connection)
{
    uint32_t random = 0;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        random = (uint32_t)uv_hrtime();
    double pause = connection->pause_ms * (0.5 + random / (2.0 * UINT32_MAX));
    connection->pause_ms = fmin(connection->pause_ms * 2, LONGEST_PAUSE_MS);
    return (uint64_t)pause;
}

static void lose(struct lt_redis_connection *connection, const char *why)
{
    if (connection->state == PAUSING || connection->state == REFUSED || connection->state == CLOSED)
        return;
    drop_socket(connection);
    connection->state = PAUSING;
    connection->expected = connection->greetings = 0;
    uv_timer_start(&connection->timer, connect_again, next_pause(connection), 0);
    connection->user.lost(connection->arg, why);
}

static void refuse(struct lt_redis_connection *connection, const char *why)
{
    drop_socket(connection);
    uv_timer_stop(&connection->timer);
    connection->state = REFUSED;
    connection->user.refused(connection->arg, why);
}

static void lose_by(struct lt_redis_connection *connection, const char *what, int code)
{
    char *why = lt_format("%s: %s", what, uv_strerror(code));
    lose(connection, why);
    free(why);
}

static void is_late(uv_timer_t *timer)
{
    struct lt_redis_connection *connection = lt_container_of(timer, struct lt_redis_connection, timer);
    lose(connection, connection->state == READY ? "it does not answer" : "it does not answer when it is connected to");
}

/* Answers. */

static void greeted(struct lt_redis_connection *connection, redisReply *reply)
{
    bool failed = reply->type == REDIS_REPLY_ERROR;
    char *why = failed ? lt_format("%s", reply->str) : NULL;
    bool is_name = connection->greetings == 1; /* which nobody needs */
    freeReplyObject(reply);
    connection->greetings--;
    if (failed && lt_redis_is_passing(why)) {
        lose(connection, why);
    } else if (failed && !is_name) {
        refuse(connection, why);
    } else if (connection->greetings == 0) {
        connection->state = READY;
        connection->pause_ms = FIRST_PAUSE_MS;
        uv_timer_stop(&connection->timer);
        connection->user.ready(connection->arg);
    }
    free(why);
}

/* One answer; false: there is no whole one, or the socket is not this connection's any more. */
static bool take_answer(struct socket *socket)
{
    struct lt_redis_connection *connection = socket->connection;
    void *reply = NULL;
    if (redisReaderGetReply(socket->reader, &reply) != REDIS_OK) {
        char *why = lt_format("what it says is not the protocol: %s", socket->reader->errstr);
        lose(connection, why);
        free(why);
        return false;
    }
    if (reply == NULL)
        return false;
    if (connection->state == GREETING) {
        greeted(connection, reply);
        return socket->connection != NULL;
    }
    if (connection->expected > 0 && --connection->expected > 0)
        uv_timer_again(&connection->timer);
    else
        uv_timer_stop(&connection->timer);
    connection->user.answer(connection->arg, reply);
    return socket->connection != NULL;
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct socket *socket = lt_container_of(handle, struct socket, uv.handle);
    (void)suggested;
    *buffer = uv_buf_init(socket->buffer, sizeof socket->buffer);
}

static void bytes_came(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct socket *socket = lt_container_of(stream, struct socket, uv.stream);
    if (socket->connection == NULL || count == 0)
        return;
    if (count < 0) {
        lose_by(socket->connection, "the connection was cut", (int)count);
        return;
    }
    redisReaderFeed(socket->reader, buffer->base, (size_t)count);
    while (take_answer(socket)) {
    }
}

/* Writing. */

static void written(uv_write_t *request, int status)
{
    struct write *write = lt_container_of(request, struct write, request);
    struct socket *socket = lt_container_of(request->handle, struct socket, uv.stream);
    free(write->data);
    free(write);
    if (status < 0 && socket->connection != NULL)
        lose_by(socket->connection, "the connection was cut", status);
}

static void write_bytes(struct lt_redis_connection *connection, struct lt_buffer *commands, unsigned replies)
{
    struct write *write = lt_alloc(sizeof *write);
    uv_buf_t bytes = uv_buf_init(commands->data, (unsigned)commands->len);
    write->data = commands->data;
    *commands = (struct lt_buffer){0};
    if (replies > 0 && connection->state == READY) {
        if (connection->expected == 0)
            uv_timer_start(&connection->timer, is_late, SILENT_MS, SILENT_MS);
        connection->expected += replies;
    }
    int code = uv_write(&write->request, &connection->socket->uv.stream, &bytes, 1, written);
    if (code == 0)
        return;
    free(write->data);
    free(write);
    lose_by(connection, "nothing can be sent", code);
}

void lt_redis_write(struct lt_redis_connection *connection, struct lt_buffer *commands, unsigned replies)
{
    if (connection->state == READY)
        write_bytes(connection, commands, replies);
    else
        lt_buffer_free(commands);
}

/* Connecting. */

static void greet(struct lt_redis_connection *connection)
{
    const struct lt_redis_address *address = connection->address;
    struct lt_buffer commands = {0};
    char database[16];
    if (address->password != NULL || address->user != NULL) {
        lt_redis_begin(&commands, address->user != NULL ? 3 : 2);
        lt_redis_append_text(&commands, "AUTH");
        if (address->user != NULL)
            lt_redis_append_text(&commands, address->user);
        lt_redis_append_text(&commands, address->password != NULL ? address->password : "");
        connection->greetings++;
    }
    if (address->database != 0) {
        snprintf(database, sizeof database, "%d", address->database);
        lt_redis_begin(&commands, 2);
        lt_redis_append_text(&commands, "SELECT");
        lt_redis_append_text(&commands, database);
        connection->greetings++;
    }
    lt_redis_begin(&commands, 3);
    lt_redis_append_text(&commands, "CLIENT");
    lt_redis_append_text(&commands, "SETNAME");
    lt_redis_append_text(&commands, connection->name);
    connection->greetings++;
    connection->state = GREETING;
    write_bytes(connection, &commands, 0);
}

static void connected(uv_connect_t *request, int status)
{
    struct socket *socket = lt_container_of(request, struct socket, connect);
    struct lt_redis_connection *connection = socket->connection;
    if (connection == NULL)
        return;
    if (status < 0) {
        lose_by(connection, "it cannot be connected to", status);
        return;
    }
    if (connection->address->path == NULL) {
        uv_tcp_nodelay(&socket->uv.tcp, 1);
        uv_tcp_keepalive(&socket->uv.tcp, 1, KEEPALIVE);
    }
    int code = uv_read_start(&socket->uv.stream, give_buffer, bytes_came);
    if (code < 0)
        lose_by(connection, "nothing can be read", code);
    else
        greet(connection);
}

static void looked_up(uv_getaddrinfo_t *lookup, int status, struct addrinfo *found)
{
    struct socket *socket = lt_container_of(lookup, struct socket, lookup);
    struct lt_redis_connection *connection = socket->connection;
    socket->looking = false;
    if (connection == NULL) {
        if (!socket->open)
            free_socket(socket);
    } else if (status < 0) {
        lose_by(connection, "its name cannot be looked up", status);
    } else {
        uv_tcp_init(connection->uv, &socket->uv.tcp);
        socket->open = true;
        int code = uv_tcp_connect(&socket->connect, &socket->uv.tcp, found->ai_addr, connected);
        if (code < 0)
            lose_by(connection, "it cannot be connected to", code);
    }
    uv_freeaddrinfo(found);
}

/* An address is not looked up. */
static bool is_address(const struct lt_redis_address *address, struct sockaddr_storage *storage)
{
    return uv_ip4_addr(address->host, address->port, (struct sockaddr_in *)storage) == 0 ||
           uv_ip6_addr(address->host, address->port, (struct sockaddr_in6 *)storage) == 0;
}

static int begin_connecting(struct lt_redis_connection *connection)
{
    const struct lt_redis_address *address = connection->address;
    struct socket *socket = connection->socket;
    struct sockaddr_storage storage;
    if (address->path != NULL) {
        uv_pipe_init(connection->uv, &socket->uv.pipe, 0);
        socket->open = true;
        uv_pipe_connect(&socket->connect, &socket->uv.pipe, address->path, connected);
        return 0;
    }
    if (is_address(address, &storage)) {
        uv_tcp_init(connection->uv, &socket->uv.tcp);
        socket->open = true;
        return uv_tcp_connect(&socket->connect, &socket->uv.tcp, (struct sockaddr *)&storage, connected);
    }
    char port[16];
    snprintf(port, sizeof port, "%d", address->port);
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    int code = uv_getaddrinfo(connection->uv, &socket->lookup, looked_up, address->host, port, &hints);
    socket->looking = code == 0;
    return code;
}

static void connect_again(uv_timer_t *timer)
{
    struct lt_redis_connection *connection = lt_container_of(timer, struct lt_redis_connection, timer);
    connection->state = CONNECTING;
    connection->socket = lt_zalloc(sizeof *connection->socket);
    connection->socket->connection = connection;
    connection->socket->reader = redisReaderCreate();
    if (connection->socket->reader == NULL)
        lt_out_of_memory();
    uv_timer_start(timer, is_late, CONNECT_MS, 0);
    int code = begin_connecting(connection);
    if (code < 0)
        lose_by(connection, "it cannot be connected to", code);
}

struct lt_redis_connection *lt_redis_connect(uv_loop_t *uv, const struct lt_redis_address *address, const char *name,
                                             const struct lt_redis_user *user, void *arg)
{
    struct lt_redis_connection *connection = lt_zalloc(sizeof *connection);
    connection->uv = uv;
    connection->address = address;
    connection->name = lt_strdup(name);
    connection->user = *user;
    connection->arg = arg;
    connection->pause_ms = FIRST_PAUSE_MS;
    connection->state = PAUSING;
    uv_timer_init(uv, &connection->timer);
    uv_timer_start(&connection->timer, connect_again, 0, 0);
    return connection;
}

void lt_redis_drop(struct lt_redis_connection *connection, const char *why)
{
    lose(connection, why);
}

static void timer_closed(uv_handle_t *handle)
{
    struct lt_redis_connection *connection = lt_container_of((uv_timer_t *)handle, struct lt_redis_connection, timer);
    free(connection->name);
    free(connection);
}

void lt_redis_close(struct lt_redis_connection *connection)
{
    drop_socket(connection);
    connection->state = CLOSED;
    uv_close((uv_handle_t *)&connection->timer, timer_closed);
}
