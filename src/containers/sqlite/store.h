/* The store behind ltsh.container.sqlite: one for each database file in a process, shared by all containers and persisters
 * on it.
 *
 *     the loop's thread           requests are gathered for as long as the thread is at work
 *     --- a batch of them --->    its thread: one transaction for all of them, in their order     batch.c
 *     <-- the same, answered --   after the commit: what was said is on disk
 *
 * What a request asks is done by one of the functions of perform.h, on the store's thread, within the transaction. They know
 * nothing of threads: what they find and say is in the request.
 *
 * Members. Each container of this process is a member of a queue, and one owner in the file: what it runs is its own as
 * long as its process lives (owners.c). */
#ifndef LTSH_CONTAINERS_SQLITE_STORE_H
#define LTSH_CONTAINERS_SQLITE_STORE_H

#include "containers/sqlite/lane.h"
#include "loop/lane.h"

struct lt_sqlite_store;

/* The store of this file: made, or one reference more. NULL with a message: the file cannot be used. */
struct lt_sqlite_store *lt_sqlite_store_get(struct lt_loop *loop, const char *path, struct lt_error *error);
void lt_sqlite_store_release(struct lt_sqlite_store *store);

/* One container more, or less (1, -1), with this durability: a commit is what the strictest wants; without any, full. */
void lt_sqlite_durability(struct lt_sqlite_store *store, bool full, int more);

/* A member of a queue, not yet at work; and no more. */
struct lt_sqlite_member *lt_sqlite_member_new(const char *queue);
void lt_sqlite_member_free(struct lt_sqlite_member *member);

/* A request to be filled; and its way. It is freed when it has been answered. */
struct lt_sqlite_request *lt_sqlite_request_new(enum lt_sqlite_kind kind, struct lt_sqlite_member *member, void *op,
                                                struct lt_reply *reply);
void lt_sqlite_request_ref(struct lt_sqlite_request *request);
void lt_sqlite_request_unref(struct lt_sqlite_request *request);
void lt_sqlite_send(struct lt_sqlite_store *store, struct lt_sqlite_request *request);

/* Looks for news of other processes from now on, every second at least; and not any more. Counted. */
void lt_sqlite_watch(struct lt_sqlite_store *store);
void lt_sqlite_unwatch(struct lt_sqlite_store *store);

/* The path of its file, for as long as the store is there. */
const char *lt_sqlite_store_path(const struct lt_sqlite_store *store);

/* A member could not say in the file that it has left: the lock file stays, from which others see that it is gone. */
void lt_sqlite_stranded(struct lt_sqlite_store *store);

/* A member is told to stop: other processes are waited for for a moment only, until each that was told so has left. */
void lt_sqlite_hurry(struct lt_sqlite_store *store);
void lt_sqlite_hurried(struct lt_sqlite_store *store);

#endif
