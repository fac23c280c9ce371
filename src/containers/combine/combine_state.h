/* The inside of a combination: shared by combine.c (its life), window.c, joint.c and choose.c. */
#ifndef LTSH_CONTAINERS_COMBINE_COMBINE_STATE_H
#define LTSH_CONTAINERS_COMBINE_COMBINE_STATE_H

#include "base/log.h"
#include "containers/combine/window.h"
#include "scheduler/container.h"

enum lt_choose_step {
    LT_CHOOSE_IDLE,
    LT_CHOOSE_LOOK,   /* the store shows what comes first */
    LT_CHOOSE_ORDER,  /* the memory part says which are next */
    LT_CHOOSE_TAKE,   /* the store makes them running */
    LT_CHOOSE_SETTLE, /* the memory part is told what came of it */
};

/* The claim under way. */
struct lt_choose {
    enum lt_choose_step step;
    struct lt_claim_op *outer;
    struct lt_claim_op order; /* what the memory part is asked */
    struct lt_claim_op take;  /* what the store is asked */
    uint32_t want;            /* for so many there is room, ends under way included */
    struct lt_choice *choices;
    struct lt_entry **entries; /* of each, with a reference */
    struct lt_change_op **ends;
    uint32_t end_size;
    uint32_t count, size;
    uint32_t pending; /* questions to the memory part */
    bool again;       /* the answer of the store was lost: it is asked for the same ones */
    bool asking;      /* the outer function is still on the stack, and the ends that came with the claim are there */
    bool left_ends;   /* they could not be counted on */
    bool offered;     /* something new went to the memory part */
    bool kept;        /* something was not taken, since the store keeps it back */
};

struct lt_combine {
    struct lt_container base;
    struct lt_container_ops ops; /* what there is depends on the store */
    struct lt_container *memory;
    struct lt_container *store;
    struct lt_container_env env;
    struct lt_window window;
    struct lt_choose choose;
    struct lt_tasks
        held; /* not taken, as the store kept them back: their keys are opened when it says that there is work */
    struct lt_log_gate log;
    struct lt_reply *closing;
    struct lt_reply close_memory, close_store;
    unsigned parts_open;                /* while it is being closed */
    uint32_t telling;                   /* questions to the memory part that are under way */
    void (*told)(struct lt_combine *c); /* one of them was answered */
    bool open, released;
};

static inline struct lt_combine *lt_combine_of(struct lt_container *container)
{
    return (struct lt_combine *)container;
}

/* joint.c */
void lt_combine_add(struct lt_container *container, struct lt_add_op *op);
void lt_combine_change(struct lt_container *container, struct lt_change_op *op);
void lt_combine_update(struct lt_container *container, struct lt_update_op *op);
void lt_combine_recover(struct lt_container *container, struct lt_recover_op *op);

/* The change that the store was asked for in place of this one, if that is under way. *stored: it has been made. */
struct lt_change_op *lt_combine_change_asked(const struct lt_change_op *op, bool *stored);

/* choose.c */
void lt_combine_claim(struct lt_container *container, struct lt_claim_op *op);
void lt_choose_free(struct lt_choose *choose);

#endif
