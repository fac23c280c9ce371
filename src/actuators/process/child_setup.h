/* What a child is given before it executes its program: its environment, its user, and its three streams. */
#ifndef LTSH_ACTUATORS_PROCESS_CHILD_SETUP_H
#define LTSH_ACTUATORS_PROCESS_CHILD_SETUP_H

#include <stdbool.h>

#include "actuators/process/child.h"

/* Fills envp, the mark by which what it leaves is known, and the PATH in which its program is looked for. */
void child_make_environment(struct lt_child *child);

/* Makes the ends that the child has, in spawn.streams, and those of the host, in `own` (-1: none; the caller's). False: errno
 * says why; what was made is there. */
bool child_make_streams(struct lt_child *child, int own[3]);
bool child_make_terminal(struct lt_child *child, int own[3]);

/* The child has its own copies now, or is not there. */
void child_close_ends(struct lt_child *child);

/* Makes its cgroup, if it is to have one, and closes what the child needed of that; the folder goes if there is no child. False:
 * it could not be made, spawn.failed says so. Any thread. */
bool child_make_cgroup(struct lt_child *child);
void child_leave_cgroup(struct lt_child *child);

/* Looks up its user and group. False: there is none, spawn.failed says so. Any thread. */
bool child_become(struct lt_child *child);

#endif
