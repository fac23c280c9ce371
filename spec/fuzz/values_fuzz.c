/* Feeds any bytes to the decoder of values (a libFuzzer target: -fsanitize=fuzzer,address,undefined).
 *
 * - What decodes is encoded, decoded and encoded again: the same value, and bytes of the same length. The bytes
 * themselves are the same too unless a map has several entries: Lua may go over those in another order.
 * - What msgpack-c unpacks is decoded here as well, to the same value, if it is of the kinds that values have. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <msgpack.h>

#include "script/values/values.h"

enum {
    RUNS_PER_STATE = 1000,
    PEER_DEPTH = 30, /* msgpack-c itself ends at 32 */
};

struct input {
    const char *data;
    size_t len;
    struct lt_buffer first;
    struct lt_buffer second;
};

static void expect(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "values_fuzz: %s\n", what);
    abort();
}

/* ---- the same value? */

static bool same_value(lua_State *L, int a, int b);

static bool same_float(lua_Number a, lua_Number b)
{
    uint64_t bits[2];
    memcpy(&bits[0], &a, sizeof a);
    memcpy(&bits[1], &b, sizeof b);
    return bits[0] == bits[1];
}

static size_t count_entries(lua_State *L, int index)
{
    size_t count = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        count++;
    return count;
}

static bool same_entries(lua_State *L, int a, int b)
{
    luaL_checkstack(L, 8, NULL);
    for (lua_pushnil(L); lua_next(L, a); lua_pop(L, 1)) {
        lua_pushvalue(L, -2);
        lua_rawget(L, b);
        int top = lua_gettop(L);
        if (!same_value(L, top - 1, top))
            return false;
        lua_pop(L, 1);
    }
    return count_entries(L, a) == count_entries(L, b) &&
           lt_value_is_array_marked(L, a) == lt_value_is_array_marked(L, b);
}

/* Both indices are absolute. */
static bool same_value(lua_State *L, int a, int b)
{
    if (lua_type(L, a) != lua_type(L, b) || lua_isinteger(L, a) != lua_isinteger(L, b))
        return false;
    if (lua_type(L, a) == LUA_TTABLE)
        return same_entries(L, a, b);
    if (lua_type(L, a) == LUA_TNUMBER && !lua_isinteger(L, a))
        return same_float(lua_tonumber(L, a), lua_tonumber(L, b));
    return lua_rawequal(L, a, b);
}

static int depth_of(lua_State *L, int index)
{
    int deepest = 0;
    if (lua_type(L, index) != LUA_TTABLE)
        return 0;
    luaL_checkstack(L, 8, NULL);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        int depth = depth_of(L, lua_gettop(L));
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + 1;
}

/* Whether a table at `index` or in it has entries that are no array, and more than one. */
static bool has_order(lua_State *L, int index)
{
    bool found = false;
    if (lua_type(L, index) != LUA_TTABLE)
        return false;
    luaL_checkstack(L, 8, NULL);
    if (lt_value_array_length(L, index) == 0 && count_entries(L, index) > 1)
        return true;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        found = has_order(L, lua_gettop(L)) || found;
    return found;
}

/* ---- there and back */

/* The value is on the top of the stack. */
static void check_round_trip(lua_State *L, struct input *input)
{
    struct lt_error error;
    int value = lua_gettop(L);
    if (lt_value_encode(L, value, &input->first, "value", &error) != 0) {
        expect(depth_of(L, value) > LT_VALUE_DEPTH, error.message);
        expect(input->first.len == 0, "a refused value has left bytes behind");
        return;
    }
    expect(lt_value_decode(L, input->first.data, input->first.len) == 0, "what was encoded does not decode");
    expect(lua_gettop(L) == value + 1, "the stack is not balanced");
    expect(same_value(L, value, value + 1), "the value has changed");
    expect(lt_value_encode(L, -1, &input->second, "value", &error) == 0, "what was decoded does not encode");
    expect(lua_gettop(L) == value + 1, "the stack is not balanced");
    expect(input->first.len == input->second.len, "the length has changed");
    expect(has_order(L, value) || memcmp(input->first.data, input->second.data, input->first.len) == 0,
           "the bytes have changed");
    lua_pop(L, 1);
}

