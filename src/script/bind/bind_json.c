/* ltsh.json: encode, decode, null, array. */
#include "script/values/json.h"

#include <string.h>

#include <lauxlib.h>

#include "script/values/marks.h"
#include "script/values/values.h"

/* The option `pretty`; all else in the options is misuse. */
LT_RAISES LT_RUNS_LUA static bool read_pretty(lua_State *L, int index)
{
    bool pretty = false;
    if (lua_isnoneornil(L, index))
        return false;
    if (!lua_istable(L, index))
        luaL_error(L, "ltsh.json.encode: options must be a table, got %s", luaL_typename(L, index));
    lua_pushnil(L);
    while (lua_next(L, index)) {
        if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), "pretty") != 0)
            luaL_error(L, "ltsh.json.encode: unknown option '%s', there is only 'pretty'", luaL_tolstring(L, -2, NULL));
        if (!lua_isboolean(L, -1))
            luaL_error(L, "ltsh.json.encode: pretty must be a boolean, got %s", luaL_tolstring(L, -1, NULL));
        pretty = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    return pretty;
}

/* json_encode(value[, {pretty = true}]) -> string. Raises, naming the path, for what JSON cannot say. */
static int json_encode(lua_State *L)
{
    struct lt_error error;
    bool pretty = read_pretty(L, 2);
    if (lt_json_encode(L, 1, pretty, "value", &error) != 0)
        return luaL_error(L, "ltsh.json.encode: %s", error.message);
    return 1;
}

/* json_decode(text) -> value, or nil, message, "invalid". */
static int json_decode(lua_State *L)
{
    struct lt_error error;
    size_t len;
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "ltsh.json.decode: text must be a string, got %s", luaL_typename(L, 1));
    const char *text = lua_tolstring(L, 1, &len);
    if (lt_json_decode(L, text, len, &error) == 0)
        return 1;
    luaL_pushfail(L);
    lua_pushstring(L, error.message);
    lua_pushliteral(L, "invalid");
    return 3;
}

/* json_array([table]) -> the table, or a new one, marked so that it is an array also when it is empty. */
static int json_array(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    } else if (!lua_istable(L, 1)) {
        return luaL_error(L, "ltsh.json.array: expected a table, got %s", luaL_typename(L, 1));
    } else if (lua_getmetatable(L, 1) && !lt_value_is_array_marked(L, 1)) {
        return luaL_error(L, "ltsh.json.array: the table has a metatable of its own");
    }
    lua_settop(L, 1);
    lt_value_array_metatable(L);
    lua_setmetatable(L, 1);
    return 1;
}

int lt_open_json(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"encode", json_encode}, {"decode", json_decode}, {"array", json_array}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lt_value_null(L);
    lua_setfield(L, -2, "null");
    return 1;
}
