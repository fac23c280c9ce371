/* Futures: values that will be there. What ltsh.spawn and ltsh.await wait with. */
#ifndef LTSH_SCRIPT_FLOW_FUTURE_H
#define LTSH_SCRIPT_FLOW_FUTURE_H

#include <lua.h>

/* Registers the metatables. */
void lt_future_open(lua_State *L);

/* ltsh.spawn(fn, ...) -> a job with wait() and cancel(). */
int lt_spawn(lua_State *L);

/* ltsh.await(fn): calls fn(done) and waits until done(...) was called; returns what it was given. What
 * fn returns (a function, or an object with a method `cancel` or `close`) is cancelled if the wait is given up; nil and a
 * message are the result at once. */
int lt_await(lua_State *L);

/* Pushes one that is waited for with wait(), and gives the one at `index` its values, the topmost `count`. */
void lt_future_push(lua_State *L);
void lt_future_set(lua_State *L, int index, int count);

#endif
