/* The Docker actuator: a task runs as a container of an engine, over the Engine API. docs/processes-and-docker.md says what
 * an item may have. Knows nothing of Lua. */
#ifndef LTSH_ACTUATORS_DOCKER_DOCKER_H
#define LTSH_ACTUATORS_DOCKER_DOCKER_H

#include <jansson.h>

#include "actuators/docker/engine.h"
#include "scheduler/actuator.h"

/* A new one, to be let go of by ops->release. Takes over `defaults` (fields of an item; NULL: none); copies the place. It
 * connects when the first task starts; a place that makes no sense is an error of ops->open. */
struct lt_actuator *lt_docker_actuator_new(const struct lt_engine_place *place, json_t *defaults);

#endif
