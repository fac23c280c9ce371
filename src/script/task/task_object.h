/* Task objects: what Lua sees of a task.
 *
 * A userdata with a task's fields by name, as they were when it was made. `item`, `output`, `progress` and
 * `handle` are decoded when they are first read. Assigning a field changes only this object. */
#ifndef LTSH_SCRIPT_TASK_TASK_OBJECT_H
#define LTSH_SCRIPT_TASK_TASK_OBJECT_H

#include "base/error.h"
#include "scheduler/task.h"
#include "script/flow/script.h"
#include "script/values/marks.h"

struct lt_scheduler;
struct lt_task_object;
/* Whom the object of a run asks, until lt_task_object_end. */
struct lt_reporter {
    /* task:report: takes over the bytes; false: nobody wants to know any more. */
    bool (*report)(struct lt_reporter *reporter, struct lt_bytes *progress);
    /* task:cancelled: why it is (static text), or NULL: it is not. */
    const char *(*cancelled)(struct lt_reporter *reporter);
};

/* Registers the metatables; once for each state. */
void lt_task_object_open(lua_State *L);

/* Pushes a snapshot. */
LT_RUNS_LUA void lt_task_push(lua_State *L, struct lt_task *task);

/* Pushes a snapshot for the function that runs it: with task:report and task:cancelled. Whoever pushes it keeps it on
 * the stack until lt_task_object_end, by which it forgets `reporter`. */
LT_RUNS_LUA struct lt_task_object *lt_task_push_running(lua_State *L, struct lt_task *task,
                                                        struct lt_reporter *reporter);

/* The run is over: report and cancelled of this object know it. */
void lt_task_object_end(struct lt_task_object *object);

/* Reads what was given to `add` from the table or task object at `index` into a new task (status unstarted, one
 * reference). NULL with an error: code LT_UNSTORABLE for an item that is no plain data. Misuse (a wrong type, an
 * unknown field) raises with `function` named. The scheduler is told what to expect. Pushes the id as it was given; nil
 * if it was made up. */
LT_RAISES struct lt_task *lt_task_read_new(lua_State *L, int index, const char *function,
                                           const struct lt_scheduler *scheduler, struct lt_error *error);

/* Reads a task that a module returned: a task object (with what was assigned to it) or a table with at least `id`; all
 * of a task's fields count, status, run, attempts, reason, times and so on too. Never raises (but when out of memory):
 * NULL with a message. */
struct lt_task *lt_task_read(lua_State *L, int index, struct lt_error *error);

/* Pushes the name of this host. */
void lt_task_push_host(lua_State *L);

/* Whether the value at `index` is a task object. */
bool lt_is_task(lua_State *L, int index);

#endif
