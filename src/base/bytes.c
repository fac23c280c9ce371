#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static struct lt_bytes *bytes_make(size_t len)
{
    struct lt_bytes *bytes = lt_alloc(sizeof *bytes + len + 1);
    bytes->refs = 1;
    bytes->len = (uint32_t)len;
    bytes->data[len] = '\0';
    return bytes;
}

struct lt_bytes *lt_bytes_new(const void *data, size_t len)
{
    struct lt_bytes *bytes = bytes_make(len);
    if (len > 0)
        memcpy(bytes->data, data, len);
    return bytes;
}

struct lt_bytes *lt_bytes_printf(const char *format, ...)
{
    va_list args;
    va_list again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    struct lt_bytes *bytes = bytes_make(len < 0 ? 0 : (size_t)len);
    vsnprintf(bytes->data, (size_t)bytes->len + 1, format, again);
    va_end(again);
    return bytes;
}

void lt_bytes_unref(struct lt_bytes *bytes)
{
    if (bytes != NULL && --bytes->refs == 0)
        free(bytes);
}

static size_t grown_size(const struct lt_buffer *buffer, size_t more)
{
    size_t size = buffer->size > 0 ? buffer->size : 64;
    while (size < buffer->len + more)
        size *= 2;
    return size;
}

void lt_buffer_reserve(struct lt_buffer *buffer, size_t more)
{
    if (buffer->len + more <= buffer->size)
        return;
    size_t size = grown_size(buffer, more);
    buffer->data = lt_realloc(buffer->data, size);
    buffer->size = size;
}

bool lt_buffer_try_reserve(struct lt_buffer *buffer, size_t more)
{
    if (buffer->len + more <= buffer->size)
        return true;
    size_t size = grown_size(buffer, more);
    char *data = realloc(buffer->data, size);
    if (data == NULL)
        return false;
    buffer->data = data;
    buffer->size = size;
    return true;
}

void lt_buffer_append(struct lt_buffer *buffer, const void *data, size_t len)
{
    if (len == 0)
        return;
    lt_buffer_reserve(buffer, len);
    memcpy(buffer->data + buffer->len, data, len);
    buffer->len += len;
}

void lt_buffer_free(struct lt_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct lt_buffer){0};
}
