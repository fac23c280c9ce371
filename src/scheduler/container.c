#include "scheduler/container.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void lt_claims_push(struct lt_claims *claims, struct lt_claimed claimed)
{
    if (claims->count == claims->size) {
        claims->size = claims->size > 0 ? claims->size * 2 : 16;
        claims->items = lt_realloc(claims->items, claims->size * sizeof(struct lt_claimed));
    }
    claims->items[claims->count++] = claimed;
}

void lt_claims_free(struct lt_claims *claims)
{
    for (uint32_t i = 0; i < claims->count; i++)
        lt_task_unref(claims->items[i].task);
    free(claims->items);
    *claims = (struct lt_claims){0};
}

struct lt_queue_host *lt_queue_hosts_push(struct lt_queue_hosts *hosts, struct lt_queue_host host)
{
    hosts->items = lt_realloc(hosts->items, (hosts->count + 1) * sizeof host); /* there are few */
    hosts->items[hosts->count] = host;
    return &hosts->items[hosts->count++];
}

void lt_queue_hosts_free(struct lt_queue_hosts *hosts)
{
    for (uint32_t i = 0; i < hosts->count; i++) {
        free(hosts->items[i].name);
        free(hosts->items[i].version);
    }
    free(hosts->items);
    *hosts = (struct lt_queue_hosts){0};
}

/* Times of adding are positive, and of those the bits are in the order of the numbers. */
uint64_t lt_list_place(const struct lt_task *task)
{
    uint64_t place;
    memcpy(&place, &task->added_at, sizeof place);
    return place;
}

bool lt_list_wants(const struct lt_list_op *op, const struct lt_task *task)
{
    const struct lt_bytes *key = lt_task_key(task);
    uint64_t place = lt_list_place(task);
    if (op->after != 0 && (op->descending ? place >= op->after : place <= op->after))
        return false;
    if (op->text != NULL && memmem(task->data, task->id_len, op->text->data, op->text->len) == NULL)
        return false;
    return op->key == NULL ||
           (key != NULL && key->len == op->key->len && memcmp(key->data, op->key->data, key->len) == 0);
}
