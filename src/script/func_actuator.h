/* The func actuator: runs a Lua function for each task, in a strand of the host's state. */
#ifndef LTSH_SCRIPT_FUNC_ACTUATOR_H
#define LTSH_SCRIPT_FUNC_ACTUATOR_H

#include <lua.h>

#include "scheduler/actuator.h"

/* Takes the function at `index`. */
struct lt_actuator *lt_func_actuator_new(lua_State *L, int index);

#endif
