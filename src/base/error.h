/* Error codes and messages that cross the layers.
 *
 * A function that can fail returns 0 or one of these negative codes; where a person needs more than the code
 * it also fills a message. The code's name is what a script gets as the third return value. */
#ifndef LTSH_BASE_ERROR_H
#define LTSH_BASE_ERROR_H

enum lt_code {
    LT_OK = 0,
    LT_EXISTS = -1,       /* the id is in use by a task that has not ended (or, with `once`, is known) */
    LT_FULL = -2,         /* no room */
    LT_CLOSED = -3,       /* the scheduler or its container is closed */
    LT_UNSTORABLE = -4,   /* a value that is not plain data */
    LT_REFUSED = -5,      /* the container or the actuator does not take this task */
    LT_UNKNOWN = -6,      /* no such task */
    LT_TIMEOUT = -7,      /* the call took longer than it may */
    LT_STALE = -8,        /* the task's status or run no longer allows this */
    LT_ERROR = -9,        /* a driver or a module failed; the message says how */
    LT_CANCELLED = -10,   /* what was waited for was cancelled */
    LT_UNSUPPORTED = -11, /* this container, actuator or persister cannot do that */
};

/* The name that scripts see: "exists", "full", ... Never NULL. */
const char *lt_code_name(int code);

enum { LT_ERROR_SIZE = 512 };

/* A code with its message. Owned by the caller, usually on the stack; long messages are cut. */
struct lt_error {
    int code;
    char message[LT_ERROR_SIZE];
};

/* Fills `error` (NULL is fine) and returns `code`. */
__attribute__((format(printf, 3, 4))) int lt_fail(struct lt_error *error, int code, const char *format, ...);

#endif
