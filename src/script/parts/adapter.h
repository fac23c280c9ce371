/* Adapters: what the four interfaces that are made from Lua tables have in common (lua_parts.h).
 *
 * - Calls: each is allocated for itself, so that any number can be under way; the adapter knows them all, and ends
 *   them when it is closed.
 * - A gate: functions that were given to the script (notify, push, announce) reach their adapter through it; once that
 *   is closed they find nobody and do nothing.
 * - An end: closed (after the table's own `close`) and released by its owner, in any order, it is freed. */
#ifndef LTSH_SCRIPT_PARTS_ADAPTER_H
#define LTSH_SCRIPT_PARTS_ADAPTER_H

#include "base/log.h"
#include "scheduler/actuator.h"
#include "script/flow/call.h"
#include "script/values/marks.h"

struct lt_adapter_call;
LIST_HEAD(lt_adapter_calls, lt_adapter_call);

struct lt_adapter {
    struct lt_module module;
    struct lt_loop *loop; /* since it was opened */
    struct lt_call_limits call_limits;
    struct lt_adapter_calls calls; /* under way */
    struct lt_adapter **gate;      /* a userdata of Lua's; NULL: no function was given away */
    int gate_ref;
    struct lt_log_gate log;
    bool open;
    bool released;
    /* Told by lt_adapter_close at the end. */
    void (*closed)(struct lt_adapter *adapter, int code, const char *message);
    void (*free)(struct lt_adapter *adapter); /* frees what it lies in */
};

/* One call of a method, or one after the other. What is needed for it follows in the struct that embeds it first. */
struct lt_adapter_call {
    struct lt_call call;
    struct lt_adapter *adapter;
    struct lt_reply *reply;   /* what this will answer; NULL: nothing */
    struct lt_report failure; /* the failure that was raised, with its bytes */
    bool under_way;
    bool ordered;         /* others wait for it */
    bool stepping, again; /* lt_adapter_go */
    void (*done)(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message);
    bool (*step)(struct lt_adapter_call *call); /* of a sequence: begins the next call; true: it is over */
    void (*over)(struct lt_adapter_call *call); /* then: answers, and frees */
    void (*free)(struct lt_adapter_call *call); /* lets go of what follows in the struct; NULL: nothing needs it */
    LIST_ENTRY(lt_adapter_call) link;
};

/* Takes the table at `index`. `free_it` is called when it is released and closed, or was never opened. */
void lt_adapter_init(struct lt_adapter *adapter, lua_State *L, int index, const char *kind,
                     void (*free_it)(struct lt_adapter *adapter));
void lt_adapter_open(struct lt_adapter *adapter, struct lt_loop *loop, struct lt_call_limits limits);

/* Ends the calls that are under way (their replies get LT_CLOSED), shuts the gate, calls the table's `close` if it has
 * one, then `closed` (NULL is fine). The adapter may be gone after that. */
LT_RUNS_LUA void lt_adapter_close(struct lt_adapter *adapter,
                                  void (*closed)(struct lt_adapter *adapter, int code, const char *message));
void lt_adapter_release(struct lt_adapter *adapter);

/* A call of `size` bytes, cleared, not under way yet; lt_adapter_call_free when it is done. */
void *lt_adapter_call_new(struct lt_adapter *adapter, size_t size, struct lt_reply *reply);
void lt_adapter_call_free(struct lt_adapter_call *call);

/* As lt_call_begin and lt_call_run. In `done` the call is not under way any more: begin the next one, or free it. */
lua_State *lt_adapter_call_begin(struct lt_adapter_call *call, const char *method,
                                 void (*done)(struct lt_adapter_call *call, int code, lua_State *L, int count,
                                              const char *message));
LT_RUNS_LUA void lt_adapter_call_run(struct lt_adapter_call *call, int arguments);

/* Gives it up and frees it: `done` is not called, nothing is answered. */
LT_RUNS_LUA void lt_adapter_call_abort(struct lt_adapter_call *call);

/* Lets the reply's owner give the operation up. To be called before the method is. */
void lt_adapter_call_cancellable(struct lt_adapter_call *call);

/* Runs call->step until it has a call under way or is over. `done` calls this too: however many calls return at once,
 * they do not nest. */
void lt_adapter_go(struct lt_adapter_call *call);

/* Reads the answer of a method that says yes with any true value, and no with nil (or false), a reason and maybe a
 * code. LT_OK; for a no, the code that was named or else `refusal`, with the reason as it was given; LT_ERROR for
 * nonsense; the code of a failed call. */
int lt_adapter_answer(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message, int refusal,
                      struct lt_error *error);

/* Whether a method that returns data returned nil, a failure and maybe a code instead: then `error` says which,
 * LT_ERROR if it named no code. */
bool lt_adapter_failed(lua_State *L, int count, struct lt_error *error);

/* Sends the answer of a call that failed: the reason that was raised, or the message. */
void lt_adapter_send_failed(struct lt_adapter_call *call, int code, const char *message);

/* The same for `output` and `save`, of which a try that failed may say when the next one makes sense: what was raised,
 * or returned as `count` results (code LT_OK: nil and a failure, told by `message`), goes to `failure`, which is
 * replaced. */
void lt_adapter_send_failure(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message,
                             struct lt_report *failure);

/* Logs an error of the module, gated. `task` may be NULL. */
void lt_adapter_log(struct lt_adapter *adapter, const char *what, const struct lt_task *task, const char *error);

/* Encodes the value at `index` into bytes with a reference for the caller; NULL with an error if it cannot. */
struct lt_bytes *lt_adapter_encode(lua_State *L, int index, const char *root, struct lt_error *error);

/* Pushes what `bytes` encodes; nil for NULL. False, and the error, when there is not enough memory. */
LT_RUNS_LUA bool lt_adapter_decode(lua_State *L, struct lt_bytes *bytes);

/* Pushes `function` as a closure of the adapter's gate and a number; and in it: the adapter, or NULL when that is closed,
 * and the number. */
void lt_adapter_push_function(struct lt_adapter *adapter, lua_State *L, lua_CFunction function, uint64_t number);
struct lt_adapter *lt_adapter_of_function(lua_State *L);
uint64_t lt_adapter_function_number(lua_State *L);

/* Reads { status=, reason=, output=, progress= } and the fields of a failure from the table at `index`; its other
 * fields do not matter. False with an error and nothing in the report. An output that cannot be stored is an error, or
 * with `fails` a failure of the task. */
bool lt_report_read(lua_State *L, int index, bool fails, struct lt_report *report, struct lt_error *error);

/* Reads what a failure at `index`, if it is a table, says beside itself: output and progress of the work that failed. */
void lt_report_read_remains(lua_State *L, int index, struct lt_report *report);

/* The body of notify and push, called `name` by the script: its one argument names a task; with what it says it goes
 * to `push`. Raises for bad arguments. Does nothing when the adapter is closed. */
LT_RAISES int lt_adapter_push(lua_State *L, const char *name,
                              void (*push)(struct lt_adapter *adapter, struct lt_push *push));

#endif
