#include "actuators/process/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"

enum { STACK = 64 << 10, PATH_ROOM = 4096 };
static const long BUSY_PAUSE =
    10000000;            /* nanoseconds, before a program that is being written to is tried again; doubles */
enum { BUSY_TRIES = 7 }; /* 1.3 seconds in all */

/* What the child runs in the host's memory, the thread that made it being asleep: system calls, and nothing that takes a
 * lock or keeps what it says to itself. */
struct child {
    struct spawn *spawn;
    const char **shell_argv; /* two free places, and then argv[1]... */
    pid_t parent;
};

#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

IN_CHILD static void fail_child(struct spawn *spawn, enum spawn_step step, const char *at)
{
    spawn->failed = step;
    spawn->error = errno;
    spawn->failed_at = at;
    _exit(127);
}

IN_CHILD static void reset_signals(void)
{
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int number = 1; number <= SIGRTMAX; number++)
        sigaction(number, &action, NULL);
}

IN_CHILD static void set_limits(struct spawn *spawn)
{
    if (spawn->nice != 0) {
        errno = 0;
        if (nice(spawn->nice) == -1 && errno != 0)
            fail_child(spawn, SPAWN_NICE, NULL);
    }
    for (int i = 0; i < spawn->limit_count; i++) {
        struct rlimit limit = {spawn->limits[i].value, spawn->limits[i].value};
        if (setrlimit((__rlimit_resource_t)spawn->limits[i].resource, &limit) != 0)
            fail_child(spawn, SPAWN_LIMIT, NULL);
    }
}

/* By system calls: those of the C library would change all threads of the host. */
IN_CHILD static void become_user(struct spawn *spawn)
{
    if (!spawn->has_user)
        return;
    if (syscall(SYS_setgroups, spawn->group_count, spawn->groups) != 0 ||
        syscall(SYS_setresgid, spawn->gid, spawn->gid, spawn->gid) != 0 ||
        syscall(SYS_setresuid, spawn->uid, spawn->uid, spawn->uid) != 0)
        fail_child(spawn, SPAWN_USER, NULL);
}

IN_CHILD static void set_streams(struct spawn *spawn)
{
    for (int i = 0; i < 3; i++) {
        const struct spawn_stream *stream = &spawn->streams[i];
        int fd = stream->fd;
        if (i == 2 && spawn->out_to_err_too) {
            fd = 1;
        } else if (stream->path != NULL) {
            int how = i == 0 ? O_RDONLY : O_WRONLY | O_CREAT | (stream->append ? O_APPEND : O_TRUNC);
            fd = open(stream->path, how | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666); /* no pipe holds it up */
            if (fd < 0 || fcntl(fd, F_SETFL, i != 0 && stream->append ? O_APPEND : 0) != 0)
                fail_child(spawn, SPAWN_OPEN, stream->path);
        }
        if (fd == i ? fcntl(fd, F_SETFD, 0) != 0 : dup2(fd, i) != i)
            fail_child(spawn, SPAWN_DESCRIPTORS, NULL);
    }
    syscall(SYS_close_range, 3U, ~0U, 0);
}

/* As execvp does: what execve does not know is a script for the shell. */
IN_CHILD static void execute(const struct child *child, const char *file)
{
    const struct spawn *spawn = child->spawn;
    execve(file, (char *const *)(uintptr_t)spawn->argv, (char *const *)(uintptr_t)spawn->envp);
    if (errno == ENOENT && access(file, X_OK) == 0) {
        child->spawn->no_interpreter = true;
        errno = ENOENT;
    }
    if (errno != ENOEXEC)
        return;
    child->shell_argv[0] = spawn->shell;
    child->shell_argv[1] = file;
    execve(spawn->shell, (char *const *)(uintptr_t)child->shell_argv, (char *const *)(uintptr_t)spawn->envp);
}

IN_CHILD static void search_and_execute(const struct child *child)
{
    const char *name = child->spawn->argv[0];
    const char *folder = child->spawn->path;
    size_t name_len = strlen(name);
    bool denied = false;
    char file[PATH_ROOM];
    for (;;) {
        const char *end = strchrnul(folder, ':');
        size_t len = (size_t)(end - folder);
        if (len + name_len + 3 <= sizeof file) {
            memcpy(file, len > 0 ? folder : ".", len > 0 ? len : 1);
            len = len > 0 ? len : 1;
            file[len] = '/';
            memcpy(file + len + 1, name, name_len + 1);
            execute(child, file);
            denied = denied || errno == EACCES;
            if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
                return;
        }
        if (*end == '\0')
            break;
        folder = end + 1;
    }
    errno = denied ? EACCES : ENOENT;
}

