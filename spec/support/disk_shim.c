/* Preloaded by spec/support/disk.lua: a disk that fails. DISK_CONTROL names a file of two numbers, which are mapped: what fails
 * now (1: writes, there is no space; 2: writes; 4: syncs), and how many syncs there were. Files whose path contains DISK_FILE
 * are on it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int *control(void)
{
    static volatile int *shared;
    if (shared == NULL) {
        int fd = open(getenv("DISK_CONTROL"), O_RDWR | O_CLOEXEC);
        shared = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    return shared;
}

static int is_on_disk(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    return strstr(path, getenv("DISK_FILE")) != NULL;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    int fails = is_on_disk(fd) ? control()[0] : 0;
    if (fails & 3) {
        errno = fails & 1 ? ENOSPC : EIO;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

int fdatasync(int fd)
{
    if (!is_on_disk(fd))
        return (int)syscall(SYS_fdatasync, fd);
    control()[1]++;
    if (control()[0] & 4) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return fdatasync(fd);
}
