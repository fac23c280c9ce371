/* What came of a process or a container, said in the same way: its streams in the output, and the reason of a failure. */
#ifndef LTSH_ACTUATORS_RESULT_H
#define LTSH_ACTUATORS_RESULT_H

#include <jansson.h>
#include <stdbool.h>

#include "actuators/capture.h"
#include "scheduler/actuator.h"

/* Puts what was captured under `name` into an output. */
void lt_result_add(json_t *output, const char *name, const struct lt_capture *capture);

/* "exit code 3: no such file": what happened, and the last line that it said. The caller's first reference. */
struct lt_bytes *lt_result_reason(const char *what, const struct lt_capture *last);

/* What an item counts as a success (NULL: only 0), and what it does not try again (NULL: nothing is). */
struct lt_result_codes {
    const json_t *success;
    const json_t *no_retry;
};

/* The report of one that has ended: `signalled`, it has no exit code. Takes over the output and the reason, which is let go of
 * if it succeeded. */
struct lt_report lt_result_report(const struct lt_result_codes *codes, bool signalled, int64_t code, json_t *output,
                                  struct lt_bytes *reason);

#endif
