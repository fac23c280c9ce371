/* One pass each way, straight between the Lua stack and the bytes: every task goes through here at least twice.
 *
 *   encode:  value -> scalar          one head byte and its payload, the smallest that holds it
 *                  -> table -> array  length known before: head, then the elements
 *                           -> map    length known after: one byte held free for the head, widened if it has to be
 *   decode:  the reverse, each table made in its final size
 *
 * The encoder only calls what neither raises nor allocates in Lua, so `out` cannot be lost and no finalizer can change
 * a table under it. The decoder owns nothing but what is on the Lua stack. */
#include "script/values/values.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <lauxlib.h>

#include "base/alloc.h"

static const char array_metatable_key; /* its address is the key in the registry */

void lt_value_null(lua_State *L)
{
    lua_pushlightuserdata(L, NULL);
}

void lt_value_array_metatable(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &array_metatable_key) != LUA_TNIL)
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "ltsh.json.array");
    lua_setfield(L, -2, "__name");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &array_metatable_key);
}

bool lt_value_is_array_marked(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &array_metatable_key);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* ---- the path of an error: item.list[3]["a b"] */

enum { PATH_SIZE = 200, KEY_SHOWN = 48 };

struct text {
    size_t len;
    char data[PATH_SIZE + 4 * KEY_SHOWN + 16]; /* and one key beyond it, each of its bytes escaped */
};

__attribute__((format(printf, 2, 3))) static void put_text(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text->data + text->len, sizeof text->data - text->len, format, args);
    va_end(args);
    size_t room = sizeof text->data - text->len - 1;
    text->len += len < 0 ? 0 : (size_t)len < room ? (size_t)len : room;
}

static bool is_name(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char lower = (char)(s[i] | 0x20);
        if (s[i] != '_' && !(lower >= 'a' && lower <= 'z') && (i == 0 || s[i] < '0' || s[i] > '9'))
            return false;
    }
    return len > 0;
}

/* Long keys are cut, between two characters of UTF-8. Bytes beyond ASCII stay: the log knows how to show them. */
static void put_string_key(struct text *text, const char *s, size_t len)
{
    if (len <= KEY_SHOWN && is_name(s, len)) {
        put_text(text, ".%s", s);
        return;
    }
    size_t shown = len < KEY_SHOWN ? len : KEY_SHOWN;
    while (shown < len && shown > 0 && (s[shown] & 0xc0) == 0x80)
        shown--;
    put_text(text, "[\"");
    for (size_t i = 0; i < shown; i++) {
        unsigned char byte = (unsigned char)s[i];
        if (byte < ' ' || byte == 0x7f)
            put_text(text, "\\x%02X", byte);
        else
            put_text(text, "%s%c", byte == '"' || byte == '\\' ? "\\" : "", byte);
    }
    put_text(text, "%s\"]", shown < len ? "..." : "");
}

static void put_key(lua_State *L, struct text *text, const struct lt_value_frame *frame)
{
    size_t len;
    if (frame->key == 0)
        put_text(text, "[%lld]", (long long)frame->at);
    else if (lua_type(L, frame->key) == LUA_TBOOLEAN)
        put_text(text, "[%s]", lua_toboolean(L, frame->key) ? "true" : "false");
    else if (lua_isinteger(L, frame->key))
        put_text(text, "[%lld]", (long long)lua_tointeger(L, frame->key));
    else if (lua_type(L, frame->key) == LUA_TNUMBER)
        put_text(text, "[%.14g]", lua_tonumber(L, frame->key));
    else if (lua_type(L, frame->key) == LUA_TSTRING) {
        const char *s = lua_tolstring(L, frame->key, &len); /* a string already: it converts and allocates nothing */
        put_string_key(text, s, len);
    }
}

/* The place in the first `levels` of the open tables. */
static void put_path(lua_State *L, struct text *text, const struct lt_value_path *path, int levels)
{
    text->len = 0;
    put_text(text, "%.*s", PATH_SIZE / 2, path->root);
    for (int i = 0; i < levels; i++) {
        if (text->len > PATH_SIZE) {
            put_text(text, "...");
            return;
        }
        put_key(L, text, &path->frames[i]);
    }
}

