/* Values: from the Lua stack to MessagePack bytes and back.
 *
 * Items, outputs and handles leave their Lua state as bytes: in memory containers, between threads, in Redis. What went
 * in comes out: 64-bit integers, floats (1.0 stays one, and so do -0.0, inf and NaN), strings of any bytes, booleans,
 * ltsh.json.null, and tables of those with keys that are strings, numbers or booleans.
 *
 * A table is an array if its keys are exactly 1..n, however it was built. An empty one is a map, unless it has the
 * array metatable; an empty array decodes with that metatable, every other table without one. No metamethod is ever
 * called. */
#ifndef LTSH_SCRIPT_VALUES_VALUES_H
#define LTSH_SCRIPT_VALUES_VALUES_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

#include "base/bytes.h"
#include "base/error.h"

enum {
    LT_VALUE_DEPTH = 100,        /* tables in tables that are encoded */
    LT_VALUE_DECODE_DEPTH = 128, /* and decoded */
    LT_VALUE_SIZE = 256 << 20,   /* bytes of one encoded value */
    LT_VALUE_COUNT = 8 << 20,    /* tables and their entries in it; a table in several places counts in each */
    LT_SCRATCH_KEPT = 1 << 20,   /* a larger buffer is not kept from value to value */
    LT_VALUE_SLOTS = 4,          /* free on the Lua stack when either begins; what more it needs it sees to itself */
};

/* Appends the encoding of the value at `index` to `out`, which stays the caller's. Returns 0, or LT_UNSTORABLE with a
 * message that begins with the path from `root`, as `item.list[3].x: a userdata cannot be stored`, and out->len as it
 * was. Does not raise, allocates nothing in Lua, and so runs nothing of the script's. The stack is left as it was. */
int lt_value_encode(lua_State *L, int index, struct lt_buffer *out, const char *root, struct lt_error *error);

/* The same as bytes of their own, by way of `scratch`, of which only a small one is kept; the caller's first reference.
 * NULL with the error, also when there is not enough memory. */
struct lt_bytes *lt_value_bytes(lua_State *L, int index, struct lt_buffer *scratch, const char *root,
                                struct lt_error *error);

/* Pushes the value that the `len` bytes at `data` encode. Returns 0, or LT_ERROR with nothing pushed when they are no
 * value of ours: malformed, truncated, followed by more, too deep, of an extension type, or with a key that Lua or the
 * encoder does not take. Unsigned integers above the largest of Lua's become floats, as numerals in a script do. Any
 * bytes are safe, and a table is only made in a size that the bytes left over can fill.
 *
 * Raises Lua's own errors only (memory). It allocates, so finalizers of the script may run in it: the caller must hold
 * on to `data` by a reference that nothing called from them can take away. */
int lt_value_decode(lua_State *L, const char *data, size_t len);

/* Pushes ltsh.json.null. */
void lt_value_null(lua_State *L);

/* Pushes the metatable that marks a table as an array. May raise a memory error, the first time only. */
void lt_value_array_metatable(lua_State *L);

/* Pushes the table of ltsh.core's encode and decode (bind_values.c). Returns 1. */
int lt_open_values(lua_State *L);

/* What follows is for code that walks through values as the encoder does (json.c). */

/* Where a walk is in nested tables: enough to name the place when an error needs it. */
struct lt_value_frame {
    const void *table;
    lua_Integer at; /* the position in an array */
    int key;        /* the stack index of the key in a map; 0 in an array */
};

/* Set root, and depth to 0, to begin. */
struct lt_value_path {
    const char *root;
    int depth; /* tables that are open */
    struct lt_value_frame frames[LT_VALUE_DEPTH];
};

/* Enters the table at the absolute `index`: room on the stack for a key, a value and a little more, and a frame for it,
 * path->frames[path->depth - 1], whose `key` or `at` the caller keeps true. Returns 0, or LT_UNSTORABLE for a cycle, or
 * when it is too deep. To leave it, the caller takes one from path->depth. Does not raise. */
int lt_value_enter(lua_State *L, int index, struct lt_value_path *path, struct lt_error *error);

/* n if the keys of the table at the absolute `index` are exactly 1..n, and 0 otherwise. Does not raise. */
lua_Integer lt_value_array_length(lua_State *L, int index);

/* Whether the table at `index` has the array metatable. Does not raise. */
bool lt_value_is_array_marked(lua_State *L, int index);

/* Fills `error` with the place and a message, and returns LT_UNSTORABLE. The place is that of the value in hand, or
 * with `levels_up` of 1 that of the table which it is in. The keys on the way must still be on the stack. */
__attribute__((format(printf, 5, 6))) int lt_value_refuse(lua_State *L, const struct lt_value_path *path, int levels_up,
                                                          struct lt_error *error, const char *format, ...);

#endif
