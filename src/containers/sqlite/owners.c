/* Who runs what, across processes.
 *
 * Each member is an owner in the file, and what it runs is marked as its. Its process holds a lock (flock) on a small file
 * beside the database for as long as it lives, so on one machine a dead owner is proved, at once: the lock can be had. One
 * that lives and does not move (stopped, frozen) is given up when its mark has not changed for the length of its lease, by
 * the clock of who watches, during which he himself could write: no time of another process is compared. It may still be at
 * work then; what it says later is refused, since the owner of a row is its fencing token.
 *
 * What an owner left running has owner 0 from then on, and whoever claims next takes it over.
 *
 * News for others are rows; that there are some is said by touching the lock files, which their processes watch. Looking
 * every second is the net beneath that. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "containers/sqlite/limits.h"
#include "containers/sqlite/news.h"
#include "containers/sqlite/owners.h"
#include "containers/sqlite/perform.h"

/* Others. */

static void forget_other(struct lt_sqlite_lane *lane, struct lt_sqlite_other *other)
{
    TAILQ_REMOVE(&lane->others, other, link);
    free(other->lock);
    free(other);
}

void lt_sqlite_forget_others(struct lt_sqlite_lane *lane)
{
    struct lt_sqlite_other *other;
    while ((other = TAILQ_FIRST(&lane->others)) != NULL)
        forget_other(lane, other); /* NOLINT(clang-analyzer-unix.Malloc): the one before is off the list */
}

struct lt_sqlite_other *lt_sqlite_find_other(struct lt_sqlite_lane *lane, int64_t owner)
{
    struct lt_sqlite_other *other;
    TAILQ_FOREACH(other, &lane->others, link) {
        if (other->owner == owner)
            return other;
    }
    return NULL;
}

static void note_other(struct lt_sqlite_lane *lane, sqlite3_stmt *row, double now)
{
    int64_t owner = sqlite3_column_int64(row, 0), mark = sqlite3_column_int64(row, 4);
    struct lt_sqlite_other *other = lt_sqlite_find_other(lane, owner);
    if (other == NULL) {
        other = lt_zalloc(sizeof *other);
        other->owner = owner;
        other->queue = sqlite3_column_int64(row, 1);
        other->lock = lt_strdup((const char *)sqlite3_column_text(row, 2));
        other->lease = sqlite3_column_double(row, 3);
        other->mark = INT64_MIN;
        TAILQ_INSERT_TAIL(&lane->others, other, link);
    }
    if (other->mark != mark) {
        other->mark = mark;
        other->mark_seen = now;
    }
    other->seen = true;
}

static struct lt_sqlite_member *member_of(struct lt_sqlite_lane *lane, int64_t owner)
{
    struct lt_sqlite_member *member;
    TAILQ_FOREACH(member, &lane->members, link) {
        if (member->standing.owner == owner)
            return member;
    }
    return NULL;
}

int lt_sqlite_read_owners(struct lt_sqlite_lane *lane)
{
    double now = lt_sqlite_monotonic();
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_OWNERS);
    struct lt_sqlite_other *other, *next;
    struct lt_sqlite_member *member;
    int code;
    if (row == NULL)
        return lt_database_error(&lane->db);
    TAILQ_FOREACH(other, &lane->others, link)
        other->seen = false;
    TAILQ_FOREACH(member, &lane->members, link)
        member->seen = false;
    while ((code = sqlite3_step(row)) == SQLITE_ROW) {
        const char *lock = (const char *)sqlite3_column_text(row, 2);
        if (strcmp(lock, lane->lock) != 0)
            note_other(lane, row, now);
        else if ((member = member_of(lane, sqlite3_column_int64(row, 0))) != NULL)
            member->seen = sqlite3_column_int64(row, 4) >= 0;
    }
    sqlite3_reset(row);
    for (other = TAILQ_FIRST(&lane->others); other != NULL; other = next) {
        next = TAILQ_NEXT(other, link);
        if (!other->seen)
            forget_other(lane, other);
    }
    return code == SQLITE_DONE ? SQLITE_OK : lt_database_fail(&lane->db, code);
}

/* The lock file of another: whether its process is dead. That the file is not there proves nothing by itself. */
static bool is_dead(const struct lt_sqlite_lane *lane, const struct lt_sqlite_other *other, bool *missing)
{
    char *path = lt_format("%s%s", lane->db.path, other->lock);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    *missing = fd < 0 && errno == ENOENT;
    bool dead = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0)
        close(fd);
    free(path);
    return dead;
}

static bool is_overdue(const struct lt_sqlite_other *other, double now)
{
    return other->mark >= 0 && now - other->mark_seen >= other->lease;
}

void lt_sqlite_ring(const struct lt_sqlite_lane *lane)
{
    const struct lt_sqlite_other *other, *before = NULL;
    TAILQ_FOREACH(other, &lane->others, link) {
        if (before != NULL && strcmp(before->lock, other->lock) == 0)
            continue;
        before = other;
        char *path = lt_format("%s%s", lane->db.path, other->lock);
        utimensat(AT_FDCWD, path, NULL, 0);
        free(path);
    }
}