/* ---- msgpack-c */

/* msgpack-c allocates what a length claims, up to gigabytes: true if no length claims more than the bytes that follow
 * it. */
static bool has_modest_claims(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        size_t size = at[i] == 0xdc || at[i] == 0xde ? 2 : at[i] == 0xdd || at[i] == 0xdf ? 4 : 0;
        size_t claim = 0;
        if (i + size >= len)
            continue;
        for (size_t k = 1; k <= size; k++)
            claim = claim << 8 | at[i + k];
        if (claim > len - i)
            return false;
    }
    return true;
}

static bool is_key(const msgpack_object *key)
{
    bool is_float = key->type == MSGPACK_OBJECT_FLOAT32 || key->type == MSGPACK_OBJECT_FLOAT64;
    bool is_other = key->type == MSGPACK_OBJECT_BOOLEAN || key->type == MSGPACK_OBJECT_STR ||
                    key->type == MSGPACK_OBJECT_BIN || key->type == MSGPACK_OBJECT_POSITIVE_INTEGER ||
                    key->type == MSGPACK_OBJECT_NEGATIVE_INTEGER;
    return is_other || (is_float && key->via.f64 == key->via.f64);
}

/* Whether values have this kind of thing. */
static bool is_ours(const msgpack_object *object, int depth)
{
    if (depth > PEER_DEPTH || object->type == MSGPACK_OBJECT_EXT)
        return false;
    if (object->type == MSGPACK_OBJECT_ARRAY)
        for (uint32_t i = 0; i < object->via.array.size; i++)
            if (!is_ours(&object->via.array.ptr[i], depth + 1))
                return false;
    if (object->type == MSGPACK_OBJECT_MAP)
        for (uint32_t i = 0; i < object->via.map.size; i++)
            if (!is_key(&object->via.map.ptr[i].key) || !is_ours(&object->via.map.ptr[i].val, depth + 1))
                return false;
    return true;
}

static bool agrees(lua_State *L, int index, const msgpack_object *object);

static bool agrees_string(lua_State *L, int index, const char *data, size_t size)
{
    size_t len;
    if (lua_type(L, index) != LUA_TSTRING)
        return false;
    const char *s = lua_tolstring(L, index, &len);
    return len == size && (size == 0 || memcmp(s, data, size) == 0);
}

static bool agrees_number(lua_State *L, int index, const msgpack_object *object)
{
    if (object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER)
        return lua_isinteger(L, index) && lua_tointeger(L, index) == object->via.i64;
    if (object->type == MSGPACK_OBJECT_POSITIVE_INTEGER && object->via.u64 <= INT64_MAX)
        return lua_isinteger(L, index) && lua_tointeger(L, index) == (int64_t)object->via.u64;
    lua_Number number = object->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? (lua_Number)object->via.u64 : object->via.f64;
    return lua_type(L, index) == LUA_TNUMBER && !lua_isinteger(L, index) && same_float(lua_tonumber(L, index), number);
}

static bool agrees_array(lua_State *L, int index, const msgpack_object_array *array)
{
    bool same = lua_type(L, index) == LUA_TTABLE && count_entries(L, index) == array->size &&
                lt_value_is_array_marked(L, index) == (array->size == 0);
    for (uint32_t i = 0; same && i < array->size; i++) {
        lua_rawgeti(L, index, i + 1);
        same = agrees(L, lua_gettop(L), &array->ptr[i]);
        lua_pop(L, 1);
    }
    return same;
}

