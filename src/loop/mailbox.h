/* A mailbox: what other threads send to the one that reads it. One wake-up for however much came since the last time it was
 * emptied; the lock is held for moments only, never while something is done with what came.
 *
 * (No uv_async_t: sending to one spins when its thread is descheduled in the middle, and it may not be sent to when its loop
 * is gone.) */
#ifndef LTSH_LOOP_MAILBOX_H
#define LTSH_LOOP_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

/* What is sent has one of these in it, and belongs to the mailbox until it is taken. */
struct lt_mail {
    STAILQ_ENTRY(lt_mail) link;
};

STAILQ_HEAD(lt_mails, lt_mail);

struct lt_mailbox {
    struct lt_mails mails; /* under the lock */
    pthread_mutex_t lock;
    int event; /* an eventfd, readable when mail came into the empty box */
};

/* False: there is no eventfd for it (errno); it is to be closed all the same. */
bool lt_mailbox_open(struct lt_mailbox *box);

/* Any thread. */
void lt_mailbox_put(struct lt_mailbox *box, struct lt_mail *mail);

/* The same for all of a list, which is empty then: who reads it finds all or none of them. */
void lt_mailbox_put_all(struct lt_mailbox *box, struct lt_mails *mails);

/* Moves all that came to `mails`, which is begun here; may be nothing. The thread that reads it. */
void lt_mailbox_take(struct lt_mailbox *box, struct lt_mails *mails);

/* Nobody sends or reads any more. What is in it still is the caller's to let go of, before. */
void lt_mailbox_close(struct lt_mailbox *box);

#endif
