/* What a child left behind when its leader ended. */
#ifndef LTSH_ACTUATORS_PROCESS_CHILD_LEFT_H
#define LTSH_ACTUATORS_PROCESS_CHILD_LEFT_H

#include "actuators/process/child.h"

/* Kills and reaps all of it, removes its cgroup, and calls `gone` when nothing is left; that may be at once. */
void child_end_left(struct lt_child *child, void (*gone)(struct lt_child *child));

/* Stopped before its descriptor is closed: a child that is just being made may hold a copy, and epoll goes on then. The poll is
 * freed as what malloc gave. */
void child_close_poll(uv_poll_t *poll, int fd);

#endif
