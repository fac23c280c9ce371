/* The inside of task objects: shared by what makes them and is called by Lua (task_object.c), what finds their fields
 * (task_fields.c) and what takes tasks from them again (task_given.c).
 *
 * Two task objects are made for each task, so their cost is the cost of the script side:
 *
 *     small     [object | id, NUL, item, output, reason, version]     nothing is held, and there is no finalizer
 *     holding   [object | task, output, reason, ... by reference]     for large tasks and those that say more
 *
 * Both have the scalars of their moment, and all code beyond lt_object_id and blob_of treats them alike. What is assigned,
 * and what was decoded other than item and output, is in a table that is made when it is needed. */
#ifndef LTSH_SCRIPT_TASK_TASK_FIELDS_H
#define LTSH_SCRIPT_TASK_TASK_FIELDS_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "scheduler/actuator.h"
#include "scheduler/task.h"
#include "script/values/marks.h"

/* In the order in which pairs goes over them. */
enum lt_field {
    LT_FIELD_NONE,
    LT_FIELD_ID,
    LT_FIELD_ITEM,
    LT_FIELD_PRIORITY,
    LT_FIELD_RUN_AT,
    LT_FIELD_EXPIRES_AT,
    LT_FIELD_KEY,
    LT_FIELD_TIMEOUT,
    LT_FIELD_MAX_RETRIES,
    LT_FIELD_BACKOFF,
    LT_FIELD_ONCE,
    LT_FIELD_STATUS,
    LT_FIELD_ATTEMPTS,
    LT_FIELD_RUN,
    LT_FIELD_REASON,
    LT_FIELD_OUTPUT,
    LT_FIELD_PROGRESS,
    LT_FIELD_HANDLE,
    LT_FIELD_VERSION,
    LT_FIELD_HOST,
    LT_FIELD_ADDED_AT,
    LT_FIELD_STARTED_AT,
    LT_FIELD_ENDED_AT,
    LT_FIELD_LOST,
    LT_FIELDS_SHOWN, /* objects have none of those that follow, unless they are assigned */
    LT_FIELD_DELAY = LT_FIELDS_SHOWN,
    LT_FIELD_EXPIRES,
    LT_FIELD_REPORT, /* methods */
    LT_FIELD_CANCELLED,
    LT_FIELDS,
};

extern const char *const lt_field_names[LT_FIELDS];

/* Makes the names known; once for each state. Pushes the list of them, which is to be kept. */
void lt_fields_open(lua_State *L);

/* The field whose name is at `index`; LT_FIELD_NONE if the value there is none. */
enum lt_field lt_field_at(lua_State *L, int index);

/* The bytes that a task says. A small object has the first ones, behind its id. */
enum lt_blob {
    LT_BLOB_ITEM,
    LT_BLOB_OUTPUT,
    LT_BLOB_REASON,
    LT_BLOB_VERSION,
    LT_BLOBS_SMALL,
    LT_BLOB_PROGRESS = LT_BLOBS_SMALL,
    LT_BLOB_HANDLE,
    LT_BLOB_HOST, /* none: this one */
    LT_BLOBS,
};

/* The user values of an object. The decoded item and output have their own: they are read of most tasks. */
enum { LT_USER_ITEM = 1, LT_USER_OUTPUT, LT_USER_ASSIGNED, LT_USER_VALUES = LT_USER_ASSIGNED };

struct lt_task_object {
    const void *mark;             /* &lt_task_object_mark */
    struct lt_reporter *reporter; /* NULL: its run is over, or it is no object of a run */
    uint64_t run;
    int64_t priority;
    double added_at;
    double run_at;
    double started_at;
    double ended_at;
    uint32_t attempts;
    uint32_t lost;
    uint32_t len[LT_BLOBS_SMALL]; /* of a small one; of a holding one only that of the item */
    uint8_t has;                  /* bits 1 << enum lt_blob: an empty reason is one too */
    uint8_t decoded;              /* which of them are a user value by now */
    uint8_t status;
    uint8_t id_len;
    bool is_holding;
    bool has_assigned; /* there is a table of assigned fields */
};

struct lt_holding {
    struct lt_task_object object;
    struct lt_task *task;            /* NULL: finalized, and has nothing any more */
    struct lt_bytes *held[LT_BLOBS]; /* none for the item */
};

extern const char lt_task_object_mark;

/* The object at `index`, or NULL. No other userdata begins with the address of a variable of ours. */
struct lt_task_object *lt_task_object_at(lua_State *L, int index);

struct lt_view {
    const char *data;
    size_t len;
};

/* Of an object that is not finalized. It is followed by a NUL. */
struct lt_view lt_object_id(const struct lt_task_object *object);

static inline bool lt_object_finalized(const struct lt_task_object *object)
{
    return object->is_holding && ((const struct lt_holding *)object)->task == NULL;
}

/* In what follows, `index` is where `object` is on the stack, absolute. They raise memory errors, and where a value
 * is damaged; they may run finalizers. */

/* Pushes a field as it was when the object was made; nil if it was not set. */
LT_RAISES void lt_object_push_field(lua_State *L, int index, struct lt_task_object *object, enum lt_field field);

/* Pushes what was assigned to the name at `key` (absolute) and returns true, or pushes nothing. Pushes nil for a field
 * that was hidden. Only if object->has_assigned. */
bool lt_object_push_assigned(lua_State *L, int index, int key);

/* Sets what is assigned to the name below the top to the value on top, and pops both. nil hides a known field. */
void lt_object_assign(lua_State *L, int index, struct lt_task_object *object, bool known);

/* Whether the value at `index` of the table of assigned fields says that its field is hidden. */
bool lt_object_is_hidden(lua_State *L, int index);

enum lt_found {
    LT_FOUND_NOTHING, /* it is not set, or was hidden: nothing is pushed */
    LT_FOUND_VALUE,   /* it is pushed */
    LT_FOUND_BYTES,   /* nothing is pushed: it is encoded, and nobody has read it yet. As long as the object */
};

/* What the object says of a field: what was assigned to it, or else what it is. A damaged value does not raise here. */
enum lt_found lt_object_find(lua_State *L, int index, struct lt_task_object *object, enum lt_field field,
                             struct lt_view *bytes);

/* The same, but only what was assigned: never BYTES. */
enum lt_found lt_object_find_assigned(lua_State *L, int index, struct lt_task_object *object, enum lt_field field);

#endif
