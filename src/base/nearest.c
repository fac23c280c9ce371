#include "base/nearest.h"

#include <stdbool.h>
#include <string.h>

enum { COMPARED = 32, LONG_NAME = 8 }; /* names of COMPARED bytes and more are like none */

/* The number of bytes to insert, leave out or change to get from one name to the other. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned row[COMPARED];
    for (unsigned j = 0; j <= b_len; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned changed = diagonal + (a[i - 1] != b[j - 1]);
            unsigned moved = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = changed < moved ? changed : moved;
        }
    }
    return row[b_len];
}

static bool is_near(const struct lt_nearest *nearest, const char *known, size_t len, unsigned d)
{
    bool part =
        nearest->len >= 3 && (strstr(known, nearest->name) != NULL || strstr(nearest->name, known) == nearest->name);
    return part || (d < len && d <= (len > LONG_NAME ? 3 : 2));
}

void lt_nearest_look(struct lt_nearest *nearest, const char *known)
{
    size_t len = strlen(known);
    if (nearest->len >= COMPARED || len >= COMPARED)
        return;
    unsigned d = edit_distance(nearest->name, nearest->len, known, len);
    bool better = nearest->meant == NULL || d < nearest->distance ||
                  (d == nearest->distance && strcmp(known, nearest->meant) < 0);
    if (!better || !is_near(nearest, known, len, d))
        return;
    nearest->meant = known;
    nearest->distance = d;
}
