#include "actuators/process/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actuators/process/child_left.h"
#include "actuators/process/child_setup.h"
#include "actuators/process/orphan.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"

enum { SPAWNERS = 4, READ_SIZE = 64 << 10 };
static const double PIPE_GRACE = 1; /* seconds at least, for a pipe that a stranger holds */

/* A pipe to or from the child; it closes in its own time, after the child. */
struct child_pipe {
    uv_pipe_t pipe;
    uv_write_t write;
    struct lt_child *child; /* NULL: nobody's any more */
    int stream;
};

static struct lt_lane *spawners; /* their threads live until the process ends, and so do the children that they made */

void lt_child_prepare(struct lt_loop *loop)
{
    static bool prepared;
    struct sigaction action;
    if (prepared)
        return;
    prepared = true;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (sigaction(SIGCHLD, NULL, &action) == 0 &&
        action.sa_handler == SIG_IGN) { /* the kernel would reap them itself */
        action.sa_handler = SIG_DFL;
        sigaction(SIGCHLD, &action, NULL);
    }
    orphans_watch(loop);
    orphans_of_the_dead();
    cgroup_tidy(loop);
}

/* Handles of libuv. */

static void free_pipe(uv_handle_t *handle)
{
    free(lt_container_of((uv_pipe_t *)handle, struct child_pipe, pipe));
}

static void close_pipe(struct lt_child *child, int stream)
{
    struct child_pipe *pipe = child->pipes[stream];
    if (pipe == NULL)
        return;
    child->pipes[stream] = NULL;
    pipe->child = NULL;
    uv_close((uv_handle_t *)&pipe->pipe, free_pipe);
}

static bool open_pipe(struct lt_child *child, int stream, int fd)
{
    struct child_pipe *pipe = lt_zalloc(sizeof *pipe);
    uv_pipe_init(&child->loop->uv, &pipe->pipe, 0);
    pipe->pipe.data = child->loop;
    uv_unref((uv_handle_t *)&pipe->pipe);
    if (uv_pipe_open(&pipe->pipe, fd) != 0) {
        close(fd);
        uv_close((uv_handle_t *)&pipe->pipe, free_pipe);
        return false;
    }
    pipe->child = child;
    pipe->stream = stream;
    child->pipes[stream] = pipe;
    return true;
}

/* The end. */

static void child_ended(struct lt_turn *turn)
{
    struct lt_child *child = lt_container_of(turn, struct lt_child, turn);
    lt_loop_release(child->loop);
    child->ended(child);
}

static void end_child(struct lt_child *child)
{
    child->state = LT_CHILD_ENDED;
    lt_timer_stop(child->loop, &child->timer);
    for (int i = 0; i < 3; i++)
        close_pipe(child, i);
    if (child->left_behind > 0 && !child->stopping)
        lt_log(LT_LOG_INFO, "processes that a task left behind were ended", LT_S("task", child->task),
               LT_I("count", child->left_behind), LT_S("name", child->left_name));
    lt_loop_post(child->loop, &child->turn);
}

static void drain_late(struct lt_timer *timer)
{
    struct lt_child *child = lt_container_of(timer, struct lt_child, timer);
    if (!child->held_back)
        end_child(child);
}

static void arm_drain(struct lt_child *child)
{
    double grace = child->spec.stop_grace > PIPE_GRACE ? child->spec.stop_grace : PIPE_GRACE;
    lt_timer_start(child->loop, &child->timer, lt_loop_tick(child->loop) + grace, drain_late);
}

static void drain_output(struct lt_child *child)
{
    child->state = LT_CHILD_DRAINING;
    close_pipe(child, 0);
    if (child->silent)
        close_pipe(child, 1);
    if (child->pipes[1] == NULL && child->pipes[2] == NULL)
        end_child(child);
    else
        arm_drain(child);
}

/* The leader. */

static void leader_ready(uv_poll_t *poll, int status, int events)
{
    struct lt_child *child = *(struct lt_child **)(poll + 1);
    siginfo_t info = {0};
    (void)status;
    (void)events;
    kill(-child->spawn.pid, SIGKILL); /* before it is reaped: until then the number is its own */
    if (syscall(SYS_waitid, P_PIDFD, child->spawn.pidfd, &info, WEXITED | WNOHANG, &child->usage) == 0 &&
        info.si_pid == 0)
        return;
    child->signal = info.si_code == CLD_EXITED ? 0 : info.si_status;
    child->code = info.si_code == CLD_EXITED ? info.si_status : 0;
    child->watch = NULL;
    child_close_poll(poll, child->spawn.pidfd);
    child->spawn.pidfd = -1;
    lt_timer_stop(child->loop, &child->timer);
    child->state = LT_CHILD_LEAVING;
    if (child->has_cgroup)
        child->oom_kills = cgroup_oom_kills(child->number);
    child_end_left(child, drain_output);
}

