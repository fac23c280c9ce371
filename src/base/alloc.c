#include "base/alloc.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What is kept: only addresses, of no memory, enough for a segment of mimalloc's and a table that grows. Where there are
 * not so many to be had again, since a little of what lasts is left in each segment: some of what is free in these. */
enum { KEPT_SIZE = 64 << 20, KEPT_OF_HEAP = 4 << 20 };
enum { LARGE = 1 << 20 }; /* what is smaller need not be asked for: what is kept is enough for it */

static _Atomic(void *) kept_addresses;
static _Atomic(void *) kept_of_heap;

static void *map_addresses(void)
{
    void *fresh = mmap(NULL, KEPT_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return fresh == MAP_FAILED ? NULL : fresh;
}

static void unmap_addresses(void *p)
{
    if (p != NULL)
        munmap(p, KEPT_SIZE);
}

/* True: something is kept now. Another thread may have been faster. */
static bool keep(_Atomic(void *) *kept, void *fresh, void (*give_back)(void *))
{
    void *none = NULL;
    if (fresh != NULL && !atomic_compare_exchange_strong(kept, &none, fresh))
        give_back(fresh);
    return fresh != NULL;
}

static bool is_kept(void)
{
    return atomic_load_explicit(&kept_addresses, memory_order_relaxed) != NULL ||
           atomic_load_explicit(&kept_of_heap, memory_order_relaxed) != NULL;
}

bool lt_memory_give_up(void)
{
    void *addresses = atomic_exchange(&kept_addresses, NULL);
    void *of_heap = atomic_exchange(&kept_of_heap, NULL);
    unmap_addresses(addresses);
    free(of_heap);
    return addresses != NULL || of_heap != NULL;
}

static bool can_have(size_t size)
{
    void *p = malloc(size);
    free(p);
    return p != NULL;
}

bool lt_memory_low(void)
{
    return !is_kept() && !keep(&kept_addresses, map_addresses(), unmap_addresses) &&
           !keep(&kept_of_heap, malloc(KEPT_OF_HEAP), free);
}

/* mimalloc's, where that is linked: what was freed goes back to the system, or is never had again as addresses. */
void mi_collect(bool force) __attribute__((weak));

void lt_memory_tidy(void)
{
    if (mi_collect != NULL)
        mi_collect(true);
}

bool lt_memory_has(size_t size)
{
    if (lt_memory_low())
        return false;
    return size < LARGE || can_have(size);
}

_Noreturn void lt_out_of_memory(void)
{
    fputs("ltsh: out of memory\n", stderr);
    abort();
}

static void *give_up_or_abort(void *p, size_t size)
{
    lt_memory_give_up();
    void *again = realloc(p, size);
    if (again == NULL) {
        fprintf(stderr, "ltsh: out of memory allocating %zu bytes\n", size);
        abort();
    }
    return again;
}

void *lt_alloc(size_t size)
{
    void *p = malloc(size);
    return p != NULL || size == 0 ? p : give_up_or_abort(NULL, size);
}

void *lt_zalloc(size_t size)
{
    void *p = calloc(1, size);
    return p != NULL || size == 0 ? p : memset(give_up_or_abort(NULL, size), 0, size);
}

void *lt_realloc(void *old, size_t size)
{
    void *p = realloc(old, size);
    return p != NULL || size == 0 ? p : give_up_or_abort(old, size);
}

char *lt_strdup(const char *s)
{
    size_t size = strlen(s) + 1;
    return memcpy(lt_alloc(size), s, size);
}

char *lt_format(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    size_t size = len < 0 ? 1 : (size_t)len + 1;
    char *text = lt_alloc(size);
    text[0] = '\0';
    vsnprintf(text, size, format, again);
    va_end(again);
    return text;
}
