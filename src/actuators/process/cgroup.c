#include "actuators/process/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "actuators/instance.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"

enum { NAME_SIZE = 64, TEXT_SIZE = 4096, CPU_PERIOD = 100000 /* microseconds, as the kernel's default */ };
enum { TIDY_TRIES = 10 };
static const double TIDY_PAUSE = 0.05; /* seconds, doubles */
static const char PREFIX[] = "ltsh-";

static struct {
    bool looked;
    unsigned controllers;
    int delegated, own;   /* folders; -1: none */
    char *path;           /* of the delegated one, from the root of the hierarchy */
    char name[NAME_SIZE]; /* of `own` in it */
    bool buried;          /* something that a dead host left is being killed */
} force = {.delegated = -1, .own = -1};

static const struct {
    enum cgroup_controller controller;
    const char *name;
} controllers[] = {{CGROUP_MEMORY, "memory"}, {CGROUP_CPU, "cpu"}, {CGROUP_PIDS, "pids"}};

enum { CONTROLLERS = sizeof controllers / sizeof controllers[0] };

/* Files. */

/* Its text, cut at the end of the buffer; empty if it cannot be read. */
static bool read_at(int folder, const char *name, char text[TEXT_SIZE])
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, TEXT_SIZE - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[len > 0 ? len : 0] = '\0';
    return len >= 0;
}

static bool write_at(int folder, const char *name, const char *text)
{
    int fd = openat(folder, name, O_WRONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? write(fd, text, strlen(text)) : -1;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return len >= 0;
}

static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += len)
        if ((at == text || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\n' || at[len] == '\0'))
            return true;
    return false;
}

/* The number behind a key of a file of them; 0: none. */
static uint64_t read_key(int folder, const char *name, const char *key)
{
    char text[TEXT_SIZE];
    size_t len = strlen(key);
    read_at(folder, name, text);
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;)
        if (strncmp(line, key, len) == 0 && line[len] == ' ')
            return strtoull(line + len, NULL, 10);
    return 0;
}