/* Dead owners. */

/* What it ran is whose claims it next. */
static int give_up_owner(struct lt_sqlite_lane *lane, struct lt_sqlite_other *other, bool dead)
{
    int code = SQLITE_OK;
    if (!dead) /* it may be told when it moves again */
        code = lt_sqlite_run_on(lane, LT_ST_OWNER_TELL_LOST, other->queue, other->owner);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_OWNER_LOST, other->queue, other->owner);
    int lost = sqlite3_changes(lane->db.handle);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, dead ? LT_ST_OWNER_GONE : LT_ST_OWNER_GIVE_UP, other->owner, 0);
    if (code == SQLITE_OK && dead)
        code = lt_sqlite_run_on(lane, LT_ST_NEWS_DROP, other->owner, 0);
    if (code == SQLITE_OK && lost > 0)
        lt_log(LT_LOG_WARN,
               dead ? "a host died, its tasks are taken over" : "a host does not move, its tasks are taken over",
               LT_S("database", lane->db.path), LT_I("tasks", lost));
    return code;
}

/* The lock file of a dead process goes when it is stored that its owners are given up, and not before: without it the next
 * who looks could not know. */
static void remove_lock_later(struct lt_sqlite_lane *lane, const char *lock)
{
    lane->dead_locks = lt_realloc(lane->dead_locks, (lane->dead_count + 1) * sizeof *lane->dead_locks);
    lane->dead_locks[lane->dead_count++] = lt_format("%s%s", lane->db.path, lock);
}

void lt_sqlite_remove_locks(struct lt_sqlite_lane *lane, bool stored)
{
    for (unsigned i = 0; i < lane->dead_count; i++) {
        if (stored)
            unlink(lane->dead_locks[i]);
        free(lane->dead_locks[i]);
    }
    free(lane->dead_locks);
    lane->dead_locks = NULL;
    lane->dead_count = 0;
}

/* The last owner of a dead process: its file goes. */
static bool has_lock(const struct lt_sqlite_lane *lane, const char *lock)
{
    const struct lt_sqlite_other *other;
    TAILQ_FOREACH(other, &lane->others, link) {
        if (strcmp(other->lock, lock) == 0)
            return true;
    }
    return false;
}

static int give_up_dead(struct lt_sqlite_lane *lane)
{
    struct lt_sqlite_other *other, *next;
    double now = lt_sqlite_monotonic();
    bool could_write = lane->db.patience.waited < 1;
    for (other = TAILQ_FIRST(&lane->others); other != NULL; other = next) {
        next = TAILQ_NEXT(other, link);
        bool missing, dead = is_dead(lane, other, &missing);
        dead = dead || (missing && (other->mark < 0 || is_overdue(other, now)));
        if (!could_write)
            other->mark_seen = now; /* nor could the other */
        if (!dead && !is_overdue(other, now))
            continue;
        int code = give_up_owner(lane, other, dead);
        if (code != SQLITE_OK)
            return code;
        lt_sqlite_tell_work(lane, NULL, NULL);
        if (!dead) {
            other->mark = -1;
            continue;
        }
        char *lock = lt_strdup(other->lock);
        forget_other(lane, other);
        if (!has_lock(lane, lock))
            remove_lock_later(lane, lock);
        free(lock);
    }
    return SQLITE_OK;
}

/* Members. */

int lt_sqlite_join(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, double wall)
{
    struct lt_database *db = &lane->db;
    sqlite3_stmt *statement = lt_database_statement(db, LT_ST_OWNER_NEW);
    if (statement == NULL)
        return lt_database_error(&lane->db);
    int64_t owner = lt_database_next(db);
    sqlite3_bind_int64(statement, 1, owner);
    sqlite3_bind_int64(statement, 2, member->queue->number);
    sqlite3_bind_text(statement, 3, lane->host, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 4, lane->lock, -1, SQLITE_STATIC);
    sqlite3_bind_double(statement, 5, member->lease);
    sqlite3_bind_double(statement, 6, wall);
    int code = lt_database_run(db, statement);
    if (code == SQLITE_OK)
        code = lt_sqlite_read_owners(lane);
    if (code == SQLITE_OK)
        code = give_up_dead(lane);
    if (code != SQLITE_OK)
        return code;
    lt_sqlite_limits_join(lane, member);
    member->standing.owner = owner;
    member->standing.open = true;
    lane->rings = true;
    if (member->queue->paused)
        lt_sqlite_tell_paused(lane, member);
    return SQLITE_OK;
}

int lt_sqlite_leave(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    struct lt_sqlite_member *member = request->member;
    int64_t owner = member->standing.owner;
    member->standing.open = false;
    member->standing.owner = 0;
    lane->rings = true;
    if (owner == 0)
        return SQLITE_OK;
    int code = lt_sqlite_run_on(lane, LT_ST_OWNER_LOST, member->queue->number, owner);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_OWNER_GONE, owner, 0);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_NEWS_DROP, owner, 0);
    lt_sqlite_tell_work(lane, member->queue, member);
    return code;
}

