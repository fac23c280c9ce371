/* Values to JSON text, written as they are walked through: only calls of Lua's that cannot raise, and the buffer hangs in
 * a box, which the collector empties should making the string raise. (jansson's tree between the two took twice the time.) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/utf8.h"
#include "script/values/json.h"
#include "script/values/json_box.h"
#include "script/values/values.h"

enum { MOST = 256 << 20 }; /* bytes of text */

struct writer {
    lua_State *L;
    struct lt_error *error;
    struct lt_buffer *text;
    bool pretty;
    struct lt_value_path path;
};

static bool write_value(struct writer *w, int index);

/* For the value in hand, as an expression that is false. */
#define refuse(w_, ...) (lt_value_refuse((w_)->L, &(w_)->path, 0, (w_)->error, __VA_ARGS__), false)

/* Sharing one table many times over makes a small value a large text. */
static bool put(struct writer *w, const char *data, size_t len)
{
    if (w->text->len + len > MOST) {
        lt_fail(w->error, LT_UNSTORABLE, "%.100s: it takes more than %d MiB to encode", w->path.root, MOST >> 20);
        return false;
    }
    if (w->text->len + len > w->text->size && !lt_buffer_try_reserve(w->text, len))
        return false; /* out of memory, as was said before */
    memcpy(w->text->data + w->text->len, data, len);
    w->text->len += len;
    return true;
}

static bool put_text(struct writer *w, const char *text)
{
    return put(w, text, strlen(text));
}

/* Where the next of a table's values begins, or its end. */
static bool put_break(struct writer *w, int depth)
{
    static const char spaces[] = "                                ";
    if (!w->pretty)
        return true;
    bool ok = put(w, "\n", 1);
    for (int left = 2 * depth; ok && left > 0; left -= (int)sizeof spaces - 1)
        ok = put(w, spaces, left < (int)sizeof spaces - 1 ? (size_t)left : sizeof spaces - 1);
    return ok;
}

/* Numbers. */

