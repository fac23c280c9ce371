/* The persister of the simulation: saves and erases that are late, fail (and are done nevertheless, or not), or hang
 * until they are given up. What is saved is held against the account at the end. */
#include "world.h"

struct saved {
    char *id;
    uint32_t hash;
    uint64_t run; /* 0: nothing is saved */
    uint32_t saves;
};

struct vault {
    struct lt_persister base;
    struct lt_persister_ops ops;
    struct world *world;
    struct lt_map saved;
    bool open;
    uint32_t calls;
    uint64_t asked;
};

enum vault_kind { SAVE, LOAD, ERASE };

struct vault_call {
    struct sim_event event;
    struct vault *vault;
    enum vault_kind kind;
    void *op;
    struct lt_reply *reply;
    bool fails, done;
};

static const char *saved_id(const void *object, size_t *len)
{
    const struct saved *saved = object;
    *len = strlen(saved->id);
    return saved->id;
}

static struct saved *saved_of(struct vault *vault, const char *id)
{
    uint32_t hash = lt_hash(id, strlen(id));
    struct saved *saved = lt_map_find(&vault->saved, hash, id, strlen(id));
    if (saved != NULL)
        return saved;
    saved = lt_zalloc(sizeof *saved);
    saved->id = lt_strdup(id);
    saved->hash = hash;
    lt_map_put(&vault->saved, hash, saved);
    return saved;
}

void vault_store(struct vault *vault, const char *id, uint64_t run)
{
    if (vault != NULL)
        saved_of(vault, id)->run = run;
}

bool vault_has(const struct vault *vault, const char *id, uint64_t *run)
{
    const struct saved *saved = lt_map_find(&vault->saved, lt_hash(id, strlen(id)), id, strlen(id));
    *run = saved != NULL ? saved->run : 0;
    return *run != 0;
}

static const char *id_of(const struct vault_call *call)
{
    if (call->kind == SAVE)
        return lt_task_id(((const struct lt_save_op *)call->op)->task);
    return lt_task_id(((const struct lt_load_op *)call->op)->task);
}

static void do_it(struct vault_call *call)
{
    struct saved *saved = saved_of(call->vault, id_of(call));
    call->done = true;
    switch (call->kind) {
    case SAVE:
        saved->run = ((const struct lt_save_op *)call->op)->run;
        break;
    case ERASE:
        saved->run = 0;
        break;
    case LOAD:
        break;
    }
}

static void answer(struct vault_call *call)
{
    static const char *const names[] = {"save", "load", "erase"};
    struct vault *vault = call->vault;
    struct world *world = vault->world;
    struct rng rng = rng_of(world->seed, 301, rng_text(id_of(call)), ++vault->asked);
    struct saved *saved = saved_of(vault, id_of(call));
    bool fails = call->fails;
    if (!fails || rng_chance(&rng, 0.5))
        do_it(call);
    trace("vault    %s %s: %s", names[call->kind], saved->id, fails ? "fails" : "ok");
    if (fails && call->kind == ERASE)
        record_of(world, saved->id, strlen(saved->id))->erase_failed = true;
    if (!fails && call->kind == LOAD && saved->run != 0)
        ((struct lt_load_op *)call->op)->data = lt_bytes_printf("output of %s", saved->id);
    if (fails && call->kind == SAVE && rng_chance(&rng, 0.3)) {
        struct lt_report *said = ((struct lt_save_op *)call->op)->said;
        said->retry_after = rng_between(&rng, 0, 2);
        said->no_retry = rng_chance(&rng, 0.2);
        if (rng_chance(&rng, 0.3))
            said->snooze = rng_chance(&rng, 0.5) ? -1 : 1;
    }
    struct lt_reply *reply = call->reply;
    vault->calls--;
    free(call);
    lt_reply_send(reply, fails ? LT_ERROR : LT_OK, "the disk is full");
}

static void on_answer(struct sim_event *event)
{
    answer(sim_container_of(event, struct vault_call, event));
}

static void cancel(struct lt_reply *reply, void *arg)
{
    (void)reply;
    struct vault_call *call = arg;
    struct vault *vault = call->vault;
    struct rng rng = rng_of(vault->world->seed, 302, rng_text(id_of(call)), ++vault->asked);
    trace("vault    a save of %s is given up", id_of(call));
    if (rng_chance(&rng, 0.5))
        do_it(call);
    sim_event_cancel(&vault->world->sim, &call->event);
    vault->calls--;
    free(call);
}

