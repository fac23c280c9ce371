/* Claims: the memory part says which tasks are next, and the store makes them running.
 *
 *     missed something? -> the store shows what comes first (a read) -> that goes to the memory part
 *     memory part: claim -> the next ones, as far as the limits allow
 *     store: claim by choice -> those become running, durably; and it shows more, when the memory part has no others
 *     -> those that were not taken go back to the memory part, or are gone; what was shown goes there
 *
 * What the store takes over from hosts that died, or starts by itself, is claimed too. An answer of the store that was lost
 * is asked for again with the same choices, before anything else. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "containers/combine/combine_state.h"

enum { GLANCE = 1, LOOK_NEAR_LEAST = 16, LOOK_NEAR = 256 };
static const double FAILED = 1; /* seconds until the store is looked at again for what the memory part did not take */

static struct lt_combine *combine_of_choose(struct lt_choose *choose)
{
    return lt_container_of(choose, struct lt_combine, choose);
}

static void free_choices(struct lt_choose *choose)
{
    for (uint32_t i = 0; i < choose->count; i++)
        lt_entry_unref(choose->entries[i]);
    choose->count = 0;
}

void lt_choose_free(struct lt_choose *choose)
{
    free_choices(choose);
    lt_claims_free(&choose->order.claimed);
    lt_claims_free(&choose->take.claimed);
    lt_tasks_free(&choose->order.expired);
    lt_tasks_free(&choose->take.expired);
    lt_tasks_free(&choose->take.seen);
    free(choose->choices);
    free(choose->entries);
    free(choose->ends);
    lt_reply_clear(&choose->order.reply);
    lt_reply_clear(&choose->take.reply);
}

static void answer_claim(struct lt_choose *choose, const struct lt_reply *reply)
{
    choose->step = LT_CHOOSE_IDLE;
    lt_reply_send(&choose->outer->reply, reply->code, reply->code != LT_OK ? lt_reply_message(reply) : NULL);
}

/* What was shown. */

static void ask_order(struct lt_choose *choose);
static void ask_store(struct lt_choose *choose);

static bool looked_far(const struct lt_claim_op *take)
{
    return take->look >= LT_WINDOW;
}

/* How many of the first ones are looked at: those that the next claims may take. */
static uint32_t first_ones(const struct lt_choose *choose)
{
    uint32_t slots = choose->outer->limiter->limits.slots;
    uint32_t count = slots > choose->want ? slots : choose->want;
    return count < LOOK_NEAR_LEAST ? LOOK_NEAR_LEAST : count > LOOK_NEAR ? LOOK_NEAR : count;
}

/* Whether all that was not shown comes behind what was: none was passed over for its key. */
static bool comes_in_order(const struct lt_combine *c)
{
    const struct lt_claim_op *take = &c->choose.take;
    const struct lt_limits *limits = &take->limiter->limits;
    return !c->store->fair && take->seen.count > 0 && limits->key_limit == 0 && limits->shared_key_limit == 0 &&
           limits->key_limit_fn == NULL && limits->key_rate.per <= 0;
}

/* Of a store that need not have told what others added: whether the first one shows that there was something. */
static void note_glance(struct lt_combine *c)
{
    const struct lt_choose *choose = &c->choose;
    struct lt_window *window = &c->window;
    bool complete = choose->take.due == window->waiting;
    if (choose->offered || (window->complete && !complete)) {
        lt_window_unsure(window);
        window->missed = true;
    }
    window->complete = complete;
}

/* What was shown is here by now: whether that is all that is due. */
static void look_at_due(struct lt_combine *c)
{
    const struct lt_claim_op *take = &c->choose.take;
    struct lt_window *window = &c->window;
    if (take->look == GLANCE) {
        note_glance(c);
        return;
    }
    window->partial = !looked_far(take);
    if (take->due == window->waiting) {
        window->complete = true;
        window->partial = false;
    } else if (comes_in_order(c)) {
        window->complete = false;
        window->floor = take->seen.items[take->seen.count - 1]->priority;
    } else if (looked_far(take)) {
        lt_window_unsure(window);
    }
}

/* What the store kept back. Their keys are passed over, until it says that there is work, or shows one of them. */

