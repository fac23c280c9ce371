/* Signals that are to end the process, where its loop cannot hear them. */
#ifndef LTSH_BASE_INTERRUPT_H
#define LTSH_BASE_INTERRUPT_H

#include <signal.h>

/* Watches a signal that libuv watches already: sets *hurry when it comes. From the second one on (of SIGPIPE from the first
 * one on, which counts only where standard output is a pipe that nobody reads) the process ends if it is not heard soon. */
void lt_interrupt_watch(int number, volatile sig_atomic_t *hurry);

/* The loop has heard of it. */
void lt_interrupt_heard(void);

/* The process ends after so many seconds, whatever runs. */
void lt_interrupt_after(double seconds);

/* Whether standard output is a pipe or socket that nobody reads any more. Safe in a signal handler. */
int lt_output_is_broken(void);

#endif