static void submit(struct lt_persister *persister, enum vault_kind kind, void *op, struct lt_reply *reply)
{
    struct vault *vault = sim_container_of(persister, struct vault, base);
    struct world *world = vault->world;
    check_that(vault->open, "a persister that is closed is called");
    struct vault_call *call = lt_zalloc(sizeof *call);
    *call = (struct vault_call){.event = SIM_EVENT_INIT, .vault = vault, .kind = kind, .op = op, .reply = reply};
    uint64_t what = rng_text(id_of(call)), nth = ++saved_of(vault, id_of(call))->saves;
    struct rng rng = rng_of(world->seed, 303, what, nth);
    vault->calls++;
    call->fails = world_fault(world, kind == ERASE ? FAULT_ERASE_FAILS : FAULT_SAVE_FAILS, 0.3, what, nth);
    bool hangs = kind == SAVE && world_fault(world, FAULT_SAVE_HANGS, 0.2, what, nth);
    if (hangs || rng_chance(&rng, 0.3)) {
        reply->cancel = cancel;
        reply->cancel_arg = call;
    }
    if (hangs)
        sim_event_in(&world->sim, &call->event, rng_between(&rng, 10, 2000), on_answer);
    else if (world_fault(world, FAULT_SAVE_LATE, 0.5, what, nth))
        sim_event_in(&world->sim, &call->event, rng_exponential(&rng, 1), on_answer);
    else
        answer(call);
}

static void op_save(struct lt_persister *persister, struct lt_save_op *op)
{
    struct vault *vault = sim_container_of(persister, struct vault, base);
    check_that(vault->world->options.persister == 1, "save is called of a persister that shares the store");
    check_that(op->said->status == LT_RUNNING && op->said->reason == NULL, "save is asked with an answer in it");
    submit(persister, SAVE, op, &op->reply);
}

static void op_load(struct lt_persister *persister, struct lt_load_op *op)
{
    submit(persister, LOAD, op, &op->reply);
}

static void op_erase(struct lt_persister *persister, struct lt_load_op *op)
{
    submit(persister, ERASE, op, &op->reply);
}

static bool op_shares(struct lt_persister *persister, struct lt_container *container)
{
    struct vault *vault = sim_container_of(persister, struct vault, base);
    return container == store_container(vault->world->store);
}

static int op_open(struct lt_persister *persister, struct lt_loop *loop, struct lt_call_limits call_limits,
                   struct lt_error *error)
{
    (void)loop;
    (void)call_limits;
    struct vault *vault = sim_container_of(persister, struct vault, base);
    check_that(!vault->open, "the persister is opened twice");
    if (world_fault(vault->world, FAULT_OPEN_FAILS, 0.2, 304, vault->world->sessions))
        return lt_fail(error, LT_ERROR, "the persister cannot be opened");
    vault->open = true;
    return LT_OK;
}

static void op_close(struct lt_persister *persister, struct lt_reply *reply)
{
    struct vault *vault = sim_container_of(persister, struct vault, base);
    check_that(vault->open, "the persister is closed, but not open");
    check_that(vault->calls == 0, "the persister is closed while %u calls are under way", vault->calls);
    vault->open = false;
    lt_reply_ok(reply);
}

static void op_release(struct lt_persister *persister)
{
    (void)persister;
}

struct vault *vault_new(struct world *world)
{
    struct vault *vault = lt_zalloc(sizeof *vault);
    vault->world = world;
    vault->saved.key = saved_id;
    vault->ops = (struct lt_persister_ops){
        .name = "double",
        .open = op_open,
        .save = op_save,
        .load = op_load,
        .erase = op_erase,
        .shares = world->options.persister == 2 ? op_shares : NULL,
        .close = op_close,
        .release = op_release,
    };
    vault->base.ops = &vault->ops;
    return vault;
}

struct lt_persister *vault_persister(struct vault *vault)
{
    return vault != NULL ? &vault->base : NULL;
}

bool vault_idle(const struct vault *vault)
{
    return vault == NULL || vault->calls == 0;
}

void vault_free(struct vault *vault)
{
    if (vault == NULL)
        return;
    uint32_t position = 0;
    struct saved *saved;
    while ((saved = lt_map_next(&vault->saved, &position)) != NULL) {
        free(saved->id);
        free(saved);
    }
    lt_map_free(&vault->saved);
    free(vault);
}
