/* Which processes have schedulers on a queue, for people. Each has an owner in the file for every scheduler of its own there, and a
 * lock file, which says its number and version. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "containers/sqlite/owners.h"
#include "containers/sqlite/perform.h"

/* What the lock file says, if it can be read. */
static void read_lock(const struct lt_sqlite_lane *lane, const char *lock, struct lt_queue_host *host)
{
    char *path = lt_format("%s%s", lane->db.path, lock), version[32];
    FILE *file = fopen(path, "re");
    long pid;
    if (file != NULL && fscanf(file, "%ld %31s", &pid, version) == 2) {
        host->pid = pid;
        host->version = lt_strdup(version);
    }
    if (file != NULL)
        fclose(file);
    free(path);
}

/* When an owner last showed that it lives: of another process, when this one saw that. */
static double seen_at(struct lt_sqlite_lane *lane, const struct lt_sqlite_request *request, int64_t owner)
{
    const struct lt_sqlite_other *other = lt_sqlite_find_other(lane, owner);
    return other != NULL ? request->now - (lt_sqlite_monotonic() - other->mark_seen) : request->now;
}

/* A row of an owner. `locks`: of the hosts so far, in their order. */
static void note_host(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request, sqlite3_stmt *row, char ***locks)
{
    struct lt_queue_hosts *hosts = &request->hosts;
    const char *lock = (const char *)sqlite3_column_text(row, 2);
    double seen = seen_at(lane, request, sqlite3_column_int64(row, 0));
    double lease = sqlite3_column_int64(row, 4) >= 0 ? sqlite3_column_double(row, 3) : 0; /* < 0: it was given up */
    uint32_t at = 0;
    while (at < hosts->count && strcmp((*locks)[at], lock) != 0)
        at++;
    if (at == hosts->count) {
        *locks = lt_realloc(*locks, (at + 1) * sizeof **locks);
        (*locks)[at] = lt_strdup(lock);
        struct lt_queue_host *host = lt_queue_hosts_push(
            hosts, (struct lt_queue_host){.name = lt_strdup((const char *)sqlite3_column_text(row, 1)),
                                          .self = strcmp(lock, lane->lock) == 0});
        read_lock(lane, lock, host);
    }
    struct lt_queue_host *host = &hosts->items[at];
    host->heartbeat = seen > host->heartbeat ? seen : host->heartbeat;
    host->lease_end = seen + lease > host->lease_end ? seen + lease : host->lease_end;
    host->running += (uint64_t)sqlite3_column_int64(row, 5);
}

int lt_sqlite_hosts(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    int code = lt_sqlite_read_owners(lane);
    sqlite3_stmt *row = code == SQLITE_OK ? lt_database_statement(&lane->db, LT_ST_HOSTS) : NULL;
    if (row == NULL)
        return code == SQLITE_OK ? lt_database_error(&lane->db) : code;
    char **locks = lt_zalloc(sizeof *locks);
    sqlite3_bind_int64(row, 1, request->member->queue->number);
    while ((code = sqlite3_step(row)) == SQLITE_ROW)
        note_host(lane, request, row, &locks);
    sqlite3_reset(row);
    for (uint32_t i = 0; i < request->hosts.count; i++)
        free(locks[i]);
    free(locks);
    return code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&lane->db, code);
}
