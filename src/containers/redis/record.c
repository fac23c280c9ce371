#include "containers/redis/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* Where what is in a record. */
enum {
    STATUS = 0,
    FLAGS = 1,
    LOST = 2,
    ATTEMPTS = 4,
    SNOOZES = 8,
    PLACE = 9,
    PRIORITY = 16,
    RUN = 30,
    TOKEN = 36,
    ADDER = 52,
    ADDED = 66,
    RUN_AT = 74,
    STARTED = 82,
    ENDED = 90,
    EXPIRES = 98,
    KEY = 106,
    SHORTEST = 109,
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

void lt_redis_pack_priority(char to[8], int64_t priority)
{
    lt_redis_pack(to, ~((uint64_t)priority ^ UINT64_C(1) << 63), 8);
}

static int64_t unpack_priority(const char *from)
{
    return (int64_t)(~lt_redis_unpack(from, 8) ^ UINT64_C(1) << 63);
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

static void read_head(struct lt_task *task, const char *record)
{
    task->status = task->stored = (uint8_t)(record[STATUS] - '0');
    task->lost = (uint16_t)lt_redis_unpack(record + LOST, 2);
    task->attempts = (uint32_t)lt_redis_unpack(record + ATTEMPTS, 4);
    task->snoozes = (uint8_t)record[SNOOZES];
    task->seq = lt_redis_unpack(record + PLACE, 6);
    task->priority = unpack_priority(record + PRIORITY);
    task->run = lt_redis_unpack(record + RUN, 6);
    task->added_at = lt_redis_unpack_double(record + ADDED);
    task->run_at = lt_redis_unpack_double(record + RUN_AT);
    task->started_at = lt_redis_unpack_double(record + STARTED);
    task->ended_at = lt_redis_unpack_double(record + ENDED);
}

bool lt_redis_read_task(const redisReply *part, const char *host, struct lt_redis_found *found)
{
    const redisReply *id = text_part(part, 0), *record = text_part(part, 1);
    if (id == NULL || record == NULL || record->len < SHORTEST || record->str[STATUS] < '1' ||
        record->str[STATUS] > '6' || !lt_task_id_valid(id->str, id->len))
        return false;
    struct left left = {record->str + KEY, record->len - KEY}, ran_on;
    struct options_found options = {0};
    size_t key_len = lt_redis_unpack(take_bytes(&left, 2), 2);
    const char *key = take_bytes(&left, key_len);
    const char *host_len = key != NULL ? take_bytes(&left, 1) : NULL;
    if (host_len == NULL)
        return false;
    ran_on.len = (unsigned char)*host_len;
    ran_on.at = take_bytes(&left, ran_on.len);
    if (ran_on.at == NULL || !take_options(&left, &options))
        return false;
    const redisReply *large = record->str[FLAGS] & HAS_LARGE_ITEM ? text_part(part, 2) : NULL;
    const char *item = large != NULL ? large->str : left.at;
    struct lt_task *task = lt_task_new(id->str, id->len, item, large != NULL ? large->len : left.len);
    read_head(task, record->str);
    set_options(task, &options, key, key_len, lt_redis_unpack_double(record->str + EXPIRES));
    read_extra(task, part, &ran_on, host);
    const redisReply *past = text_part(part, 8);
    if (past != NULL && !read_past(task, past, host)) {
        lt_task_unref(task);
        return false;
    }
    *found = (struct lt_redis_found){.task = task,
                                     .token = lt_redis_unpack(record->str + TOKEN, 8),
                                     .adder = record->str + ADDER,
                                     .stop = text_part(part, 9)};
    return true;
}
