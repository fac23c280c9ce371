/* Outputs in an SQLite database. Where the container is in the same one, the output is part of the task's row: it is there
 * if and only if the task is a success, and nothing is saved beside it. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "containers/sqlite/container.h"
#include "containers/sqlite/sqlite.h"
#include "containers/sqlite/store.h"

struct persister {
    struct lt_persister base;
    struct lt_sqlite_store *store; /* NULL: closed */
    char *name;
    const char *queue; /* of the container that shares the store, once that is known; NULL: none does */
    bool opened;
    bool released;
};

static struct persister *persister_of(struct lt_persister *persister)
{
    return lt_container_of(persister, struct persister, base);
}

static struct lt_sqlite_request *ask(struct persister *persister, enum lt_sqlite_kind kind, void *op,
                                     struct lt_reply *reply)
{
    struct lt_sqlite_request *request = lt_sqlite_request_new(kind, NULL, op, reply);
    request->name = persister->name;
    request->queue = persister->queue;
    return request;
}

static int persister_open(struct lt_persister *persister, struct lt_loop *loop, struct lt_call_limits limits,
                          struct lt_error *error)
{
    (void)loop;
    (void)limits;
    (void)error;
    persister_of(persister)->opened = true;
    return LT_OK;
}

static void persister_save(struct lt_persister *persister, struct lt_save_op *op)
{
    struct persister *p = persister_of(persister);
    lt_sqlite_send(p->store, ask(p, LT_SQLITE_SAVE, op, &op->reply));
}

static void answer_load(struct lt_sqlite_request *request)
{
    struct lt_load_op *op = request->op;
    op->data = request->bytes;
    request->bytes = NULL;
}

static void persister_load(struct lt_persister *persister, struct lt_load_op *op)
{
    struct persister *p = persister_of(persister);
    struct lt_sqlite_request *request = ask(p, LT_SQLITE_LOAD, op, &op->reply);
    request->answer = answer_load;
    lt_sqlite_send(p->store, request);
}

static void persister_erase(struct lt_persister *persister, struct lt_load_op *op)
{
    struct persister *p = persister_of(persister);
    if (p->queue != NULL) /* it goes with the row */
        lt_reply_ok(&op->reply);
    else
        lt_sqlite_send(p->store, ask(p, LT_SQLITE_ERASE, op, &op->reply));
}

static bool persister_shares(struct lt_persister *persister, struct lt_container *container)
{
    struct persister *p = persister_of(persister);
    if (p->queue == NULL)
        p->queue = lt_sqlite_queue_in(container, p->store);
    return p->queue != NULL;
}

static void free_persister(struct persister *p)
{
    if (p->store != NULL)
        lt_sqlite_store_release(p->store);
    free(p->name);
    free(p);
}

static void persister_close(struct lt_persister *persister, struct lt_reply *reply)
{
    struct persister *p = persister_of(persister);
    p->opened = false;
    lt_reply_ok(reply);
    lt_sqlite_store_release(p->store);
    p->store = NULL;
    if (p->released)
        free_persister(p);
}

static void persister_release(struct lt_persister *persister)
{
    struct persister *p = persister_of(persister);
    p->released = true;
    if (!p->opened)
        free_persister(p);
}

static const struct lt_persister_ops persister_ops = {
    .name = "sqlite",
    .open = persister_open,
    .save = persister_save,
    .load = persister_load,
    .erase = persister_erase,
    .shares = persister_shares,
    .close = persister_close,
    .release = persister_release,
};

struct lt_persister *lt_sqlite_persister_new(struct lt_loop *loop, const char *path, const char *name,
                                             struct lt_error *error)
{
    struct lt_sqlite_store *store = lt_sqlite_store_get(loop, path, error);
    if (store == NULL)
        return NULL;
    struct persister *p = lt_zalloc(sizeof *p);
    p->base.ops = &persister_ops;
    p->store = store;
    p->name = lt_strdup(name);
    return &p->base;
}