int lt_value_refuse(lua_State *L, const struct lt_value_path *path, int levels_up, struct lt_error *error,
                    const char *format, ...)
{
    struct text place;
    char why[LT_ERROR_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    put_path(L, &place, path, path->depth > levels_up ? path->depth - levels_up : 0);
    return lt_fail(error, LT_UNSTORABLE, "%s: %s", place.data, why);
}

/* ---- walking through tables */

static int refuse_cycle(lua_State *L, const struct lt_value_path *path, int level, struct lt_error *error)
{
    struct text first;
    put_path(L, &first, path, level);
    return lt_value_refuse(L, path, 0, error, "a cycle (the table is %s)", first.data);
}

/* The whole path would be a hundred keys: its beginning says where to look. */
static int refuse_depth(lua_State *L, const struct lt_value_path *path, struct lt_error *error)
{
    struct text place;
    put_path(L, &place, path, 4);
    return lt_fail(error, LT_UNSTORABLE, "%s...: deeper than %d levels", place.data, LT_VALUE_DEPTH);
}

int lt_value_enter(lua_State *L, int index, struct lt_value_path *path, struct lt_error *error)
{
    const void *table = lua_topointer(L, index);
    for (int i = 0; i < path->depth; i++)
        if (path->frames[i].table == table)
            return refuse_cycle(L, path, i, error);
    if (path->depth == LT_VALUE_DEPTH)
        return refuse_depth(L, path, error);
    if (path->depth > 0 && !lua_checkstack(L, LT_VALUE_SLOTS))
        return lt_value_refuse(L, path, 0, error, "no room on the stack");
    struct lt_value_frame *frame = &path->frames[path->depth++];
    frame->table = table;
    frame->key = 0;
    frame->at = 0;
    return 0;
}

/* If the keys are exactly 1..n then n is the only border of the table, so rawlen finds it. A count of n keys that are
 * all within 1..n leaves none out. */
lua_Integer lt_value_array_length(lua_State *L, int index)
{
    lua_Integer length = (lua_Integer)lua_rawlen(L, index);
    if (length == 0)
        return 0;
    lua_Integer count = 0;
    lua_pushnil(L);
    while (lua_next(L, index)) {
        lua_pop(L, 1);
        lua_Integer key = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (key < 1 || key > length) {
            lua_pop(L, 1);
            return 0;
        }
        count++;
    }
    return count == length ? length : 0;
}

/* ---- encoding */

enum { HEAD_ROOM = 9 };

struct encoder {
    lua_State *L;
    uint8_t *at;  /* where the next byte goes: out->len is set when all is done, or the memory has to move */
    uint8_t *end; /* of out's memory */
    struct lt_buffer *out;
    size_t limit;        /* for the length of out */
    int64_t values_left; /* bounds the time: a table that is shared many times over is written each time */
    bool no_memory;      /* what was written is lost */
    struct lt_error *error;
    struct lt_value_path path;
};

static int encode_other(struct encoder *e, int index, int top);

/* The length of `out` so far. */
static inline size_t length_of(const struct encoder *e)
{
    return (size_t)(e->at - (uint8_t *)e->out->data);
}

/* Where there is no memory, what was written is written over: it ends as an error when its table does. */
static __attribute__((noinline)) void grow(struct encoder *e, size_t more)
{
    e->out->len = length_of(e);
    if (!lt_buffer_try_reserve(e->out, more)) {
        e->no_memory = true;
        e->out->len = e->limit - LT_VALUE_SIZE; /* where it began */
    }
    e->at = (uint8_t *)e->out->data + e->out->len;
    e->end = (uint8_t *)e->out->data + e->out->size;
}

/* Makes room for `more` bytes at e->at. */
static inline void reserve_room(struct encoder *e, size_t more)
{
    if (more > (size_t)(e->end - e->at))
        grow(e, more);
}

static inline int put_byte(struct encoder *e, unsigned byte)
{
    reserve_room(e, 1);
    *e->at++ = (uint8_t)byte;
    return 0;
}

/* Which of 1, 2, 4 and 8 bytes hold `value`, counted from 0. */
static inline unsigned width_of(uint64_t value)
{
    return value <= UINT8_MAX ? 0 : value <= UINT16_MAX ? 1 : value <= UINT32_MAX ? 2 : 3;
}

/* Puts a head and a big-endian number of 1 << width bytes. HEAD_ROOM bytes are reserved for it, and may be written. */
static inline int put_sized(struct encoder *e, unsigned head, uint64_t value, unsigned width)
{
    unsigned size = 1U << width;
    uint64_t swapped = __builtin_bswap64(value << (64 - 8 * size));
    *e->at = (uint8_t)head;
    memcpy(e->at + 1, &swapped, sizeof swapped);
    e->at += 1 + size;
    return 0;
}

static inline int encode_integer(struct encoder *e, int64_t value)
{
    if (value >= -32 && value <= 127)
        return put_byte(e, (unsigned)value & 0xff);
    uint64_t magnitude = value >= 0 ? (uint64_t)value : (uint64_t)~value << 1; /* one bit more, for the sign */
    unsigned width = width_of(magnitude);
    reserve_room(e, HEAD_ROOM);
    return put_sized(e, (value >= 0 ? 0xcc : 0xd0) + width, (uint64_t)value, width);
}

/* Both are absolute: `index` the value's, `top` the stack's. */
static inline int encode_value(struct encoder *e, int index, int top)
{
    if (lua_isinteger(e->L, index))
        return encode_integer(e, lua_tointeger(e->L, index));
    return encode_other(e, index, top);
}

static int encode_float(struct encoder *e, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    reserve_room(e, HEAD_ROOM);
    return put_sized(e, 0xcb, bits, 3);
}

static int refuse_size(struct encoder *e)
{
    if (e->no_memory)
        return lt_fail(e->error, LT_UNSTORABLE, "%.*s: not enough memory", PATH_SIZE, e->path.root);
    if (e->values_left < 0)
        return lt_fail(e->error, LT_UNSTORABLE, "%.*s: more than %d values", PATH_SIZE, e->path.root, LT_VALUE_COUNT);
    return lt_fail(e->error, LT_UNSTORABLE, "%.*s: larger than %d MiB", PATH_SIZE, e->path.root, LT_VALUE_SIZE >> 20);
}

/* memcpy, without its call for what is short, as names are. */
static inline void copy_bytes(uint8_t *to, const char *s, size_t len)
{
    if (len > 16) {
        memcpy(to, s, len);
    } else if (len >= 8) {
        memcpy(to, s, 8);
        memcpy(to + len - 8, s + len - 8, 8);
    } else if (len >= 4) {
        memcpy(to, s, 4);
        memcpy(to + len - 4, s + len - 4, 4);
    } else if (len > 0) {
        to[0] = (uint8_t)s[0];
        to[len / 2] = (uint8_t)s[len / 2];
        to[len - 1] = (uint8_t)s[len - 1];
    }
}

static inline int encode_string(struct encoder *e, int index)
{
    size_t len;
    const char *s = lua_tolstring(e->L, index, &len);
    if (length_of(e) + len > e->limit)
        return refuse_size(e);
    reserve_room(e, HEAD_ROOM + len);
    if (e->no_memory)
        return refuse_size(e);
    if (len < 32)
        *e->at++ = (uint8_t)(0xa0 | len);
    else
        put_sized(e, 0xd9 + width_of(len), len, width_of(len));
    copy_bytes(e->at, s, len);
    e->at += len;
    return 0;
}

static inline int encode_key(struct encoder *e, int index, int type)
{
    if (type == LUA_TSTRING)
        return encode_string(e, index);
    if (type == LUA_TNUMBER && lua_tonumber(e->L, index) != lua_tonumber(e->L, index))
        return lt_value_refuse(e->L, &e->path, 1, e->error, "NaN cannot be a key");
    if (type == LUA_TNUMBER || type == LUA_TBOOLEAN)
        return encode_value(e, index, index);
    return lt_value_refuse(e->L, &e->path, 1, e->error, "a %s cannot be a key", lua_typename(e->L, type));
}

/* Counts what a table that is done has added. */
static inline int end_table(struct encoder *e, size_t count)
{
    e->values_left -= (int64_t)count + 1;
    if (e->no_memory || e->values_left < 0 || length_of(e) > e->limit)
        return refuse_size(e);
    e->path.depth--;
    return 0;
}

/* Puts the head of a map into the byte held free at `start`; that of a large one moves the entries on. */
static inline void put_map_head(struct encoder *e, size_t start, size_t count)
{
    if (count < 16) {
        e->out->data[start] = (char)(0x80 | count);
        return;
    }
    unsigned width = count <= UINT16_MAX ? 1 : 2;
    size_t more = 1U << width;
    reserve_room(e, more);
    if (e->no_memory)
        return;
    uint8_t *head = (uint8_t *)e->out->data + start;
    memmove(head + 1 + more, head + 1, (size_t)(e->at - head) - 1);
    head[0] = (uint8_t)(0xdd + width);
    for (size_t i = more; i > 0; i--, count >>= 8)
        head[i] = (uint8_t)count;
    e->at += more;
}

/* The first entry is on the stack: its key, of the type `type`, at `key`, its value above. */
static int encode_map(struct encoder *e, int index, int key, int type)
{
    size_t start = length_of(e);
    size_t count = 0;
    e->path.frames[e->path.depth - 1].key = key;
    put_byte(e, 0);
    for (;;) {
        if (encode_key(e, key, type) != 0 || encode_value(e, key + 1, key + 1) != 0)
            return LT_UNSTORABLE;
        lua_settop(e->L, key);
        count++;
        if (!lua_next(e->L, index))
            break;
        type = lua_type(e->L, key);
    }
    put_map_head(e, start, count);
    return end_table(e, count);
}

static int encode_array(struct encoder *e, int index, int top, lua_Integer length)
{
    lua_Integer *at = &e->path.frames[e->path.depth - 1].at;
    reserve_room(e, HEAD_ROOM);
    if (length < 16)
        *e->at++ = (uint8_t)(0x90 | length);
    else
        put_sized(e, length <= UINT16_MAX ? 0xdc : 0xdd, (uint64_t)length, length <= UINT16_MAX ? 1 : 2);
    for (*at = 1; *at <= length; ++*at) {
        lua_rawgeti(e->L, index, *at);
        if (encode_value(e, top + 1, top + 1) != 0)
            return LT_UNSTORABLE;
        lua_settop(e->L, top);
    }
    return end_table(e, (size_t)length);
}

/* Only a table whose first key is a number can be an array: the others need no look at their length. */
static int encode_table(struct encoder *e, int index, int top)
{
    if (lt_value_enter(e->L, index, &e->path, e->error) != 0)
        return LT_UNSTORABLE;
    lua_pushnil(e->L);
    if (!lua_next(e->L, index)) {
        put_byte(e, lt_value_is_array_marked(e->L, index) ? 0x90 : 0x80);
        return end_table(e, 0);
    }
    int type = lua_type(e->L, top + 1);
    if (type == LUA_TNUMBER) {
        lua_Integer length = lt_value_array_length(e->L, index);
        if (length > 0) {
            lua_settop(e->L, top);
            return encode_array(e, index, top, length);
        }
    }
    return encode_map(e, index, top + 1, type);
}

/* All but integers. */
static int encode_other(struct encoder *e, int index, int top)
{
    int type = lua_type(e->L, index);
    switch (type) {
    case LUA_TNUMBER:
        return encode_float(e, lua_tonumber(e->L, index));
    case LUA_TSTRING:
        return encode_string(e, index);
    case LUA_TTABLE:
        return encode_table(e, index, top);
    case LUA_TBOOLEAN:
        return put_byte(e, lua_toboolean(e->L, index) ? 0xc3 : 0xc2);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(e->L, index) == NULL)
            return put_byte(e, 0xc0);
        break;
    case LUA_TNIL:
    case LUA_TNONE:
        return lt_value_refuse(e->L, &e->path, 0, e->error, "nil cannot be stored");
    }
    return lt_value_refuse(e->L, &e->path, 0, e->error, "a %s cannot be stored", lua_typename(e->L, type));
}

