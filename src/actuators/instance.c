#include "actuators/instance.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

enum { BOOT_DIGITS = 16 };

static char own_id[LT_INSTANCE_SIZE];
static char *own_file;

static void read_boot(char digits[BOOT_DIGITS + 1])
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    int count = 0;
    if (fd >= 0)
        close(fd);
    for (ssize_t i = 0; i < len && count < BOOT_DIGITS; i++)
        if (strchr("0123456789abcdef", text[i]) != NULL && text[i] != '\0')
            digits[count++] = text[i];
    while (count < BOOT_DIGITS)
        digits[count++] = '0';
    digits[count] = '\0';
}

char *lt_instance_folder(void)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime != NULL && runtime[0] == '/')
        return lt_format("%s/ltsh", runtime);
    return geteuid() == 0 ? lt_strdup("/run/ltsh") : lt_format("/tmp/ltsh-%u", (unsigned)geteuid());
}

static char *lock_file(const char *id)
{
    char *path = lt_instance_folder();
    char *file = lt_format("%s/%s.lock", path, id);
    free(path);
    return file;
}

/* The folder, which is this user's alone. */
static bool make_folder(void)
{
    char *path = lt_instance_folder();
    struct stat status;
    bool made = (mkdir(path, 0700) == 0 || errno == EEXIST) && lstat(path, &status) == 0;
    if (made && (!S_ISDIR(status.st_mode) || status.st_uid != geteuid())) {
        errno = EPERM;
        made = false;
    }
    free(path);
    return made;
}

static void remove_lock(void)
{
    unlink(own_file);
}

const char *lt_instance_id(void)
{
    char boot[BOOT_DIGITS + 1];
    uint64_t number = 0;
    if (own_file != NULL)
        return own_id;
    if (!make_folder() || getrandom(&number, sizeof number, 0) != sizeof number)
        return NULL;
    read_boot(boot);
    snprintf(own_id, sizeof own_id, "%s-%016llx", boot, (unsigned long long)number);
    char *file = lock_file(own_id);
    char *unlocked = lt_format("%s.new", file);                           /* it gets its name when it is locked */
    int fd = open(unlocked, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600); /* open until the process ends */
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && rename(unlocked, file) == 0) {
        own_file = file;
        atexit(remove_lock);
    } else {
        free(file);
    }
    free(unlocked);
    return own_file != NULL ? own_id : NULL;
}

/* Whether a file is there that nobody holds. */
static bool is_unlocked(const char *id, bool *missing)
{
    char *file = lock_file(id);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    *missing = fd < 0 && errno == ENOENT;
    free(file);
    if (fd < 0)
        return false;
    bool unlocked = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return unlocked;
}

static bool is_id(const char *id)
{
    size_t digits = strspn(id, "0123456789abcdef-");
    return id[digits] == '\0' && digits == BOOT_DIGITS + 1 + 16 && id[BOOT_DIGITS] == '-';
}

bool lt_instance_is_dead(const char *id, const char *of)
{
    char boot[BOOT_DIGITS + 1];
    bool missing;
    if (!is_id(id) || strcmp(id, own_id) == 0)
        return false;
    read_boot(boot);
    if (strncmp(id, boot, BOOT_DIGITS) != 0)
        return true; /* of an earlier boot of this machine: its caller has seen that it is of this one */
    if (is_unlocked(id, &missing))
        return true;
    char *folder = lt_instance_folder();
    bool same = of != NULL && strcmp(of, folder) == 0;
    free(folder);
    return missing && same;
}

void lt_instance_bury(void (*dead)(void *arg, const char *id), void *arg)
{
    char *path = lt_instance_folder();
    DIR *files = opendir(path);
    const struct dirent *entry;
    while (files != NULL && (entry = readdir(files)) != NULL) {
        char id[LT_INSTANCE_SIZE];
        bool missing;
        const char *end = strstr(entry->d_name, ".lock");
        if (end == NULL || end[5] != '\0' || (size_t)(end - entry->d_name) >= sizeof id)
            continue;
        snprintf(id, sizeof id, "%.*s", (int)(end - entry->d_name), entry->d_name);
        if (!is_id(id) || strcmp(id, own_id) == 0 || !is_unlocked(id, &missing))
            continue;
        dead(arg, id);
        char *file = lock_file(id);
        unlink(file);
        free(file);
    }
    if (files != NULL)
        closedir(files);
    free(path);
}