static void close_held(struct lt_combine *c)
{
    for (uint32_t i = 0; c->memory->ops->key_full != NULL && i < c->held.count; i++)
        c->memory->ops->key_full(c->memory, lt_task_key(c->held.items[i]));
}

static void open_held(struct lt_combine *c)
{
    for (uint32_t i = 0; c->memory->ops->key_open != NULL && i < c->held.count; i++)
        c->memory->ops->key_open(c->memory, lt_task_key(c->held.items[i]));
    lt_tasks_clear(&c->held);
}

static bool is_held(const struct lt_combine *c, const struct lt_task *task)
{
    const struct lt_bytes *key = lt_task_key(task);
    for (uint32_t i = 0; key != NULL && i < c->held.count; i++) {
        const struct lt_bytes *held = lt_task_key(c->held.items[i]);
        if (held->len == key->len && memcmp(held->data, key->data, key->len) == 0)
            return true;
    }
    return false;
}

static void settled(void *arg)
{
    struct lt_choose *choose = arg;
    struct lt_combine *c = combine_of_choose(choose);
    if (--choose->pending > 0)
        return;
    if (choose->take.look > 0)
        look_at_due(c);
    lt_tasks_clear(&choose->take.seen);
    close_held(c);
    if (choose->step == LT_CHOOSE_LOOK) {
        ask_order(choose);
        return;
    }
    choose->outer->more =
        choose->take.more || choose->offered || (choose->order.more && !choose->kept) || choose->left_ends;
    if (c->window.failed && choose->outer->claimed.count > 0) { /* so there is room for what found none */
        choose->outer->more = true;
    } else if (c->window.failed) { /* not again and again */
        choose->outer->more = false;
        choose->outer->next_at = lt_earlier(choose->outer->next_at, lt_loop_now(c->env.loop) + FAILED);
    }
    free_choices(choose);
    answer_claim(choose, &choose->take.reply);
}

/* The store's turns are the ones that count. */
static void tell_turn(const struct lt_combine *c, const struct lt_task *task, uint64_t turn)
{
    if (turn > 0 && c->memory->ops->key_turn != NULL)
        c->memory->ops->key_turn(c->memory, lt_task_key(task), turn);
}

static void show_seen(struct lt_choose *choose)
{
    struct lt_combine *c = combine_of_choose(choose);
    for (uint32_t i = 0; i < choose->take.seen.count; i++) {
        struct lt_task *task = choose->take.seen.items[i];
        choose->offered = choose->offered || lt_window_find(&c->window, task) == NULL || is_held(c, task);
        if (is_held(c, task))
            open_held(c);
        choose->pending++;
        lt_window_offer(c, task, true, settled, choose);
        if (c->store->fair)
            tell_turn(c, task, task->turn);
    }
}

/* What was taken. */

static void pass_on(struct lt_choose *choose)
{
    struct lt_claim_op *outer = choose->outer, *take = &choose->take;
    for (uint32_t i = 0; i < take->expired.count; i++)
        lt_tasks_push(&outer->expired, take->expired.items[i]); /* references move */
    take->expired.count = 0;
    outer->waits = take->waits;
    outer->next_at = lt_earlier(take->next_at, choose->order.next_at);
    outer->next_date = take->next_date;
    if (take->limit + take->end_count == 0) /* it had no reason to look at the queue's limits */
        return;
    outer->token_at = take->token_at;
    outer->queue_full = take->queue_full;
}

static void take_one(struct lt_choose *choose, const struct lt_choice *choice, struct lt_entry *entry)
{
    struct lt_combine *c = combine_of_choose(choose);
    struct lt_task *task = choice->task;
    lt_task_apply_claimed(task, choice->run, choice->started_at);
    tell_turn(c, task, choice->turn);
    lt_claims_push(&choose->outer->claimed,
                   (struct lt_claimed){.task = lt_task_ref(task), .token = choice->token, .expired = choice->expired});
    if (c->memory->ops->add_running != NULL || !entry->known)
        return;
    choose->pending++; /* it need not know what runs, and has room for others */
    lt_window_drop(c, entry, settled, choose);
}

