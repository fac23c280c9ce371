#include "scheduler/container.h"

#include <stdlib.h>

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
