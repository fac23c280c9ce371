#include "base/log.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/utf8.h"

#define GATE_NS (INT64_C(60) * 1000 * 1000 * 1000)

/* What standard error is, which decides how text looks. */
enum sink { SINK_UNKNOWN, SINK_FILE, SINK_TERMINAL, SINK_COLOURS };

struct line {
    enum lt_log_level level;
    const char *message;
    const struct lt_log_field *fields;
    size_t count;
};

struct level {
    const char *name;
    const char *label;
    const char *colour;
};

static const struct level levels[] = {
    [LT_LOG_DEBUG] = {"debug", "DEBUG", "\033[36m"},
    [LT_LOG_INFO] = {"info", "INFO ", "\033[32m"},
    [LT_LOG_WARN] = {"warn", "WARN ", "\033[33m"},
    [LT_LOG_ERROR] = {"error", "ERROR", "\033[31m"},
};

enum { LEVELS = sizeof levels / sizeof levels[0] };

#define DIM "\033[2m"
#define RESET "\033[0m"

static atomic_int least_level = LT_LOG_INFO;
static atomic_bool as_json = false;
static _Atomic enum sink known_sink = SINK_UNKNOWN;

/* A write to a full pipe can be split by the kernel, so one thread writes at a time. */
static pthread_mutex_t output_lock = PTHREAD_MUTEX_INITIALIZER;
static bool output_torn; /* the last line was cut short; under output_lock */

static void put_chars(struct lt_buffer *out, const char *s)
{
    lt_buffer_append(out, s, strlen(s));
}

/* Makes the data a C string; the NUL does not count. */
static void put_terminator(struct lt_buffer *out)
{
    lt_buffer_reserve(out, 1);
    out->data[out->len] = '\0';
}

/* Not so are control characters, and those that end a line or turn the direction of text around: with these, what a
 * script logs could pass itself off as something else on a terminal. */
static bool is_printable(uint32_t c)
{
    if (c < 0x20 || (c >= 0x7f && c < 0xa0))
        return false;
    bool separates = c == 0x2028 || c == 0x2029;
    bool marks = c == 0x61c || c == 0x200e || c == 0x200f || c == 0xfeff;
    bool turns = (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
    return !separates && !marks && !turns;
}

/* The length of the printable character at `s`, or 0: its first byte has to be escaped. */
static size_t printable_len(const char *s, size_t left)
{
    uint32_t c;
    size_t len = lt_utf8_decode(s, left, &c);
    return len > 0 && is_printable(c) ? len : 0;
}

static void put_escape(struct lt_buffer *out, char c)
{
    char text[8];
    switch (c) {
    case '\n':
        put_chars(out, "\\n");
        break;
    case '\t':
        put_chars(out, "\\t");
        break;
    case '\r':
        put_chars(out, "\\r");
        break;
    default:
        snprintf(text, sizeof text, "\\x%02x", (unsigned)(unsigned char)c);
        put_chars(out, text);
    }
}

/* Appends text with what is not printable escaped, but for characters in `keep`; those in `guard` get a backslash. */
static void put_escaped(struct lt_buffer *out, const char *s, size_t len, const char *keep, const char *guard)
{
    for (size_t i = 0; i < len;) {
        size_t step = printable_len(s + i, len - i);
        bool kept = s[i] != '\0' && strchr(keep, s[i]) != NULL;
        if (step == 0 && !kept)
            put_escape(out, s[i]);
        if (step == 1 && strchr(guard, s[i]) != NULL)
            put_chars(out, "\\");
        if (step > 0 || kept)
            lt_buffer_append(out, s + i, step > 0 ? step : 1);
        i += step > 0 ? step : 1;
    }
}

/* Appends a word: as it is if it is one, else in quotes. `special` are the characters that need quotes too. */
static void put_word(struct lt_buffer *out, const char *s, size_t len, const char *special)
{
    bool plain = len > 0;
    for (size_t i = 0; i < len && plain;) {
        size_t step = printable_len(s + i, len - i);
        plain = step > 1 || (step == 1 && strchr(special, s[i]) == NULL);
        i += step;
    }
    if (plain) {
        lt_buffer_append(out, s, len);
        return;
    }
    put_chars(out, "\"");
    put_escaped(out, s, len, "", "\"\\");
    put_chars(out, "\"");
}

static void put_name(struct lt_buffer *out, const char *name)
{
    put_word(out, name, strlen(name), " \"=");
}

/* Longer texts are cut: a log is read by people. */
static size_t string_len(const struct lt_log_field *field)
{
    enum { LONGEST = 16384 };
    size_t len = field->value.string.len;
    return len == SIZE_MAX ? strnlen(field->value.string.data, LONGEST) : len < LONGEST ? len : LONGEST;
}

static bool present(const struct lt_log_field *field)
{
    return field->name != NULL && (field->kind != LT_LOG_STRING || field->value.string.data != NULL);
}

static bool has_newline(const struct lt_log_field *field)
{
    return field->kind == LT_LOG_STRING && memchr(field->value.string.data, '\n', string_len(field)) != NULL;
}

/* The shortest decimal that reads back as the same number: people want 0.1, not 0.10000000000000001. */
static void put_number(struct lt_buffer *out, double number)
{
    char text[40];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*g", precision, number);
        double back = strtod(text, NULL);
        if (!(back < number) && !(back > number)) /* NaN is neither */
            break;
    }
    put_chars(out, text);
}

