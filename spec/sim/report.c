/* See report.h. The log of the code under test goes into the trace, so its lines carry virtual times too: this file
 * implements base/log.h in place of src/base/log.c. */
#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static const double BEGINNING = 1000; /* what the clock of sim_loop.c begins with */

static const struct sim_loop *clock_of;
static bool tracing;
static struct failure *told;

void report_open(const struct sim_loop *sim, bool on)
{
    clock_of = sim;
    tracing = on;
}

bool report_tracing(void)
{
    return tracing;
}

void report_to(struct failure *failure)
{
    told = failure;
}

static double at(void)
{
    return clock_of != NULL ? clock_of->loop.now - BEGINNING : 0;
}

void trace(const char *format, ...)
{
    if (!tracing)
        return;
    va_list args;
    va_start(args, format);
    printf("%13.6f  ", at());
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char message[REPORT_SIZE];
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    trace("FAILED: %s", message);
    if (told != NULL) {
        told->failed = true;
        told->at = at();
        memcpy(told->message, message, sizeof message);
    }
    fflush(stdout);
    _exit(EXIT_FAILED);
}

/* The log. */

bool lt_log_enabled(enum lt_log_level level)
{
    (void)level;
    return tracing;
}

static void print_field(const struct lt_log_field *field)
{
    switch (field->kind) {
    case LT_LOG_STRING:
        if (field->value.string.data != NULL)
            printf(" %s=\"%s\"", field->name, field->value.string.data);
        break;
    case LT_LOG_INTEGER:
        printf(" %s=%lld", field->name, (long long)field->value.integer);
        break;
    case LT_LOG_NUMBER:
        printf(" %s=%g", field->name, field->value.number);
        break;
    case LT_LOG_BOOLEAN:
        printf(" %s=%s", field->name, field->value.boolean ? "true" : "false");
        break;
    }
}

void lt_log_write(enum lt_log_level level, const char *message, const struct lt_log_field *fields, size_t count)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    if (!tracing)
        return;
    printf("%13.6f    log %s: %s", at(), levels[level], message);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(fields[i].name, "scheduler") != 0)
            print_field(&fields[i]);
    }
    putchar('\n');
}

void lt_log_write_gated(struct lt_log_gate *gate, enum lt_log_level level, const char *message,
                        const struct lt_log_field *fields, size_t count)
{
    (void)gate;
    lt_log_write(level, message, fields, count);
}