static void give_one_back(struct lt_choose *choose, struct lt_entry *entry)
{
    struct lt_combine *c = combine_of_choose(choose);
    struct lt_transition waits = {
        .to = LT_WAITING, .now = lt_loop_wall(c->env.loop), .not_begun = true, .uncounted = true};
    struct lt_task *task = entry->task;
    waits.run_at = task->run_at;
    choose->kept = true;
    if (lt_task_key(task) != NULL && !is_held(c, task))
        lt_tasks_push(&c->held, lt_task_ref(task));
    choose->pending++;
    lt_window_tell(c, entry, &waits, lt_task_ref(task), settled, choose);
}

static void settle_choices(struct lt_choose *choose)
{
    struct lt_combine *c = combine_of_choose(choose);
    for (uint32_t i = 0; i < choose->count; i++) {
        const struct lt_choice *choice = &choose->choices[i];
        struct lt_entry *entry = choose->entries[i];
        if (choice->state == LT_CHOICE_TAKEN) {
            take_one(choose, choice, entry);
        } else if (choice->state == LT_CHOICE_WAITS && entry->known) {
            give_one_back(choose, entry);
        } else if (entry->known) {
            lt_window_unsure(&c->window);
            choose->offered = true; /* there is something to be looked at */
            choose->pending++;
            lt_window_drop(c, entry, settled, choose);
        }
    }
}

/* What the store claimed besides. */
static void adopt_claimed(struct lt_choose *choose)
{
    struct lt_claims *claimed = &choose->take.claimed;
    for (uint32_t i = 0; i < claimed->count; i++) {
        lt_claims_push(&choose->outer->claimed, claimed->items[i]); /* its reference moves */
        choose->pending++;
        lt_window_adopt(combine_of_choose(choose), claimed->items[i].task, settled, choose);
    }
    claimed->count = 0;
}

static void on_taken(struct lt_reply *reply)
{
    struct lt_choose *choose = lt_container_of(reply, struct lt_choose, take.reply);
    choose->again = reply->code != LT_OK;
    if (choose->again) {
        lt_tasks_clear(&choose->take.seen);
        answer_claim(choose, reply);
        return;
    }
    choose->take.number++;
    pass_on(choose);
    choose->pending = 1;
    if (choose->step == LT_CHOOSE_TAKE) {
        choose->step = LT_CHOOSE_SETTLE;
        settle_choices(choose);
        adopt_claimed(choose);
    }
    show_seen(choose);
    settled(choose);
}

/* The questions. */

/* Ends under way, as the store knows them; those that are through make room at once. */
static void find_ends(struct lt_choose *choose)
{
    const struct lt_claim_op *outer = choose->outer;
    struct lt_claim_op *take = &choose->take;
    take->limit = outer->limit;
    take->end_count = 0;
    if (!choose->asking) { /* they may be over and gone by now: a claim that comes next has the room that they made */
        choose->left_ends = outer->end_count > 0;
        return;
    }
    if (choose->end_size < outer->end_count) {
        choose->end_size = outer->end_count;
        choose->ends = lt_realloc(choose->ends, choose->end_size * sizeof(struct lt_change_op *));
    }
    for (uint32_t i = 0; i < outer->end_count; i++) {
        bool stored;
        struct lt_change_op *end = lt_combine_change_asked(outer->ends[i], &stored);
        if (end != NULL)
            choose->ends[take->end_count++] = end;
        else
            take->limit += stored;
    }
    take->ends = choose->ends;
}

/* A store that announces nothing has to be looked at in any case. */
static bool knows_all(const struct lt_combine *c)
{
    return c->window.complete && c->store->ops->announces;
}

static void ask_store(struct lt_choose *choose)
{
    struct lt_combine *c = combine_of_choose(choose);
    struct lt_claim_op *take = &choose->take;
    bool looks = choose->step == LT_CHOOSE_LOOK;
    bool dry = choose->count < choose->want && !choose->order.more;
    find_ends(choose);
    if (looks || choose->want == 0)
        take->limit = take->end_count = 0;
    take->limiter = choose->outer->limiter;
    take->by_choice = true;
    take->choices = choose->choices;
    take->choice_count = choose->count;
    take->look = 0;
    if (looks || (choose->want > 0 && c->window.partial))
        take->look = first_ones(choose);
    if (!looks && choose->want > 0 && dry && !knows_all(c))
        take->look = lt_window_room(&c->window);
    if (take->look == 0 && choose->want > 0 && c->store->ops->tells_one)
        take->look = GLANCE;
    take->due = UINT64_MAX;
    take->more = take->waits = false;
    take->next_at = take->next_date = 0;
    if (take->look > 0)
        c->window.missed = false; /* what is said from here on counts */
    lt_reply_begin(&take->reply, c->env.loop, on_taken);
    c->store->ops->claim(c->store, take);
    lt_reply_end(&take->reply);
}

