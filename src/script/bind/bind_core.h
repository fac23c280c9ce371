/* `ltsh.core`: what the modules in lua/ltsh/ are made from. Each function pushes a table or registers in the one on top
 * of the stack. */
#ifndef LTSH_SCRIPT_BIND_BIND_CORE_H
#define LTSH_SCRIPT_BIND_BIND_CORE_H

#include <lua.h>

/* lua_CFunction for package.preload["ltsh.core"]. */
int lt_open_core(lua_State *L);

/* Sets functions in the table on top of the stack. */
void lt_bind_scheduler(lua_State *L); /* bind_scheduler.c */
void lt_bind_parts(lua_State *L);     /* bind_parts.c: containers, actuators, persisters, receivers */
void lt_bind_exec(lua_State *L);
void lt_bind_http(lua_State *L);
void lt_bind_http_client(lua_State *L);
void lt_bind_sqlite(lua_State *L); /* bind_sqlite.c */
void lt_bind_log(lua_State *L);    /* bind_log.c */
int lt_open_json(lua_State *L);    /* bind_json.c: pushes a table */
int lt_open_values(lua_State *L);  /* bind_values.c: pushes a table */

/* package.preload["luv"]: libuv on the host's loop (bind_luv.c). */
int lt_open_luv(lua_State *L);

#endif
