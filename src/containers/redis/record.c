#include "containers/redis/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* Where what is in a record; in its part about a run, of which the length comes before; and behind that. */
enum {
    STATUS = 0,
    FLAGS = 1,
    LOST = 2,
    SNOOZES = 3,
    ATTEMPTS = 4,
    RUN_LEN = 8,
    RUN_PART = 9,

    RUN = 0,
    TOKEN = 6,
    STARTED = 22,
    HOST = 36,

    PLACE = 0,
    EXPIRES = 6, /* while it waits */
    ENDED = 6,   /* when it has ended */
    ADDED = 14,
    RUN_AT = 22,
    ADDER = 30,
    ORDER = 44,
};

/* The flag that queue.lua calls LARGE. */
enum { HAS_LARGE_ITEM = 4 };

/* What is set, in the first byte of the rest. */
enum { HAS_TIMEOUT = 1, HAS_RETRIES = 2, HAS_BACKOFF = 4 };

/* Numbers. */

void lt_redis_pack(char *to, uint64_t number, size_t bytes)
{
    while (bytes > 0) {
        to[--bytes] = (char)(number & 255);
        number >>= 8;
    }
}

uint64_t lt_redis_unpack(const char *from, size_t bytes)
{
    uint64_t number = 0;
    for (size_t i = 0; i < bytes; i++)
        number = number << 8 | (unsigned char)from[i];
    return number;
}

double lt_redis_unpack_double(const char *from)
{
    uint64_t bits = lt_redis_unpack(from, 8);
    double time;
    memcpy(&time, &bits, sizeof time);
    return time;
}

static void append_double(struct lt_buffer *to, double value)
{
    uint64_t bits;
    char bytes[8];
    memcpy(&bits, &value, sizeof bits);
    lt_redis_pack(bytes, bits, 8);
    lt_buffer_append(to, bytes, sizeof bytes);
}

/* The more there is of it, the further its first byte is from that of none; the highest is the least. */
enum { NO_PRIORITY = 64, WAS_LOST = 128 };

static size_t bytes_of_magnitude(uint64_t magnitude)
{
    size_t bytes = 0;
    for (; magnitude > 0; magnitude >>= 8)
        bytes++;
    return bytes;
}

size_t lt_redis_pack_priority(char to[LT_REDIS_PRIORITY], int64_t priority)
{
    uint64_t turned = UINT64_C(0) - (uint64_t)priority;
    bool low = priority < 0;
    size_t bytes = priority == 0 ? 0 : bytes_of_magnitude(low ? turned : (uint64_t)priority - 1);
    if (priority == 1)
        bytes = 1;
    to[0] = (char)(low ? NO_PRIORITY + bytes : NO_PRIORITY - bytes);
    lt_redis_pack(to + 1, turned, bytes);
    return 1 + bytes;
}

/* How many bytes of an order there are for this first one, and the priority that is said by them. */
static size_t priority_len(char first)
{
    int kind = (unsigned char)first % WAS_LOST;
    return (size_t)(kind > NO_PRIORITY ? kind - NO_PRIORITY : NO_PRIORITY - kind);
}

static int64_t unpack_priority(const char *from)
{
    size_t bytes = priority_len(from[0]);
    bool high = (unsigned char)from[0] % WAS_LOST < NO_PRIORITY;
    uint64_t turned = lt_redis_unpack(from + 1, bytes);
    if (high && bytes < 8)
        turned |= ~UINT64_C(0) << (8 * bytes);
    return (int64_t)(UINT64_C(0) - turned);
}

/* The rest. */

void lt_redis_pack_rest(struct lt_buffer *to, const struct lt_task *task)
{
    const struct lt_task_options *options = task->options;
    char flags = 0, retries[8];
    if (options != NULL)
        flags = (char)((options->timeout >= 0 ? HAS_TIMEOUT : 0) | (options->max_retries >= 0 ? HAS_RETRIES : 0) |
                       (options->has_backoff ? HAS_BACKOFF : 0));
    lt_buffer_append(to, &flags, 1);
    if (flags & HAS_TIMEOUT)
        append_double(to, options->timeout);
    if (flags & HAS_RETRIES) {
        lt_redis_pack(retries, (uint64_t)options->max_retries, 8);
        lt_buffer_append(to, retries, sizeof retries);
    }
    if (flags & HAS_BACKOFF) {
        append_double(to, options->backoff.base);
        append_double(to, options->backoff.factor);
        append_double(to, options->backoff.max);
        append_double(to, options->backoff.jitter);
    }
    if (task->item_len <= LT_REDIS_LARGE_ITEM)
        lt_buffer_append(to, lt_task_item(task), task->item_len);
}

