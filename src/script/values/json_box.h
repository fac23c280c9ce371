/* C memory that a call which may raise has in hand: the collector frees it then. */
#ifndef LTSH_SCRIPT_VALUES_JSON_BOX_H
#define LTSH_SCRIPT_VALUES_JSON_BOX_H

#include <jansson.h>
#include <lua.h>

#include "base/bytes.h"
#include "script/values/marks.h"

struct lt_json_box {
    json_t *root;
    struct lt_buffer text;
};

/* Pushes an empty one. */
LT_RAISES struct lt_json_box *lt_json_box_push(lua_State *L);

/* Lets go of what is in it. */
void lt_json_box_empty(struct lt_json_box *box);

#endif
