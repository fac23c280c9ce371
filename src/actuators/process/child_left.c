#include "actuators/process/child_left.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actuators/process/cgroup.h"
#include "actuators/process/orphan.h"
#include "base/alloc.h"
#include "base/container_of.h"

/* A process that it left behind, killed and not reaped yet. */
struct child_orphan {
    uv_poll_t poll;
    struct lt_child *child;
    int pidfd;
    pid_t pid;
    LIST_ENTRY(child_orphan) link;
};

/* Tells that its cgroup is empty. */
struct child_emptying {
    uv_poll_t poll;
    struct lt_child *child;
    int fd;
};

static void free_poll(uv_handle_t *handle)
{
    free(handle);
}

void child_close_poll(uv_poll_t *poll, int fd)
{
    uv_poll_stop(poll);
    uv_close((uv_handle_t *)poll, free_poll);
    close(fd);
}

static void start_poll(struct lt_loop *loop, uv_poll_t *poll, int fd, int events, uv_poll_cb ready)
{
    uv_poll_init(&loop->uv, poll, fd);
    poll->data = loop;
    uv_unref((uv_handle_t *)poll);
    uv_poll_start(poll, events, ready);
}

static void sweep_orphans(struct lt_child *child);

static void orphan_ready(uv_poll_t *poll, int status, int events)
{
    struct child_orphan *orphan = lt_container_of(poll, struct child_orphan, poll);
    struct lt_child *child = orphan->child;
    siginfo_t info = {0};
    (void)status;
    (void)events;
    if (waitid(P_PIDFD, (id_t)orphan->pidfd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0)
        return; /* its end is not complete: this comes again */
    LIST_REMOVE(orphan, link);
    child_close_poll(&orphan->poll, orphan->pidfd); /* and frees the orphan: the poll is its first member */
    if (LIST_EMPTY(&child->orphans))
        sweep_orphans(child);
}

static void orphan_found(void *arg, pid_t pid, const char *name)
{
    struct lt_child *child = arg;
    struct child_orphan *known;
    LIST_FOREACH(known, &child->orphans, link) {
        if (known->pid == pid)
            return;
    }
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return;
    struct child_orphan *orphan = lt_zalloc(sizeof *orphan);
    orphan->child = child;
    orphan->pidfd = pidfd;
    orphan->pid = pid;
    syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
    start_poll(child->loop, &orphan->poll, pidfd, UV_READABLE, orphan_ready);
    LIST_INSERT_HEAD(&child->orphans, orphan, link);
    child->left_behind++;
    snprintf(child->left_name, sizeof child->left_name, "%s", name);
}

static void cgroup_changed(uv_poll_t *poll, int status, int events)
{
    struct child_emptying *emptying = lt_container_of(poll, struct child_emptying, poll);
    struct lt_child *child = emptying->child;
    (void)status;
    (void)events;
    child_close_poll(&emptying->poll, emptying->fd); /* and frees it */
    sweep_orphans(child);
}

/* The kernel takes its time to remove one while others are made. */
static void end_cgroup_work(struct lt_lane_job *job)
{
    struct lt_child *child = lt_container_of(job, struct lt_child, job);
    child->has_cgroup = !cgroup_end(child->number);
}

/* As soon as it is empty it is tried again. One that cannot be removed then is left to the next host. */
static void end_cgroup_done(struct lt_lane_job *job)
{
    struct lt_child *child = lt_container_of(job, struct lt_child, job);
    int fd = child->has_cgroup ? cgroup_watch(child->number) : -1;
    if (child->has_cgroup && fd < 0)
        cgroup_end(child->number); /* it has become empty meanwhile */
    if (fd < 0) {
        child->gone(child);
        return;
    }
    struct child_emptying *emptying = lt_zalloc(sizeof *emptying);
    emptying->child = child;
    emptying->fd = fd;
    start_poll(child->loop, &emptying->poll, fd, UV_PRIORITIZED, cgroup_changed);
}

static bool end_cgroup(struct lt_child *child)
{
    child->job = (struct lt_lane_job){.work = end_cgroup_work, .done = end_cgroup_done};
    return child->has_cgroup && lt_lane_send(child->lane, &child->job);
}

/* As long as there are some: those that end leave theirs behind. */
static void sweep_orphans(struct lt_child *child)
{
    struct orphan_traits traits = {.session = child->spawn.pid, .mark = child->mark};
    if (child->has_cgroup)
        traits.cgroup = child->number;
    orphans_find(&child->loop->uv, &traits, orphan_found, child);
    if (LIST_EMPTY(&child->orphans) && !end_cgroup(child))
        child->gone(child);
}

void child_end_left(struct lt_child *child, void (*gone)(struct lt_child *child))
{
    child->gone = gone;
    sweep_orphans(child);
}
