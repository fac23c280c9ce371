/* ltsh.log: the script's own lines in the host's log. */
#include <lauxlib.h>
#include <string.h>

#include "base/log.h"
#include "script/bind/bind_core.h"
#include "script/flow/call.h"
#include "script/values/marks.h"

enum { FIELDS = 64, NAME = 64 };

/* Reads one pair of the fields table; the value is at -1, the key at -2. Other kinds of values are described. */
static void read_field(lua_State *L, struct lt_log_field *field, char *text, size_t size)
{
    field->name = lua_tostring(L, -2);
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        field->kind = LT_LOG_BOOLEAN;
        field->value.boolean = lua_toboolean(L, -1);
        break;
    case LUA_TNUMBER:
        field->kind = lua_isinteger(L, -1) ? LT_LOG_INTEGER : LT_LOG_NUMBER;
        if (field->kind == LT_LOG_INTEGER)
            field->value.integer = lua_tointeger(L, -1);
        else
            field->value.number = lua_tonumber(L, -1);
        break;
    case LUA_TSTRING:
        field->kind = LT_LOG_STRING;
        field->value.string.data = lua_tolstring(L, -1, &field->value.string.len);
        break;
    default:
        field->kind = LT_LOG_STRING;
        lt_describe(L, -1, text, size);
        field->value.string.data = text;
        field->value.string.len = strlen(text);
    }
}

LT_RAISES static int write_line(lua_State *L, enum lt_log_level level, const char *function)
{
    const char *message = luaL_checkstring(L, 1);
    struct lt_log_field fields[FIELDS];
    char texts[FIELDS][NAME];
    size_t count = 0;
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lua_pushnil(L);
        while (lua_next(L, 2) != 0) {
            if (lua_type(L, -2) != LUA_TSTRING)
                return luaL_error(L, "%s: the names of fields must be strings, got a %s", function,
                                  luaL_typename(L, -2));
            if (count < FIELDS)
                read_field(L, &fields[count], texts[count], NAME);
            count += count < FIELDS;
            lua_pop(L, 1); /* the value stays in the table */
        }
    }
    lt_log_write(level, message, fields, count);
    return 0;
}

static int log_debug(lua_State *L)
{
    return write_line(L, LT_LOG_DEBUG, "ltsh.log.debug");
}

static int log_info(lua_State *L)
{
    return write_line(L, LT_LOG_INFO, "ltsh.log.info");
}

static int log_warn(lua_State *L)
{
    return write_line(L, LT_LOG_WARN, "ltsh.log.warn");
}

static int log_error(lua_State *L)
{
    return write_line(L, LT_LOG_ERROR, "ltsh.log.error");
}

void lt_bind_log(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"debug", log_debug}, {"info", log_info}, {"warn", log_warn}, {"error", log_error}, {NULL, NULL}};
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "log");
}
