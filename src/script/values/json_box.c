#include "script/values/json_box.h"

#include <lauxlib.h>

static const char metatable_key; /* its address is the key in the registry */

void lt_json_box_empty(struct lt_json_box *box)
{
    json_decref(box->root);
    box->root = NULL;
    lt_buffer_free(&box->text);
}

static int box_gc(lua_State *L)
{
    lt_json_box_empty(lua_touserdata(L, 1));
    return 0;
}

static void push_metatable(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &metatable_key) != LUA_TNIL)
        return;
    lua_pop(L, 1);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, box_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &metatable_key);
}

LT_RAISES struct lt_json_box *lt_json_box_push(lua_State *L)
{
    luaL_checkstack(L, 6, NULL);
    struct lt_json_box *box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = (struct lt_json_box){0};
    push_metatable(L);
    lua_setmetatable(L, -2);
    return box;
}