static int open_folder(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* Deepest first. False: something is in it still. */
static bool remove_tree(int at, const char *name)
{
    if (unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return true;
    int fd = open_folder(at, name);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
            remove_tree(dirfd(folder), entry->d_name);
    if (folder != NULL)
        closedir(folder);
    return unlinkat(at, name, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

/* The kernel does it, before any of them can make another. */
static void kill_all(int at, const char *name)
{
    char path[NAME_SIZE + 16];
    snprintf(path, sizeof path, "%s/cgroup.kill", name);
    write_at(at, path, "1");
}

/* Looking for it. */

/* The path of the host's own cgroup, from the root of the hierarchy. */
static bool read_own_path(char path[TEXT_SIZE])
{
    char text[TEXT_SIZE];
    read_at(AT_FDCWD, "/proc/self/cgroup", text);
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;)
        if (strncmp(line, "0::/", 4) == 0) {
            snprintf(path, TEXT_SIZE, "%s", line + 3);
            return true;
        }
    return false;
}

/* Where the hierarchy is mounted: the caller frees it. NULL: nowhere. */
static char *find_mount(void)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    const struct mntent *mount;
    char *path = NULL;
    while (path == NULL && mounts != NULL && (mount = getmntent(mounts)) != NULL)
        if (strcmp(mount->mnt_type, "cgroup2") == 0)
            path = lt_strdup(mount->mnt_dir);
    if (mounts != NULL)
        endmntent(mounts);
    return path;
}

/* systemd marks what is delegated; the root of a namespace is told from that of the machine by its type. */
static bool is_delegated(int folder, const char *path)
{
    char value[4];
    bool marked = fgetxattr(folder, "user.delegate", value, sizeof value) == 1 ||
                  fgetxattr(folder, "trusted.delegate", value, sizeof value) == 1;
    return (marked && value[0] == '1') || (strcmp(path, "/") == 0 && faccessat(folder, "cgroup.type", F_OK, 0) == 0);
}

/* Opens the delegated folder. */
static int find_delegated(void)
{
    char path[TEXT_SIZE];
    const char *said = getenv("LTSH_CGROUP");
    char *mount = find_mount();
    int folder = -1;
    if (mount != NULL && said != NULL && strcmp(said, "none") != 0) {
        size_t len = strlen(mount);
        folder = open_folder(AT_FDCWD, said);
        if (folder < 0 || strncmp(said, mount, len) != 0 || faccessat(folder, "cgroup.procs", W_OK, 0) != 0)
            lt_log(LT_LOG_WARN, "LTSH_CGROUP names no folder of cgroup v2 that can be used", LT_S("path", said),
                   LT_S("mounted", mount));
        else
            force.path = lt_strdup(said + len);
        for (size_t i = force.path != NULL ? strlen(force.path) : 0; i > 0 && force.path[i - 1] == '/'; i--)
            force.path[i - 1] = '\0';
    } else if (mount != NULL && said == NULL && read_own_path(path)) {
        char *whole = lt_format("%s%s", mount, path);
        folder = open_folder(AT_FDCWD, whole);
        if (folder >= 0 && is_delegated(folder, path))
            force.path = lt_strdup(strcmp(path, "/") == 0 ? "" : path);
        free(whole);
    }
    free(mount);
    if (folder >= 0 && force.path == NULL) {
        close(folder);
        folder = -1;
    }
    return folder;
}

/* Moving in. */

static int parent_of(int pid)
{
    char path[NAME_SIZE], text[TEXT_SIZE];
    int parent = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    read_at(AT_FDCWD, path, text);
    const char *close = strrchr(text, ')');
    if (close == NULL || sscanf(close + 1, " %*c %d", &parent) != 1)
        return 0;
    return parent;
}

/* The host's workers are in its own too; what else is in the folder is not its business. */
static void move_children(int leaf)
{
    char text[TEXT_SIZE];
    read_at(force.delegated, "cgroup.procs", text);
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;)
        if (parent_of((int)strtol(line, NULL, 10)) == (int)getpid())
            write_at(leaf, "cgroup.procs", line);
}

/* The host goes to a leaf of its own. */
static bool move_host(void)
{
    bool made = mkdirat(force.own, "host", 0755) == 0 || errno == EEXIST;
    int leaf = made ? open_folder(force.own, "host") : -1;
    bool moved = leaf >= 0 && write_at(leaf, "cgroup.procs", "0");
    if (moved)
        move_children(leaf);
    if (leaf >= 0)
        close(leaf);
    return moved;
}

static bool enable_in(int folder, const char *name)
{
    char text[TEXT_SIZE], word[NAME_SIZE];
    read_at(folder, "cgroup.subtree_control", text);
    snprintf(word, sizeof word, "+%s", name);
    return has_word(text, name) || write_at(folder, "cgroup.subtree_control", word);
}

static void enable_controllers(void)
{
    for (int i = 0; i < CONTROLLERS; i++)
        if (enable_in(force.delegated, controllers[i].name) && enable_in(force.own, controllers[i].name))
            force.controllers |= controllers[i].controller;
}

static bool move_in(void)
{
    const char *instance = lt_instance_id();
    force.delegated = find_delegated();
    if (force.delegated < 0 || instance == NULL)
        return false;
    snprintf(force.name, sizeof force.name, "%s%s", PREFIX, instance);
    if (mkdirat(force.delegated, force.name, 0755) != 0)
        return false;
    force.own = open_folder(force.delegated, force.name);
    if (force.own >= 0 && move_host())
        return true;
    remove_tree(force.delegated, force.name);
    return false;
}

bool cgroup_in_force(void)
{
    if (force.looked)
        return force.own >= 0;
    force.looked = true;
    if (move_in()) {
        enable_controllers();
        return true;
    }
    if (force.delegated >= 0)
        lt_log(LT_LOG_WARN, "a cgroup is delegated and cannot be used", LT_S("path", force.path),
               LT_S("error", strerror(errno)));
    if (force.own >= 0)
        close(force.own);
    force.own = -1;
    return false;
}

bool cgroup_can_limit(enum cgroup_controller controller)
{
    return cgroup_in_force() && (force.controllers & controller) != 0;
}

void cgroup_say(void)
{
    static bool said;
    char names[NAME_SIZE] = "";
    if (said)
        return;
    said = true;
    for (int i = 0; i < CONTROLLERS; i++)
        if (cgroup_can_limit(controllers[i].controller))
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", names[0] != '\0' ? " " : "",
                     controllers[i].name);
    if (cgroup_in_force())
        lt_log(LT_LOG_INFO, "each process has a cgroup of its own", LT_S("path", force.path),
               LT_S("limits", names[0] != '\0' ? names : "none: rlimits instead"));
    else
        lt_log(LT_LOG_INFO, "no cgroup is delegated to the host: limits are rlimits of each process");
}

/* One child's. */

static void name_of(uint64_t number, const char *file, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "%" PRIu64 "%s%s", number, file[0] != '\0' ? "/" : "", file);
}

