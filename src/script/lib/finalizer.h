/* Finalizers of the script: Lua calls a `__gc` with hooks disabled, in the middle of whatever allocates, where nothing
 * could end it. So setmetatable wraps it: it runs in a coroutine of its own, in place, and is ended when it computes for
 * too long. It cannot wait. */
#ifndef LTSH_SCRIPT_LIB_FINALIZER_H
#define LTSH_SCRIPT_LIB_FINALIZER_H

#include <lua.h>

/* Puts our setmetatable and debug.setmetatable in the place of Lua's. */
void lt_finalizer_open(lua_State *L);

#endif
