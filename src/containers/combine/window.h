/* What a combination's memory part has: the first of what is due in the store, and what runs here.
 *
 * The memory part gets an object of its own for each task (a shadow; without its item, unless it is written in Lua), with run
 * numbers of its own. So neither container sees what the other does with an object. */
#ifndef LTSH_CONTAINERS_COMBINE_WINDOW_H
#define LTSH_CONTAINERS_COMBINE_WINDOW_H

#include "base/map.h"
#include "scheduler/container.h"

enum { LT_WINDOW = 4096 }; /* so many are shown at once, and so many waiting ones are added unseen */

struct lt_combine;

struct lt_entry {
    uint32_t refs;
    bool known; /* it is in the window */
    bool waits;
    struct lt_task *task;   /* the store's object, with a reference */
    struct lt_task *shadow; /* the memory part's, with a reference; NULL: that does not have it */
};

struct lt_window {
    struct lt_map entries;
    uint32_t waiting;
    bool complete; /* all that is due in the store is here */
    int64_t floor; /* else what is not here has this priority at most */
    bool missed;   /* the store may have something that comes first, and is not here */
    bool partial;  /* and only the first of that were looked at */
    bool failed;   /* the memory part did not take something, in this claim */
};

void lt_window_open(struct lt_window *window);
void lt_window_close(struct lt_window *window);

struct lt_entry *lt_window_find(const struct lt_window *window, const struct lt_task *task);
struct lt_entry *lt_entry_ref(struct lt_entry *entry);
void lt_entry_unref(struct lt_entry *entry);

/* It waits no more, in the memory part; and it is not there at all any more (nothing, if that was so). */
void lt_window_take(struct lt_window *window, struct lt_entry *entry);
void lt_window_forget(struct lt_window *window, struct lt_entry *entry);

/* So many may still be shown to it at once. */
uint32_t lt_window_room(const struct lt_window *window);

/* Not everything is here, and nobody knows how urgent the rest is. */
void lt_window_unsure(struct lt_window *window);

/* What `then` gets is up to who asks: it is called once, maybe before these return. They ask the memory part. */
typedef void lt_window_then(void *arg);

/* A task that waits in the store, of which this is an object. It goes to the memory part if it comes before all that is not
 * there; `seen`: the store has just shown it as one of the first. Its objects are the window's own. */
void lt_window_offer(struct lt_combine *c, struct lt_task *task, bool seen, lt_window_then *then, void *arg);

/* A task that runs, and was not chosen here. */
void lt_window_adopt(struct lt_combine *c, struct lt_task *task, lt_window_then *then, void *arg);

/* The entry's task goes through this in the store; to waiting: `next` is its object from then on (a reference moves). It is
 * forgotten when that leaves nothing to be done. */
void lt_window_tell(struct lt_combine *c, struct lt_entry *entry, const struct lt_transition *transition,
                    struct lt_task *next, lt_window_then *then, void *arg);

/* The memory part is to forget it, as it is not here any more. */
void lt_window_drop(struct lt_combine *c, struct lt_entry *entry, lt_window_then *then, void *arg);

#endif
