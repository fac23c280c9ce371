/* A connection to a Redis server that is there again by itself: one that is refused, silent or cut is made anew, with growing
 * pauses, for as long as it is wanted. Replies are parsed by hiredis.
 *
 *     pausing --> looking (the name up) --> connecting --> greeting --> ready
 *        ^                                                    |           |
 *        +---------- lost, from any of these -----------------+-----------+
 *
 * Where it goes is the route's affair: a URL, the next one of several, the master of which a sentinel tells (greeting is
 * asking it, then), or the node of a cluster that another one named. A greeting has bounds in time as has each answer.
 *
 * It belongs to one uv loop and its thread, and knows nothing of what is sent: replies come in the order of commands, and when
 * it is lost, those that have not come will not. */
#ifndef LTSH_REDIS_CONNECTION_H
#define LTSH_REDIS_CONNECTION_H

#include <hiredis/hiredis.h>
#include <uv.h>

#include "base/bytes.h"
#include "redis/address.h"

struct lt_redis_connection;

/* What its user is told, from a flat stack. */
struct lt_redis_user {
    void (*ready)(void *arg);
    void (*answer)(void *arg,
                   redisReply *reply); /* of the next command, or a message; the reply is the user's to free */
    /* It will be made anew; also when that fails. `final`: that makes no sense until somebody changes something. */
    void (*lost)(void *arg, const char *why, bool final);
};

struct lt_redis_connect_options {
    const struct lt_redis_servers *servers;   /* in place as long as the connection is there */
    const struct lt_redis_connection *beside; /* NULL, or one that is ready: this one goes to the very same server */
    double patience;                          /* seconds that each answer may take */
};

/* Begins to connect. */
struct lt_redis_connection *lt_redis_connect(uv_loop_t *uv, const struct lt_redis_connect_options *options,
                                             const struct lt_redis_user *user, void *arg);

/* Sends commands (see lt_redis_append) that have `replies` answers; takes over the buffer's memory. Only when it is ready. */
void lt_redis_write(struct lt_redis_connection *connection, struct lt_buffer *commands, unsigned replies);

/* Ends this one as if it had been cut, for a reason of its user's, or for what the server said; another is made. Where that
 * names a node of a cluster, there. */
void lt_redis_drop(struct lt_redis_connection *connection, const char *why);
void lt_redis_refuse(struct lt_redis_connection *connection, const char *error);

/* Follows an error of a cluster that names another node: connects to that one, and nobody is told that this one is lost. False:
 * it names none. */
bool lt_redis_follow(struct lt_redis_connection *connection, const char *error);

/* Ends it for good; nobody is told. It is freed when its handles are closed. */
void lt_redis_close(struct lt_redis_connection *connection);

/* What errors of the server mean (fault.c). Whether it can do nothing for now, and may later. */
bool lt_redis_is_passing(const char *error);

/* What may be done about one that does not pass: " (...)", or "". */
const char *lt_redis_advice(const char *error);

/* Of a node that another named: where its host begins, its length, and the port. False: it is no such error. */
bool lt_redis_names_node(const char *error, const char **host, size_t *len, int *port);

/* Commands as they are sent: how many arguments, and then each. */
void lt_redis_begin(struct lt_buffer *commands, size_t arguments);
void lt_redis_append(struct lt_buffer *commands, const void *argument, size_t len);
void lt_redis_append_text(struct lt_buffer *commands, const char *argument);

#endif
