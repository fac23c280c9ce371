/* The standard functions through which a script could get out of reach. */
#ifndef LTSH_SCRIPT_LIB_BASELIB_H
#define LTSH_SCRIPT_LIB_BASELIB_H

#include <lua.h>

/* Puts our setmetatable, xpcall and debug functions in the place of Lua's. What calls back to Lua from C and is better
 * written in Lua is in lua/ltsh/base.lua. */
void lt_baselib_open(lua_State *L);

#endif
