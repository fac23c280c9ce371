#include "actuators/item.h"

#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/nearest.h"

/* Goes into a field or an element; returns what lt_item_leave() needs. */
size_t lt_item_enter(struct lt_item_reader *r, const char *format, ...)
{
    size_t outer = strlen(r->path);
    va_list args;
    va_start(args, format);
    vsnprintf(r->path + outer, sizeof r->path - outer, format, args);
    va_end(args);
    return outer;
}

void lt_item_leave(struct lt_item_reader *r, size_t outer)
{
    r->path[outer] = '\0';
}

void lt_item_refuse(struct lt_item_reader *r, const char *expected, const json_t *got)
{
    char *text = got != NULL ? json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (!r->failed)
        lt_fail(r->error, LT_REFUSED, "%s: must be %s, got %.120s", r->path, expected,
                text != NULL ? text : "text that is no UTF-8");
    r->failed = true;
    free(text);
}

/* Values. */

/* Text without NULs; NULL when it is refused. Numbers are written as Lua does. */
json_t *lt_item_text(struct lt_item_reader *r, json_t *value)
{
    char number[40];
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        return json_string(number);
    }
    if (json_is_real(value)) {
        snprintf(number, sizeof number, "%.14g", json_real_value(value));
        bool whole = strspn(number, "-0123456789") == strlen(number);
        return json_sprintf("%s%s", number, whole ? ".0" : "");
    }
    json_t *text = NULL;
    if (json_is_string(value))
        text =
            (r->any_bytes ? json_stringn_nocheck : json_stringn)(json_string_value(value), json_string_length(value));
    bool fits = text != NULL && strlen(json_string_value(text)) == json_string_length(text);
    if (!fits) {
        json_decref(text);
        lt_item_refuse(r, "text without NULs", value);
        return NULL;
    }
    return text;
}

static bool is_empty_table(const json_t *value)
{
    return json_is_object(value) && json_object_size(value) == 0;
}

/* A list of texts, or one text. Never NULL. */
json_t *lt_item_texts(struct lt_item_reader *r, json_t *value)
{
    json_t *list = json_array();
    size_t i;
    json_t *element;
    if (json_is_object(value) && !is_empty_table(value)) {
        lt_item_refuse(r, "a text or a list of texts", value);
    } else if (!json_is_array(value) && !is_empty_table(value)) {
        json_t *text = lt_item_text(r, value);
        if (text != NULL)
            json_array_append_new(list, text);
    }
    json_array_foreach(value, i, element) {
        size_t outer = lt_item_enter(r, "[%zu]", i + 1);
        json_t *text = lt_item_text(r, element);
        if (text != NULL)
            json_array_append_new(list, text);
        lt_item_leave(r, outer);
    }
    return list;
}

bool lt_item_flag(struct lt_item_reader *r, json_t *value)
{
    if (!json_is_boolean(value))
        lt_item_refuse(r, "true or false", value);
    return json_is_true(value);
}

double lt_item_number(struct lt_item_reader *r, json_t *value, const char *expected)
{
    double number = json_is_number(value) ? json_number_value(value) : -1;
    if (!(number >= 0))
        lt_item_refuse(r, expected, value);
    return number;
}

int64_t lt_item_integer(struct lt_item_reader *r, json_t *value, int64_t least)
{
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    if (!(number >= (double)least && number < 9e15 && number == floor(number))) {
        lt_item_refuse(r, least > 0 ? "a positive integer" : "an integer that is not negative", value);
        return least;
    }
    return (int64_t)number;
}

/* Bytes: a number, or a text such as "64M". */
int64_t lt_item_size(struct lt_item_reader *r, json_t *value)
{
    static const char units[] = "KMGT";
    double size = json_is_number(value) ? json_number_value(value) : -1;
    if (json_is_string(value)) {
        char *end;
        size = strtod(json_string_value(value), &end);
        const char *unit = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
        if (end == json_string_value(value) || (*end != '\0' && (unit == NULL || end[1] != '\0')))
            size = -1;
        for (long i = unit != NULL ? unit - units + 1 : 0; i > 0; i--)
            size *= 1024;
    }
    if (!(size >= 1 && size < 9e15)) {
        lt_item_refuse(r, "a number of bytes or a text such as \"64M\"", value);
        return 0;
    }
    return (int64_t)size;
}

