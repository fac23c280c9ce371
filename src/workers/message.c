#include "workers/message.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"

struct wire_task {
    double begin_by;
    uint64_t run;
    int64_t priority;
    double added_at;
    double run_at;
    double started_at;
    uint32_t attempts;
    uint32_t lost;
    uint32_t item_len;
    uint32_t key_len; /* NONE: it has none */
    uint32_t version_len;
    uint8_t id_len;
};

struct wire_report {
    double retry_after;
    double snooze;
    double ended_at;
    uint32_t status;
    uint32_t no_retry;
    uint32_t reason_len; /* NONE: it has none */
    uint32_t output_len;
    uint32_t progress_len;
};

static const uint32_t NONE = UINT32_MAX;

_Static_assert(offsetof(struct lt_message, data) == offsetof(struct lt_message, head) + sizeof(struct lt_message_head),
               "a frame is written in one piece");

struct lt_message *lt_message_new(enum lt_message_kind kind, uint64_t seq, const void *data, size_t len)
{
    struct lt_message *message = lt_alloc(sizeof *message + len);
    message->head = (struct lt_message_head){.mark = LT_MESSAGE_MARK, .kind = kind, .len = (uint32_t)len, .seq = seq};
    if (data != NULL)
        memcpy(message->data, data, len);
    return message;
}

struct lt_message *lt_messages_first(const struct lt_mails *messages)
{
    struct lt_mail *first = STAILQ_FIRST(messages);
    return first != NULL ? lt_container_of(first, struct lt_message, mail) : NULL;
}

struct lt_message *lt_messages_take(struct lt_mails *messages)
{
    struct lt_message *message = lt_messages_first(messages);
    if (message != NULL)
        STAILQ_REMOVE_HEAD(messages, link);
    return message;
}

void lt_messages_free(struct lt_mails *messages)
{
    struct lt_message *message;
    while ((message = lt_messages_take(messages)) != NULL)
        free(message);
}

static uint32_t length(const struct lt_bytes *bytes)
{
    return bytes != NULL ? (uint32_t)bytes->len : NONE;
}

static size_t room(uint32_t len)
{
    return len != NONE ? len : 0;
}

static char *put(char *to, const void *data, size_t len)
{
    if (len > 0)
        memcpy(to, data, len);
    return to + len;
}

static char *put_bytes(char *to, const struct lt_bytes *bytes)
{
    return bytes != NULL ? put(to, bytes->data, bytes->len) : to;
}

/* The next bytes of a message, which moves on. */
static struct lt_bytes *take_bytes(const char **from, uint32_t len)
{
    if (len == NONE)
        return NULL;
    struct lt_bytes *bytes = lt_bytes_new(*from, len);
    *from += len;
    return bytes;
}

/* Tasks. */

struct lt_message *lt_message_start(uint64_t seq, const struct lt_task *task, double deadline, double begin_by)
{
    const struct lt_bytes *key = lt_task_key(task);
    const struct lt_bytes *version = task->extra != NULL ? task->extra->version : NULL;
    struct wire_task wire;
    memset(&wire, 0, sizeof wire); /* what is between the fields crosses too */
    wire.begin_by = begin_by;
    wire.run = task->run;
    wire.priority = task->priority;
    wire.added_at = task->added_at;
    wire.run_at = task->run_at;
    wire.started_at = task->started_at;
    wire.attempts = task->attempts;
    wire.lost = task->lost;
    wire.item_len = task->item_len;
    wire.key_len = length(key);
    wire.version_len = length(version);
    wire.id_len = task->id_len;
    size_t len = sizeof wire + task->id_len + task->item_len + room(wire.key_len) + room(wire.version_len);
    struct lt_message *message = lt_message_new(LT_MESSAGE_START, seq, NULL, len);
    message->head.time = deadline;
    char *to = put(message->data, &wire, sizeof wire);
    to = put(to, task->data, task->id_len);
    to = put(to, lt_task_item(task), task->item_len);
    to = put_bytes(to, key);
    put_bytes(to, version);
    return message;
}

double lt_message_begin_by(const struct lt_message *message)
{
    double begin_by;
    memcpy(&begin_by, message->data + offsetof(struct wire_task, begin_by), sizeof begin_by);
    return begin_by;
}

