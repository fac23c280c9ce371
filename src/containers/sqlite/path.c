#include "containers/sqlite/path.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

char *lt_sqlite_path_resolve(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? lt_strdup(".") : slash == path ? lt_strdup("/") : lt_strdup(path);
    if (slash != NULL && slash != path)
        folder[slash - path] = '\0';
    char *resolved = realpath(folder, NULL);
    const char *base = slash != NULL ? slash + 1 : path;
    char *whole = resolved != NULL ? lt_format("%s%s%s", resolved, strcmp(resolved, "/") == 0 ? "" : "/", base) : NULL;
    free(folder);
    free(resolved);
    return whole;
}

/* The name of a user; the caller's to free. */
static char *user_name(uid_t user)
{
    const struct passwd *entry = getpwuid(user);
    return entry != NULL ? lt_strdup(entry->pw_name) : lt_format("user %u", (unsigned)user);
}

/* Whether this one is there and cannot be written: then that is the error, with whose it is. */
static bool explain_file(const char *name, int mode, struct lt_error *error)
{
    struct stat found;
    if (stat(name, &found) != 0 || access(name, mode) == 0)
        return false;
    char *owner = user_name(found.st_uid), *own = user_name(geteuid());
    lt_fail(error, LT_ERROR, "%s cannot be written: its owner is %s, this process runs as %s", name, owner, own);
    free(owner);
    free(own);
    return true;
}

bool lt_sqlite_path_explain(const char *path, struct lt_error *error)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    bool explained = false;
    for (int i = 0; i < 3 && !explained; i++) {
        char *name = lt_format("%s%s", path, suffixes[i]);
        explained = explain_file(name, R_OK | W_OK, error);
        free(name);
    }
    if (explained)
        return true;
    char *folder = lt_strdup(path);
    *strrchr(folder, '/') = '\0';
    explained = explain_file(folder[0] != '\0' ? folder : "/", W_OK | X_OK, error);
    free(folder);
    return explained;
}
