#include "base/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *p, size_t size)
{
    if (p == NULL && size > 0) {
        fprintf(stderr, "ltsh: out of memory allocating %zu bytes\n", size);
        abort();
    }
    return p;
}

void *lt_alloc(size_t size)
{
    return checked(malloc(size), size);
}

void *lt_zalloc(size_t size)
{
    return checked(calloc(1, size), size);
}

void *lt_realloc(void *p, size_t size)
{
    return checked(realloc(p, size), size);
}

char *lt_strdup(const char *s)
{
    size_t size = strlen(s) + 1;
    return memcpy(lt_alloc(size), s, size);
}
