/* Containers, actuators, persisters and receivers that a script brings as tables of methods.
 *
 *     scheduler --ops--> lua_container.c  lua_actuator.c  lua_persister.c  lua_receiver.c --adapter.h--> methods
 *
 * Each takes the table at `index`, which lua/ltsh has checked for the methods that its kind needs, and makes the
 * interface of the scheduler from it. Its methods run in strands of their own: they may wait, several may be under way
 * at once, and each has a limit in time. The owner (a script's object) calls ops->release when it lets go; the adapter
 * is freed when it is also closed. */
#ifndef LTSH_SCRIPT_PARTS_LUA_PARTS_H
#define LTSH_SCRIPT_PARTS_LUA_PARTS_H

#include <lua.h>

#include "script/values/marks.h"

/* `calls`: the index of what lua/ltsh/container_calls.lua makes for the table. */
LT_RUNS_LUA struct lt_container *lt_lua_container_new(lua_State *L, int index, int calls);
LT_RUNS_LUA struct lt_actuator *lt_lua_actuator_new(lua_State *L, int index);
struct lt_persister *lt_lua_persister_new(lua_State *L, int index);
struct lt_receiver *lt_lua_receiver_new(lua_State *L, int index);

#endif
