/* What a child leaves behind: processes of its session, and those that left it, which the host adopts when their parents
 * end (PR_SET_CHILD_SUBREAPER). They are found among the host's children, and known by their session, and by their cgroup or,
 * where there is none, by the variable LTSH_RUN in their environment. */
#ifndef LTSH_ACTUATORS_PROCESS_ORPHAN_H
#define LTSH_ACTUATORS_PROCESS_ORPHAN_H

#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "loop/loop.h"

/* By what they are known. */
struct orphan_traits {
    pid_t session;
    const char *mark; /* "LTSH_RUN=..."; NULL: none */
    uint64_t cgroup;  /* its number, and the mark counts for nothing; 0: none */
};

/* Calls found(arg, pid, name) for each adopted process with one of these traits. Those that are dead already and are known by
 * nothing any more are reaped, if they are none of libuv's. */
void orphans_find(uv_loop_t *loop, const struct orphan_traits *traits,
                  void (*found)(void *arg, pid_t pid, const char *name), void *arg);

/* From now on reaps what was adopted when it ends, also while what left it behind still runs: a process that runs for days would
 * else fill the machine with zombies. */
void orphans_watch(struct lt_loop *loop);

/* Kills what hosts that are dead left behind on this machine, by their instances (instance.h). Returns how many. */
unsigned orphans_of_the_dead(void);

#endif
