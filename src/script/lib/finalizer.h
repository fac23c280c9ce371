/* Finalizers of the script: Lua calls a `__gc` with hooks disabled, in the middle of whatever allocates. One written in
 * Lua is wrapped by setmetatable, so that it runs in a strand: cut like any other, and the strand that triggered it goes
 * on after it, as it would without us. */
#ifndef LTSH_SCRIPT_LIB_FINALIZER_H
#define LTSH_SCRIPT_LIB_FINALIZER_H

#include <lua.h>

/* Puts our setmetatable and debug.setmetatable in the place of Lua's. */
void lt_finalizer_open(lua_State *L);

#endif
