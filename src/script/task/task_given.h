/* What a script or a module gave as a task, taken field by field, before a task is made from it.
 *
 *     table, object  -- lt_given_take() -->  struct lt_given  -- task_read.c -->  struct lt_task
 *
 * Only the left half may raise (memory, by task objects), and it owns nothing then; the right half allocates, and does
 * not raise. Texts and values stay where they are from one to the other: on the Lua stack, in the table, or in the
 * object. */
#ifndef LTSH_SCRIPT_TASK_TASK_GIVEN_H
#define LTSH_SCRIPT_TASK_TASK_GIVEN_H

#include "base/error.h"
#include "script/task/task_fields.h"

/* An encoded value, or one that is to be encoded. */
struct lt_source {
    int index; /* on the stack, or 0 */
    struct lt_view bytes;
};

enum { LT_SOURCE_ITEM, LT_SOURCE_OUTPUT, LT_SOURCE_PROGRESS, LT_SOURCE_HANDLE, LT_SOURCES };

struct lt_given {
    const char *function; /* whom misuse is told to: a new task; NULL: a module's task. Set by the caller */
    unsigned has;         /* bits 1 << enum lt_field. Fields without theirs may not be set at all */
    int kept;             /* where on the stack the values of the sources are, and the id under them */
    bool once;
    enum lt_status status;
    struct lt_view id, key, reason, version, host;
    struct lt_source sources[LT_SOURCES];
    int64_t priority, max_retries, run, attempts, lost;
    double run_at, delay, expires, expires_at, timeout, added_at, started_at, ended_at;
    struct lt_backoff backoff;
};

static inline bool lt_given_has(const struct lt_given *given, enum lt_field field)
{
    return (given->has & 1U << field) != 0;
}

/* Takes all that the table or task object at `index` says. Leaves on the stack what has to stay while `given` is used.
 * False with an error for a value of the wrong kind; of a new task also for an unknown field, and for two that exclude
 * each other; of a module's one also if it has no id. */
bool lt_given_take(lua_State *L, struct lt_given *given, int index, struct lt_error *error);

#endif
