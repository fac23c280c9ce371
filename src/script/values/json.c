/* Between Lua values and text lies jansson's tree, which is C memory while calls into Lua may raise. So:
 *
 *   encode:  values -> tree     only calls that cannot raise, and the tree hangs in the box as soon as it is whole
 *            tree -> buffer     no Lua at all; the buffer is in the box too
 *            buffer -> string   may raise: then the collector empties the box
 *   decode:  text -> tree       no Lua at all
 *            tree -> values     may raise: likewise */
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
#include "script/values/marks.h"
#include "script/values/values.h"

/* ---- what is owned during a call */

struct box {
    json_t *root;
    struct lt_buffer text;
};

static const char box_metatable_key; /* its address is the key in the registry */

static void empty_box(struct box *box)
{
    json_decref(box->root);
    box->root = NULL;
    lt_buffer_free(&box->text);
}

static int box_gc(lua_State *L)
{
    empty_box(lua_touserdata(L, 1));
    return 0;
}

static void push_box_metatable(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &box_metatable_key) != LUA_TNIL)
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &box_metatable_key);
}

LT_RAISES static struct box *push_box(lua_State *L)
{
    luaL_checkstack(L, 6, NULL);
    struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct box){0};
    push_box_metatable(L);
    lua_setmetatable(L, -2);
    return box;
}

/* ---- encoding */

enum {
    TREE_SIZE = 256 << 20, /* what jansson's tree may take, about */
    NODE_SIZE = 64,        /* each value in it, beside the text of strings and names */
};

struct encoder {
    lua_State *L;
    struct lt_error *error;
    size_t size;
    int digits; /* that the floats so far need to be read back as they are */
    struct lt_value_path path;
};

static json_t *make_value(struct encoder *e, int index);

/* For the value in hand, as an expression that is NULL. */
#define refuse(e_, ...) (lt_value_refuse((e_)->L, &(e_)->path, 0, (e_)->error, __VA_ARGS__), (json_t *)NULL)

/* Sharing one table many times over makes a small value a large text. */
static bool count_size(struct encoder *e, size_t len)
{
    e->size += len + NODE_SIZE;
    if (e->size <= TREE_SIZE)
        return true;
    lt_fail(e->error, LT_UNSTORABLE, "%.100s: it takes more than %d MiB to encode", e->path.root, TREE_SIZE >> 20);
    return false;
}

