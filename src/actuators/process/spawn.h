/* A child process, made in a thread of its own so that the loop never waits for it: by clone(CLONE_VM | CLONE_VFORK), which
 * costs the same however large the host's memory is, and with all that a child is to have set between that and execve.
 *
 * The child is the leader of a session of its own, with the default action of every signal, none blocked, only the descriptors
 * 0, 1 and 2, and dies with the host. What fails on the way comes back with the step that failed. */
#ifndef LTSH_ACTUATORS_PROCESS_SPAWN_H
#define LTSH_ACTUATORS_PROCESS_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

enum spawn_step {
    SPAWN_NONE,
    SPAWN_FORK,
    SPAWN_CGROUP,
    SPAWN_OPEN, /* a file that is to be its input or output */
    SPAWN_SESSION,
    SPAWN_TERMINAL,
    SPAWN_NICE,
    SPAWN_LIMIT,
    SPAWN_USER,
    SPAWN_FOLDER,
    SPAWN_DESCRIPTORS,
    SPAWN_EXEC,
};

/* Where a stream goes or comes from. */
struct spawn_stream {
    const char *path; /* a file to be opened, relative to `cwd`; NULL: */
    int fd;           /* this one of the host's */
    bool append;      /* the file is not truncated */
};

struct spawn_limit {
    int resource;
    rlim_t value;
};

enum { SPAWN_LIMITS = 6, SPAWN_GROUPS = 64 };

struct spawn {
    /* What is wanted. All of it stays in place until it is done. */
    const char *const *argv;
    const char *const *envp;
    const char *path;  /* the PATH in which argv[0] is looked for if it has no slash */
    const char *shell; /* that runs what execve does not know (ENOEXEC) */
    const char *cwd;   /* NULL: the host's */
    struct spawn_stream streams[3];
    bool out_to_err_too; /* stderr is where stdout is */
    bool terminal;       /* streams[0].fd is one, and is to control it */
    bool has_user;
    uid_t uid;
    gid_t gid;
    gid_t groups[SPAWN_GROUPS];
    int group_count;
    bool has_umask;
    mode_t umask;
    int nice;
    struct spawn_limit limits[SPAWN_LIMITS];
    int limit_count;
    int cgroup; /* what it writes itself to (cgroup.h); -1: nothing */

    /* What came of it. */
    pid_t pid; /* 0: there is none */
    int pidfd;
    enum spawn_step failed;
    int error;             /* errno of that step */
    bool no_interpreter;   /* the program is there, and what it names in its first line is not */
    const char *failed_at; /* the path or limit that it was about; NULL: none */
};

/* Makes the child, and returns when it executes its program or has failed. Any thread, which must live as long as the child
 * (PDEATHSIG). The pidfd is the caller's. */
void spawn_child(struct spawn *spawn);

/* What failed, for people: "not found: x", "no such directory: /y", "permission denied: x". */
void spawn_describe(const struct spawn *spawn, char *text, int size);

#endif