/* The digits of a number, from the end of `end` back; where they begin. */
static char *digits_before(char *end, uint64_t number)
{
    do {
        *--end = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return end;
}

static bool write_integer(struct writer *w, lua_Integer number)
{
    char text[24], *end = text + sizeof text;
    char *begin = digits_before(end, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
    if (number < 0)
        *--begin = '-';
    return put(w, begin, (size_t)(end - begin));
}

/* What has six decimals or fewer, as most floats that people write, and times: a division of two integers that doubles hold
 * is rounded as the decimal would be, so that this says whether the decimal is the number. False: it is another kind. */
static bool few_decimals(char *text, size_t size, double number)
{
    double positive = fabs(number), scaled = nearbyint(positive * 1e6);
    if (!(positive >= 1e-4 && positive < 9e9) || scaled / 1e6 != positive)
        return false;
    uint64_t whole = (uint64_t)scaled / 1000000, rest = (uint64_t)scaled % 1000000;
    char *end = text + size;
    char *point = digits_before(end, 1000000 + rest); /* its first digit makes place for the point */
    *point = '.';
    while (end[-1] == '0' && end[-2] != '.')
        end--;
    char *begin = digits_before(point, whole);
    if (number < 0)
        *--begin = '-';
    memmove(text, begin, (size_t)(end - begin));
    text[end - begin] = '\0';
    return true;
}

/* 1e+07 as 1e7, 1e-07 as 1e-7. */
static void shorten_exponent(char *exponent)
{
    char *digits = exponent + (exponent[0] == '-' || exponent[0] == '+');
    char *first = digits + strspn(digits, "0");
    char *to = exponent + (exponent[0] == '-');
    memmove(to, first, strlen(first) + 1);
}

/* With a point or an exponent, so that it is read as a float again; and no more digits than that takes. */
static void any_float(char *text, size_t size, double number)
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, size, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    char *exponent = strchr(text, 'e');
    if (exponent != NULL)
        shorten_exponent(exponent + 1);
    else if (strchr(text, '.') == NULL)
        memcpy(text + strlen(text), ".0", 3);
}

static bool write_float(struct writer *w, double number)
{
    char text[40];
    if (isnan(number))
        return refuse(w, "NaN cannot be encoded");
    if (isinf(number))
        return refuse(w, "%s cannot be encoded", number > 0 ? "inf" : "-inf");
    if (!few_decimals(text, sizeof text, number))
        any_float(text, sizeof text, number);
    return put_text(w, text);
}

/* Strings. */

static bool put_escaped(struct writer *w, unsigned char c)
{
    static const char letters[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* a byte, and what stands for it */
    char text[8];
    for (const char *pair = letters; *pair != '\0'; pair += 2) {
        if (*pair == (char)c)
            return put(w, (char[]){'\\', pair[1]}, 2);
    }
    return put(w, text, (size_t)snprintf(text, sizeof text, "\\u%04X", c));
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\';
}

/* False with *valid false: it is no UTF-8. */
static bool write_string(struct writer *w, const char *s, size_t len, bool *valid)
{
    *valid = lt_utf8_valid(s, len);
    bool ok = *valid && put(w, "\"", 1);
    for (size_t i = 0; ok && i < len;) {
        size_t plain = i;
        while (plain < len && is_plain((unsigned char)s[plain]))
            plain++;
        ok = put(w, s + i, plain - i) && (plain == len || put_escaped(w, (unsigned char)s[plain]));
        i = plain + 1;
    }
    return ok && put(w, "\"", 1);
}

static bool write_text(struct writer *w, int index)
{
    size_t len;
    const char *s = lua_tolstring(w->L, index, &len);
    bool valid;
    if (write_string(w, s, len, &valid))
        return true;
    return valid ? false : refuse(w, "a string that is not valid UTF-8 cannot be encoded");
}

/* Tables. */

static bool write_array(struct writer *w, int index, lua_Integer length)
{
    lua_Integer *at = &w->path.frames[w->path.depth - 1].at;
    bool ok = put(w, "[", 1);
    for (*at = 1; ok && *at <= length; ++*at) {
        ok = (*at == 1 || put(w, ",", 1)) && put_break(w, w->path.depth);
        lua_rawgeti(w->L, index, *at);
        ok = ok && write_value(w, lua_gettop(w->L));
        if (!ok)
            return false; /* the place of what was refused is still needed */
        lua_pop(w->L, 1);
    }
    return ok && put_break(w, w->path.depth - 1) && put(w, "]", 1);
}

static bool is_name(struct writer *w, int index)
{
    int type = lua_type(w->L, index);
    if (type == LUA_TSTRING)
        return true;
    if (type == LUA_TNUMBER)
        lt_value_refuse(w->L, &w->path, 1, w->error, "keys must all be strings, or exactly 1..n");
    else
        lt_value_refuse(w->L, &w->path, 1, w->error, "a %s cannot be a key", lua_typename(w->L, type));
    return false;
}

static bool write_name(struct writer *w, int index)
{
    size_t len;
    bool valid;
    if (!is_name(w, index))
        return false;
    const char *name = lua_tolstring(w->L, index, &len);
    if (memchr(name, '\0', len) != NULL) /* jansson would not read it back */
        return refuse(w, "a key with a NUL byte cannot be encoded");
    if (write_string(w, name, len, &valid))
        return put_text(w, w->pretty ? ": " : ":");
    return valid ? false : refuse(w, "a key that is not valid UTF-8 cannot be encoded");
}

static bool write_object(struct writer *w, int index)
{
    bool any = false, ok = true;
    lua_pushnil(w->L);
    int key = lua_gettop(w->L);
    w->path.frames[w->path.depth - 1].key = key;
    while (ok && lua_next(w->L, index)) {
        ok = put(w, any ? "," : "{", 1) && put_break(w, w->path.depth) && write_name(w, key) && write_value(w, key + 1);
        any = true;
        if (ok)
            lua_settop(w->L, key);
    }
    if (!ok)
        return false;
    if (!any)
        return put_text(w, lt_value_is_array_marked(w->L, index) ? "[]" : "{}");
    return put_break(w, w->path.depth - 1) && put(w, "}", 1);
}

static bool write_table(struct writer *w, int index)
{
    if (lt_value_enter(w->L, index, &w->path, w->error) != 0)
        return false;
    lua_Integer length = lt_value_array_length(w->L, index);
    bool ok = length > 0 ? write_array(w, index, length) : write_object(w, index);
    w->path.depth--;
    return ok;
}

/* The value at the absolute `index`; false with the error filled. */
static bool write_value(struct writer *w, int index)
{
    int type = lua_type(w->L, index);
    switch (type) {
    case LUA_TNUMBER:
        return lua_isinteger(w->L, index) ? write_integer(w, lua_tointeger(w->L, index))
                                          : write_float(w, lua_tonumber(w->L, index));
    case LUA_TSTRING:
        return write_text(w, index);
    case LUA_TTABLE:
        return write_table(w, index);
    case LUA_TBOOLEAN:
        return put_text(w, lua_toboolean(w->L, index) ? "true" : "false");
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(w->L, index) == NULL)
            return put_text(w, "null");
        break;
    case LUA_TNIL:
    case LUA_TNONE:
        return refuse(w, "nil cannot be encoded");
    }
    return refuse(w, "a %s cannot be encoded", lua_typename(w->L, type));
}

LT_RAISES int lt_json_encode(lua_State *L, int index, bool pretty, const char *root, struct lt_error *error)
{
    struct writer w;
    index = lua_absindex(L, index);
    struct lt_json_box *box = lt_json_box_push(L);
    int box_index = lua_gettop(L);
    w.L = L;
    w.error = error;
    w.text = &box->text;
    w.pretty = pretty;
    w.path.root = root;
    w.path.depth = 0;
    lt_fail(error, LT_UNSTORABLE, "%.100s: out of memory", root); /* unless another reason is found */
    bool ok = write_value(&w, index);
    lua_settop(L, box_index);
    if (ok)
        lua_pushlstring(L, box->text.data, box->text.len);
    lt_json_box_empty(box);
    lua_remove(L, box_index);
    return ok ? 0 : LT_UNSTORABLE;
}
