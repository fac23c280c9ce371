#include "actuators/process/child_setup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actuators/instance.h"
#include "base/alloc.h"

enum { USER_BUFFER = 16 << 10 };
static const char DEFAULT_PATH[] = "/usr/local/bin:/usr/bin:/bin";

extern char **environ;

/* The user: on the lane's thread, as looking one up may take long. */

/* Its number, and that of its first group. */
static bool find_user(struct spawn *spawn, const char *name, struct passwd *entry, char *buffer)
{
    struct passwd *found = NULL;
    char *end;
    unsigned long uid = strtoul(name, &end, 10);
    bool by_number = end != name && (*end == '\0' || *end == ':');
    if (by_number)
        getpwuid_r((uid_t)uid, entry, buffer, USER_BUFFER, &found);
    else
        getpwnam_r(name, entry, buffer, USER_BUFFER, &found);
    if (found == NULL && !by_number)
        return false;
    spawn->uid = found != NULL ? found->pw_uid : (uid_t)uid;
    spawn->gid = found != NULL ? found->pw_gid : (gid_t)uid;
    spawn->group_count = 1;
    spawn->groups[0] = spawn->gid;
    if (found != NULL) {
        spawn->group_count = SPAWN_GROUPS;
        if (getgrouplist(found->pw_name, found->pw_gid, spawn->groups, &spawn->group_count) < 0)
            spawn->group_count = SPAWN_GROUPS; /* those that fit */
    }
    if (by_number && *end == ':') {
        spawn->gid = (gid_t)strtoul(end + 1, NULL, 10);
        spawn->groups[0] = spawn->gid;
        spawn->group_count = 1;
    }
    return true;
}

static bool find_group(struct spawn *spawn, const char *name)
{
    struct group entry, *found = NULL;
    char *end, *buffer = lt_alloc(USER_BUFFER);
    unsigned long gid = strtoul(name, &end, 10);
    if (end == name || *end != '\0') {
        getgrnam_r(name, &entry, buffer, USER_BUFFER, &found);
        gid = found != NULL ? found->gr_gid : 0;
    }
    bool known = found != NULL || (end != name && *end == '\0');
    free(buffer);
    spawn->gid = (gid_t)gid;
    return known;
}

/* The place of a variable in a list that ends with NULL, or its end. */
static size_t find_variable(const char **list, const char *line)
{
    size_t len = strcspn(line, "="), i = 0;
    while (list[i] != NULL && (strncmp(list[i], line, len) != 0 || list[i][len] != '='))
        i++;
    return i;
}

static void set_variable(const char **list, const char *line)
{
    size_t i = find_variable(list, line);
    if (list[i] == NULL)
        list[i + 1] = NULL;
    list[i] = line;
}

/* HOME, USER and LOGNAME follow the user, unless the item says them. */
static void set_home(struct lt_child *child, const struct passwd *entry)
{
    const char *const names[] = {"HOME", "USER", "LOGNAME"};
    const char *const values[] = {entry->pw_dir, entry->pw_name, entry->pw_name};
    child->home = lt_zalloc(4 * sizeof *child->home);
    for (int i = 0; i < 3; i++) {
        size_t given;
        json_t *line;
        bool said = false;
        child->home[i] = lt_format("%s=%s", names[i], values[i]);
        json_array_foreach(child->spec.env, given, line) {
            size_t len = strlen(names[i]) + 1;
            said = said || strncmp(json_string_value(line), child->home[i], len) == 0;
        }
        if (!said)
            set_variable(child->envp, child->home[i]);
    }
}

bool child_become(struct lt_child *child)
{
    const struct lt_process_spec *spec = &child->spec;
    struct spawn *spawn = &child->spawn;
    struct passwd entry = {0};
    if (spec->user == NULL && spec->group == NULL)
        return true;
    char *buffer = lt_alloc(USER_BUFFER);
    spawn->has_user = true;
    spawn->uid = geteuid();
    spawn->gid = getegid();
    spawn->group_count = 1;
    spawn->groups[0] = spawn->gid;
    bool known = spec->user == NULL || find_user(spawn, spec->user, &entry, buffer);
    if (known && entry.pw_name != NULL)
        set_home(child, &entry);
    free(buffer);
    if (known && spec->group != NULL) {
        known = find_group(spawn, spec->group);
        spawn->groups[0] = spec->user == NULL ? spawn->gid : spawn->groups[0];
    }
    if (!known) {
        spawn->failed = SPAWN_USER;
        spawn->error = ENOENT;
    }
    return known;
}