int lt_value_encode(lua_State *L, int index, struct lt_buffer *out, const char *root, struct lt_error *error)
{
    struct encoder e;
    if (out->data == NULL)
        lt_buffer_reserve(out, 1);
    size_t start = out->len;
    int top = lua_gettop(L);
    e.L = L;
    e.out = out;
    e.limit = start + LT_VALUE_SIZE;
    e.values_left = LT_VALUE_COUNT;
    e.no_memory = false;
    e.error = error;
    e.path.root = root;
    e.path.depth = 0;
    e.at = (uint8_t *)out->data + start;
    e.end = (uint8_t *)out->data + out->size;
    int result = encode_value(&e, index < 0 && index > LUA_REGISTRYINDEX ? top + 1 + index : index, top);
    if (result != 0)
        lua_settop(L, top);
    out->len = result == 0 ? length_of(&e) : start;
    return result;
}

struct lt_bytes *lt_value_bytes(lua_State *L, int index, struct lt_buffer *scratch, const char *root,
                                struct lt_error *error)
{
    struct lt_bytes *bytes = NULL;
    scratch->len = 0;
    if (lt_value_encode(L, index, scratch, root, error) == LT_OK) {
        if (lt_memory_has(scratch->len))
            bytes = lt_bytes_new(scratch->data, scratch->len);
        else
            lt_fail(error, LT_UNSTORABLE, "%.*s: not enough memory", PATH_SIZE, root);
    }
    if (scratch->size > LT_SCRATCH_KEPT)
        lt_buffer_free(scratch);
    return bytes;
}

