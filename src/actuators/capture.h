/* What a task put out, within a limit: the first half of it, and the last; what was in between is counted.
 *
 * Memory is taken as bytes come. One thread. */
#ifndef LTSH_ACTUATORS_CAPTURE_H
#define LTSH_ACTUATORS_CAPTURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct lt_capture {
    uint64_t limit; /* bytes that are kept */
    uint64_t total; /* bytes that came */
    struct lt_buffer head;
    struct lt_buffer tail; /* a ring as soon as it is full */
    size_t tail_start;     /* where its oldest byte is */
};

/* Begins, empty. `limit` of 0 keeps nothing, and only counts. */
void lt_capture_init(struct lt_capture *capture, uint64_t limit);

void lt_capture_add(struct lt_capture *capture, const char *bytes, size_t len);

/* All that is kept, with "\n[... N bytes left out ...]\n" where something is missing. *len without the NUL at its end. The
 * caller frees it. */
char *lt_capture_text(const struct lt_capture *capture, size_t *len);

/* The last line that is not blank, for the reason of a failure: without what is no printable UTF-8, at most 200 bytes. The
 * caller frees it. Never NULL. */
char *lt_capture_last_line(const struct lt_capture *capture);

/* Lets go of the memory. */
void lt_capture_clear(struct lt_capture *capture);

#endif
