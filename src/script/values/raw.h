/* Fields of tables that are ours: read without metamethods, so that nothing is raised and no Lua runs. */
#ifndef LTSH_RAW_H
#define LTSH_RAW_H

#include <lua.h>

/* Pushes the field of the table at `index`, and returns its type. */
static inline int lt_raw_field(lua_State *L, int index, const char *name)
{
    index = lua_absindex(L, index);
    lua_pushstring(L, name);
    return lua_rawget(L, index);
}

/* The same of the table of globals, for as long as no script has changed it. */
static inline int lt_raw_global(lua_State *L, const char *name)
{
    lua_pushglobaltable(L);
    int type = lt_raw_field(L, -1, name);
    lua_remove(L, -2);
    return type;
}

#endif
