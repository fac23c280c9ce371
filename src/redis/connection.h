/* A connection to a Redis server that is there again by itself: names are looked up without waiting, a connection that is
 * refused, silent or cut is made anew, with growing pauses, for as long as it is wanted. Replies are parsed by hiredis.
 *
 *     connecting --> greeting (user, database) --> ready --> lost, and after a pause: connecting
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
                   redisReply *reply);        /* of the next command, or a message; the reply is the user's to free */
    void (*lost)(void *arg, const char *why); /* it will be made anew; also when that fails */
    void (*refused)(void *arg, const char *why); /* it makes no sense to try again: a wrong password, say */
};

/* Begins to connect. `address`: in place as long as the connection is there. */
struct lt_redis_connection *lt_redis_connect(uv_loop_t *uv, const struct lt_redis_address *address, const char *name,
                                             const struct lt_redis_user *user, void *arg);

/* Sends commands (see lt_redis_append) that have `replies` answers; takes over the buffer's memory. Only when it is ready. */
void lt_redis_write(struct lt_redis_connection *connection, struct lt_buffer *commands, unsigned replies);

/* Ends this one as if it had been cut, with a reason; another is made. */
void lt_redis_drop(struct lt_redis_connection *connection, const char *why);

/* Ends it for good; nobody is told. It is freed when its handles are closed. */
void lt_redis_close(struct lt_redis_connection *connection);

/* Whether such an error of the server's means that it can do nothing for now, and may later. */
bool lt_redis_is_passing(const char *error);

/* Commands as they are sent: how many arguments, and then each. */
void lt_redis_begin(struct lt_buffer *commands, size_t arguments);
void lt_redis_append(struct lt_buffer *commands, const void *argument, size_t len);
void lt_redis_append_text(struct lt_buffer *commands, const char *argument);

#endif
