/* Items as trees: from the MessagePack bytes that a task carries to jansson's values, so that code without Lua can read
 * them, and the other way for outputs.
 *
 * Strings stay as they are, of any bytes (jansson would refuse what is no UTF-8, and dumps none of those). A table with
 * keys of several kinds becomes an object whose keys are written as decimal numbers: { "a", x = 1 } has "1" and "x". */
#ifndef LTSH_BASE_TREE_H
#define LTSH_BASE_TREE_H

#include <jansson.h>
#include <stddef.h>

#include "base/bytes.h"

/* The value that the bytes encode; the caller's reference. NULL: they are no value of ours. */
json_t *lt_tree_read(const char *data, size_t len);

/* The same, where JSON holds the value exactly; else NULL: inf, integers beyond 64 bits, keys that are no strings. Of strings
 * who dumps it sees that they are UTF-8. */
json_t *lt_tree_read_exact(const char *data, size_t len);

/* Encodes the value: the caller's reference. */
struct lt_bytes *lt_tree_bytes(const json_t *tree);

#endif
