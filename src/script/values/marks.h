/* Marks, which scripts/lint checks, after HAProxy's __LJMP:
 *
 *     LT_RAISES      the function may raise an error of Lua's, otherwise than for want of memory: who calls it is
 *                    protected, or marked, and holds nothing that would be lost
 *     LT_RUNS_LUA    it may run Lua, which may do anything that a script can: end the task, close the scheduler, call
 *                    the same function again
 *
 * Not marked: what Lua itself calls (a lua_CFunction, a continuation, a hook), since it may do both. */
#ifndef LTSH_MARKS_H
#define LTSH_MARKS_H

#define LT_RAISES
#define LT_RUNS_LUA

#endif
