/* What a task's item asks of Docker: read, checked, and made into the body of `POST /containers/create`.
 *
 * An item is a table of the fields in docs/processes-and-docker.md; what it leaves out is taken from the defaults that the
 * actuator was made with. What it says wrongly is refused when the task is added, with the field's path and value. */
#ifndef LTSH_ACTUATORS_DOCKER_SPEC_H
#define LTSH_ACTUATORS_DOCKER_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "actuators/result.h"
#include "base/error.h"

enum lt_pull { LT_PULL_MISSING, LT_PULL_ALWAYS, LT_PULL_NEVER };

struct lt_docker_spec {
    json_t *create;   /* the body; labels of ours are still to be put in */
    json_t *item;     /* with the defaults; strings below are its own */
    char *image;      /* with a tag or digest */
    const char *name; /* NULL: made from the task's id and run */
    enum lt_pull pull;
    double pull_timeout; /* seconds */
    const json_t *auth;  /* of the registry; NULL: none */
    int stop_signal;     /* 0: the image's own */
    double stop_grace;   /* seconds before KILL */
    uint64_t max_output; /* bytes of each stream */
    struct lt_result_codes codes;
    const char *stdin_bytes; /* NULL: none */
    size_t stdin_len;
    bool one_stream; /* stderr comes with stdout */
    bool tty;
    bool discard_out, discard_err;
    bool keep;
};

/* Reads an item. LT_OK, or LT_REFUSED with the path and what is wrong. Neither tree is changed. */
int lt_docker_spec_read(struct lt_docker_spec *spec, json_t *item, json_t *defaults, struct lt_error *error);

/* Whether these can be defaults: an item's fields, of which the image may be missing. `where` begins the message of the
 * error. */
int lt_docker_defaults_check(json_t *defaults, const char *where, struct lt_error *error);

/* Lets go of all that it holds. */
void lt_docker_spec_clear(struct lt_docker_spec *spec);

#endif
