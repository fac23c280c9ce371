/* What a child leaves behind: processes of its session, and those that left it, which the host adopts when their parents
 * end (PR_SET_CHILD_SUBREAPER). They are found among the host's children, and known by their session or by the variable
 * LTSH_RUN in their environment. */
#ifndef LTSH_ACTUATORS_PROCESS_ORPHAN_H
#define LTSH_ACTUATORS_PROCESS_ORPHAN_H

#include <sys/types.h>
#include <uv.h>

#include "loop/loop.h"

/* Calls found(arg, pid, name) for each adopted process of the session or with this mark ("LTSH_RUN=..."). Those that are dead
 * already and left their session can be known by nothing any more: they are reaped, if they are none of libuv's. */
void orphans_find(uv_loop_t *loop, pid_t session, const char *mark,
                  void (*found)(void *arg, pid_t pid, const char *name), void *arg);

/* From now on reaps what was adopted when it ends, also while what left it behind still runs: a process that runs for days would
 * else fill the machine with zombies. */
void orphans_watch(struct lt_loop *loop);

/* Kills what hosts that are dead left behind on this machine, by their instances (instance.h). Returns how many. */
unsigned orphans_of_the_dead(void);

#endif
