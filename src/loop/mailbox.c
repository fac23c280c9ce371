#include "loop/mailbox.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

bool lt_mailbox_open(struct lt_mailbox *box)
{
    STAILQ_INIT(&box->mails);
    pthread_mutex_init(&box->lock, NULL);
    box->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return box->event >= 0;
}

void lt_mailbox_put(struct lt_mailbox *box, struct lt_mail *mail)
{
    struct lt_mails mails = STAILQ_HEAD_INITIALIZER(mails);
    STAILQ_INSERT_TAIL(&mails, mail, link);
    lt_mailbox_put_all(box, &mails);
}

void lt_mailbox_put_all(struct lt_mailbox *box, struct lt_mails *mails)
{
    static const uint64_t one = 1;
    if (STAILQ_EMPTY(mails))
        return;
    pthread_mutex_lock(&box->lock);
    bool first = STAILQ_EMPTY(&box->mails);
    STAILQ_CONCAT(&box->mails, mails);
    pthread_mutex_unlock(&box->lock);
    if (first && box->event >= 0 && write(box->event, &one, sizeof one) < 0)
        lt_log(LT_LOG_ERROR, "another thread cannot be woken", LT_S("error", strerror(errno)));
}

void lt_mailbox_take(struct lt_mailbox *box, struct lt_mails *mails)
{
    uint64_t count;
    STAILQ_INIT(mails);
    if (read(box->event, &count, sizeof count) < 0)
        count = 0; /* the mail of this event was taken with that of the last one */
    pthread_mutex_lock(&box->lock);
    STAILQ_CONCAT(mails, &box->mails);
    pthread_mutex_unlock(&box->lock);
}

void lt_mailbox_close(struct lt_mailbox *box)
{
    if (box->event >= 0)
        close(box->event);
    box->event = -1;
    pthread_mutex_destroy(&box->lock);
}
