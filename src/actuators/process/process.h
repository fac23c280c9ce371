/* The process actuator: a task runs as a process. docs/processes-and-docker.md says what an item may have. Knows nothing of
 * Lua. */
#ifndef LTSH_ACTUATORS_PROCESS_PROCESS_H
#define LTSH_ACTUATORS_PROCESS_PROCESS_H

#include <jansson.h>

#include "actuators/process/child.h"
#include "scheduler/actuator.h"

/* A new one, to be let go of by ops->release. Takes over `defaults` (fields of an item; NULL: none). */
struct lt_actuator *lt_process_actuator_new(json_t *defaults);

/* What a child gave, as the output of a task: { code =, signal =, stdout =, stderr =, usage = }. A new reference. */
json_t *lt_process_output(const struct lt_child *child);

#endif
