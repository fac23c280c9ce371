/* Immutable byte strings that are shared, and a buffer that grows.
 *
 * Encoded values, reasons and outputs travel as `lt_bytes`: made once, never changed, freed with the last
 * reference. Counts are plain integers: a `lt_bytes` stays on the thread that made it. */
#ifndef LTSH_BASE_BYTES_H
#define LTSH_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lt_bytes {
    uint32_t refs;
    uint32_t len;
    char data[]; /* len bytes and a NUL, which is not counted */
};

/* A new one with a copy of `len` bytes at `data` and one reference, which is the caller's. */
struct lt_bytes *lt_bytes_new(const void *data, size_t len);

/* From a format, as printf. */
__attribute__((format(printf, 1, 2))) struct lt_bytes *lt_bytes_printf(const char *format, ...);

/* One more reference; NULL stays NULL. */
static inline struct lt_bytes *lt_bytes_ref(struct lt_bytes *bytes)
{
    if (bytes != NULL)
        bytes->refs++;
    return bytes;
}

/* One reference less; NULL is fine. */
void lt_bytes_unref(struct lt_bytes *bytes);

/* Puts `value` (taking over the caller's reference) where another may be, and lets go of that one. */
static inline void lt_bytes_set(struct lt_bytes **slot, struct lt_bytes *value)
{
    struct lt_bytes *old = *slot;
    *slot = value;
    lt_bytes_unref(old);
}

/* A buffer that grows. Zero it to make one; free(data) ends it. */
struct lt_buffer {
    char *data;
    size_t len;
    size_t size;
};

/* Makes room for `more` bytes beyond len. */
void lt_buffer_reserve(struct lt_buffer *buffer, size_t more);

/* The same where a script says how many. False: there is not so much memory, and nothing has changed. */
bool lt_buffer_try_reserve(struct lt_buffer *buffer, size_t more);

/* Appends `len` bytes. */
void lt_buffer_append(struct lt_buffer *buffer, const void *data, size_t len);

/* Frees the memory and leaves it empty, ready for use. */
void lt_buffer_free(struct lt_buffer *buffer);

#endif