struct lt_task *lt_message_task(const struct lt_message *message)
{
    struct wire_task wire;
    memcpy(&wire, message->data, sizeof wire);
    const char *id = message->data + sizeof wire;
    const char *from = id + wire.id_len + wire.item_len;
    struct lt_task *task = lt_task_new(id, wire.id_len, id + wire.id_len, wire.item_len);
    task->status = LT_RUNNING;
    task->run = wire.run;
    task->priority = wire.priority;
    task->added_at = wire.added_at;
    task->run_at = wire.run_at;
    task->started_at = wire.started_at;
    task->attempts = wire.attempts;
    task->lost = wire.lost;
    if (wire.key_len != NONE)
        lt_task_options(task)->key = take_bytes(&from, wire.key_len);
    if (wire.version_len != NONE)
        lt_task_extra(task)->version = take_bytes(&from, wire.version_len);
    return task;
}

/* Reports. */

struct lt_message *lt_message_ended(uint64_t seq, const struct lt_report *report, double took, bool last)
{
    struct wire_report wire;
    memset(&wire, 0, sizeof wire);
    wire.retry_after = report->retry_after;
    wire.snooze = report->snooze;
    wire.ended_at = report->ended_at;
    wire.status = report->status;
    wire.no_retry = report->no_retry;
    wire.reason_len = length(report->reason);
    wire.output_len = length(report->output);
    wire.progress_len = length(report->progress);
    size_t len = sizeof wire + room(wire.reason_len) + room(wire.output_len) + room(wire.progress_len);
    struct lt_message *message = lt_message_new(LT_MESSAGE_ENDED, seq, NULL, len);
    message->head.last = last;
    message->head.time = took;
    char *to = put(message->data, &wire, sizeof wire);
    to = put_bytes(to, report->reason);
    to = put_bytes(to, report->output);
    put_bytes(to, report->progress);
    return message;
}

/* What comes from a process. */

bool lt_message_may_begin(const void *data, size_t len)
{
    struct lt_message_head head = {.mark = LT_MESSAGE_MARK};
    memcpy(&head, data, len < sizeof head ? len : sizeof head);
    return head.mark == LT_MESSAGE_MARK && head.kind < LT_MESSAGE_GONE && head.len <= LT_MESSAGE_LONGEST;
}

static bool is_text(const struct lt_message *message)
{
    return message->head.len > 0 && message->data[message->head.len - 1] == '\0';
}

static bool is_report(const struct lt_message *message)
{
    struct wire_report wire;
    if (message->head.len < sizeof wire)
        return false;
    memcpy(&wire, message->data, sizeof wire);
    size_t len = sizeof wire + room(wire.reason_len) + room(wire.output_len) + room(wire.progress_len);
    bool numbers = isfinite(wire.retry_after) && isfinite(wire.snooze) && isfinite(wire.ended_at);
    return len == message->head.len && numbers && wire.status < LT_STATUSES &&
           lt_status_ended((enum lt_status)wire.status);
}

bool lt_message_from_worker(const struct lt_message *message)
{
    switch (message->head.kind) {
    case LT_MESSAGE_LOADED:
    case LT_MESSAGE_BROKEN:
        return is_text(message);
    case LT_MESSAGE_PROGRESS:
        return true;
    case LT_MESSAGE_ENDED:
        return is_report(message);
    case LT_MESSAGE_NOT_BEGUN:
        return message->head.len == 0;
    default:
        return false;
    }
}

void lt_message_report(const struct lt_message *message, struct lt_report *report)
{
    struct wire_report wire;
    memcpy(&wire, message->data, sizeof wire);
    const char *from = message->data + sizeof wire;
    *report = LT_REPORT((enum lt_status)wire.status);
    report->retry_after = wire.retry_after;
    report->snooze = wire.snooze;
    report->ended_at = wire.ended_at;
    report->no_retry = wire.no_retry != 0;
    report->reason = take_bytes(&from, wire.reason_len);
    report->output = take_bytes(&from, wire.output_len);
    report->progress = take_bytes(&from, wire.progress_len);
}
