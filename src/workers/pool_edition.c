#include "workers/pool_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

const char pool_load_late[] = "the module was not loaded within 10 s";

void pool_make_edition(struct edition *edition, const struct lt_load *load)
{
    edition->load = *load;
    edition->load.path = lt_strdup(load->path);
    edition->load.cpath = lt_strdup(load->cpath);
    edition->load.module = lt_strdup(load->module);
    char *source = lt_alloc(load->source_len + 1);
    memcpy(source, load->source, load->source_len);
    edition->load.source = source;
}

void pool_free_edition(struct edition *edition)
{
    free((void *)(uintptr_t)edition->load.path);
    free((void *)(uintptr_t)edition->load.cpath);
    free((void *)(uintptr_t)edition->load.module);
    free((void *)(uintptr_t)edition->load.source);
}

struct lt_worker *pool_make_worker(struct pool *pool, const struct edition *edition, void *owner,
                                   void (*on_message)(struct lt_worker *, const struct lt_message *),
                                   void (*on_gone)(struct lt_worker *, const char *))
{
    struct lt_worker *worker =
        pool->processes ? lt_process_worker_new(pool->env.loop) : lt_thread_worker_new(pool->env.loop);
    worker->owner = owner;
    worker->received = on_message;
    worker->gone = on_gone;
    worker->ops->send(worker, lt_load_write(&edition->load));
    return worker;
}

/* Asks it to end, and does not care any more. */
void pool_retire_worker(struct lt_worker *worker)
{
    worker->ops->end(worker);
    worker->ops->disown(worker);
}