/* Output. */

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    static char bytes[READ_SIZE]; /* the loop's thread reads one at a time */
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(bytes, sizeof bytes);
}

static void pipe_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct child_pipe *pipe = lt_container_of((uv_pipe_t *)stream, struct child_pipe, pipe);
    struct lt_child *child = pipe->child;
    int number = pipe->stream;
    if (child == NULL || len == 0)
        return;
    if (len < 0 && child->spec.pty && child->state < LT_CHILD_DRAINING) {
        uv_read_stop(
            stream); /* EIO: nobody has it open; closed now, it would hang up on a process that is just ending */
        child->silent = true;
        return;
    }
    if (len < 0) { /* EOF */
        close_pipe(child, number);
        if (child->state == LT_CHILD_DRAINING && child->pipes[1] == NULL && child->pipes[2] == NULL)
            end_child(child);
        return;
    }
    lt_capture_add(number == 1 ? &child->out : &child->err, buffer->base, (size_t)len);
    if (child->output != NULL && !child->output(child, number, buffer->base, (size_t)len)) {
        child->held_back = true;
        for (int i = 1; i < 3; i++)
            if (child->pipes[i] != NULL)
                uv_read_stop((uv_stream_t *)&child->pipes[i]->pipe);
    }
}

void lt_child_more(struct lt_child *child)
{
    if (!child->held_back)
        return;
    child->held_back = false;
    for (int i = 1; i < 3; i++)
        if (child->pipes[i] != NULL)
            uv_read_start((uv_stream_t *)&child->pipes[i]->pipe, give_buffer, pipe_read);
    if (child->state == LT_CHILD_DRAINING)
        arm_drain(child);
}

/* Input. */

static void input_written(uv_write_t *write, int status)
{
    struct child_pipe *pipe = lt_container_of(write, struct child_pipe, write);
    (void)status; /* a child need not read it */
    if (pipe->child != NULL && pipe->stream == 0)
        close_pipe(pipe->child, 0);
}

/* The end of a pipe is its end; a terminal is told so. */
static void write_input(struct lt_child *child)
{
    static char end_of_input[] = "\004";
    const struct lt_process_spec *spec = &child->spec;
    struct child_pipe *pipe = child->pipes[spec->pty ? 1 : 0];
    uv_buf_t buffers[2] = {uv_buf_init((char *)(uintptr_t)spec->in_bytes, (unsigned)spec->in_len),
                           uv_buf_init(end_of_input, 1)};
    if (spec->in_bytes == NULL || pipe == NULL)
        return;
    if (uv_write(&pipe->write, (uv_stream_t *)&pipe->pipe, buffers, spec->pty ? 2 : 1, input_written) != 0 &&
        !spec->pty)
        close_pipe(child, 0);
}

/* Starting. */

static void spawn_work(struct lt_lane_job *job)
{
    struct lt_child *child = lt_container_of(job, struct lt_child, job);
    if (child_become(child) && child_make_cgroup(child))
        spawn_child(&child->spawn);
    child_leave_cgroup(child);
}

static void fail_start(struct lt_child *child, const char *why)
{
    child_close_ends(child);
    for (int i = 0; i < 3; i++)
        close_pipe(child, i);
    child->state = LT_CHILD_ENDED;
    lt_loop_release(child->loop);
    child->started(child, why);
}

static void watch_leader(struct lt_child *child)
{
    uv_poll_t *poll = lt_zalloc(sizeof *poll + sizeof(struct lt_child *));
    *(struct lt_child **)(poll + 1) = child;
    uv_poll_init(&child->loop->uv, poll, child->spawn.pidfd);
    poll->data = child->loop;
    uv_unref((uv_handle_t *)poll);
    uv_poll_start(poll, UV_READABLE, leader_ready);
    child->watch = poll;
}

static void spawn_done(struct lt_lane_job *job)
{
    struct lt_child *child = lt_container_of(job, struct lt_child, job);
    char why[512];
    if (child->spawn.pid == 0) {
        if (child->spawn.failed == SPAWN_USER && child->spawn.error == ENOENT)
            snprintf(why, sizeof why, "no such user or group: %s%s%s", child->spec.user != NULL ? child->spec.user : "",
                     child->spec.group != NULL ? ":" : "", child->spec.group != NULL ? child->spec.group : "");
        else
            spawn_describe(&child->spawn, why, sizeof why);
        fail_start(child, why);
        return;
    }
    child_close_ends(child);
    child->state = LT_CHILD_RUNNING;
    for (int i = 1; i < 3; i++)
        if (child->pipes[i] != NULL)
            uv_read_start((uv_stream_t *)&child->pipes[i]->pipe, give_buffer, pipe_read);
    write_input(child);
    watch_leader(child);
    bool stopping = child->stopping;
    child->started(child, NULL);
    if (stopping)
        lt_child_stop(child, false);
}

