#include "actuators/process/orphan.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "actuators/instance.h"
#include "actuators/process/cgroup.h"
#include "base/alloc.h"
#include "base/bytes.h"
#include "base/log.h"

static const char MARK[] = "LTSH_RUN=";

/* Reads a file of /proc whole. */
static bool read_file(const char *path, struct lt_buffer *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = -1;
    text->len = 0;
    if (fd < 0)
        return false;
    do {
        lt_buffer_reserve(text, 4096);
        len = read(fd, text->data + text->len, text->size - text->len - 1);
        if (len > 0)
            text->len += (size_t)len;
    } while (len > 0);
    close(fd);
    text->data[text->len] = '\0';
    return len == 0;
}

/* The name, the session and the state of a process. */
static bool read_stat(pid_t pid, struct lt_buffer *text, char name[32], pid_t *session, char *state)
{
    char path[64];
    int value = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_file(path, text))
        return false;
    const char *open = strchr(text->data, '(');
    const char *close = strrchr(text->data, ')');
    if (open == NULL || close == NULL || sscanf(close + 1, " %c %*d %*d %d", state, &value) != 2)
        return false;
    snprintf(name, 32, "%.*s", (int)(close - open - 1), open + 1);
    *session = value;
    return true;
}

/* The variable of this name in the environment of a process, as "NAME=value"; NULL: it has none. */
static const char *find_mark(pid_t pid, struct lt_buffer *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    if (!read_file(path, text))
        return NULL;
    for (const char *at = text->data; at < text->data + text->len; at += strlen(at) + 1)
        if (strncmp(at, MARK, sizeof MARK - 1) == 0)
            return at;
    return NULL;
}

struct search {
    pid_t pid;
    bool found;
};

static void compare_handle(uv_handle_t *handle, void *arg)
{
    struct search *search = arg;
    if (uv_handle_get_type(handle) == UV_PROCESS && uv_process_get_pid((uv_process_t *)handle) == search->pid)
        search->found = true;
}

/* A dead process that nobody waits for. */
static void reap_stranger(uv_loop_t *loop, pid_t pid)
{
    struct search search = {.pid = pid};
    siginfo_t info;
    uv_walk(loop, compare_handle, &search);
    if (!search.found)
        waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG);
}

static void ignore_found(void *arg, pid_t pid, const char *name)
{
    (void)arg;
    (void)pid;
    (void)name;
}

/* The kernel is asked first, in one call, whether a child of this thread is dead: those of processes are other threads'. */
static void child_exited(uv_signal_t *handle, int number)
{
    static const struct orphan_traits none = {.session = -1}; /* the search reaps what is dead */
    siginfo_t info = {0};
    (void)number;
    if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD) == 0 && info.si_pid != 0)
        orphans_find(handle->loop, &none, ignore_found, NULL);
}

void orphans_watch(struct lt_loop *loop)
{
    static uv_signal_t exits;
    uv_signal_init(&loop->uv, &exits);
    exits.data = loop;
    uv_signal_start(&exits, child_exited, SIGCHLD);
    uv_unref((uv_handle_t *)&exits);
}

static bool has_traits(pid_t pid, const struct orphan_traits *traits, struct lt_buffer *text)
{
    if (traits->cgroup != 0)
        return cgroup_has(traits->cgroup, pid);
    const char *mark = traits->mark != NULL ? find_mark(pid, text) : NULL;
    return mark != NULL && strcmp(mark, traits->mark) == 0;
}

void orphans_find(uv_loop_t *loop, const struct orphan_traits *traits,
                  void (*found)(void *arg, pid_t pid, const char *name), void *arg)
{
    struct lt_buffer list = {0}, text = {0};
    char path[64], name[32], state;
    /* What is adopted becomes a child of the main thread; children of ours are those of the threads that made them. */
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    if (read_file(path, &list) && list.len > 0) {
        char *rest = list.data, *word;
        while ((word = strsep(&rest, " ")) != NULL) {
            pid_t pid = (pid_t)strtol(word, NULL, 10), its_session = 0;
            if (pid <= 0 || !read_stat(pid, &text, name, &its_session, &state))
                continue;
            if (its_session == traits->session || has_traits(pid, traits, &text))
                found(arg, pid, name);
            else if (state == 'Z' && its_session != getsid(0))
                reap_stranger(loop, pid);
        }
    }
    lt_buffer_free(&list);
    lt_buffer_free(&text);
}

/* The signal goes through a pidfd, after what it is has been looked at again: a pid may have been given to another. */
static bool kill_marked(pid_t pid, const char *mark, struct lt_buffer *text)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return false;
    const char *its_mark = find_mark(pid, text);
    bool same = its_mark != NULL && strcmp(its_mark, mark) == 0;
    bool killed = same && syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) == 0;
    close(fd);
    return killed;
}

struct burial {
    struct lt_buffer text;
    unsigned count;
};

/* Ends all processes of the host with this id. */
static void end_processes_of(void *arg, const char *id)
{
    struct burial *burial = arg;
    cgroup_bury(id);
    DIR *folder = opendir("/proc");
    const struct dirent *entry;
    size_t len = strlen(id);
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        const char *found = pid > 0 ? find_mark(pid, &burial->text) : NULL;
        const char *instance = found != NULL ? found + sizeof MARK - 1 : NULL;
        if (instance == NULL || strncmp(instance, id, len) != 0 || instance[len] != ':')
            continue;
        char *mark = lt_strdup(found);
        burial->count += kill_marked(pid, mark, &burial->text) ? 1 : 0;
        free(mark);
    }
    if (folder != NULL)
        closedir(folder);
}

unsigned orphans_of_the_dead(void)
{
    struct burial burial = {0};
    lt_instance_bury(end_processes_of, &burial);
    lt_buffer_free(&burial.text);
    if (burial.count > 0)
        lt_log(LT_LOG_WARN, "ended processes that a host which was killed left behind", LT_I("count", burial.count));
    return burial.count;
}
