/* `require "ltsh.workers"`, for lua/ltsh/actuator.lua. */
#ifndef LTSH_WORKERS_BIND_WORKERS_H
#define LTSH_WORKERS_BIND_WORKERS_H

#include <lua.h>

/* lua_CFunction for package.preload. */
int lt_open_workers(lua_State *L);

#endif