/* Pushes the value that the key of one of our maps would have. */
static void push_key(lua_State *L, const msgpack_object *key)
{
    switch (key->type) {
    case MSGPACK_OBJECT_BOOLEAN:
        lua_pushboolean(L, key->via.boolean);
        break;
    case MSGPACK_OBJECT_STR:
        lua_pushlstring(L, key->via.str.ptr, key->via.str.size);
        break;
    case MSGPACK_OBJECT_BIN:
        lua_pushlstring(L, key->via.bin.ptr, key->via.bin.size);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        lua_pushinteger(L, key->via.i64);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        if (key->via.u64 <= INT64_MAX)
            lua_pushinteger(L, (lua_Integer)key->via.u64);
        else
            lua_pushnumber(L, (lua_Number)key->via.u64);
        break;
    default:
        lua_pushnumber(L, key->via.f64);
    }
}

/* A map with fewer entries than it was given had some keys several times, and the last of each stays: not compared. */
static bool agrees_map(lua_State *L, int index, const msgpack_object_map *map)
{
    bool same = lua_type(L, index) == LUA_TTABLE && !lt_value_is_array_marked(L, index);
    size_t count = same ? count_entries(L, index) : 0;
    if (!same || count != map->size)
        return same && count < map->size;
    for (uint32_t i = 0; same && i < map->size; i++) {
        push_key(L, &map->ptr[i].key);
        lua_rawget(L, index);
        same = agrees(L, lua_gettop(L), &map->ptr[i].val);
        lua_pop(L, 1);
    }
    return same;
}

static bool agrees(lua_State *L, int index, const msgpack_object *object)
{
    luaL_checkstack(L, 8, NULL);
    switch (object->type) {
    case MSGPACK_OBJECT_NIL:
        return lua_type(L, index) == LUA_TLIGHTUSERDATA && lua_touserdata(L, index) == NULL;
    case MSGPACK_OBJECT_BOOLEAN:
        return lua_type(L, index) == LUA_TBOOLEAN && lua_toboolean(L, index) == object->via.boolean;
    case MSGPACK_OBJECT_STR:
        return agrees_string(L, index, object->via.str.ptr, object->via.str.size);
    case MSGPACK_OBJECT_BIN:
        return agrees_string(L, index, object->via.bin.ptr, object->via.bin.size);
    case MSGPACK_OBJECT_ARRAY:
        return agrees_array(L, index, &object->via.array);
    case MSGPACK_OBJECT_MAP:
        return agrees_map(L, index, &object->via.map);
    default:
        return agrees_number(L, index, object);
    }
}

/* `decoded` says whether our value is on the top of the stack. */
static void check_peer(lua_State *L, const struct input *input, bool decoded)
{
    size_t used = 0;
    msgpack_unpacked peer;
    if (!has_modest_claims((const uint8_t *)input->data, input->len))
        return;
    msgpack_unpacked_init(&peer);
    if (msgpack_unpack_next(&peer, input->data, input->len, &used) == MSGPACK_UNPACK_SUCCESS && used == input->len &&
        is_ours(&peer.data, 0)) {
        expect(decoded, "msgpack-c takes it, and the decoder does not");
        expect(agrees(L, lua_gettop(L), &peer.data), "msgpack-c reads another value");
    }
    msgpack_unpacked_destroy(&peer);
}

/* ---- the target */

static int run(lua_State *L)
{
    struct input *input = lua_touserdata(L, 1);
    int top = lua_gettop(L);
    bool decoded = lt_value_decode(L, input->data, input->len) == 0;
    expect(lua_gettop(L) == top + decoded, "the stack is not balanced");
    check_peer(L, input, decoded);
    if (decoded)
        check_round_trip(L, input);
    return 0;
}

static lua_State *state_for_run(void)
{
    static lua_State *L;
    static int runs;
    if (runs++ % RUNS_PER_STATE == 0) {
        if (L != NULL)
            lua_close(L);
        L = luaL_newstate();
    }
    return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    lua_State *L = state_for_run();
    struct input input = {.data = (const char *)data, .len = len};
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, &input);
    if (lua_pcall(L, 1, 0, 0) != LUA_OK)
        expect(false, lua_tostring(L, -1));
    lt_buffer_free(&input.first);
    lt_buffer_free(&input.second);
    return 0;
}