/* What is left to be read. */
struct left {
    const char *at;
    size_t len;
};

static const char *take_bytes(struct left *left, size_t len)
{
    const char *at = left->at;
    if (left->len < len)
        return NULL;
    left->at += len;
    left->len -= len;
    return at;
}

static bool take_double(struct left *left, double *value)
{
    const char *at = take_bytes(left, 8);
    if (at != NULL)
        *value = lt_redis_unpack_double(at);
    return at != NULL;
}

struct options_found {
    unsigned flags;
    double timeout;
    int64_t max_retries;
    struct lt_backoff backoff;
};

static bool take_options(struct left *left, struct options_found *options)
{
    const char *flags = take_bytes(left, 1), *retries;
    if (flags == NULL)
        return false;
    options->flags = (unsigned char)*flags;
    if ((options->flags & HAS_TIMEOUT) && !take_double(left, &options->timeout))
        return false;
    if (options->flags & HAS_RETRIES) {
        if ((retries = take_bytes(left, 8)) == NULL)
            return false;
        options->max_retries = (int64_t)lt_redis_unpack(retries, 8);
    }
    struct lt_backoff *backoff = &options->backoff;
    return (options->flags & HAS_BACKOFF) == 0 ||
           (take_double(left, &backoff->base) && take_double(left, &backoff->factor) &&
            take_double(left, &backoff->max) && take_double(left, &backoff->jitter));
}

static void set_options(struct lt_task *task, const struct options_found *found, const char *key, size_t key_len,
                        double expires_at)
{
    if (found->flags == 0 && key_len == 0 && expires_at == 0)
        return;
    struct lt_task_options *options = lt_task_options(task);
    options->timeout = found->flags & HAS_TIMEOUT ? found->timeout : -1;
    options->max_retries = found->flags & HAS_RETRIES ? found->max_retries : -1;
    options->has_backoff = (found->flags & HAS_BACKOFF) != 0;
    options->backoff = found->backoff;
    options->expires_at = expires_at;
    if (key_len > 0)
        options->key = lt_bytes_new(key, key_len);
}

/* Answers. */

const redisReply *lt_redis_element(const redisReply *reply, size_t i)
{
    return reply != NULL && reply->type == REDIS_REPLY_ARRAY && i < reply->elements ? reply->element[i] : NULL;
}

static const redisReply *text_part(const redisReply *reply, size_t i)
{
    const redisReply *part = lt_redis_element(reply, i);
    return part != NULL && part->type == REDIS_REPLY_STRING ? part : NULL;
}

const char *lt_redis_text(const redisReply *reply, size_t i)
{
    const redisReply *part = text_part(reply, i);
    return part != NULL ? part->str : NULL;
}

static struct lt_bytes *bytes_of(const redisReply *reply, size_t i)
{
    const redisReply *part = text_part(reply, i);
    return part != NULL ? lt_bytes_new(part->str, part->len) : NULL;
}

/* The earlier runs, the oldest first. */
static bool read_past(struct lt_task *task, const redisReply *past, const char *own)
{
    struct left left = {past->str, past->len};
    while (left.len > 0) {
        const char *head = take_bytes(&left, 4 + 6 + 8 + 8 + 4), *text;
        if (head == NULL)
            return false;
        struct lt_task_extra *extra = lt_task_extra(task);
        struct lt_past_run *run = lt_zalloc(sizeof *run);
        *run = (struct lt_past_run){.refs = 1,
                                    .count = extra->past != NULL ? extra->past->count + 1 : 1,
                                    .older = extra->past,
                                    .run = lt_redis_unpack(head + 4, 6),
                                    .started_at = lt_redis_unpack_double(head + 10),
                                    .ended_at = lt_redis_unpack_double(head + 18)};
        extra->past = run; /* whose it is, whatever comes */
        size_t len = lt_redis_unpack(head + 26, 4);
        if ((text = take_bytes(&left, len)) == NULL)
            return false;
        run->reason = len > 0 ? lt_bytes_new(text, len) : NULL;
        if ((text = take_bytes(&left, 4)) == NULL)
            return false;
        len = lt_redis_unpack(text, 4);
        if ((text = take_bytes(&left, len)) == NULL)
            return false;
        run->version = len > 0 ? lt_bytes_new(text, len) : NULL;
        if ((text = take_bytes(&left, 1)) == NULL)
            return false;
        len = (unsigned char)*text;
        if ((text = take_bytes(&left, len)) == NULL)
            return false;
        bool is_own = len == strlen(own) && memcmp(text, own, len) == 0;
        run->host = len > 0 && !is_own ? lt_bytes_new(text, len) : NULL;
    }
    return true;
}