/* Its cgroup. */

bool child_make_cgroup(struct lt_child *child)
{
    struct spawn *spawn = &child->spawn;
    if (!child->has_cgroup)
        return true;
    spawn->cgroup = cgroup_make(child->number, &child->spec.cgroup);
    if (spawn->cgroup < 0) {
        spawn->failed = SPAWN_CGROUP;
        spawn->error = errno;
    }
    return spawn->cgroup >= 0;
}

void child_leave_cgroup(struct lt_child *child)
{
    if (child->spawn.cgroup < 0)
        return;
    close(child->spawn.cgroup);
    if (child->spawn.pid == 0)
        cgroup_end(child->number);
}

/* The environment. */

void child_make_environment(struct lt_child *child)
{
    const struct lt_process_spec *spec = &child->spec;
    const char *instance = lt_instance_id();
    static uint64_t count_of_children;
    size_t count = 0, i;
    json_t *line;
    while (!spec->clear_env && environ[count] != NULL)
        count++;
    child->envp = lt_alloc((count + json_array_size(spec->env) + 8) * sizeof *child->envp);
    for (i = 0; i < count; i++)
        child->envp[i] = environ[i];
    child->envp[count] = NULL;
    json_array_foreach(spec->env, i, line)
        set_variable(child->envp, json_string_value(line));
    child->number = ++count_of_children;
    snprintf(child->mark, sizeof child->mark, "LTSH_RUN=%s:%llu", instance != NULL ? instance : "",
             (unsigned long long)child->number);
    set_variable(child->envp, child->mark);
    const char *path = child->envp[find_variable(child->envp, "PATH")];
    child->spawn.path = path != NULL ? path + sizeof "PATH=" - 1 : DEFAULT_PATH;
}

/* The streams. */

static void close_fd(int *fd)
{
    if (*fd > 2)
        close(*fd);
    *fd = -1;
}

static int null_device(int how)
{
    static int reads = -1, writes = -1;
    int *fd = how == O_RDONLY ? &reads : &writes;
    if (*fd < 0)
        *fd = open("/dev/null", how | O_CLOEXEC);
    return *fd;
}

/* The ends that the child has, in spawn.streams, and those of the host, in `own`. */
bool child_make_streams(struct lt_child *child, int own[3])
{
    const struct lt_process_spec *spec = &child->spec;
    struct spawn_stream *streams = child->spawn.streams;
    const enum lt_stream_kind kinds[] = {LT_STREAM_CAPTURE, spec->out, spec->err};
    const char *const files[] = {spec->in_file, spec->out_file, spec->err_file};
    for (int i = 0; i < 3; i++) {
        int ends[2] = {-1, -1};
        streams[i] = (struct spawn_stream){.path = files[i], .fd = -1, .append = child->append};
        if (files[i] != NULL || (i == 2 && kinds[i] == LT_STREAM_STDOUT)) {
            child->spawn.out_to_err_too = child->spawn.out_to_err_too || files[i] == NULL;
        } else if (kinds[i] == LT_STREAM_INHERIT) {
            streams[i].fd = i;
        } else if (i == 0 ? spec->in_bytes == NULL : kinds[i] == LT_STREAM_DISCARD) {
            streams[i].fd = null_device(i == 0 ? O_RDONLY : O_WRONLY);
        } else if (pipe2(ends, O_CLOEXEC) == 0) {
            streams[i].fd = ends[i == 0 ? 0 : 1];
            own[i] = ends[i == 0 ? 1 : 0];
        } else {
            return false;
        }
    }
    return true;
}

bool child_make_terminal(struct lt_child *child, int own[3])
{
    char name[128];
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0)
        return false;
    own[1] = master;
    if (grantpt(master) != 0 || unlockpt(master) != 0 || ptsname_r(master, name, sizeof name) != 0)
        return false;
    int slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        child->spawn.streams[i] = (struct spawn_stream){.fd = slave};
    child->terminal = slave;
    child->spawn.terminal = true;
    return slave >= 0;
}

/* The child has its own copies now. */
void child_close_ends(struct lt_child *child)
{
    for (int i = 0; i < 3; i++) {
        struct spawn_stream *stream = &child->spawn.streams[i];
        bool shared = stream->fd == null_device(O_RDONLY) || stream->fd == null_device(O_WRONLY);
        if (child->terminal < 0 && !shared)
            close_fd(&stream->fd);
        stream->fd = -1;
    }
    if (child->terminal >= 0)
        close(child->terminal);
    child->terminal = -1;
}