static void choose_one(struct lt_choose *choose, struct lt_entry *entry, struct lt_task *shadow)
{
    if (choose->count == choose->size) {
        choose->size = choose->size > 0 ? choose->size * 2 : 64;
        choose->choices = lt_realloc(choose->choices, choose->size * sizeof *choose->choices);
        choose->entries = lt_realloc(choose->entries, choose->size * sizeof(struct lt_entry *));
    }
    lt_task_unref(entry->shadow);
    entry->shadow = lt_task_ref(shadow);
    choose->entries[choose->count] = lt_entry_ref(entry);
    choose->choices[choose->count++] = (struct lt_choice){.task = entry->task};
}

static void on_ordered(struct lt_reply *reply)
{
    struct lt_choose *choose = lt_container_of(reply, struct lt_choose, order.reply);
    struct lt_combine *c = combine_of_choose(choose);
    struct lt_claim_op *order = &choose->order;
    order->limiter->expected = 0;
    for (uint32_t i = 0; i < order->claimed.count; i++) {
        struct lt_task *shadow = order->claimed.items[i].task;
        struct lt_entry *entry = lt_window_find(&c->window, shadow);
        lt_limiter_withdraw(order->limiter, lt_task_key(shadow)); /* it is admitted when it was taken */
        if (entry != NULL && entry->waits) {
            lt_window_take(&c->window, entry);
            choose_one(choose, entry, shadow);
        }
    }
    for (uint32_t i = 0; i < order->claimed.count; i++)
        lt_task_unref(order->claimed.items[i].task);
    order->claimed.count = 0;
    lt_tasks_clear(&order->expired);
    order->number += reply->code == LT_OK;
    if (reply->code != LT_OK && choose->count == 0) {
        answer_claim(choose, reply);
        return;
    }
    choose->step = LT_CHOOSE_TAKE;
    ask_store(choose);
}

static void ask_order(struct lt_choose *choose)
{
    struct lt_combine *c = combine_of_choose(choose);
    struct lt_claim_op *order = &choose->order;
    order->more = false;
    order->next_at = order->next_date = 0;
    if (!choose->asking)
        choose->want = choose->outer->limit;
    if (choose->want == 0 || c->window.waiting == 0) {
        choose->step = LT_CHOOSE_TAKE;
        ask_store(choose);
        return;
    }
    choose->step = LT_CHOOSE_ORDER;
    order->limit = choose->want;
    order->limiter = choose->outer->limiter;
    order->limiter->expected = choose->want - choose->outer->limit;
    lt_reply_begin(&order->reply, c->env.loop, on_ordered);
    c->memory->ops->claim(c->memory, order);
    lt_reply_end(&order->reply);
}

void lt_combine_claim(struct lt_container *container, struct lt_claim_op *op)
{
    struct lt_combine *c = lt_combine_of(container);
    struct lt_choose *choose = &c->choose;
    double date = choose->take.next_date, time = choose->take.next_at;
    choose->outer = op;
    choose->want = op->limit + op->end_count;
    choose->offered = choose->kept = choose->left_ends = c->window.failed = false;
    choose->asking = true;
    if (c->window.missed)
        open_held(c);
    c->window.missed = c->window.missed || (date > 0 && lt_loop_wall(c->env.loop) >= date) ||
                       (time > 0 && lt_loop_now(c->env.loop) >= time);
    choose->step = c->window.missed && choose->want > 0 && !choose->again ? LT_CHOOSE_LOOK : LT_CHOOSE_TAKE;
    if (choose->step == LT_CHOOSE_TAKE && !choose->again)
        ask_order(choose);
    else
        ask_store(choose);
    choose->asking = false;
}