static int digits_for(double number, int digits)
{
    char text[40];
    for (; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    return digits;
}

static json_t *make_number(struct encoder *e, int index)
{
    if (lua_isinteger(e->L, index))
        return json_integer(lua_tointeger(e->L, index));
    double number = lua_tonumber(e->L, index);
    if (isnan(number))
        return refuse(e, "NaN cannot be encoded");
    if (isinf(number))
        return refuse(e, "%s cannot be encoded", number > 0 ? "inf" : "-inf");
    e->digits = digits_for(number, e->digits);
    return json_real(number);
}

static json_t *make_string(struct encoder *e, int index)
{
    size_t len;
    const char *s = lua_tolstring(e->L, index, &len);
    if (!count_size(e, len))
        return NULL;
    if (!lt_memory_has(2 * len)) /* for the text too */
        return NULL;
    json_t *string = json_stringn(s, len);
    return string != NULL ? string : refuse(e, "a string that is not valid UTF-8 cannot be encoded");
}

static json_t *make_array(struct encoder *e, int index, lua_Integer length)
{
    json_t *array = json_array();
    lua_Integer *at = &e->path.frames[e->path.depth - 1].at;
    for (*at = 1; *at <= length; ++*at) {
        lua_rawgeti(e->L, index, *at);
        if (json_array_append_new(array, make_value(e, lua_gettop(e->L))) != 0) {
            json_decref(array);
            return NULL;
        }
        lua_pop(e->L, 1);
    }
    return array;
}

static bool is_name(struct encoder *e, int index)
{
    int type = lua_type(e->L, index);
    if (type == LUA_TSTRING)
        return true;
    if (type == LUA_TNUMBER)
        lt_value_refuse(e->L, &e->path, 1, e->error, "keys must all be strings, or exactly 1..n");
    else
        lt_value_refuse(e->L, &e->path, 1, e->error, "a %s cannot be a key", lua_typename(e->L, type));
    return false;
}

/* The name in the key at `index`, or NULL with the error filled. */
static const char *name_of(struct encoder *e, int index)
{
    size_t len;
    if (!is_name(e, index))
        return NULL;
    const char *name = lua_tolstring(e->L, index, &len);
    if (memchr(name, '\0', len) != NULL) {
        /* jansson would write it, and not read it back. */
        lt_value_refuse(e->L, &e->path, 0, e->error, "a key with a NUL byte cannot be encoded");
        return NULL;
    }
    return count_size(e, len) ? name : NULL;
}

static bool set_member(struct encoder *e, json_t *object, int key)
{
    const char *name = name_of(e, key);
    json_t *value = name != NULL ? make_value(e, key + 1) : NULL;
    if (value == NULL)
        return false;
    if (json_object_set_new(object, name, value) == 0)
        return true;
    lt_value_refuse(e->L, &e->path, 0, e->error, "a key that is not valid UTF-8 cannot be encoded");
    return false;
}

static json_t *make_object(struct encoder *e, int index)
{
    json_t *object = json_object();
    lua_pushnil(e->L);
    int key = lua_gettop(e->L);
    e->path.frames[e->path.depth - 1].key = key;
    while (lua_next(e->L, index)) {
        if (!set_member(e, object, key)) {
            json_decref(object);
            return NULL;
        }
        lua_settop(e->L, key);
    }
    return object;
}

static json_t *make_table(struct encoder *e, int index)
{
    if (!count_size(e, 0) || lt_value_enter(e->L, index, &e->path, e->error) != 0)
        return NULL;
    lua_Integer length = lt_value_array_length(e->L, index);
    json_t *table = length > 0 ? make_array(e, index, length) : make_object(e, index);
    if (table != NULL && length == 0 && json_object_size(table) == 0 && lt_value_is_array_marked(e->L, index)) {
        json_decref(table);
        table = json_array();
    }
    e->path.depth--;
    return table;
}

/* A new tree of the value at the absolute `index`; NULL with the error filled. */
static json_t *make_value(struct encoder *e, int index)
{
    int type = lua_type(e->L, index);
    switch (type) {
    case LUA_TNUMBER:
        return count_size(e, 0) ? make_number(e, index) : NULL;
    case LUA_TSTRING:
        return make_string(e, index);
    case LUA_TTABLE:
        return make_table(e, index);
    case LUA_TBOOLEAN:
        return count_size(e, 0) ? json_boolean(lua_toboolean(e->L, index)) : NULL;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(e->L, index) == NULL)
            return count_size(e, 0) ? json_null() : NULL;
        break;
    case LUA_TNIL:
    case LUA_TNONE:
        return refuse(e, "nil cannot be encoded");
    }
    return refuse(e, "a %s cannot be encoded", lua_typename(e->L, type));
}

static int append_text(const char *data, size_t len, void *buffer)
{
    if (!lt_buffer_try_reserve(buffer, len))
        return -1;
    lt_buffer_append(buffer, data, len);
    return 0;
}

static int write_text(struct box *box, bool pretty, int digits)
{
    size_t flags = JSON_ENCODE_ANY | JSON_REAL_PRECISION((size_t)digits) | (pretty ? JSON_INDENT(2) : JSON_COMPACT);
    int result = json_dump_callback(box->root, append_text, &box->text, flags);
    json_decref(box->root);
    box->root = NULL;
    return result;
}

LT_RAISES int lt_json_encode(lua_State *L, int index, bool pretty, const char *root, struct lt_error *error)
{
    struct encoder e;
    index = lua_absindex(L, index);
    struct box *box = push_box(L);
    int box_index = lua_gettop(L);
    e.L = L;
    e.error = error;
    e.size = 0;
    e.digits = 15;
    e.path.root = root;
    e.path.depth = 0;
    lt_fail(error, LT_UNSTORABLE, "%.100s: out of memory", root); /* unless another reason is found */
    box->root = make_value(&e, index);
    lua_settop(L, box_index);
    if (box->root == NULL || write_text(box, pretty, e.digits) != 0) {
        empty_box(box);
        lua_pop(L, 1);
        return LT_UNSTORABLE;
    }
    lua_pushlstring(L, box->text.data, box->text.len);
    empty_box(box);
    lua_remove(L, box_index);
    return 0;
}

/* ---- decoding */

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
    struct box *box = push_box(L);
    box->root = load_json(text, len, &box->text, &problem);
    lt_buffer_free(&box->text);
    if (box->root == NULL) {
        lua_pop(L, 1);
        return lt_fail(error, LT_ERROR, "line %d, column %d: %s", problem.line, problem.column, problem.text);
    }
    push_value(L, box->root);
    empty_box(box);
    lua_remove(L, -2);
    return 0;
}
