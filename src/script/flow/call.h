/* Calls from C into Lua: the gate.
 *
 * Every function that the host calls for its own sake (a module's method, a handler, a key_limit) goes through here:
 * protected, in a strand of its own, so that it may wait, with a limit in time, and with one answer. */
#ifndef LTSH_SCRIPT_FLOW_CALL_H
#define LTSH_SCRIPT_FLOW_CALL_H

#include "base/error.h"
#include "base/log.h"
#include "loop/reply.h"
#include "scheduler/call_limits.h"
#include "script/flow/strand.h"
#include "script/values/marks.h"

/* A table of methods that a script gave: a container, an actuator, a persister, a receiver. `self` is what its methods
 * get. */
struct lt_module {
    struct lt_script *script;
    const char *kind; /* "container", ... static */
    char *name;       /* for messages: "container 'orders'" or a file's name; owned */
    int methods;      /* registry references; LUA_NOREF when closed */
    int self;
    struct lt_group group; /* of its calls */
    struct lt_log_gate bugs;
};

/* Takes the table at `index` as methods and self. */
void lt_module_open(struct lt_module *module, lua_State *L, int index, const char *kind);
void lt_module_close(struct lt_module *module);

/* Whether it has a function (or something callable) of this name, by raw or inherited lookup. Protected. */
LT_RUNS_LUA bool lt_module_has(const struct lt_module *module, const char *method);

/* One call that is under way. Owned by the caller, in place until `done`. */
struct lt_call {
    struct lt_module *module;
    const char *method; /* static */
    struct lt_strand *strand;
    struct lt_timer timer;
    struct lt_call_limits limits;
    /* Called once, maybe before lt_call_run returns. code LT_OK: `count` results are the topmost values of L, and so at
     * lua_gettop(L) - count + 1 and on (read and check them here; allocation failure aside, do not raise). Else L is
     * NULL and `message` says what went wrong, module and method named: LT_ERROR (raised, or it held the host), LT_TIMEOUT. A
     * bug's traceback was logged. */
    void (*done)(struct lt_call *call, int code, lua_State *L, int count, const char *message);
    void *owner;
    struct lt_report *failure; /* where a raised failure goes, which may be a table; NULL: only the message */
    struct lt_error error;
};

/* Begins a call: returns the state to push the arguments after `self` on. */
lua_State *lt_call_begin(struct lt_call *call, struct lt_module *module, const char *method,
                         struct lt_call_limits limits, void *owner,
                         void (*done)(struct lt_call *call, int code, lua_State *L, int count, const char *message));

/* Runs it with so many arguments (self not counted). */
LT_RUNS_LUA void lt_call_run(struct lt_call *call, int arguments);

/* From within it: it has as much time again as at the beginning, for what it does next. */
void lt_call_prolong(struct lt_call *call);

/* Gives it up: its strand is ended and `done` is not called. */
LT_RUNS_LUA void lt_call_abort(struct lt_call *call);

/* Fills a message for a result of the wrong kind: "container 'x': claim must return a list of tasks, got 5 (a number)".
 * `index` is in L. */
int lt_call_nonsense(struct lt_call *call, lua_State *L, int index, const char *expected, struct lt_error *error);

/* A failure as the README defines it (a string, or a table with reason, retry, retry_after, snooze) from the value at
 * `index` of L into a report; false with a message if it is none. Numbers are accepted as reasons and turned into text.
 */
struct lt_report;
bool lt_failure_read(lua_State *L, int index, struct lt_report *report, struct lt_error *error);

/* The error value on top of a raised strand's stack as a failure: thrown on purpose with error("text") its position is
 * taken off, a table is a failure, nil is "error(nil)"; everything else (a bug) keeps its position. `traceback` (may be
 * NULL) gets the traceback, or NULL when it was thrown on purpose as a table. */
LT_RUNS_LUA void lt_failure_raised(struct lt_strand *strand, struct lt_report *report, struct lt_bytes **traceback);

/* Raises "<function>: not enough memory" if there is not so much, or none for what is new: to be asked before something
 * is made because a script says so. */
LT_RAISES void lt_memory_check(lua_State *L, const char *function, size_t size);

/* Raises "<function>: <name> must be <expected>, got <the value at `index`>". Does not return. */
LT_RAISES int lt_argument_error(lua_State *L, const char *function, const char *name, const char *expected, int index);

/* One line that describes the value at `index`, for messages: `5 (a number)`, `"text"`, `a table`. Never raises, never
 * calls metamethods. */
void lt_describe(lua_State *L, int index, char *buffer, size_t size);

#endif
