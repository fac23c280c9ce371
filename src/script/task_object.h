/* Task objects: what Lua sees of a task.
 *
 * A userdata with a task's fields by name, as they were when it was made. `item`, `output`, `progress` and
 * `handle` are decoded when they are first read. Assigning a field changes only this object. */
#ifndef LTSH_SCRIPT_TASK_OBJECT_H
#define LTSH_SCRIPT_TASK_OBJECT_H

#include "base/error.h"
#include "scheduler/task.h"
#include "script/script.h"

struct lt_task_run;

/* Registers the metatables; once for each state. */
void lt_task_object_open(lua_State *L);

/* Pushes a snapshot. */
void lt_task_push(lua_State *L, struct lt_task *task);

/* Pushes a snapshot for the function that runs it: with task:report and task:cancelled. `task_run` is
 * forgotten by lt_task_object_end. */
void lt_task_push_running(lua_State *L, struct lt_task *task, struct lt_task_run *task_run);

/* The run is over: report and cancelled of this object (at `index`) know it. */
void lt_task_object_end(lua_State *L, int index);

/* Reads what was given to `add` from the table or task object at `index` into a new task (status unstarted, one
 * reference). NULL with an error: code LT_UNSTORABLE for an item that is no plain data. Misuse (a wrong type, an
 * unknown field) raises with `function` named. */
struct lt_task *lt_task_read_new(lua_State *L, int index, const char *function, struct lt_error *error);

/* Reads a task that a module returned: a task object (with what was assigned to it) or a table with at least `id`; all
 * of a task's fields count, status, run, attempts, reason, times and so on too. Never raises (but when out of memory):
 * NULL with a message. */
struct lt_task *lt_task_read(lua_State *L, int index, struct lt_error *error);

/* Pushes the name of this host. */
void lt_task_push_host(lua_State *L);

/* Whether the value at `index` is a task object. */
bool lt_is_task(lua_State *L, int index);

#endif