/* It was thought dead: what it ran is another's, and it is an owner anew. What it added is its own still, and so is what it
 * waits for. */
static int join_again(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, double wall)
{
    member->standing.former = member->standing.owner;
    member->standing.owner = 0;
    lt_log(LT_LOG_WARN, "this host was taken for dead, what it ran is another's", LT_S("database", lane->db.path),
           LT_S("queue", member->queue->name));
    int code = lt_sqlite_news_read(lane, member, member->standing.former);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_OWNER_GONE, member->standing.former, 0);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_NEWS_DROP, member->standing.former, 0);
    if (code == SQLITE_OK)
        code = lt_sqlite_join(lane, member, wall);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_OWNER_MOVE_TASKS, member->standing.former, member->standing.owner);
    if (code == SQLITE_OK)
        code = lt_sqlite_run_on(lane, LT_ST_OWNER_MOVE_WATCHES, member->standing.former, member->standing.owner);
    return code;
}

static int look_for_member(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request,
                           struct lt_sqlite_member *member)
{
    if (!member->standing.open)
        return SQLITE_OK;
    int code = lt_sqlite_queue_read(lane, member->queue);
    if (code == SQLITE_OK && !member->seen)
        return join_again(lane, member, request->now);
    if (code == SQLITE_OK)
        code = lt_sqlite_news_read(lane, member, member->standing.owner);
    if (code == SQLITE_OK && member->queue->paused != member->standing.told_paused)
        lt_sqlite_tell_paused(lane, member);
    return code;
}

int lt_sqlite_look(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    struct lt_sqlite_member *member;
    lane->local_news = false;
    int code = lt_sqlite_read_owners(lane);
    if (code == SQLITE_OK && lt_sqlite_mark_due(lane)) /* there are others from now on */
        code = lt_sqlite_mark(lane);
    TAILQ_FOREACH(member, &lane->members, link) {
        if (code == SQLITE_OK)
            code = look_for_member(lane, request, member);
    }
    if (code == SQLITE_OK)
        code = give_up_dead(lane);
    if (code == SQLITE_OK)
        lt_sqlite_tell_work(lane, NULL, NULL);
    return code;
}

static int64_t data_version(struct lt_sqlite_lane *lane)
{
    sqlite3_stmt *row = lt_database_statement(&lane->db, LT_ST_DATA_VERSION);
    int64_t version = 0;
    if (row != NULL && sqlite3_step(row) == SQLITE_ROW)
        version = sqlite3_column_int64(row, 0);
    if (row != NULL)
        sqlite3_reset(row);
    return version;
}

bool lt_sqlite_look_needed(struct lt_sqlite_lane *lane)
{
    double now = lt_sqlite_monotonic();
    const struct lt_sqlite_other *other;
    const struct lt_sqlite_member *member;
    int64_t version = data_version(lane);
    bool needed = version != lane->data_version || lane->local_news;
    lane->data_version = version;
    TAILQ_FOREACH(other, &lane->others, link) {
        bool missing;
        needed = needed || is_overdue(other, now) || is_dead(lane, other, &missing) || (missing && other->mark < 0);
    }
    TAILQ_FOREACH(member, &lane->members, link)
        needed = needed || (member->standing.open && member->standing.told_paused != member->queue->paused);
    return needed;
}

/* Showing that it lives, while others watch. */
int lt_sqlite_mark(struct lt_sqlite_lane *lane)
{
    struct lt_sqlite_member *member;
    double now = lt_sqlite_monotonic();
    int code = SQLITE_OK;
    TAILQ_FOREACH(member, &lane->members, link) {
        if (code == SQLITE_OK && member->standing.owner != 0)
            code = lt_sqlite_run_on(lane, LT_ST_OWNER_MARK, member->standing.owner, 0);
    }
    lane->marked = now;
    return code;
}

double lt_sqlite_mark_interval(const struct lt_sqlite_lane *lane)
{
    const struct lt_sqlite_member *member;
    double shortest = TAILQ_EMPTY(&lane->members) ? 0.1 : 1;
    TAILQ_FOREACH(member, &lane->members, link)
        shortest = member->lease / 4 < shortest ? member->lease / 4 : shortest;
    return shortest;
}

bool lt_sqlite_mark_due(const struct lt_sqlite_lane *lane)
{
    return !TAILQ_EMPTY(&lane->others) && lt_sqlite_monotonic() - lane->marked >= lt_sqlite_mark_interval(lane);
}

/* The lock file. */

int lt_sqlite_lock_open(const char *path, char **suffix)
{
    for (int tries = 0; tries < 100; tries++) {
        uint64_t random = 0;
        sqlite3_randomness(sizeof random, &random);
        char *name = lt_format("-host-%016llx", (unsigned long long)random);
        char *file = lt_format("%s%s", path, name);
        int fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0660);
        free(file);
        if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
            dprintf(fd, "%ld %s\n", (long)getpid(), LTSH_VERSION);
            *suffix = name;
            return fd;
        }
        int failed = errno;
        free(name);
        if (fd >= 0)
            close(fd);
        errno = failed;
        if (failed != EEXIST)
            break;
    }
    return -1;
}