/* ---- decoding */

struct decoder {
    lua_State *L;
    const uint8_t *at;
    const uint8_t *end;
    size_t owed; /* values that must still come to fill the tables begun */
    int64_t values_left;
    int depth;
};

static int decode_value(struct decoder *d);

static inline size_t bytes_left(const struct decoder *d)
{
    return (size_t)(d->end - d->at);
}

/* Takes a big-endian number of `size` bytes. False if they are not there. */
static inline bool take_bytes(struct decoder *d, unsigned size, uint64_t *value)
{
    if (bytes_left(d) < size)
        return false;
    *value = 0;
    for (unsigned i = 0; i < size; i++)
        *value = *value << 8 | *d->at++;
    return true;
}

static int decode_string(struct decoder *d, uint64_t len)
{
    if (len > bytes_left(d))
        return LT_ERROR;
    lua_pushlstring(d->L, (const char *)d->at, (size_t)len);
    d->at += len;
    return 0;
}

/* Begins a table of `count` entries, in `items` values. Each takes a byte at least, so there must be that many beyond
 * those that are owed to the tables around it: tables are made in the size that is claimed, but no claim is empty. */
static bool begin_table(struct decoder *d, uint64_t count, uint64_t items)
{
    if (bytes_left(d) < d->owed || items > bytes_left(d) - d->owed || count >= (uint64_t)d->values_left)
        return false;
    if (++d->depth > LT_VALUE_DECODE_DEPTH)
        return false;
    d->owed += (size_t)items;
    d->values_left -= (int64_t)count + 1;
    return d->depth == 1 || lua_checkstack(d->L, LT_VALUE_SLOTS);
}

