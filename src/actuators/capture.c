#include "actuators/capture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

enum { LINE = 200, LOOKED_AT = 4096 }; /* bytes of a last line, and of the end in which it is looked for */

void lt_capture_init(struct lt_capture *capture, uint64_t limit)
{
    *capture = (struct lt_capture){.limit = limit};
}

static size_t head_room(const struct lt_capture *capture)
{
    return (size_t)(capture->limit - capture->limit / 2) - capture->head.len;
}

/* Into the ring, whose size is half of the limit. */
static void add_to_tail(struct lt_capture *capture, const char *bytes, size_t len)
{
    size_t size = (size_t)(capture->limit / 2);
    struct lt_buffer *tail = &capture->tail;
    if (size == 0)
        return;
    if (len >= size) { /* only its end stays */
        bytes += len - size;
        len = size;
        tail->len = capture->tail_start = 0;
    }
    size_t grows = size - tail->len < len ? size - tail->len : len;
    if (grows > 0)
        lt_buffer_append(tail, bytes, grows);
    bytes += grows;
    len -= grows;
    while (len > 0) {
        size_t part = size - capture->tail_start < len ? size - capture->tail_start : len;
        memcpy(tail->data + capture->tail_start, bytes, part);
        capture->tail_start = (capture->tail_start + part) % size;
        bytes += part;
        len -= part;
    }
}

void lt_capture_add(struct lt_capture *capture, const char *bytes, size_t len)
{
    size_t first = head_room(capture) < len ? head_room(capture) : len;
    capture->total += len;
    if (first > 0)
        lt_buffer_append(&capture->head, bytes, first);
    if (len > first)
        add_to_tail(capture, bytes + first, len - first);
}

/* Copies the ring in its order. */
static void copy_tail(const struct lt_capture *capture, char *to)
{
    size_t after = capture->tail.len - capture->tail_start;
    if (capture->tail.len == 0)
        return;
    memcpy(to, capture->tail.data + capture->tail_start, after);
    memcpy(to + after, capture->tail.data, capture->tail_start);
}

char *lt_capture_text(const struct lt_capture *capture, size_t *len)
{
    char mark[64] = "";
    uint64_t missing = capture->total - capture->head.len - capture->tail.len;
    if (missing > 0)
        snprintf(mark, sizeof mark, "\n[... %llu bytes left out ...]\n", (unsigned long long)missing);
    size_t mark_len = strlen(mark);
    *len = capture->head.len + mark_len + capture->tail.len;
    char *text = lt_alloc(*len + 1);
    if (capture->head.len > 0)
        memcpy(text, capture->head.data, capture->head.len);
    memcpy(text + capture->head.len, mark, mark_len);
    copy_tail(capture, text + capture->head.len + mark_len);
    text[*len] = '\0';
    return text;
}

/* The number of bytes of the UTF-8 sign at `at`, printable as far as this can tell; 0: it is none. */
static size_t sign_at(const unsigned char *at, size_t left)
{
    size_t len = *at >= 0x20 && *at != 0x7f && *at < 0x80 ? 1
                 : *at >= 0xc2 && *at < 0xe0              ? 2
                 : *at >= 0xe0 && *at < 0xf0              ? 3
                 : *at >= 0xf0 && *at < 0xf5              ? 4
                                                          : 0;
    if (len == 0 || len > left)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    return len;
}

static bool is_blank(char c)
{
    return c == '\n' || c == '\r' || c == ' ' || c == '\t' || c == '\0';
}

char *lt_capture_last_line(const struct lt_capture *capture)
{
    size_t len;
    char *text = lt_capture_text(capture, &len);
    size_t end = len;
    while (end > 0 && is_blank(text[end - 1]))
        end--;
    size_t start = end;
    while (start > 0 && end - start < LOOKED_AT && text[start - 1] != '\n' && text[start - 1] != '\r')
        start--;
    char *line = lt_alloc(LINE + 1);
    size_t out = 0;
    while (start < end) {
        size_t sign = sign_at((const unsigned char *)text + start, end - start);
        if (sign > 0 && out + sign > LINE)
            break;
        memcpy(line + out, text + start, sign);
        out += sign;
        start += sign > 0 ? sign : 1;
    }
    line[out] = '\0';
    free(text);
    return line;
}

void lt_capture_clear(struct lt_capture *capture)
{
    lt_buffer_free(&capture->head);
    lt_buffer_free(&capture->tail);
}
