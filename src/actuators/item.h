/* Reading an item, or an actuator's defaults: a tree (tree.h) of fields by name, each read by a function of its own. What is
 * wrong is refused with the path, what would be right, and the value; the first error counts, and reading goes on.
 *
 *     struct lt_item_reader r = {.error = error, .user = &what_is_made};
 *     lt_item_enter(&r, "item");
 *     lt_item_fields(&r, fields, item);       calls fields[i].read(&r, value) for those that there are
 *     if (r.failed) ...                       error->message: item.limits.memory: must be a number of bytes ... */
#ifndef LTSH_ACTUATORS_ITEM_H
#define LTSH_ACTUATORS_ITEM_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { LT_ITEM_PATH = 160 };

struct lt_item_reader {
    struct lt_error *error; /* filled with LT_REFUSED by the first that is wrong */
    bool failed;
    bool any_bytes;    /* texts need not be UTF-8 */
    const char *field; /* the name of the field that is being read */
    char path[LT_ITEM_PATH];
    void *user; /* of the functions that read fields */
};

/* A field that there may be. A table of them ends with a NULL name; they are read in its order. */
struct lt_item_field {
    const char *name;
    void (*read)(struct lt_item_reader *reader, json_t *value);
};

/* Goes into a field or an element (".name", "[3]"); returns what lt_item_leave needs to come out again. */
__attribute__((format(printf, 2, 3))) size_t lt_item_enter(struct lt_item_reader *reader, const char *format, ...);
void lt_item_leave(struct lt_item_reader *reader, size_t outer);

/* The value at the present path is wrong: "PATH: must be EXPECTED, got VALUE". */
void lt_item_refuse(struct lt_item_reader *reader, const char *expected, const json_t *got);

/* Reads the fields of a table; a name that is not among `known` is refused, with the nearest. */
void lt_item_fields(struct lt_item_reader *reader, const struct lt_item_field *known, json_t *table);

/* The values. A wrong one is refused, and something harmless is returned. */

/* Text without NULs, a new reference; numbers are written as Lua does. NULL when it is refused. */
json_t *lt_item_text(struct lt_item_reader *reader, json_t *value);
/* A list of texts, or one: a new reference. Never NULL. */
json_t *lt_item_texts(struct lt_item_reader *reader, json_t *value);
bool lt_item_flag(struct lt_item_reader *reader, json_t *value);
/* Not negative. */
double lt_item_number(struct lt_item_reader *reader, json_t *value, const char *expected);
int64_t lt_item_integer(struct lt_item_reader *reader, json_t *value, int64_t least);
/* Bytes: a number, or a text such as "64M". */
int64_t lt_item_size(struct lt_item_reader *reader, json_t *value);
/* A signal's number, from that or from "TERM" or "SIGTERM". */
int lt_item_signal(struct lt_item_reader *reader, json_t *value);
/* A table with names: the same reference; NULL when it is refused. */
json_t *lt_item_table(struct lt_item_reader *reader, json_t *value);
/* A list of exit codes: the same reference; NULL when it is empty or refused. */
json_t *lt_item_codes(struct lt_item_reader *reader, json_t *value);

/* Calls `each` for each text in a table with names, the present path being its; the text is borrowed. */
void lt_item_each_text(struct lt_item_reader *reader, json_t *table,
                       void (*each)(struct lt_item_reader *reader, const char *key, json_t *text));
/* A variable of an environment as "NAME=text": a new reference. A name that cannot be one is refused. */
json_t *lt_item_variable(struct lt_item_reader *reader, const char *name, const json_t *text);

/* The item's fields over the defaults; `env`, `labels` and `limits` are added to each other, and a command of the item (`cmd`
 * or `shell`) takes the place of all that the defaults say of one. A new reference. */
json_t *lt_item_with_defaults(json_t *item, json_t *defaults);

#endif