static struct lt_lane *spawners_of(struct lt_loop *loop)
{
    if (spawners == NULL)
        spawners = lt_lane_open(loop, SPAWNERS, "ltsh-spawn");
    return spawners;
}

void lt_child_start(struct lt_child *child)
{
    const struct lt_process_spec *spec = &child->spec;
    int own[3] = {-1, -1, -1};
    size_t count = json_array_size(spec->argv), i;
    json_t *word;
    lt_loop_hold(child->loop);
    child->timer = LT_TIMER_INIT;
    child->turn.fn = child_ended;
    child->terminal = -1;
    child->spawn = (struct spawn){.cwd = spec->cwd,
                                  .shell = "/bin/sh",
                                  .pidfd = -1,
                                  .cgroup = -1,
                                  .nice = spec->nice,
                                  .has_umask = spec->has_umask,
                                  .umask = spec->umask,
                                  .limit_count = spec->limit_count};
    memcpy(child->spawn.limits, spec->limits, sizeof spec->limits);
    child->argv = lt_alloc((count + 1) * sizeof *child->argv);
    json_array_foreach(spec->argv, i, word)
        child->argv[i] = json_string_value(word);
    child->argv[count] = NULL;
    child_make_environment(child);
    child->has_cgroup = cgroup_in_force();
    if (spec->limit_count > 0 || spec->cgroup.memory > 0 || spec->cgroup.cpu > 0 || spec->cgroup.processes > 0)
        cgroup_say();
    child->spawn.argv = child->argv;
    child->spawn.envp = child->envp;
    lt_capture_init(&child->out, spec->max_output);
    lt_capture_init(&child->err, spec->max_output);
    bool made = spec->pty ? child_make_terminal(child, own) : child_make_streams(child, own);
    for (int s = 0; s < 3; s++)
        if (own[s] >= 0)
            made = open_pipe(child, s, own[s]) && made;
    child->job = (struct lt_lane_job){.work = spawn_work, .done = spawn_done};
    child->state = LT_CHILD_SPAWNING;
    if (!made) {
        child->spawn.failed = SPAWN_DESCRIPTORS;
        child->spawn.error = errno;
        child->job.work = NULL;
    }
    child->lane = made ? spawners_of(child->loop) : NULL;
    if (child->lane == NULL || !lt_lane_send(child->lane, &child->job)) {
        if (made)
            child->spawn.failed = SPAWN_FORK;
        child->spawn.error = child->spawn.error != 0 ? child->spawn.error : errno;
        char why[256];
        spawn_describe(&child->spawn, why, sizeof why);
        fail_start(child, why);
    }
}

/* Stopping. */

static void kill_session(struct lt_child *child)
{
    if (child->state == LT_CHILD_RUNNING)
        kill(-child->spawn.pid, SIGKILL); /* what left it follows the leader's end */
}

static void grace_over(struct lt_timer *timer)
{
    kill_session(lt_container_of(timer, struct lt_child, timer));
}

void lt_child_stop(struct lt_child *child, bool at_once)
{
    bool again = child->stopping;
    child->stopping = true;
    if (child->state != LT_CHILD_RUNNING)
        return; /* as soon as it runs; or it is over */
    if (at_once || child->spec.stop_grace <= 0) {
        kill_session(child);
        return;
    }
    if (again && lt_timer_active(&child->timer))
        return;
    kill(-child->spawn.pid, child->spec.stop_signal);
    kill(-child->spawn.pid, SIGCONT); /* one that is stopped hears it too */
    lt_timer_start(child->loop, &child->timer, lt_loop_tick(child->loop) + child->spec.stop_grace, grace_over);
}

/* What came of it. */

struct lt_bytes *lt_child_reason(const struct lt_child *child)
{
    char what[64], name[32];
    if (child->oom_kills > 0 && child->signal == SIGKILL) {
        snprintf(what, sizeof what, "memory limit");
    } else if (child->signal != 0) {
        snprintf(name, sizeof name, "%s", strsignal(child->signal));
        if (name[0] >= 'A' && name[0] <= 'Z')
            name[0] += 'a' - 'A';
        snprintf(what, sizeof what, "signal %d (%s)", child->signal, name);
    } else {
        snprintf(what, sizeof what, "exit code %d%s", child->code, child->oom_kills > 0 ? " (memory limit)" : "");
    }
    bool apart = child->spec.err == LT_STREAM_CAPTURE && !child->spec.pty;
    return lt_result_reason(what, apart ? &child->err : &child->out);
}

void lt_child_free(struct lt_child *child)
{
    for (int i = 0; i < 3; i++)
        close_pipe(child, i);
    lt_timer_stop(child->loop, &child->timer);
    for (int i = 0; child->home != NULL && child->home[i] != NULL; i++)
        free(child->home[i]);
    free(child->home);
    free(child->argv);
    free(child->envp);
    lt_capture_clear(&child->out);
    lt_capture_clear(&child->err);
    lt_process_spec_clear(&child->spec);
}
