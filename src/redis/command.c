#include <stdio.h>
#include <string.h>

#include "redis/connection.h"

/* A kind and a number, as the protocol has them. */
static void append_number(struct lt_buffer *commands, char kind, size_t number)
{
    char digits[24];
    int at = (int)sizeof digits;
    digits[--at] = '\n';
    digits[--at] = '\r';
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    digits[--at] = kind;
    lt_buffer_append(commands, digits + at, sizeof digits - (size_t)at);
}

void lt_redis_begin(struct lt_buffer *commands, size_t arguments)
{
    append_number(commands, '*', arguments);
}

void lt_redis_append(struct lt_buffer *commands, const void *argument, size_t len)
{
    append_number(commands, '$', len);
    lt_buffer_append(commands, argument, len);
    lt_buffer_append(commands, "\r\n", 2);
}

void lt_redis_append_text(struct lt_buffer *commands, const char *argument)
{
    lt_redis_append(commands, argument, strlen(argument));
}
