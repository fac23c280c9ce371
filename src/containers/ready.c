#include "containers/ready.h"

#include <stddef.h>
#include <stdlib.h>

#include "base/alloc.h"

static const char *group_key(const void *object, size_t *len)
{
    const struct lt_group *group = object;
    *len = group->key->len;
    return group->key->data;
}

static void group_open(struct lt_group *group, struct lt_bytes *key, uint32_t hash)
{
    *group = (struct lt_group){
        .key = lt_bytes_ref(key),
        .hash = hash,
        .place = LT_HEAP_NONE,
        .age_place = LT_HEAP_NONE,
        .heap.place = offsetof(struct lt_task, heap_place),
    };
    TAILQ_INIT(&group->list);
}

void lt_ready_open(struct lt_ready *ready, bool by_priority, bool fair)
{
    *ready = (struct lt_ready){
        .by_priority = by_priority,
        .fair = fair,
        .groups.key = group_key,
        .open.place = offsetof(struct lt_group, place),
        .aside.place = offsetof(struct lt_group, place),
        .ages.place = offsetof(struct lt_group, age_place),
    };
    TAILQ_INIT(&ready->by_age);
    group_open(&ready->keyless, NULL, 0);
}

static void free_group(struct lt_group *group)
{
    lt_heap_free(&group->heap);
    lt_bytes_unref(group->key);
    free(group);
}

void lt_ready_close(struct lt_ready *ready)
{
    uint32_t position = 0;
    struct lt_group *group;
    while ((group = lt_map_next(&ready->groups, &position)) != NULL)
        free_group(group);
    lt_map_free(&ready->groups);
    lt_heap_free(&ready->keyless.heap);
    lt_heap_free(&ready->open);
    lt_heap_free(&ready->aside);
    lt_heap_free(&ready->ages);
}

static struct lt_group *find_group(struct lt_ready *ready, const struct lt_bytes *key, uint32_t hash)
{
    return key == NULL ? &ready->keyless : lt_map_find(&ready->groups, hash, key->data, key->len);
}

static struct lt_group *group_of(struct lt_ready *ready, const struct lt_task *task)
{
    struct lt_bytes *key = lt_task_key(task);
    if (key == NULL)
        return &ready->keyless;
    uint32_t hash = lt_hash(key->data, key->len);
    struct lt_group *group = find_group(ready, key, hash);
    if (group == NULL) {
        group = lt_alloc(sizeof *group);
        group_open(group, key, hash);
        lt_map_put(&ready->groups, hash, group);
    }
    return group;
}

static struct lt_task *group_first(const struct lt_ready *ready, const struct lt_group *group)
{
    if (!ready->by_priority)
        return TAILQ_FIRST(&group->list);
    const struct lt_heap_entry *first = lt_heap_first(&group->heap);
    return first != NULL ? first->object : NULL;
}

static void rank_group(struct lt_heap *heap, uint32_t place, int64_t rank, uint64_t order, struct lt_group *group)
{
    if (place == LT_HEAP_NONE)
        lt_heap_push(heap, rank, order, group);
    else
        lt_heap_change(heap, place, rank, order);
}

/* After a group's first task changed: puts it where it belongs among the groups, or ends it. */
static void place_group(struct lt_ready *ready, struct lt_group *group)
{
    struct lt_heap *heap = group->set_aside ? &ready->aside : &ready->open;
    const struct lt_task *first = group_first(ready, group);
    if (first == NULL) {
        if (group->place != LT_HEAP_NONE)
            lt_heap_remove(heap, group->place);
        if (group->age_place != LT_HEAP_NONE)
            lt_heap_remove(&ready->ages, group->age_place);
        group->set_aside = false;
        if (group != &ready->keyless) {
            lt_map_remove(&ready->groups, group->hash, group);
            free_group(group);
        }
        return;
    }
    bool ranks = ready->by_priority && !ready->fair;
    int64_t rank = ranks ? ~first->priority : 0; /* ~: higher first, without overflow */
    uint64_t order = ready->fair ? group->turn : first->seq;
    rank_group(heap, group->place, rank, order, group);
    if (ready->fair && !ready->by_priority)
        rank_group(&ready->ages, group->age_place, 0, first->seq, group);
}

/* It was the first, or behind few that are back too. */
static void put_back(struct lt_task_list *list, struct lt_task *task)
{
    struct lt_task *behind = TAILQ_FIRST(list);
    while (behind != NULL && behind->seq < task->seq)
        behind = TAILQ_NEXT(behind, link);
    if (behind != NULL)
        TAILQ_INSERT_BEFORE(behind, task, link);
    else
        TAILQ_INSERT_TAIL(list, task, link);
}

/* A group that comes new stands behind the others; one of which a task is back has the turn again that this used. */
static void give_turn(struct lt_ready *ready, struct lt_group *group, const struct lt_task *back)
{
    bool is_new = group_first(ready, group) == NULL;
    if (back != NULL)
        group->turn = is_new || back->turn < group->turn ? back->turn : group->turn;
    else if (is_new)
        group->turn = ++ready->turn;
}

void lt_ready_push(struct lt_ready *ready, struct lt_task *task)
{
    struct lt_group *group = group_of(ready, task);
    bool is_back = task->seq > 0;
    if (ready->fair)
        give_turn(ready, group, is_back ? task : NULL);
    if (!is_back)
        task->seq = ++ready->seq;
    ready->count++;
    group->count++;
    if (ready->by_priority) {
        TAILQ_INSERT_TAIL(&ready->by_age, task, link);
        lt_heap_push(&group->heap, ~task->priority, task->seq, task);
    } else if (is_back) {
        put_back(&group->list, task);
    } else {
        TAILQ_INSERT_TAIL(&group->list, task, link);
    }
    if (is_back || group_first(ready, group) == task)
        place_group(ready, group);
}