static void put_value(struct lt_buffer *out, const struct lt_log_field *field)
{
    char text[24];
    switch (field->kind) {
    case LT_LOG_STRING:
        put_word(out, field->value.string.data, string_len(field), " \"");
        break;
    case LT_LOG_INTEGER:
        snprintf(text, sizeof text, "%lld", (long long)field->value.integer);
        put_chars(out, text);
        break;
    case LT_LOG_NUMBER:
        put_number(out, field->value.number);
        break;
    case LT_LOG_BOOLEAN:
        put_chars(out, field->value.boolean ? "true" : "false");
        break;
    }
}

static void put_field(struct lt_buffer *out, const struct lt_log_field *field, bool colours)
{
    put_chars(out, colours ? DIM : "");
    put_name(out, field->name);
    put_chars(out, "=");
    put_chars(out, colours ? RESET : "");
    put_value(out, field);
}

/* A field of several lines goes below the line, under its name. A newline at its end is not shown. */
static void put_block(struct lt_buffer *out, const struct lt_log_field *field, bool colours)
{
    put_chars(out, colours ? "  " DIM : "  ");
    put_name(out, field->name);
    put_chars(out, colours ? ":" RESET "\n" : ":\n");
    const char *s = field->value.string.data;
    const char *end = s + string_len(field);
    while (s < end) {
        const char *newline = memchr(s, '\n', (size_t)(end - s));
        const char *stop = newline != NULL ? newline : end;
        put_chars(out, "    ");
        put_escaped(out, s, (size_t)(stop - s), "\t", "");
        put_chars(out, "\n");
        s = newline != NULL ? newline + 1 : end;
    }
}

enum { TIME_SIZE = 64 };

