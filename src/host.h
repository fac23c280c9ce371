/* The host: one process with a loop, a script, and an end. */
#ifndef LTSH_HOST_H
#define LTSH_HOST_H

#include <stdbool.h>

#include "script/values/marks.h"

/* What the command line asks for. */
struct lt_host_options {
    const char *script; /* a file; NULL with code, "-" for standard input */
    const char *code;   /* -e */
    int argc;           /* the script's arguments */
    char **argv;
    const char *program;     /* for messages */
    const char *interpreter; /* argv[0] */
    bool check;
    bool watch;
    bool progress;
    const char *console; /* --console: its value, "" without one; NULL: none */
};

/* Runs a script to its end and returns the exit status: 0, 1 for an error in the script, 128 + N after signal N. */
LT_RUNS_LUA int lt_host_run(const struct lt_host_options *options);

#endif
