/* The func actuator: runs a Lua function for each task, in a strand of the host's state. */
#ifndef LTSH_SCRIPT_PARTS_FUNC_ACTUATOR_H
#define LTSH_SCRIPT_PARTS_FUNC_ACTUATOR_H

#include <lua.h>

#include "scheduler/actuator.h"

/* Takes the function at `index`. */
struct lt_actuator *lt_func_actuator_new(lua_State *L, int index);

/* Runs that begin from now on call the function at `index`. */
void lt_func_actuator_set(struct lt_actuator *actuator, lua_State *L, int index);

#endif
