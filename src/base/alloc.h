/* Memory that does not fail.
 *
 * A scheduler that is out of memory cannot keep its promises half way, so an allocation either succeeds or
 * ends the process with a message (as redis and neovim do). What users can make large (items, outputs,
 * queues) is bounded before it is allocated. */
#ifndef LTSH_BASE_ALLOC_H
#define LTSH_BASE_ALLOC_H

#include <stddef.h>

/* Allocates `size` bytes, not cleared. Never returns NULL. Any thread; the caller frees with free(). */
void *lt_alloc(size_t size);

/* The same, cleared to zero. */
void *lt_zalloc(size_t size);

/* Grows or shrinks `p` (NULL is fine) to `size` bytes. Never returns NULL. */
void *lt_realloc(void *p, size_t size);

/* A copy of a NUL-terminated string. */
char *lt_strdup(const char *s);

#endif
