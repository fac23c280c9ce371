/* The name that was probably meant by one that is unknown. */
#ifndef LTSH_BASE_NEAREST_H
#define LTSH_BASE_NEAREST_H

#include <stddef.h>

/* A search among known names. Set name and len, and zero the rest. */
struct lt_nearest {
    const char *name;
    size_t len;
    const char *meant; /* the best so far; NULL: none is near */
    unsigned distance;
};

/* Looks at one of the known names, which must stay. It is near if two bytes differ, three of a long name, or if one is a
 * part of the other. Of two the same the first in the alphabet wins: known names may come in any order. */
void lt_nearest_look(struct lt_nearest *nearest, const char *known);

#endif