IN_CHILD static int child_main(void *arg)
{
    struct child *child = arg;
    struct spawn *spawn = child->spawn;
    sigset_t none;
    reset_signals();
    if (spawn->cgroup >= 0 && write(spawn->cgroup, "0", 1) != 1)
        fail_child(spawn, SPAWN_CGROUP, NULL);
    if (setsid() < 0)
        fail_child(spawn, SPAWN_SESSION, NULL);
    if (spawn->terminal && ioctl(spawn->streams[0].fd, TIOCSCTTY, 0) != 0)
        fail_child(spawn, SPAWN_TERMINAL, NULL);
    set_limits(spawn);
    if (spawn->has_umask)
        umask(spawn->umask);
    become_user(spawn);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != child->parent)
        _exit(127); /* the host is dead */
    if (spawn->cwd != NULL && chdir(spawn->cwd) != 0)
        fail_child(spawn, SPAWN_FOLDER, spawn->cwd);
    set_streams(spawn);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (strchr(spawn->argv[0], '/') != NULL)
        execute(child, spawn->argv[0]);
    else
        search_and_execute(child);
    fail_child(spawn, SPAWN_EXEC, spawn->argv[0]);
    return 127;
}

static void reap(int pidfd)
{
    siginfo_t info;
    while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) != 0 && errno == EINTR) {
    }
    close(pidfd);
}

/* A thread's own, as its children run while it sleeps. */
static void *own_stack(void)
{
    static _Thread_local void *stack;
    if (stack == NULL) {
        stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (stack == MAP_FAILED)
            stack = NULL;
    }
    return stack;
}

static void try_spawn(struct spawn *spawn, struct child *child)
{
    char *stack = own_stack();
    spawn->failed = SPAWN_NONE;
    spawn->error = 0;
    spawn->no_interpreter = false;
    spawn->pidfd = -1;
    pid_t pid = stack == NULL ? -1
                              : clone(child_main, stack + STACK, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, child,
                                      &spawn->pidfd);
    if (pid < 0) {
        spawn->failed = SPAWN_FORK;
        spawn->error = stack == NULL ? ENOMEM : errno;
    } else if (spawn->failed != SPAWN_NONE) {
        reap(spawn->pidfd);
        spawn->pidfd = -1;
    } else {
        spawn->pid = pid;
    }
}

void spawn_child(struct spawn *spawn)
{
    size_t count = 0;
    while (spawn->argv[count] != NULL)
        count++;
    struct child child = {.spawn = spawn, .parent = getpid(), .shell_argv = lt_alloc((count + 3) * sizeof(char *))};
    for (size_t i = 1; i <= count; i++)
        child.shell_argv[i + 1] = spawn->argv[i];
    child.shell_argv[count + 1] = NULL;
    spawn->pid = 0;
    struct timespec pause = {.tv_nsec = BUSY_PAUSE};
    for (int tries = 0;; tries++) {
        try_spawn(spawn, &child);
        bool busy = spawn->failed == SPAWN_EXEC && spawn->error == ETXTBSY; /* a child of another thread holds a copy */
        if (!busy || tries == BUSY_TRIES)
            break;
        nanosleep(&pause, NULL);
        pause.tv_nsec *= 2;
        if (pause.tv_nsec >= 1000000000) {
            pause.tv_sec += pause.tv_nsec / 1000000000;
            pause.tv_nsec %= 1000000000;
        }
    }
    free(child.shell_argv);
}

void spawn_describe(const struct spawn *spawn, char *text, int size)
{
    static const char *const steps[] = {
        [SPAWN_FORK] = "a process cannot be made",   [SPAWN_CGROUP] = "no cgroup of its own",
        [SPAWN_SESSION] = "no session of its own",   [SPAWN_TERMINAL] = "no terminal of its own",
        [SPAWN_NICE] = "nice cannot be set",         [SPAWN_LIMIT] = "its limits cannot be set",
        [SPAWN_USER] = "it cannot become that user", [SPAWN_DESCRIPTORS] = "its input and output",
        [SPAWN_EXEC] = "it cannot be executed",
    };
    const char *at = spawn->failed_at != NULL ? spawn->failed_at : "";
    if (spawn->failed == SPAWN_FOLDER && spawn->error == ENOENT)
        snprintf(text, (size_t)size, "no such directory: %s", at);
    else if (spawn->failed == SPAWN_FOLDER || spawn->failed == SPAWN_OPEN)
        snprintf(text, (size_t)size, "%s: %s", spawn->error == EACCES ? "permission denied" : strerror(spawn->error),
                 at);
    else if (spawn->failed == SPAWN_EXEC && spawn->no_interpreter)
        snprintf(text, (size_t)size, "not found: the interpreter that %s names", at);
    else if (spawn->failed == SPAWN_EXEC && (spawn->error == ENOENT || spawn->error == ENOTDIR))
        snprintf(text, (size_t)size, "not found: %s", at);
    else if (spawn->failed == SPAWN_EXEC && (spawn->error == EACCES || spawn->error == EPERM))
        snprintf(text, (size_t)size, "permission denied: %s", at);
    else if (spawn->failed == SPAWN_EXEC && spawn->error == E2BIG)
        snprintf(text, (size_t)size, "its arguments and environment are too long: %s", at);
    else
        snprintf(text, (size_t)size, "%s: %s%s%s", steps[spawn->failed], strerror(spawn->error),
                 at[0] != '\0' ? ": " : "", at);
}