static bool set_limits(uint64_t number, const struct cgroup_limits *limits)
{
    char name[NAME_SIZE], value[NAME_SIZE];
    bool set = true;
    if (limits->memory > 0) {
        name_of(number, "memory.max", name);
        snprintf(value, sizeof value, "%" PRIu64, limits->memory);
        set = write_at(force.own, name, value);
        name_of(number, "memory.swap.max",
                name); /* what is too large is ended, and does not crawl; there may be no swap */
        write_at(force.own, name, "0");
    }
    if (set && limits->cpu > 0) {
        name_of(number, "cpu.max", name);
        snprintf(value, sizeof value, "%.0f %d", limits->cpu * CPU_PERIOD, CPU_PERIOD);
        set = write_at(force.own, name, value);
    }
    if (set && limits->processes > 0) {
        name_of(number, "pids.max", name);
        snprintf(value, sizeof value, "%" PRIu64, limits->processes);
        set = write_at(force.own, name, value);
    }
    return set;
}

int cgroup_make(uint64_t number, const struct cgroup_limits *limits)
{
    char name[NAME_SIZE];
    name_of(number, "", name);
    if (mkdirat(force.own, name, 0755) != 0)
        return -1;
    int procs = -1;
    if (set_limits(number, limits)) {
        name_of(number, "cgroup.procs", name);
        procs = openat(force.own, name, O_WRONLY | O_CLOEXEC);
    }
    if (procs < 0) {
        int error = errno;
        name_of(number, "", name);
        unlinkat(force.own, name, AT_REMOVEDIR);
        errno = error;
    }
    return procs;
}

uint64_t cgroup_oom_kills(uint64_t number)
{
    char name[NAME_SIZE];
    name_of(number, "memory.events", name);
    return (force.controllers & CGROUP_MEMORY) != 0 ? read_key(force.own, name, "oom_kill") : 0;
}

bool cgroup_has(uint64_t number, int pid)
{
    char name[NAME_SIZE], text[TEXT_SIZE];
    snprintf(name, sizeof name, "/proc/%d/cgroup", pid);
    read_at(AT_FDCWD, name, text);
    char *place = lt_format("0::%s/%s/%" PRIu64, force.path, force.name, number);
    const char *at = strstr(text, place);
    char end = at != NULL ? at[strlen(place)] : '-';
    free(place);
    return end == '\n' || end == '/' || end == ' ' || end == '\0'; /* " (deleted)" */
}

bool cgroup_end(uint64_t number)
{
    char name[NAME_SIZE];
    name_of(number, "", name);
    if (remove_tree(force.own, name))
        return true;
    kill_all(force.own, name);
    return remove_tree(force.own, name);
}

int cgroup_watch(uint64_t number)
{
    char name[NAME_SIZE], text[TEXT_SIZE];
    name_of(number, "cgroup.events", name);
    int fd = openat(force.own, name, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof text - 1) : 0; /* what changes from now on is an event */
    text[len > 0 ? len : 0] = '\0';
    if (fd >= 0 && strstr(text, "populated 1") == NULL) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Those of hosts that have ended. */

void cgroup_bury(const char *instance)
{
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s%s", PREFIX, instance);
    if (!cgroup_in_force())
        return;
    kill_all(force.delegated, name);
    force.buried = true;
}

/* Whether something is left of a host that has ended. */
static bool remove_dead(void)
{
    int fd = open_folder(force.delegated, ".");
    char *locks = lt_instance_folder();
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    bool left = false;
    while (folder != NULL && (entry = readdir(folder)) != NULL)
        if (entry->d_type == DT_DIR && strncmp(entry->d_name, PREFIX, sizeof PREFIX - 1) == 0 &&
            lt_instance_is_dead(entry->d_name + sizeof PREFIX - 1, locks))
            left = !remove_tree(force.delegated, entry->d_name) || left;
    if (folder != NULL)
        closedir(folder);
    free(locks);
    return left;
}

struct tidying {
    struct lt_timer timer;
    struct lt_loop *loop;
    double pause;
    int tries;
};

static void try_to_tidy(struct lt_timer *timer)
{
    struct tidying *tidying = lt_container_of(timer, struct tidying, timer);
    if (!remove_dead() || !force.buried || --tidying->tries == 0)
        return;
    lt_timer_start(tidying->loop, timer, lt_loop_tick(tidying->loop) + tidying->pause, try_to_tidy);
    tidying->pause *= 2;
}

void cgroup_tidy(struct lt_loop *loop)
{
    static struct tidying tidying;
    if (!cgroup_in_force())
        return;
    tidying = (struct tidying){.timer = LT_TIMER_INIT, .loop = loop, .pause = TIDY_PAUSE, .tries = TIDY_TRIES};
    try_to_tidy(&tidying.timer);
}