static void read_extra(struct lt_task *task, const redisReply *part, const struct left *host, const char *own)
{
    bool is_own = host->len == strlen(own) && memcmp(host->at, own, host->len) == 0;
    task->output = bytes_of(part, 3);
    task->reason = bytes_of(part, 4);
    if (host->len > 0 && !is_own)
        lt_task_extra(task)->host = lt_bytes_new(host->at, host->len);
    if (text_part(part, 5) != NULL)
        lt_task_extra(task)->version = bytes_of(part, 5);
    if (text_part(part, 6) != NULL)
        lt_task_extra(task)->progress = bytes_of(part, 6);
    if (text_part(part, 7) != NULL)
        lt_task_extra(task)->handle = bytes_of(part, 7);
}

/* The parts of a record; `run` is NULL if it never began. */
struct parts {
    const char *head, *run, *fixed, *order, *key;
    size_t run_len, key_len;
    struct left rest;
};

static bool split_record(const redisReply *record, struct parts *parts)
{
    struct left left = {record->str, record->len};
    const char *key_len;
    parts->head = take_bytes(&left, RUN_PART);
    if (parts->head == NULL || parts->head[STATUS] < '1' || parts->head[STATUS] > '6')
        return false;
    parts->run_len = (unsigned char)parts->head[RUN_LEN];
    parts->run = parts->run_len > 0 ? take_bytes(&left, parts->run_len) : NULL;
    if (parts->run_len > 0 && (parts->run == NULL || parts->run_len < HOST))
        return false;
    parts->fixed = take_bytes(&left, ORDER);
    parts->order = take_bytes(&left, 1);
    if (parts->fixed == NULL || parts->order == NULL || priority_len(parts->order[0]) > 8 ||
        take_bytes(&left, priority_len(parts->order[0]) + 6) == NULL || (key_len = take_bytes(&left, 2)) == NULL)
        return false;
    parts->key_len = lt_redis_unpack(key_len, 2);
    parts->key = take_bytes(&left, parts->key_len);
    parts->rest = left;
    return parts->key != NULL;
}

static void read_head(struct lt_task *task, const struct parts *parts)
{
    task->status = task->stored = (uint8_t)(parts->head[STATUS] - '0');
    task->lost = (unsigned char)parts->head[LOST];
    task->attempts = (uint32_t)lt_redis_unpack(parts->head + ATTEMPTS, 4);
    task->snoozes = (uint8_t)parts->head[SNOOZES];
    task->seq = lt_redis_unpack(parts->fixed + PLACE, 6);
    task->priority = unpack_priority(parts->order);
    task->added_at = lt_redis_unpack_double(parts->fixed + ADDED);
    task->run_at = lt_redis_unpack_double(parts->fixed + RUN_AT);
    if (lt_status_ended((enum lt_status)task->status))
        task->ended_at = lt_redis_unpack_double(parts->fixed + ENDED);
    if (parts->run == NULL)
        return;
    task->run = lt_redis_unpack(parts->run + RUN, 6);
    task->started_at = lt_redis_unpack_double(parts->run + STARTED);
}

bool lt_redis_read_task(const redisReply *part, const char *host, struct lt_redis_found *found)
{
    const redisReply *id = text_part(part, 0), *record = text_part(part, 1), *past = text_part(part, 8);
    struct options_found options = {0};
    struct parts parts;
    if (id == NULL || record == NULL || !lt_task_id_valid(id->str, id->len) || !split_record(record, &parts) ||
        !take_options(&parts.rest, &options))
        return false;
    const redisReply *large = parts.head[FLAGS] & HAS_LARGE_ITEM ? text_part(part, 2) : NULL;
    const char *item = large != NULL ? large->str : parts.rest.at;
    struct lt_task *task = lt_task_new(id->str, id->len, item, large != NULL ? large->len : parts.rest.len);
    read_head(task, &parts);
    bool waits = task->status == LT_WAITING;
    set_options(task, &options, parts.key, parts.key_len, waits ? lt_redis_unpack_double(parts.fixed + EXPIRES) : 0);
    struct left ran_on = {parts.run != NULL ? parts.run + HOST : "", parts.run != NULL ? parts.run_len - HOST : 0};
    read_extra(task, part, &ran_on, host);
    if (past != NULL && !read_past(task, past, host)) {
        lt_task_unref(task);
        return false;
    }
    *found = (struct lt_redis_found){.task = task,
                                     .token = parts.run != NULL ? lt_redis_unpack(parts.run + TOKEN, 8) : 0,
                                     .adder = parts.fixed + ADDER,
                                     .stop = text_part(part, 9)};
    return true;
}
