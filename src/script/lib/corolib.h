/* The `coroutine` library in our words: coroutines of the script's through which the host's waiting passes. */
#ifndef LTSH_SCRIPT_LIB_COROLIB_H
#define LTSH_SCRIPT_LIB_COROLIB_H

#include <lua.h>

/* Replaces what must differ in the global table `coroutine`. */
void lt_corolib_open(lua_State *L);

#endif
