/* Containers, actuators, persisters and receivers as objects that a scheduler is made from. */
#ifndef LTSH_SCRIPT_BIND_BIND_PARTS_H
#define LTSH_SCRIPT_BIND_BIND_PARTS_H

#include <lua.h>

#include "script/values/marks.h"

enum lt_part_kind { LT_PART_CONTAINER, LT_PART_ACTUATOR, LT_PART_PERSISTER, LT_PART_RECEIVER };

/* The struct lt_container etc. of the part object at `index`; raises if it is none of this kind. The object owns it: it
 * must outlive its use (the scheduler's object refers to it), or be closed by then. */
LT_RAISES void *lt_part_check(lua_State *L, int index, enum lt_part_kind kind);

/* Pushes an object without a part, whose pointer is to be set through what this returns. */
void **lt_part_new(lua_State *L, enum lt_part_kind kind);

/* Lets go of the part of the object at `index`, as its collection does. */
void lt_part_release(lua_State *L, int index);

/* core.redis_container (bind_redis.c). */
int lt_make_redis(lua_State *L);

#endif
