/* Memory that does not fail.
 *
 * A scheduler that is out of memory cannot keep its promises half way, so an allocation either succeeds or
 * ends the process with a message (as redis and neovim do). So that it succeeds, some address space is kept for when
 * there is no other; and what a script makes is refused before: what it makes large when there is not so much
 * (lt_memory_has), and all that is new while what was kept is used up (lt_memory_low). */
#ifndef LTSH_BASE_ALLOC_H
#define LTSH_BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* Allocates `size` bytes, not cleared. Never returns NULL. Any thread; the caller frees with free(). */
void *lt_alloc(size_t size);

/* The same, cleared to zero. */
void *lt_zalloc(size_t size);

/* Grows or shrinks `p` (NULL is fine) to `size` bytes. Never returns NULL. */
void *lt_realloc(void *p, size_t size);

/* Whether what is kept for when there is no other memory is used up, and cannot be had again yet. Any thread. */
bool lt_memory_low(void);

/* Gives free memory back to the system, while it is low. Takes milliseconds. */
void lt_memory_tidy(void);

/* Whether so many bytes can be had now, without what is kept. To be asked where a script says how many. */
bool lt_memory_has(size_t size);

/* Gives up what is kept: an allocation that failed may be tried again. False: it was given up before. */
bool lt_memory_give_up(void);

/* Ends the process as an allocation does that fails: for libraries that say so only. */
_Noreturn void lt_out_of_memory(void);

/* A copy of a NUL-terminated string. */
char *lt_strdup(const char *s);

/* A text made from a format, as printf; the caller frees it. Never NULL. */
__attribute__((format(printf, 1, 2))) char *lt_format(const char *format, ...);

#endif