/* The time of day where the host is (for a terminal), or date and time in UTC. */
static void format_time(char text[TIME_SIZE], bool short_local)
{
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    int ms = (int)(now.tv_nsec / 1000000);
    if (short_local) {
        localtime_r(&now.tv_sec, &parts);
        size_t len = strftime(text, TIME_SIZE, "%H:%M:%S", &parts);
        snprintf(text + len, TIME_SIZE - len, ".%03d", ms);
    } else {
        gmtime_r(&now.tv_sec, &parts);
        size_t len = strftime(text, TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
        snprintf(text + len, TIME_SIZE - len, ".%03dZ", ms);
    }
}

static enum sink find_sink(void)
{
    if (!isatty(STDERR_FILENO))
        return SINK_FILE;
    const char *no_color = getenv("NO_COLOR"); /* by its convention, empty is as good as not set */
    const char *term = getenv("TERM");
    bool plain = (no_color != NULL && no_color[0] != '\0') || term == NULL || strcmp(term, "dumb") == 0;
    return plain ? SINK_TERMINAL : SINK_COLOURS;
}

/* Looks once, here if something is logged before lt_log_setup. */
static enum sink get_sink(void)
{
    enum sink sink = atomic_load_explicit(&known_sink, memory_order_relaxed);
    if (sink == SINK_UNKNOWN) {
        sink = find_sink();
        atomic_store_explicit(&known_sink, sink, memory_order_relaxed);
    }
    return sink;
}

static void put_text_head(struct lt_buffer *out, const struct line *line, enum sink sink)
{
    char now[TIME_SIZE];
    bool colours = sink == SINK_COLOURS;
    format_time(now, sink != SINK_FILE);
    put_chars(out, now);
    put_chars(out, " ");
    put_chars(out, colours ? levels[line->level].colour : "");
    put_chars(out, levels[line->level].label);
    put_chars(out, colours ? RESET " " : " ");
    put_escaped(out, line->message, strlen(line->message), "", "");
}

static void put_text(struct lt_buffer *out, const struct line *line)
{
    enum sink sink = get_sink();
    bool colours = sink == SINK_COLOURS;
    put_text_head(out, line, sink);
    const char *separator = "  ";
    for (size_t i = 0; i < line->count; i++) {
        const struct lt_log_field *field = &line->fields[i];
        if (!present(field) || has_newline(field))
            continue;
        put_chars(out, separator);
        put_field(out, field, colours);
        separator = " ";
    }
    put_chars(out, "\n");
    for (size_t i = 0; i < line->count; i++)
        if (present(&line->fields[i]) && has_newline(&line->fields[i]))
            put_block(out, &line->fields[i], colours);
}

/* A copy that is valid UTF-8: each byte that is not becomes U+FFFD. Terminated; the caller frees it. */
static struct lt_buffer to_utf8(const char *s, size_t len)
{
    struct lt_buffer out = {0};
    lt_buffer_reserve(&out, len + 1);
    for (size_t i = 0; i < len;) {
        uint32_t c;
        size_t step = lt_utf8_decode(s + i, len - i, &c);
        if (step > 0)
            lt_buffer_append(&out, s + i, step);
        else
            put_chars(&out, "\xef\xbf\xbd");
        i += step > 0 ? step : 1;
    }
    put_terminator(&out);
    return out;
}

static json_t *json_text(const char *s, size_t len)
{
    struct lt_buffer text = to_utf8(s, len);
    json_t *json = json_stringn_nocheck(text.data, text.len);
    lt_buffer_free(&text);
    return json;
}

static json_t *json_value(const struct lt_log_field *field)
{
    switch (field->kind) {
    case LT_LOG_STRING:
        return json_text(field->value.string.data, string_len(field));
    case LT_LOG_INTEGER:
        return json_integer(field->value.integer);
    case LT_LOG_NUMBER:
        return isfinite(field->value.number) ? json_real(field->value.number) : json_null();
    case LT_LOG_BOOLEAN:
        return json_boolean(field->value.boolean);
    }
    return json_null();
}

/* Adds a member. A name that is taken (by time, level, message or another field) gets underscores until it is free. */
static void json_add(json_t *object, const char *name, json_t *value)
{
    struct lt_buffer key = to_utf8(name, strlen(name));
    while (json_object_get(object, key.data) != NULL) {
        put_chars(&key, "_");
        put_terminator(&key);
    }
    json_object_set_new_nocheck(object, key.data, value);
    lt_buffer_free(&key);
}

static int append_json(const char *data, size_t len, void *out)
{
    lt_buffer_append(out, data, len);
    return 0;
}

static void put_json(struct lt_buffer *out, const struct line *line)
{
    char now[TIME_SIZE];
    format_time(now, false);
    json_t *object = json_object();
    json_add(object, "time", json_string_nocheck(now));
    json_add(object, "level", json_string_nocheck(levels[line->level].name));
    json_add(object, "message", json_text(line->message, strlen(line->message)));
    for (size_t i = 0; i < line->count; i++)
        if (present(&line->fields[i]))
            json_add(object, line->fields[i].name, json_value(&line->fields[i]));
    json_dump_callback(object, append_json, out, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17));
    put_chars(out, "\n");
    json_decref(object);
}