static int decode_array(struct decoder *d, uint64_t count)
{
    if (!begin_table(d, count, count))
        return LT_ERROR;
    lua_createtable(d->L, (int)count, 0);
    if (count == 0) {
        lt_value_array_metatable(d->L);
        lua_setmetatable(d->L, -2);
    }
    for (uint64_t i = 1; i <= count; i++) {
        if (decode_value(d) != 0)
            return LT_ERROR;
        lua_rawseti(d->L, -2, (lua_Integer)i);
    }
    d->depth--;
    return 0;
}

static int decode_key(struct decoder *d)
{
    if (d->at < d->end && (*d->at & 0xe0) == 0xa0) { /* nearly always a short string */
        d->owed--;
        return decode_string(d, *d->at++ & 0x1f);
    }
    if (decode_value(d) != 0)
        return LT_ERROR;
    int type = lua_type(d->L, -1);
    if (type == LUA_TSTRING || type == LUA_TBOOLEAN)
        return 0;
    return type == LUA_TNUMBER && lua_tonumber(d->L, -1) == lua_tonumber(d->L, -1) ? 0 : LT_ERROR;
}

static int decode_map(struct decoder *d, uint64_t count)
{
    if (!begin_table(d, count, 2 * count))
        return LT_ERROR;
    lua_createtable(d->L, 0, (int)count);
    for (uint64_t i = 0; i < count; i++) {
        if (decode_key(d) != 0 || decode_value(d) != 0)
            return LT_ERROR;
        lua_rawset(d->L, -3);
    }
    d->depth--;
    return 0;
}

