/* What a host and its workers say to each other: a head and bytes, the same for a thread as for a process.
 *
 *     host -> worker    LOAD  START  STOP  END
 *     worker -> host    LOADED | BROKEN    PROGRESS  ENDED | NOT_BEGUN    and at last, of a thread, GONE
 *
 * Both are the same program on the same machine: numbers cross as they are in memory. But a task in a process can write to
 * the descriptor on which its worker talks, so what the host reads there is checked before it is believed. */
#ifndef LTSH_WORKERS_MESSAGE_H
#define LTSH_WORKERS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/mailbox.h"
#include "scheduler/actuator.h"

enum lt_message_kind {
    LT_MESSAGE_LOAD,      /* struct lt_load: the module */
    LT_MESSAGE_START,     /* a task */
    LT_MESSAGE_STOP,      /* the run `seq` */
    LT_MESSAGE_END,       /* no more will come */
    LT_MESSAGE_LOADED,    /* the module is there */
    LT_MESSAGE_BROKEN,    /* it could not be loaded: the reason */
    LT_MESSAGE_PROGRESS,  /* of the run `seq`, encoded */
    LT_MESSAGE_ENDED,     /* the run `seq`: a report; sent before the next run begins */
    LT_MESSAGE_NOT_BEGUN, /* the run `seq`: it was too late to begin it */
    LT_MESSAGE_GONE,
};

enum {
    LT_MESSAGE_MARK = 0x7348744c, /* each head begins with it */
    LT_MESSAGE_LONGEST = 1 << 30, /* bytes of a message of a process */
};

struct lt_message_head {
    uint32_t mark;
    uint32_t kind;
    uint32_t len;  /* of the bytes that follow */
    uint32_t last; /* ENDED: the worker's state is spent, and ends */
    uint64_t seq;  /* of the run, as the host counts them */
    double time;   /* START: until when, in monotonic seconds; 0: no limit. ENDED: the seconds that the run took */
};

struct lt_message {
    struct lt_mail mail; /* in a list of them */
    struct lt_message_head head;
    char data[];
};

/* A message as it is written to a process: the head, and the bytes right behind it. */
static inline char *lt_message_frame(struct lt_message *message)
{
    return (char *)message + offsetof(struct lt_message, head);
}

static inline size_t lt_message_frame_len(const struct lt_message *message)
{
    return sizeof message->head + message->head.len;
}

/* Whether the bytes can be the begin of a message; as many as a head has, or fewer. */
bool lt_message_may_begin(const void *data, size_t len);

/* Whether it is one that a worker sends, and all in it as long as it says. */
bool lt_message_from_worker(const struct lt_message *message);

/* Each makes a message that the caller frees, or whoever takes it over. */
struct lt_message *lt_message_new(enum lt_message_kind kind, uint64_t seq, const void *data, size_t len);
struct lt_message *lt_message_start(uint64_t seq, const struct lt_task *task, double deadline, double begin_by);
struct lt_message *lt_message_ended(uint64_t seq, const struct lt_report *report, double took, bool last);

/* The first of a list; NULL: there is none. The second takes it out, the third frees all. */
struct lt_message *lt_messages_first(const struct lt_mails *messages);
struct lt_message *lt_messages_take(struct lt_mails *messages);
void lt_messages_free(struct lt_mails *messages);

/* Until when the run of START may begin, in monotonic seconds; 0: whenever. */
double lt_message_begin_by(const struct lt_message *message);

/* A task as START describes it: what a function needs of it. One reference. */
struct lt_task *lt_message_task(const struct lt_message *message);

/* The report of ENDED, its bytes with a reference for the caller. The message has been checked, or is a thread's. */
void lt_message_report(const struct lt_message *message, struct lt_report *report);

#endif