static void take_group_out(struct lt_ready *ready, struct lt_group *group, struct lt_task *task)
{
    ready->count--;
    group->count--;
    if (ready->by_priority) {
        TAILQ_REMOVE(&ready->by_age, task, link);
        lt_heap_remove(&group->heap, task->heap_place);
    } else {
        TAILQ_REMOVE(&group->list, task, link);
    }
}

void lt_ready_remove(struct lt_ready *ready, struct lt_task *task)
{
    struct lt_group *group = group_of(ready, task);
    bool was_first = group_first(ready, group) == task;
    take_group_out(ready, group, task);
    if (was_first)
        place_group(ready, group);
}

static void set_aside(struct lt_ready *ready, struct lt_group *group)
{
    lt_heap_remove(&ready->open, group->place);
    group->set_aside = true;
    place_group(ready, group);
}

struct lt_task *lt_ready_claim(struct lt_ready *ready, struct lt_limiter *limiter)
{
    const struct lt_heap_entry *first;
    while ((first = lt_heap_first(&ready->open)) != NULL) {
        struct lt_group *group = first->object;
        struct lt_task *task = group_first(ready, group);
        enum lt_admission admission = lt_limiter_admit(limiter, lt_task_key(task));
        if (admission == LT_NO_ROOM)
            return NULL;
        if (admission == LT_ADMITTED) {
            take_group_out(ready, group, task);
            task->turn = group->turn;
            group->turn = ++ready->turn;
            place_group(ready, group);
            return task;
        }
        set_aside(ready, group);
    }
    return NULL;
}

void lt_ready_close_key(struct lt_ready *ready, const struct lt_bytes *key)
{
    struct lt_group *group = find_group(ready, key, lt_hash(key->data, key->len));
    if (group != NULL && !group->set_aside && group->count > 0)
        set_aside(ready, group);
}

void lt_ready_open_key(struct lt_ready *ready, const struct lt_bytes *key)
{
    struct lt_group *group = find_group(ready, key, lt_hash(key->data, key->len));
    if (group == NULL || !group->set_aside)
        return;
    lt_heap_remove(&ready->aside, group->place);
    group->set_aside = false;
    place_group(ready, group);
}

void lt_ready_set_turn(struct lt_ready *ready, const struct lt_bytes *key, uint64_t turn)
{
    struct lt_group *group = find_group(ready, key, key != NULL ? lt_hash(key->data, key->len) : 0);
    if (turn > ready->turn)
        ready->turn = turn;
    if (group == NULL || group_first(ready, group) == NULL)
        return;
    group->turn = turn;
    place_group(ready, group);
}

static struct lt_task *older_of(struct lt_task *a, const struct lt_ready *ready, const struct lt_heap *groups)
{
    const struct lt_heap_entry *first = lt_heap_first(groups);
    if (first == NULL)
        return a;
    struct lt_task *b = group_first(ready, first->object);
    return a == NULL || b->seq < a->seq ? b : a;
}

struct lt_task *lt_ready_oldest(const struct lt_ready *ready)
{
    if (ready->by_priority)
        return TAILQ_FIRST(&ready->by_age);
    if (ready->fair)
        return older_of(NULL, ready, &ready->ages);
    return older_of(older_of(NULL, ready, &ready->open), ready, &ready->aside);
}

static bool comes_before(const struct lt_task *other, const struct lt_task *task)
{
    return other->priority == task->priority ? other->seq < task->seq : other->priority > task->priority;
}

static uint64_t count_older(const struct lt_group *group, uint64_t seq)
{
    uint64_t count = 0;
    const struct lt_task *task;
    TAILQ_FOREACH(task, &group->list, link) {
        if (task->seq >= seq)
            break;
        count++;
    }
    return count;
}

/* Those of its group that come before it. */
static uint64_t count_in_group(const struct lt_ready *ready, const struct lt_group *group, const struct lt_task *task)
{
    uint64_t count = 0;
    if (!ready->by_priority)
        return count_older(group, task->seq);
    for (uint32_t i = 0; i < group->heap.count; i++)
        count += comes_before(group->heap.entries[i].object, task);
    return count;
}

/* Those of its own key that come first, and as many of each other one, or one more where that has its turn before. */
static uint64_t count_fair(const struct lt_ready *ready, const struct lt_task *task)
{
    const struct lt_bytes *key = lt_task_key(task);
    const struct lt_group *own =
        key == NULL ? &ready->keyless : lt_map_find(&ready->groups, lt_hash(key->data, key->len), key->data, key->len);
    const struct lt_heap *groups[] = {&ready->open, &ready->aside};
    uint64_t first = count_in_group(ready, own, task), count = 0;
    for (int g = 0; g < 2; g++) {
        for (uint32_t i = 0; i < groups[g]->count; i++) {
            const struct lt_group *group = groups[g]->entries[i].object;
            uint64_t turns = group == own ? first : first + (group->turn < own->turn);
            count += group->count < turns ? group->count : turns;
        }
    }
    return count;
}

uint64_t lt_ready_ahead(const struct lt_ready *ready, const struct lt_task *task)
{
    uint64_t count = 0;
    if (ready->fair)
        return count_fair(ready, task);
    if (ready->by_priority) {
        const struct lt_task *other;
        TAILQ_FOREACH(other, &ready->by_age, link)
            count += comes_before(other, task);
        return count;
    }
    uint32_t position = 0;
    const struct lt_group *group;
    count = count_older(&ready->keyless, task->seq);
    while ((group = lt_map_next(&ready->groups, &position)) != NULL)
        count += count_older(group, task->seq);
    return count;
}
