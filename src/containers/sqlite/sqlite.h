/* A container in an SQLite database, durable and shared by processes; and the persister that goes with it. */
#ifndef LTSH_CONTAINERS_SQLITE_SQLITE_H
#define LTSH_CONTAINERS_SQLITE_SQLITE_H

#include "loop/loop.h"
#include "scheduler/container.h"
#include "scheduler/persister.h"

struct lt_sqlite_options {
    const char *path;
    const char *queue;
    bool full;      /* what was answered survives a loss of power; else, the end of the process */
    double lease;   /* seconds */
    double keep[3]; /* seconds that tasks are kept after success, failure, a stop; < 0: for ever */
    bool fair;      /* keys take turns */
};

/* NULL with a message: the file cannot be used, and is left as it is. Waits a second at most for another process. */
struct lt_container *lt_sqlite_container_new(struct lt_loop *loop, const struct lt_sqlite_options *options,
                                             struct lt_error *error);

/* The path of the database of a container, as it was resolved; NULL: it is another kind, or closed. */
const char *lt_sqlite_path(struct lt_container *container);

/* `name`: of this persister's outputs, among those in the file. */
struct lt_persister *lt_sqlite_persister_new(struct lt_loop *loop, const char *path, const char *name,
                                             struct lt_error *error);

#endif
