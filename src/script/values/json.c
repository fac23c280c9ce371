/* JSON text to Lua values. Between them lies jansson's tree, which is C memory while calls into Lua may raise: it is in a box,
 * which the collector empties then. */
#include "script/values/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <lauxlib.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "script/values/json_box.h"
#include "script/values/marks.h"
#include "script/values/values.h"

static void push_value(lua_State *L, json_t *json);

LT_RAISES static void push_object(lua_State *L, json_t *object)
{
    const char *name;
    json_t *value;
    luaL_checkstack(L, 6, "too many nested tables");
    lua_createtable(L, 0, (int)json_object_size(object));
    json_object_foreach(object, name, value) {
        lua_pushstring(L, name);
        push_value(L, value);
        lua_rawset(L, -3);
    }
}

LT_RAISES static void push_array(lua_State *L, const json_t *array)
{
    size_t length = json_array_size(array);
    luaL_checkstack(L, 6, "too many nested tables");
    lua_createtable(L, (int)length, 0);
    if (length == 0) {
        lt_value_array_metatable(L);
        lua_setmetatable(L, -2);
    }
    for (size_t i = 0; i < length; i++) {
        push_value(L, json_array_get(array, i));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
}

/* Needs three free slots. */
LT_RAISES static void push_value(lua_State *L, json_t *json)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        push_object(L, json);
        break;
    case JSON_ARRAY:
        push_array(L, json);
        break;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(json));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(json));
        break;
    case JSON_NULL:
        lt_value_null(L);
        break;
    }
}

/* jansson refuses integers that do not fit in 64 bits with a sign. Some are met in earnest, as 18446744073709551615 for
 * "no limit" in what Docker says. A copy of the text in which they end in ".0" makes them floats. */

static bool is_numeric(char c)
{
    return c != '\0' && strchr("+-.0123456789eE", c) != NULL;
}

/* The length of the string, the number or the single byte at `s`. */
static size_t piece_length(const char *s, size_t len)
{
    size_t i = 1;
    if (s[0] == '"') {
        while (i < len && s[i] != '"')
            i += s[i] == '\\' ? 2 : 1;
        return i < len ? i + 1 : len;
    }
    while (is_numeric(s[0]) && i < len && is_numeric(s[i]))
        i++;
    return i;
}

/* Whether what `buffer` holds from `start` on is an integer that is too large. */
static bool ends_in_large_integer(struct lt_buffer *buffer, size_t start)
{
    lt_buffer_append(buffer, "", 1);
    buffer->len--;
    const char *piece = buffer->data + start;
    errno = 0;
    strtoll(piece, NULL, 10);
    return errno == ERANGE && is_numeric(piece[0]) && strpbrk(piece, ".eE") == NULL;
}

/* Makes the copy, of `limit` bytes or a little more. Returns by how much the last line in it has grown. */
static size_t widen_integers(const char *text, size_t len, struct lt_buffer *copy, size_t limit)
{
    size_t grown = 0;
    copy->len = 0;
    for (size_t at = 0; at < len && copy->len < limit;) {
        size_t start = copy->len;
        size_t piece = piece_length(text + at, len - at);
        lt_buffer_append(copy, text + at, piece);
        if (text[at] == '\n')
            grown = 0;
        if (ends_in_large_integer(copy, start)) {
            lt_buffer_append(copy, ".0", 2);
            grown += 2;
        }
        at += piece;
    }
    return grown;
}

static json_t *load_json(const char *text, size_t len, struct lt_buffer *copy, json_error_t *problem)
{
    const size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *root = json_loadb(text, len, flags, problem);
    if (root != NULL || json_error_code(problem) != json_error_numeric_overflow)
        return root;
    if (!lt_buffer_try_reserve(copy, 2 * len))
        return NULL;
    widen_integers(text, len, copy, SIZE_MAX);
    root = json_loadb(copy->data, copy->len, flags, problem);
    if (root == NULL)
        problem->column -= (int)widen_integers(text, len, copy, (size_t)problem->position);
    return root;
}

LT_RAISES int lt_json_decode(lua_State *L, const char *text, size_t len, struct lt_error *error)
{
    json_error_t problem;
    struct lt_json_box *box = lt_json_box_push(L);
    box->root = load_json(text, len, &box->text, &problem);
    lt_buffer_free(&box->text);
    if (box->root == NULL) {
        lua_pop(L, 1);
        return lt_fail(error, LT_ERROR, "line %d, column %d: %s", problem.line, problem.column, problem.text);
    }
    push_value(L, box->root);
    lt_json_box_empty(box);
    lua_remove(L, -2);
    return 0;
}