int lt_item_signal(struct lt_item_reader *r, json_t *value)
{
    const char *name = json_string_value(value);
    if (json_is_integer(value) && json_integer_value(value) > 0 && json_integer_value(value) <= SIGRTMAX)
        return (int)json_integer_value(value);
    if (name != NULL && strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (int signal = 1; name != NULL && signal < SIGRTMIN; signal++)
        if (sigabbrev_np(signal) != NULL && strcmp(sigabbrev_np(signal), name) == 0)
            return signal;
    lt_item_refuse(r, "a signal, such as \"TERM\", \"SIGTERM\" or 15", value);
    return SIGTERM;
}

json_t *lt_item_table(struct lt_item_reader *r, json_t *value)
{
    if (!json_is_object(value))
        lt_item_refuse(r, "a table with names", value);
    return json_is_object(value) ? value : NULL;
}

json_t *lt_item_codes(struct lt_item_reader *r, json_t *value)
{
    size_t i;
    json_t *code;
    if (!json_is_array(value)) {
        if (!is_empty_table(value))
            lt_item_refuse(r, "a list of exit codes", value);
        return NULL;
    }
    json_array_foreach(value, i, code) {
        if (!json_is_integer(code) || json_integer_value(code) < 0 || json_integer_value(code) > 255)
            lt_item_refuse(r, "a list of exit codes from 0 to 255", value);
    }
    return value;
}

void lt_item_each_text(struct lt_item_reader *r, json_t *table,
                       void (*each)(struct lt_item_reader *r, const char *key, json_t *text))
{
    const char *key;
    json_t *given;
    if (lt_item_table(r, table) == NULL)
        return;
    json_object_foreach(table, key, given) {
        size_t outer = strchr(key, '/') != NULL ? lt_item_enter(r, "[\"%s\"]", key) : lt_item_enter(r, ".%s", key);
        json_t *text = lt_item_text(r, given);
        if (text != NULL)
            each(r, key, text);
        json_decref(text);
        lt_item_leave(r, outer);
    }
}

json_t *lt_item_variable(struct lt_item_reader *r, const char *name, const json_t *text)
{
    if (name[0] == '\0' || strchr(name, '=') != NULL)
        lt_item_refuse(r, "named without '='", text);
    char *line = lt_format("%s=%s", name, json_string_value(text));
    json_t *variable = json_string_nocheck(line);
    free(line);
    return variable;
}

/* Tables. */

static void check_item_names(struct lt_item_reader *r, const struct lt_item_field *known, json_t *table)
{
    const char *key;
    json_t *value;
    json_object_foreach(table, key, value) {
        struct lt_nearest nearest = {.name = key, .len = strlen(key)};
        const struct lt_item_field *field = known;
        while (field->name != NULL && strcmp(field->name, key) != 0)
            lt_nearest_look(&nearest, (field++)->name);
        if (field->name != NULL || r->failed)
            continue;
        r->failed = true;
        if (nearest.meant != NULL)
            lt_fail(r->error, LT_REFUSED, "%s.%.60s: unknown, did you mean %s?", r->path, key, nearest.meant);
        else
            lt_fail(r->error, LT_REFUSED, "%s.%.60s: unknown", r->path, key);
    }
}

void lt_item_fields(struct lt_item_reader *r, const struct lt_item_field *known, json_t *table)
{
    check_item_names(r, known, table);
    for (const struct lt_item_field *field = known; field->name != NULL; field++) {
        json_t *value = json_object_get(table, field->name);
        if (value == NULL || json_is_null(value))
            continue;
        size_t outer = lt_item_enter(r, ".%s", field->name);
        r->field = field->name;
        field->read(r, value);
        lt_item_leave(r, outer);
    }
}

/* The item's fields over the defaults; env and labels are added to each other. */
json_t *lt_item_with_defaults(json_t *item, json_t *defaults)
{
    static const char *const merged[] = {"env", "labels", "limits"};
    json_t *whole = json_copy(item);
    bool has_command = json_object_get(item, "cmd") != NULL || json_object_get(item, "shell") != NULL;
    const char *key;
    json_t *value;
    json_object_foreach(defaults, key, value) {
        bool command = strcmp(key, "cmd") == 0 || strcmp(key, "shell") == 0 || strcmp(key, "args") == 0;
        if (json_object_get(item, key) == NULL && !(command && has_command))
            json_object_set_nocheck(whole, key, value);
    }
    for (size_t i = 0; i < sizeof merged / sizeof merged[0]; i++) {
        json_t *own = json_object_get(item, merged[i]);
        json_t *other = json_object_get(defaults, merged[i]);
        if (json_is_object(own) && json_is_object(other)) {
            json_t *both = json_copy(own);
            json_object_update_missing(both, other);
            json_object_set_new(whole, merged[i], both);
        }
    }
    return whole;
}
