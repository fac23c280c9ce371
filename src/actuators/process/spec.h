/* What a task's item, or ltsh.exec, asks of a process: read and checked. docs/processes-and-docker.md has the fields. */
#ifndef LTSH_ACTUATORS_PROCESS_SPEC_H
#define LTSH_ACTUATORS_PROCESS_SPEC_H

#include <jansson.h>
#include <stdbool.h>

#include "actuators/process/cgroup.h"
#include "actuators/process/spawn.h"
#include "actuators/result.h"
#include "base/error.h"

enum lt_stream_kind { LT_STREAM_CAPTURE, LT_STREAM_INHERIT, LT_STREAM_DISCARD, LT_STREAM_FILE, LT_STREAM_STDOUT };

struct lt_process_spec {
    json_t *item; /* with the defaults; all texts below are its own, or of `made` */
    json_t *made; /* a list of texts */
    json_t *argv; /* a list of texts, at least one */
    json_t *env;  /* a list of "NAME=value" */
    bool clear_env;
    const char *cwd;
    enum lt_stream_kind out, err;
    const char *in_file, *out_file, *err_file;
    const char *in_bytes; /* NULL: none */
    size_t in_len;
    const char *user, *group;
    bool has_umask;
    mode_t umask;
    int nice;
    struct spawn_limit limits[SPAWN_LIMITS];
    int limit_count;
    struct cgroup_limits cgroup;
    uint64_t max_output;
    int stop_signal;
    double stop_grace;
    struct lt_result_codes codes;
    bool pty;
};

/* Reads an item. `root` begins the path in the message of the error. LT_OK or LT_REFUSED. */
int lt_process_spec_read(struct lt_process_spec *spec, json_t *item, json_t *defaults, const char *root,
                         struct lt_error *error);

/* Whether these can be defaults: fields of an item, of which the command may be missing. */
int lt_process_defaults_check(json_t *defaults, const char *where, struct lt_error *error);

void lt_process_spec_clear(struct lt_process_spec *spec);

#endif
