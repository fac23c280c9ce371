/* How a simulation talks: the trace of what happened, and the one failure that ends it. */
#ifndef LTSH_SIM_REPORT_H
#define LTSH_SIM_REPORT_H

#include <stdbool.h>

#include "sim_loop.h"

/* Whose time the lines carry; and whether there are any. */
void report_open(const struct sim_loop *sim, bool tracing);
bool report_tracing(void);

/* One line, with the virtual time. */
__attribute__((format(printf, 1, 2))) void trace(const char *format, ...);

/* Ends the simulation: tells whoever runs it (see shrink.h), and the process is over. */
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);

#define check_that(holds_, ...)                                                                                        \
    do {                                                                                                               \
        if (!(holds_))                                                                                                 \
            fail(__VA_ARGS__);                                                                                         \
    } while (0)

/* Where a failure is told: of the process that runs simulations. */
enum { REPORT_SIZE = 400 };
struct failure {
    bool failed;
    double at; /* virtual seconds since the beginning */
    char message[REPORT_SIZE];
};
void report_to(struct failure *failure);

enum { EXIT_FAILED = 3 };

#endif
