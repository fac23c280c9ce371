/* What a host and its workers say to each other: a head and bytes, the same for a thread as for a process.
 *
 *     host -> worker    LOAD  START  STOP  END
 *     worker -> host    LOADED | BROKEN    PROGRESS  ENDED   and at last, of a thread, GONE
 *
 * Both are the same program on the same machine: numbers cross as they are in memory. */
#ifndef LTSH_WORKERS_MESSAGE_H
#define LTSH_WORKERS_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "scheduler/actuator.h"

enum lt_message_kind {
    LT_MESSAGE_LOAD,     /* struct lt_load: the module */
    LT_MESSAGE_START,    /* a task */
    LT_MESSAGE_STOP,     /* the run `seq` */
    LT_MESSAGE_END,      /* no more will come */
    LT_MESSAGE_LOADED,   /* the module is there */
    LT_MESSAGE_BROKEN,   /* it could not be loaded: the reason */
    LT_MESSAGE_PROGRESS, /* of the run `seq`, encoded */
    LT_MESSAGE_ENDED,    /* the run `seq`: a report */
    LT_MESSAGE_GONE,
};

struct lt_message_head {
    uint32_t kind;
    uint32_t len;    /* of the bytes that follow */
    uint64_t seq;    /* of the run, as the host counts them */
    double deadline; /* START: monotonic seconds; 0: none */
    uint32_t last;   /* ENDED: the worker's state is spent, and ends */
    uint32_t padding;
};

struct lt_message {
    STAILQ_ENTRY(lt_message) link;
    struct lt_message_head head;
    char data[];
};

STAILQ_HEAD(lt_messages, lt_message);

/* Each makes a message that the caller frees, or whoever takes it over. */
struct lt_message *lt_message_new(enum lt_message_kind kind, uint64_t seq, const void *data, size_t len);
struct lt_message *lt_message_start(uint64_t seq, const struct lt_task *task, double deadline);
struct lt_message *lt_message_ended(uint64_t seq, const struct lt_report *report, bool last);

/* A task as START describes it: what a function needs of it. One reference. */
struct lt_task *lt_message_task(const struct lt_message *message);

/* The report of ENDED, its bytes with a reference for the caller. */
void lt_message_report(const struct lt_message *message, struct lt_report *report);

#endif
