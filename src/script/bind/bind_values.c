/* ltsh.core.encode and ltsh.core.decode: the codec itself, for specs and for modules that store values on their own. */
#include "script/values/values.h"

#include <lauxlib.h>

enum { KEPT_SIZE = 64 << 10 }; /* a larger buffer is not kept from call to call */

/* One buffer for all calls, owned by a userdata: the push of the result may raise. */
static int free_buffer(lua_State *L)
{
    lt_buffer_free(lua_touserdata(L, 1));
    return 0;
}

static void push_buffer(lua_State *L)
{
    struct lt_buffer *buffer = lua_newuserdatauv(L, sizeof *buffer, 0);
    *buffer = (struct lt_buffer){0};
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, free_buffer);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
}

/* values_encode(value[, root]) -> string, or nil, message, code. `root` ("value") begins the path in the message. */
static int values_encode(lua_State *L)
{
    struct lt_buffer *buffer = lua_touserdata(L, lua_upvalueindex(1));
    struct lt_error error;
    const char *root = luaL_optstring(L, 2, "value");
    buffer->len = 0;
    int result = lt_value_encode(L, 1, buffer, root, &error);
    if (result == 0)
        lua_pushlstring(L, buffer->data, buffer->len);
    if (buffer->size > KEPT_SIZE)
        lt_buffer_free(buffer);
    if (result == 0)
        return 1;
    luaL_pushfail(L);
    lua_pushstring(L, error.message);
    lua_pushstring(L, lt_code_name(result));
    return 3;
}

/* values_decode(string) -> value, or nil, message, code. */
static int values_decode(lua_State *L)
{
    size_t len;
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "ltsh.core.decode: expected a string, got %s", luaL_typename(L, 1));
    const char *data = lua_tolstring(L, 1, &len);
    int result = lt_value_decode(L, data, len);
    if (result == 0)
        return 1;
    luaL_pushfail(L);
    lua_pushliteral(L, "the bytes are not an encoded value");
    lua_pushstring(L, lt_code_name(result));
    return 3;
}

int lt_open_values(lua_State *L)
{
    lua_createtable(L, 0, 2);
    push_buffer(L);
    lua_pushcclosure(L, values_encode, 1);
    lua_setfield(L, -2, "encode");
    lua_pushcfunction(L, values_decode);
    lua_setfield(L, -2, "decode");
    return 1;
}
