/* The log: one line an event, with fields, on standard error.
 *
 * Text for people (coloured when standard error is a terminal and NO_COLOR is not set) or one JSON object a line for
 * machines. Lines are written whole with one write(2), so lines of several threads do not mix. */
#ifndef LTSH_BASE_LOG_H
#define LTSH_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum lt_log_level { LT_LOG_DEBUG, LT_LOG_INFO, LT_LOG_WARN, LT_LOG_ERROR };

enum lt_log_kind { LT_LOG_STRING, LT_LOG_INTEGER, LT_LOG_NUMBER, LT_LOG_BOOLEAN };

/* One field of a line. Strings are bytes of any kind: what is not printable UTF-8 is escaped, and what is
 * beyond 16 KiB is cut. */
struct lt_log_field {
    const char *name;
    enum lt_log_kind kind;
    union {
        struct {
            const char *data;
            size_t len;
        } string;
        int64_t integer;
        double number;
        bool boolean;
    } value;
};

/* Fields for the usual cases: lt_log(LT_LOG_WARN, "it broke", LT_S("task", id), LT_I("attempt", 3)). */
#define LT_S(name_, s_)                                                                                                \
    ((struct lt_log_field){.name = (name_), .kind = LT_LOG_STRING, .value.string = {(s_), SIZE_MAX}})
#define LT_I(name_, i_) ((struct lt_log_field){.name = (name_), .kind = LT_LOG_INTEGER, .value.integer = (i_)})
#define LT_N(name_, n_) ((struct lt_log_field){.name = (name_), .kind = LT_LOG_NUMBER, .value.number = (n_)})

/* Writes a line if `level` is enabled. A len of SIZE_MAX means NUL-terminated; a NULL string is left out. Any thread.
 */
void lt_log_write(enum lt_log_level level, const char *message, const struct lt_log_field *fields, size_t count);

#define lt_log(level_, message_, ...)                                                                                  \
    do {                                                                                                               \
        if (lt_log_enabled(level_)) {                                                                                  \
            const struct lt_log_field fields_[] = {{.name = NULL}, ##__VA_ARGS__};                                     \
            lt_log_write((level_), (message_), fields_ + 1, sizeof fields_ / sizeof fields_[0] - 1);                   \
        }                                                                                                              \
    } while (0)

bool lt_log_enabled(enum lt_log_level level);

/* Sets the level and the format ("text" or "json") for the process. Call before threads start. */
void lt_log_setup(enum lt_log_level level, bool json);

/* The level's name, and whether lines are JSON: for a process that is to log in the same way. */
const char *lt_log_level_name(void);
bool lt_log_is_json(void);

/* Parses "debug", "info", "warn", "error"; -1 if it is none of these. */
int lt_log_level_parse(const char *name);

/* A place that may fail again and again (a store that is down). Zero it to make one. */
struct lt_log_gate {
    uint64_t hash;    /* of the last message and its fields */
    int64_t until_ns; /* monotonic: before this, the same line is counted, not written */
    uint64_t held;
};

/* As lt_log_write, but the same line (message and fields) from one gate is written once a minute, with the number of
 * those held back as the field `repeated`. A different line is written at once. */
void lt_log_write_gated(struct lt_log_gate *gate, enum lt_log_level level, const char *message,
                        const struct lt_log_field *fields, size_t count);

#define lt_log_gated(gate_, level_, message_, ...)                                                                     \
    do {                                                                                                               \
        if (lt_log_enabled(level_)) {                                                                                  \
            const struct lt_log_field fields_[] = {{.name = NULL}, ##__VA_ARGS__};                                     \
            lt_log_write_gated((gate_), (level_), (message_), fields_ + 1, sizeof fields_ / sizeof fields_[0] - 1);    \
        }                                                                                                              \
    } while (0)

#endif