/* Returns how much was written: less than `len` when standard error is closed, or full and not blocking. */
static size_t write_all(const char *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(STDERR_FILENO, data + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    return done;
}

/* A line that does not fit is lost rather than waited for. If part of it went out, the next one starts on a line of its
 * own: the first byte of `data` is the newline for that case. */
static void log_output(const char *data, size_t len)
{
    pthread_mutex_lock(&output_lock);
    size_t skip = output_torn ? 0 : 1;
    size_t done = write_all(data + skip, len - skip);
    if (done > 0)
        output_torn = done < len - skip && !(skip == 0 && done == 1);
    pthread_mutex_unlock(&output_lock);
}

static void write_line(const struct line *line)
{
    int saved = errno; /* who logs an error may still want to look at it */
    struct lt_buffer out = {0};
    put_chars(&out, "\n");
    if (atomic_load_explicit(&as_json, memory_order_relaxed))
        put_json(&out, line);
    else
        put_text(&out, line);
    log_output(out.data, out.len);
    lt_buffer_free(&out);
    errno = saved;
}

void lt_log_write(enum lt_log_level level, const char *message, const struct lt_log_field *fields, size_t count)
{
    if (!lt_log_enabled(level))
        return;
    unsigned known = (unsigned)level < LEVELS ? (unsigned)level : LT_LOG_ERROR;
    const struct line line = {(enum lt_log_level)known, message != NULL ? message : "", fields, count};
    write_line(&line);
}

bool lt_log_enabled(enum lt_log_level level)
{
    return (int)level >= atomic_load_explicit(&least_level, memory_order_relaxed);
}

void lt_log_setup(enum lt_log_level level, bool json)
{
    tzset(); /* localtime_r need not */
    atomic_store_explicit(&least_level, (int)level, memory_order_relaxed);
    atomic_store_explicit(&as_json, json, memory_order_relaxed);
    atomic_store_explicit(&known_sink, find_sink(), memory_order_relaxed);
}

const char *lt_log_level_name(void)
{
    return levels[atomic_load(&least_level)].name;
}

bool lt_log_is_json(void)
{
    return atomic_load(&as_json);
}

int lt_log_level_parse(const char *name)
{
    for (int i = 0; name != NULL && i < LEVELS; i++)
        if (strcmp(name, levels[i].name) == 0)
            return i;
    return -1;
}

/* FNV-1a. The length goes in too, so that neighbours do not run into each other. */
static uint64_t hash_bytes(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    for (size_t rest = len; rest > 0; rest >>= 8)
        hash = (hash ^ (rest & 0xff)) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_field(uint64_t hash, const struct lt_log_field *field)
{
    unsigned char kind = (unsigned char)field->kind;
    hash = hash_bytes(hash, field->name, strlen(field->name));
    hash = hash_bytes(hash, &kind, sizeof kind);
    switch (field->kind) {
    case LT_LOG_STRING:
        return hash_bytes(hash, field->value.string.data, string_len(field));
    case LT_LOG_INTEGER:
        return hash_bytes(hash, &field->value.integer, sizeof field->value.integer);
    case LT_LOG_NUMBER:
        return hash_bytes(hash, &field->value.number, sizeof field->value.number);
    case LT_LOG_BOOLEAN:
        return hash_bytes(hash, &field->value.boolean, sizeof field->value.boolean);
    }
    return hash;
}

/* A traceback does not make a line another one: it differs with the path to the same failure. */
static uint64_t hash_line(const char *message, const struct lt_log_field *fields, size_t count)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    if (message != NULL)
        hash = hash_bytes(hash, message, strlen(message));
    for (size_t i = 0; i < count; i++)
        if (present(&fields[i]) && strcmp(fields[i].name, "traceback") != 0)
            hash = hash_field(hash, &fields[i]);
    return hash;
}

static void write_repeated(uint64_t held, enum lt_log_level level, const char *message,
                           const struct lt_log_field *fields, size_t count)
{
    struct lt_log_field *all = lt_alloc((count + 1) * sizeof *all);
    if (count > 0)
        memcpy(all, fields, count * sizeof *all);
    all[count] = LT_I("repeated", (int64_t)held);
    lt_log_write(level, message, all, count + 1);
    free(all);
}

/* When another line takes the gate, the count of those held back is dropped: it would be wrong on that line. */
void lt_log_write_gated(struct lt_log_gate *gate, enum lt_log_level level, const char *message,
                        const struct lt_log_field *fields, size_t count)
{
    if (!lt_log_enabled(level))
        return;
    struct timespec clock;
    clock_gettime(CLOCK_MONOTONIC, &clock);
    int64_t now = (int64_t)clock.tv_sec * 1000000000 + clock.tv_nsec;
    uint64_t hash = hash_line(message, fields, count);
    bool same = hash == gate->hash;
    if (same && now < gate->until_ns) {
        gate->held++;
        return;
    }
    uint64_t held = same ? gate->held : 0;
    *gate = (struct lt_log_gate){.hash = hash, .until_ns = now + GATE_NS};
    if (held > 0)
        write_repeated(held, level, message, fields, count);
    else
        lt_log_write(level, message, fields, count);
}
