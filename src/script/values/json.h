/* JSON text and Lua values, by jansson.
 *
 * Numbers keep their kind: an integer is one in the text, a float has a point or an exponent. Unlike MessagePack
 * (values.h), JSON has no inf, no NaN, no bytes that are not UTF-8 and no keys but strings: those are refused, never
 * bent. */
#ifndef LTSH_SCRIPT_VALUES_JSON_H
#define LTSH_SCRIPT_VALUES_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

#include "base/error.h"
#include "script/values/marks.h"

/* Pushes the JSON text of the value at `index`, on one line, or indented by two with `pretty`. Returns 0, or
 * LT_UNSTORABLE with nothing pushed and a message that begins with the path from `root`, as `value.cb: a function
 * cannot be encoded`. Raises Lua's memory errors only, and leaks nothing then. */
LT_RAISES int lt_json_encode(lua_State *L, int index, bool pretty, const char *root, struct lt_error *error);

/* Pushes the value of the JSON text of `len` bytes. Returns 0, or LT_ERROR with nothing pushed and a message that tells
 * line and column. Integers that Lua cannot hold become floats. Raises Lua's memory errors only, and leaks nothing
 * then. It allocates, so finalizers of the script may run in it: the caller must hold on to `text`. */
LT_RAISES int lt_json_decode(lua_State *L, const char *text, size_t len, struct lt_error *error);

/* Pushes the table that is ltsh.json: encode, decode, null, array (bind_json.c). Returns 1. */
int lt_open_json(lua_State *L);

#endif
