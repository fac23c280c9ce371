/* One child process from its start to the end of all that it left: what the process actuator and ltsh.exec stand on.
 *
 *     start -> SPAWNING (a thread of the lane) -> RUNNING -> the leader ends -> LEAVING -> DRAINING -> ended
 *
 * Ended means dead: its session and what left that (adopted by the host, and known by an environment variable) is killed,
 * reaped, and its output is read to the end, or for GRACE seconds where a stranger holds the pipe. No signal is sent before
 * the program executes, and none to a process that was reaped. */
#ifndef LTSH_ACTUATORS_PROCESS_CHILD_H
#define LTSH_ACTUATORS_PROCESS_CHILD_H

#include <stdbool.h>
#include <sys/queue.h>

#include "actuators/capture.h"
#include "actuators/process/spawn.h"
#include "actuators/process/spec.h"
#include "loop/lane.h"
#include "loop/loop.h"

enum lt_child_state { LT_CHILD_SPAWNING, LT_CHILD_RUNNING, LT_CHILD_LEAVING, LT_CHILD_DRAINING, LT_CHILD_ENDED };

struct child_pipe;
struct child_orphan;

struct lt_child {
    /* Filled by its user after zeroing. */
    struct lt_loop *loop;
    struct lt_process_spec spec; /* let go of by lt_child_free */
    const char *task;            /* the task's id, for the environment; NULL: none. Stays while it is being started */
    bool append;                 /* files of its output are not truncated */
    void *user;
    /* It runs, or not: then `failure` says why, and nothing else is told. */
    void (*started)(struct lt_child *child, const char *failure);
    /* Bytes of stream 1 or 2. False: enough for now, until lt_child_more. What comes nevertheless is told. (optional) */
    bool (*output)(struct lt_child *child, int stream, const char *bytes, size_t len);
    void (*ended)(struct lt_child *child);

    /* Read only, in `ended`. */
    int code; /* if signal is 0 */
    int signal;
    struct rusage usage;
    struct lt_capture out, err;

    /* Its own. */
    enum lt_child_state state;
    struct lt_lane *lane;
    struct lt_lane_job job;
    struct spawn spawn;
    const char **argv;
    const char **envp;
    char **home;                          /* what a user adds to envp; NULL: none */
    uint64_t number;                      /* among the host's children; also of its cgroup */
    char mark[80];                        /* LTSH_RUN=..., by which what it leaves is known */
    bool has_cgroup;                      /* and it is known by that */
    void (*gone)(struct lt_child *child); /* nothing of it is left */
    uint64_t oom_kills;
    uv_poll_t *watch; /* of its pidfd */
    struct child_pipe *pipes[3];
    int terminal; /* -1: none */
    LIST_HEAD(, child_orphan) orphans;
    unsigned left_behind; /* how many were found */
    char left_name[32];   /* one of them */
    struct lt_timer timer;
    struct lt_turn turn;
    bool stopping, held_back;
    bool silent; /* nobody has its terminal open */
};

/* Starts it, and holds the loop until its end was told. That it cannot be started may be told from within. */
void lt_child_start(struct lt_child *child);

/* Ends it: the stop signal and CONT to its session, KILL after the grace; with `at_once` KILL. It may be called again, and
 * while it is being started. */
void lt_child_stop(struct lt_child *child, bool at_once);

/* Output may come again. */
void lt_child_more(struct lt_child *child);

/* Lets go of all that it holds: after `ended`, or when it was not started. */
void lt_child_free(struct lt_child *child);

/* Why it failed, as "exit code 3: no such file", "signal 9 (killed)". The caller's first reference. */
struct lt_bytes *lt_child_reason(const struct lt_child *child);

/* Once, before the first child: the host adopts what its children leave behind. */
void lt_child_prepare(struct lt_loop *loop);

#endif