static void push_unsigned(lua_State *L, uint64_t value)
{
    if (value <= LUA_MAXINTEGER)
        lua_pushinteger(L, (lua_Integer)value);
    else
        lua_pushnumber(L, (lua_Number)value);
}

/* `value` as read from `size` bytes, its sign not yet carried on. */
static void push_signed(lua_State *L, uint64_t value, unsigned size)
{
    unsigned shift = 64 - 8 * size;
    lua_pushinteger(L, (lua_Integer)(value << shift) >> shift);
}

static void push_float32(lua_State *L, uint32_t bits)
{
    float number;
    memcpy(&number, &bits, sizeof number);
    lua_pushnumber(L, (lua_Number)number);
}

static void push_float64(lua_State *L, uint64_t bits)
{
    double number;
    memcpy(&number, &bits, sizeof number);
    lua_pushnumber(L, number);
}

/* The kinds whose head is followed by a number: the value itself, or a length. 0xc4 to 0xdf, extensions left out. */
static int decode_sized(struct decoder *d, uint8_t head)
{
    static const uint8_t sizes[] = {1, 2, 4, 0, 0, 0, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4};
    unsigned size = sizes[head - 0xc4];
    uint64_t value;
    if (size == 0 || !take_bytes(d, size, &value))
        return LT_ERROR;
    if (head <= 0xc6 || (head >= 0xd9 && head <= 0xdb))
        return decode_string(d, value);
    if (head >= 0xde)
        return decode_map(d, value);
    if (head >= 0xdc)
        return decode_array(d, value);
    if (head == 0xca)
        push_float32(d->L, (uint32_t)value);
    else if (head == 0xcb)
        push_float64(d->L, value);
    else if (head <= 0xcf)
        push_unsigned(d->L, value);
    else
        push_signed(d->L, value, size);
    return 0;
}

/* Pushes the next value. After an error the caller clears the stack. */
static int decode_value(struct decoder *d)
{
    if (d->at == d->end)
        return LT_ERROR;
    uint8_t head = *d->at++;
    d->owed--;
    if (head <= 0x7f || head >= 0xe0)
        lua_pushinteger(d->L, (int8_t)head);
    else if (head >= 0xc4)
        return decode_sized(d, head);
    else if (head >= 0xc2)
        lua_pushboolean(d->L, head == 0xc3);
    else if (head == 0xc0)
        lt_value_null(d->L);
    else if (head == 0xc1) /* the one that MessagePack leaves unused */
        return LT_ERROR;
    else if (head >= 0xa0)
        return decode_string(d, head & 0x1f);
    else if (head >= 0x90)
        return decode_array(d, head & 0x0f);
    else
        return decode_map(d, head & 0x0f);
    return 0;
}

int lt_value_decode(lua_State *L, const char *data, size_t len)
{
    const uint8_t *begin = (const uint8_t *)data;
    struct decoder d = {.L = L, .at = begin, .end = begin + len, .owed = 1, .values_left = LT_VALUE_COUNT};
    int top = lua_gettop(L);
    if (decode_value(&d) == 0 && d.at == d.end)
        return 0;
    lua_settop(L, top);
    return LT_ERROR;
}
