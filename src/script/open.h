/* Opens and closes the Lua state of a script: the one place that knows all rooms. */
#ifndef LTSH_SCRIPT_OPEN_H
#define LTSH_SCRIPT_OPEN_H

#include "script/flow/script.h"
#include "script/values/marks.h"

/* What a state is for. Zero it for the host's own. */
struct lt_script_options {
    lua_Alloc alloc; /* NULL: malloc's */
    void *alloc_arg;
    bool worker;   /* tasks run in it and nothing else: no schedulers */
    bool may_exit; /* it has the process to itself: os.exit in a task ends that */
};

/* Opens a state with the standard libraries (ours in the place of coroutine, os.exit and what else could escape the
 * host) and `ltsh.core` ready to be required. NULL when out of memory. The loop is the caller's. It belongs to the
 * thread that opens it. */
LT_RUNS_LUA struct lt_script *lt_script_open(struct lt_loop *loop, const struct lt_script_options *options);

/* Makes `open` the way to require `name`. */
void lt_script_preload(lua_State *L, const char *name, lua_CFunction open);

/* Ends what still runs in it. Then the loop's callbacks may come to an end: lt_loop_finish. */
LT_RUNS_LUA void lt_script_end(struct lt_script *script);

/* Closes the state. Nothing may call into it any more. */
LT_RUNS_LUA void lt_script_close(struct lt_script *script);

#endif
