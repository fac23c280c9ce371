/* A cgroup of its own for each child, where a folder of cgroup v2 is delegated to the host: its limits hold for all that the
 * child starts, it tells an end for want of memory from others, and nothing leaves it.
 *
 *     DELEGATED/ltsh-INSTANCE/host    the host: a folder with controllers has no processes of its own
 *     DELEGATED/ltsh-INSTANCE/N       a child, with all that it starts
 *
 * Delegated is the folder that LTSH_CGROUP names ("none": none is), or else the host's own cgroup if systemd says that it is
 * (Delegate=yes), or if it is the root of a cgroup namespace, as in a container that may write to it. */
#ifndef LTSH_ACTUATORS_PROCESS_CGROUP_H
#define LTSH_ACTUATORS_PROCESS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "loop/loop.h"

enum cgroup_controller { CGROUP_MEMORY = 1, CGROUP_CPU = 2, CGROUP_PIDS = 4 };

/* 0: no limit. */
struct cgroup_limits {
    uint64_t memory; /* bytes */
    double cpu;      /* cores */
    uint64_t processes;
};

/* Looks for a folder and moves the host, at its first call. Whether there is one: then each child has a cgroup. */
bool cgroup_in_force(void);

/* Whether a limit of this kind can be set. */
bool cgroup_can_limit(enum cgroup_controller controller);

/* Says once, in the log, what limits are made of. */
void cgroup_say(void);

/* Makes the one with this number. Returns a descriptor for it: a process that writes "0" to it moves in. -1: errno. Any
 * thread. */
int cgroup_make(uint64_t number, const struct cgroup_limits *limits);

/* How often a process in it was killed for want of memory. */
uint64_t cgroup_oom_kills(uint64_t number);

/* Whether this process is in it. */
bool cgroup_has(uint64_t number, int pid);

/* Kills all that is in it, and removes it. False: something is still ending; then cgroup_watch tells when to try again. */
bool cgroup_end(uint64_t number);

/* A descriptor that has a priority event (EPOLLPRI) when the last process has ended; the caller's. -1: it is empty now. */
int cgroup_watch(uint64_t number);

/* Kills all that the dead host with this instance id left in its own; the folder is removed by cgroup_tidy. */
void cgroup_bury(const char *instance);

/* Removes what hosts that have ended left: at once, or as soon as what is being killed is gone. */
void cgroup_tidy(struct lt_loop *loop);

#endif
