/* The message LOAD: what a worker is to run. */
#ifndef LTSH_WORKERS_LOAD_H
#define LTSH_WORKERS_LOAD_H

#include "workers/message.h"

struct lt_load {
    const char *path; /* package.path and package.cpath of the host */
    const char *cpath;
    const char *module; /* the file's name */
    const char *source;
    size_t source_len;
    uint64_t memory; /* bytes; 0: no limit */
};

/* A message that the caller frees. */
struct lt_message *lt_load_write(const struct lt_load *load);

/* The texts are the message's. */
void lt_load_read(const struct lt_message *message, struct lt_load *load);

#endif
