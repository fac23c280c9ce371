#include "containers/redis/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The first bytes of a small file; "" if it cannot be read. */
static void read_start(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, size - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[len > 0 ? len : 0] = 0;
}

/* When the process began, in the kernel's ticks; 0: there is none. Its name, in parentheses, may hold anything. */
static unsigned long long start_of(long pid)
{
    char path[64], stat[512];
    unsigned long long start = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    read_start(path, stat, sizeof stat);
    const char *rest = strrchr(stat, ')');
    for (int field = 2; rest != NULL && field < 22; field++)
        rest = strchr(rest + 1, ' ');
    if (rest != NULL)
        start = strtoull(rest, NULL, 10);
    return start;
}

/* "BOOT NAMESPACE" of this machine and namespace. */
static void place_of(char place[80])
{
    char boot[40];
    struct stat names;
    read_start("/proc/sys/kernel/random/boot_id", boot, sizeof boot);
    boot[strcspn(boot, "\n")] = 0;
    unsigned long long inode = stat("/proc/self/ns/pid", &names) == 0 ? names.st_ino : 0;
    snprintf(place, 80, "%s %llu", boot[0] != 0 ? boot : "-", inode);
}

void lt_redis_about(char about[LT_REDIS_ABOUT])
{
    char place[80];
    place_of(place);
    snprintf(about, LT_REDIS_ABOUT, "%ld %llu %.70s %.20s", (long)getpid(), start_of(getpid()), place, LTSH_VERSION);
}

bool lt_redis_is_gone(const char *about, size_t len)
{
    char text[LT_REDIS_ABOUT], place[80], was[80];
    char *rest;
    snprintf(text, sizeof text, "%.*s", (int)(len < sizeof text ? len : sizeof text - 1), about);
    long pid = strtol(text, &rest, 10);
    unsigned long long start = strtoull(rest, &rest, 10);
    char boot[41] = "";
    unsigned long long inode = 0;
    if (pid <= 0 || start == 0 || sscanf(rest, "%40s %llu", boot, &inode) != 2 || boot[0] == '-')
        return false;
    place_of(place);
    snprintf(was, sizeof was, "%s %llu", boot, inode);
    return strcmp(place, was) == 0 && start_of(pid) != start;
}
