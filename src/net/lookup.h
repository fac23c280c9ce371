/* A name that is looked up on a thread of its own, for which nobody waits.
 *
 * getaddrinfo cannot be given up, and with a silent name server it takes half a minute. On libuv's threads that would hold up
 * whoever needs them next, and the end of the process, which joins them. So each lookup has a thread that is detached and
 * owns, with whoever asked, what it works on: the last of the two frees it. */
#ifndef LTSH_NET_LOOKUP_H
#define LTSH_NET_LOOKUP_H

#include <netdb.h>
#include <uv.h>

struct lt_lookup;

/* Begins. `done` is called on the loop's thread, once, unless it is dropped before. A numeric address is answered without a
 * thread, in a later turn too. NULL: there is no thread or descriptor for it (errno). */
struct lt_lookup *lt_lookup_begin(uv_loop_t *uv, const char *host, int port, void (*done)(void *arg), void *arg);

/* What came of it: 0 and the addresses, which stay the lookup's; or why there are none, a text. NULL: not there yet. */
const struct addrinfo *lt_lookup_found(const struct lt_lookup *lookup);
const char *lt_lookup_error(const struct lt_lookup *lookup);

/* Lets go of it, whether it is done or not. NULL is fine. */
void lt_lookup_drop(struct lt_lookup *lookup);

#endif
