#include "containers/sqlite/database.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/alloc.h"

enum { VERSION = 1, CACHE_KB = 64 << 10, LOG_KEPT = 16 << 20 /* bytes that the log keeps when it begins anew */ };
enum { CHECKED_PAGES = 8192 /* of a larger file a check takes too long: its faults are found when they are met */ };

static const double HURRIED_PATIENCE = 0.5; /* seconds */

/* One file has many queues. What is under way, what waits and what has ended are found by indexes of their own, which hold
 * nothing else, so that a claim and a transition cost the same however much is there. */
static const char schema[] =
    /* Queues; and one row without a name that is the file's own, here so that a commit writes a page less: `last`: see
     * lt_database_next. */
    "CREATE TABLE ltsh_queues(queue INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, paused INTEGER NOT NULL DEFAULT 0,"
    " n0 INTEGER NOT NULL DEFAULT 0, n1 INTEGER NOT NULL DEFAULT 0, n2 INTEGER NOT NULL DEFAULT 0,"
    " n3 INTEGER NOT NULL DEFAULT 0, n4 INTEGER NOT NULL DEFAULT 0, n5 INTEGER NOT NULL DEFAULT 0,"
    " n6 INTEGER NOT NULL DEFAULT 0, n7 INTEGER NOT NULL DEFAULT 0, version INTEGER, last INTEGER, commits INTEGER);"
    "INSERT INTO ltsh_queues(queue, name, version, last, commits) VALUES(0, '', 1, 0, 0);"
    /* state: enum lt_row_state. item, output, progress, handle: JSON as text, or MessagePack as a blob where JSON cannot
     * hold the value; an item that is the integer 0 is in ltsh_items. */
    "CREATE TABLE ltsh_tasks(seq INTEGER PRIMARY KEY, queue INTEGER NOT NULL, id TEXT NOT NULL, state INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, place INTEGER NOT NULL, run INTEGER NOT NULL DEFAULT 0, owner INTEGER,"
    " attempts INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, snoozes INTEGER NOT NULL DEFAULT 0,"
    " past INTEGER NOT NULL DEFAULT 0, adder INTEGER, added_at REAL, run_at REAL, started_at REAL, ended_at REAL,"
    " expires_at REAL, key TEXT, stop TEXT, reason TEXT, version TEXT, host TEXT, options TEXT, handle, progress,"
    " output, item, UNIQUE(queue, id));"
    "CREATE INDEX ltsh_due ON ltsh_tasks(queue, priority DESC, place, key) WHERE state = 1;"
    "CREATE INDEX ltsh_keyed ON ltsh_tasks(queue, key, priority DESC, place) WHERE state = 1 AND key IS NOT NULL;"
    "CREATE INDEX ltsh_suspect ON ltsh_tasks(queue, priority DESC, place) WHERE state = 7;"
    "CREATE INDEX ltsh_delayed ON ltsh_tasks(queue, run_at) WHERE state = 0;"
    "CREATE INDEX ltsh_expiring ON ltsh_tasks(queue, expires_at) WHERE expires_at IS NOT NULL;"
    "CREATE INDEX ltsh_running ON ltsh_tasks(queue, owner, key) WHERE state >= 2 AND state <= 3;"
    "CREATE INDEX ltsh_ended ON ltsh_tasks(queue, state) WHERE ended_at IS NOT NULL;"
    /* Items that are not written anew with each transition, being large. */
    "CREATE TABLE ltsh_items(task INTEGER PRIMARY KEY, item);"
    /* Runs that are over and were not the last. */
    "CREATE TABLE ltsh_runs(task INTEGER NOT NULL, run INTEGER NOT NULL, started_at REAL, ended_at REAL, reason TEXT,"
    " version TEXT, host TEXT, PRIMARY KEY(task, run)) WITHOUT ROWID;"
    /* Ids that were added with `once`, remembered longer than their tasks. */
    "CREATE TABLE ltsh_once(queue INTEGER NOT NULL, id TEXT NOT NULL, added_at REAL NOT NULL,"
    " PRIMARY KEY(queue, id)) WITHOUT ROWID;"
    "CREATE INDEX ltsh_once_old ON ltsh_once(queue, added_at);"
    /* Schedulers that are at work on a queue. `lock` is the end of the name of a file that their process holds locked for
     * as long as it lives; `mark` changes while it can write; -1: it was given up, and what it ran is another's. */
    "CREATE TABLE ltsh_owners(owner INTEGER PRIMARY KEY, queue INTEGER NOT NULL, host TEXT NOT NULL, lock TEXT NOT "
    "NULL,"
    " lease REAL NOT NULL, mark INTEGER NOT NULL DEFAULT 0, since REAL NOT NULL);"
    /* What an owner is told: a task ended (kind 0), is to be stopped (1), was given to
     * another (2), or was deleted (3, with its id). */
    "CREATE TABLE ltsh_news(news INTEGER PRIMARY KEY, owner INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " task INTEGER NOT NULL, run INTEGER NOT NULL, id TEXT);"
    "CREATE INDEX ltsh_news_of ON ltsh_news(owner);"
    /* Who waits for the end of a task that he did not add. */
    "CREATE TABLE ltsh_watchers(task INTEGER NOT NULL, owner INTEGER NOT NULL, PRIMARY KEY(task, owner)) WITHOUT ROWID;"
    /* Outputs that ltsh.persister.sqlite saved. */
    "CREATE TABLE ltsh_outputs(name TEXT NOT NULL, id TEXT NOT NULL, run INTEGER NOT NULL, output,"
    " PRIMARY KEY(name, id)) WITHOUT ROWID;"
    /* Of ltsh.every: the last slot that was called. */
    "CREATE TABLE ltsh_slots(name TEXT PRIMARY KEY, schedule TEXT NOT NULL, time INTEGER NOT NULL) WITHOUT ROWID;"
    /* For people. */
    "CREATE VIEW ltsh_view AS SELECT q.name AS queue, t.id, CASE t.state WHEN 2 THEN 'running' WHEN 3 THEN 'exporting'"
    " WHEN 4 THEN 'success' WHEN 5 THEN 'failed' WHEN 6 THEN 'stopped' ELSE 'waiting' END AS status, t.priority, t.key,"
    " t.attempts, t.run, t.reason, t.host, t.added_at, t.run_at, t.started_at, t.ended_at, t.progress, t.output,"
    " CASE WHEN typeof(t.item) = 'integer' THEN i.item ELSE t.item END AS item"
    " FROM ltsh_tasks t JOIN ltsh_queues q USING(queue) LEFT JOIN ltsh_items i ON i.task = t.seq;";

#define ROW                                                                                                            \
    "seq, id, state, priority, place, run, owner, attempts, lost, snoozes, added_at, run_at, started_at, ended_at,"    \
    " expires_at, key, reason, version, host, options, handle, progress, output, item, stop, adder"

const char lt_row_columns[] = ROW;

static const char *const texts[LT_STATEMENTS] = {
    [LT_ST_BEGIN] = "BEGIN IMMEDIATE",
    [LT_ST_BEGIN_READ] = "BEGIN",
    [LT_ST_COMMIT] = "COMMIT",
    [LT_ST_SAVEPOINT] = "SAVEPOINT one",
    [LT_ST_ROLLBACK_TO] = "ROLLBACK TO one",
    [LT_ST_RELEASE] = "RELEASE one",
    [LT_ST_DATA_VERSION] = "PRAGMA data_version",
    [LT_ST_FILE] = "SELECT version, last, commits FROM ltsh_queues WHERE queue = 0",
    [LT_ST_FILE_SET] = "UPDATE ltsh_queues SET last = ?1, commits = ?2 WHERE queue = 0",
    [LT_ST_QUEUE] = "SELECT queue, paused, n0, n1, n2, n3, n4, n5, n6, n7 FROM ltsh_queues WHERE name = ?1",
    [LT_ST_QUEUE_NEW] = "INSERT INTO ltsh_queues(name) VALUES(?1)",
    [LT_ST_QUEUE_COUNTS] = "UPDATE ltsh_queues SET n0 = ?2, n1 = ?3, n2 = ?4, n3 = ?5, n4 = ?6, n5 = ?7, n6 = ?8,"
                           " n7 = ?9 WHERE queue = ?1",
    [LT_ST_QUEUE_PAUSE] = "UPDATE ltsh_queues SET paused = ?2 WHERE queue = ?1",
    [LT_ST_ADD] =
        "INSERT OR IGNORE INTO ltsh_tasks(seq, queue, id, state, priority, place, adder, added_at, run_at, expires_at,"
        " key, options, item) VALUES(?1, ?2, ?3, ?4, ?5, ?1, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [LT_ST_ADD_ITEM] = "INSERT INTO ltsh_items VALUES(?1, ?2)",
    [LT_ST_ITEM] = "SELECT item FROM ltsh_items WHERE task = ?1",
    [LT_ST_KNOWN] = "SELECT seq, state FROM ltsh_tasks WHERE queue = ?1 AND id = ?2",
    [LT_ST_ONCE_KNOWN] = "SELECT 1 FROM ltsh_once WHERE queue = ?1 AND id = ?2",
    [LT_ST_ONCE_ADD] = "INSERT OR REPLACE INTO ltsh_once VALUES(?1, ?2, ?3)",
    [LT_ST_ONCE_DELETE] = "DELETE FROM ltsh_once WHERE queue = ?1 AND id = ?2",
    [LT_ST_ONCE_PRUNE] = "DELETE FROM ltsh_once WHERE (queue, id) IN (SELECT queue, id FROM ltsh_once WHERE queue = ?1"
                         " AND added_at < ?2 ORDER BY added_at LIMIT ?3)",
    [LT_ST_HEAD] = "SELECT state, run, owner, adder, lost, past, id, typeof(item) FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_DELAYED_DUE] = "SELECT seq, lost FROM ltsh_tasks WHERE queue = ?1 AND state = 0 AND run_at <= ?2"
                          " ORDER BY run_at LIMIT ?3",
    [LT_ST_WAKE] = "UPDATE ltsh_tasks SET state = ?2, place = ?3 WHERE seq = ?1",
    [LT_ST_NEXT_DELAYED] = "SELECT run_at FROM ltsh_tasks WHERE queue = ?1 AND state = 0 ORDER BY run_at LIMIT 1",
    [LT_ST_EXPIRED] =
        "SELECT seq, state FROM ltsh_tasks WHERE queue = ?1 AND expires_at IS NOT NULL AND expires_at <= ?2"
        " ORDER BY expires_at LIMIT ?3",
    [LT_ST_NEXT_EXPIRY] = "SELECT expires_at FROM ltsh_tasks WHERE queue = ?1 AND expires_at IS NOT NULL"
                          " ORDER BY expires_at LIMIT 1",
    [LT_ST_FIRST_DUE] = "SELECT priority, place, added_at, run_at FROM ltsh_tasks WHERE queue = ?1 AND state = 1"
                        " ORDER BY priority DESC, place LIMIT 1",
    [LT_ST_FIRST_SUSPECT] = "SELECT priority, place, seq FROM ltsh_tasks WHERE queue = ?1 AND state = 7"
                            " ORDER BY priority DESC, place LIMIT 1",
    [LT_ST_DUE_ROWS] =
        "SELECT " ROW " FROM ltsh_tasks WHERE queue = ?1 AND state = 1 ORDER BY priority DESC, place LIMIT ?2",
    [LT_ST_CLAIM_CANDIDATES] = "SELECT seq, priority, place, key FROM ltsh_tasks WHERE queue = ?1 AND state = 1"
                               " ORDER BY priority DESC, place",
    [LT_ST_KEY_OF] = "SELECT key FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_NEXT_KEY] = "SELECT key FROM ltsh_tasks INDEXED BY ltsh_keyed WHERE queue = ?1 AND state = 1"
                       " AND key IS NOT NULL AND key > ?2 ORDER BY key LIMIT 1",
    [LT_ST_KEY_FIRST] =
        "SELECT seq, priority, place FROM ltsh_tasks INDEXED BY ltsh_keyed WHERE queue = ?1 AND state = 1"
        " AND key IS NOT NULL AND key = ?2 ORDER BY priority DESC, place LIMIT ?3 OFFSET ?4",
    [LT_ST_CLAIM] = "UPDATE ltsh_tasks SET state = 2, run = ?2, owner = ?3, attempts = attempts + 1, started_at = ?4,"
                    " host = ?5, expires_at = NULL, ended_at = NULL, stop = NULL, version = NULL WHERE seq = ?1",
    [LT_ST_RUNNING_COUNT] = "SELECT count(*) FROM ltsh_tasks WHERE queue = ?1 AND state >= 2 AND state <= 3",
    [LT_ST_RUNNING_OF] =
        "SELECT count(*) FROM ltsh_tasks WHERE queue = ?1 AND owner = ?2 AND state >= 2 AND state <= 3",
    [LT_ST_RUNNING_KEYS] = "SELECT key, count(*) FROM ltsh_tasks WHERE queue = ?1 AND key IS NOT NULL"
                           " AND state >= 2 AND state <= 3 GROUP BY key",
    [LT_ST_ORPHANS] =
        "SELECT seq FROM ltsh_tasks WHERE queue = ?1 AND owner = 0 AND state >= 2 AND state <= 3 LIMIT ?2",
    [LT_ST_TAKE_OVER] = "UPDATE ltsh_tasks SET owner = ?2 WHERE seq = ?1 RETURNING " ROW,
    [LT_ST_END] = "UPDATE ltsh_tasks SET state = ?2, ended_at = ?3, reason = ?4, output = ?5, progress ="
                  " coalesce(?6, progress), version = coalesce(?7, version), expires_at = NULL WHERE seq = ?1"
                  " AND run = ?8 AND owner IS ?9 AND state = ?10",
    [LT_ST_MARK_EXPORTING] = "UPDATE ltsh_tasks SET state = 3 WHERE seq = ?1",
    [LT_ST_WAIT] =
        "UPDATE ltsh_tasks SET state = ?2, place = ?3, run_at = ?4, reason = ?5, attempts = attempts - ?6,"
        " lost = lost + ?7, snoozes = CASE WHEN ?8 THEN min(snoozes + 1, 255) ELSE 0 END, past = ?9, version ="
        " coalesce(?10, version), handle = NULL, progress = NULL, output = NULL, stop = NULL WHERE seq = ?1",
    [LT_ST_WAIT_AS_BEFORE] =
        "UPDATE ltsh_tasks SET state = CASE WHEN lost > 0 THEN 7 ELSE 1 END, attempts = attempts - 1,"
        " run = CASE WHEN attempts = 1 AND lost = 0 AND snoozes = 0 THEN 0 ELSE run END,"
        " started_at = CASE WHEN attempts = 1 AND lost = 0 AND snoozes = 0 THEN NULL ELSE started_at END,"
        " handle = NULL, progress = NULL, output = NULL, stop = NULL WHERE seq = ?1",
    [LT_ST_RETRY] = "UPDATE ltsh_tasks SET state = ?2, place = ?3, run_at = ?4, reason = ?5, attempts = 0, lost = 0,"
                    " snoozes = 0, past = ?6, handle = NULL, progress = NULL, output = NULL, stop = NULL,"
                    " started_at = NULL, ended_at = NULL, version = NULL, owner = NULL, host = NULL WHERE seq = ?1",
    [LT_ST_UPDATE] = "UPDATE ltsh_tasks SET handle = ?4, progress = ?5 WHERE seq = ?1 AND run = ?2 AND owner = ?3"
                     " AND state >= 2 AND state <= 3",
    [LT_ST_ASK_STOP] = "UPDATE ltsh_tasks SET stop = ?2 WHERE seq = ?1",
    [LT_ST_REMEMBER_RUN] = "INSERT OR REPLACE INTO ltsh_runs SELECT seq, run, started_at, coalesce(?2, ended_at),"
                           " coalesce(?3, reason), coalesce(?4, version), host FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_PRUNE_RUNS] = "DELETE FROM ltsh_runs WHERE task = ?1 AND run <="
                         " (SELECT run FROM ltsh_runs WHERE task = ?1 ORDER BY run DESC LIMIT 1 OFFSET ?2)",
    [LT_ST_DELETE] = "DELETE FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_DELETE_ITEM] = "DELETE FROM ltsh_items WHERE task = ?1",
    [LT_ST_DELETE_WATCHERS] = "DELETE FROM ltsh_watchers WHERE task = ?1",
    [LT_ST_DELETE_RUNS] = "DELETE FROM ltsh_runs WHERE task = ?1",
    [LT_ST_GET] = "SELECT " ROW " FROM ltsh_tasks WHERE queue = ?1 AND id = ?2",
    [LT_ST_GET_SEQ] = "SELECT " ROW " FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_RUNS] =
        "SELECT run, started_at, ended_at, reason, version, host FROM ltsh_runs WHERE task = ?1 ORDER BY run",
    [LT_ST_OLD_ENDED] = "SELECT seq, added_at, ended_at FROM ltsh_tasks WHERE queue = ?1 AND state = ?2"
                        " AND ended_at IS NOT NULL AND seq > ?3 ORDER BY seq LIMIT ?4",
    [LT_ST_OWNER_NEW] =
        "INSERT INTO ltsh_owners(owner, queue, host, lock, lease, since) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [LT_ST_OWNERS] = "SELECT owner, queue, lock, lease, mark FROM ltsh_owners",
    [LT_ST_OWNER_MARK] = "UPDATE ltsh_owners SET mark = mark + 1 WHERE owner = ?1 AND mark >= 0",
    [LT_ST_OWNER_GIVE_UP] = "UPDATE ltsh_owners SET mark = -1 WHERE owner = ?1",
    [LT_ST_OWNER_GONE] = "DELETE FROM ltsh_owners WHERE owner = ?1",
    [LT_ST_OWNER_LOST] =
        "UPDATE ltsh_tasks SET owner = 0 WHERE queue = ?1 AND owner = ?2 AND state >= 2 AND state <= 3",
    [LT_ST_OWNER_TELL_LOST] = "INSERT INTO ltsh_news(owner, kind, task, run) SELECT owner, 2, seq, run FROM ltsh_tasks"
                              " WHERE queue = ?1 AND owner = ?2 AND state >= 2 AND state <= 3",
    [LT_ST_NEWS_DROP] = "DELETE FROM ltsh_news WHERE owner = ?1",
    [LT_ST_NEWS_ADD] = "INSERT INTO ltsh_news(owner, kind, task, run, id) SELECT owner, ?2, ?3, ?4, ?5 FROM ltsh_owners"
                       " WHERE owner = ?1",
    [LT_ST_NEWS] = "SELECT n.news, n.kind, n.task, n.run, t.adder, t.stop, n.id FROM ltsh_news n"
                   " LEFT JOIN ltsh_tasks t ON t.seq = n.task WHERE n.owner = ?1 ORDER BY n.news LIMIT 1000",
    [LT_ST_NEWS_READ] = "DELETE FROM ltsh_news WHERE owner = ?1 AND news <= ?2",
    [LT_ST_WATCH_ADD] = "INSERT OR IGNORE INTO ltsh_watchers VALUES(?1, ?2)",
    [LT_ST_WATCHERS] = "SELECT owner FROM ltsh_watchers WHERE task = ?1",
    [LT_ST_OWNER_MOVE_WATCHES] = "UPDATE OR REPLACE ltsh_watchers SET owner = ?2 WHERE owner = ?1",
    [LT_ST_OWNER_MOVE_TASKS] = "UPDATE ltsh_tasks SET adder = ?2 WHERE adder = ?1 AND ended_at IS NULL",
    [LT_ST_SAVE_OUTPUT] = "INSERT OR REPLACE INTO ltsh_outputs VALUES(?1, ?2, ?3, ?4)",
    [LT_ST_LOAD_OUTPUT] = "SELECT output FROM ltsh_outputs WHERE name = ?1 AND id = ?2",
    [LT_ST_ROW_OUTPUT] = "SELECT output FROM ltsh_tasks WHERE id = ?2 AND queue = (SELECT queue FROM ltsh_queues"
                         " WHERE name = ?1)",
    [LT_ST_ERASE_OUTPUT] = "DELETE FROM ltsh_outputs WHERE name = ?1 AND id = ?2",
};

/* Failures. */

static int fail_with(struct lt_database *db, int code, const char *why)
{
    free(db->message);
    db->message = lt_format("%s: %s", db->path, why);
    return code;
}

int lt_database_fail(struct lt_database *db, int code)
{
    if (db->handle == NULL)
        return fail_with(db, code, "not enough memory");
    if (code == SQLITE_BUSY)
        return fail_with(db, code, "another process holds the database, it cannot be written");
    return fail_with(db, code, sqlite3_errmsg(db->handle));
}

int lt_database_error(struct lt_database *db)
{
    return lt_database_fail(db, sqlite3_extended_errcode(db->handle));
}

/* Waiting for a lock that another process holds. */

static double monotonic(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static int database_is_busy(void *arg, int tries)
{
    struct lt_database *db = arg;
    double nap = tries < 20 ? 0.0002 : tries < 100 ? 0.002 : 0.02; /* seconds */
    if (tries == 0)
        db->waits_since = monotonic();
    double patience = atomic_load(&db->hurry) ? HURRIED_PATIENCE : db->patience;
    if (monotonic() - db->waits_since > patience)
        return 0;
    struct timespec pause = {.tv_nsec = (long)(nap * 1e9)};
    nanosleep(&pause, NULL);
    return 1;
}

/* Statements. */

sqlite3_stmt *lt_database_statement(struct lt_database *db, enum lt_statement which)
{
    sqlite3_stmt **statement = &db->statements[which];
    if (*statement == NULL &&
        sqlite3_prepare_v3(db->handle, texts[which], -1, SQLITE_PREPARE_PERSISTENT, statement, NULL) != SQLITE_OK)
        return NULL;
    sqlite3_reset(*statement);
    return *statement;
}

int lt_database_run(struct lt_database *db, sqlite3_stmt *statement)
{
    if (statement == NULL)
        return lt_database_error(db);
    int code = sqlite3_step(statement);
    if (code != SQLITE_DONE && code != SQLITE_ROW) {
        lt_database_fail(db, code);
        sqlite3_reset(statement);
        return code;
    }
    sqlite3_reset(statement);
    return SQLITE_OK;
}

static int execute(struct lt_database *db, const char *text)
{
    int code = sqlite3_exec(db->handle, text, NULL, NULL, NULL);
    return code == SQLITE_OK ? code : lt_database_fail(db, code);
}

/* Transactions. */

static int read_file_row(struct lt_database *db)
{
    sqlite3_stmt *statement = lt_database_statement(db, LT_ST_FILE);
    int code = statement != NULL ? sqlite3_step(statement) : sqlite3_extended_errcode(db->handle);
    if (code != SQLITE_ROW)
        return lt_database_fail(db, code == SQLITE_DONE ? SQLITE_CORRUPT : code);
    int version = sqlite3_column_int(statement, 0);
    db->last = db->last_stored = sqlite3_column_int64(statement, 1);
    db->commits = sqlite3_column_int64(statement, 2);
    sqlite3_reset(statement);
    if (version > VERSION)
        return fail_with(db, SQLITE_SCHEMA,
                         "it was made by a later version of ltsh: this one does not read or change it");
    return SQLITE_OK;
}

/* A disk that was full, and is still: a small write may find a place now and then, which says nothing of the next. */
static bool is_disk_full(const struct lt_database *db)
{
    enum { ROOM = 1 << 20, SHARE = 16 }; /* bytes; of a small disk that part */
    struct statvfs disk;
    if (statvfs(db->path, &disk) != 0)
        return false;
    unsigned long long whole = (unsigned long long)disk.f_blocks * disk.f_frsize;
    unsigned long long wanted = whole / SHARE < ROOM ? whole / SHARE : ROOM;
    return (unsigned long long)disk.f_bavail * disk.f_frsize < wanted;
}

int lt_database_begin(struct lt_database *db, bool writes)
{
    if (writes && db->full && is_disk_full(db))
        return fail_with(db, SQLITE_FULL, "the disk is full");
    double since = monotonic();
    if (atomic_exchange(&db->wants_full_sync, false) && !db->full_sync) {
        db->full_sync = true;
        sqlite3_exec(db->handle, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
    }
    int code = lt_database_run(db, lt_database_statement(db, writes ? LT_ST_BEGIN : LT_ST_BEGIN_READ));
    db->waited = monotonic() - since;
    db->changes_before = sqlite3_total_changes64(db->handle);
    return code == SQLITE_OK ? read_file_row(db) : code;
}

int lt_database_commit(struct lt_database *db, bool writes)
{
    bool changed = sqlite3_total_changes64(db->handle) != db->changes_before;
    if (writes && (changed || db->failed)) { /* else there is nothing to bring to the disk */
        sqlite3_stmt *statement = lt_database_statement(db, LT_ST_FILE_SET);
        if (statement == NULL)
            return lt_database_error(db);
        sqlite3_bind_int64(statement, 1, db->last);
        sqlite3_bind_int64(statement, 2, ++db->commits);
        int code = lt_database_run(db, statement);
        if (code != SQLITE_OK)
            return code;
    }
    int code = lt_database_run(db, lt_database_statement(db, LT_ST_COMMIT));
    if (writes && code == SQLITE_OK)
        db->failed = db->full = false;
    return code;
}

void lt_database_rollback(struct lt_database *db)
{
    if (db->handle == NULL)
        return;
    for (int i = 0; i < LT_STATEMENTS; i++) {
        if (db->statements[i] != NULL)
            sqlite3_reset(db->statements[i]);
    }
    if (sqlite3_get_autocommit(db->handle) == 0)
        sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
}

int64_t lt_database_next(struct lt_database *db)
{
    return ++db->last;
}

/* The file and its log as they are. */

static int committed(void *arg, sqlite3 *handle, const char *name, int pages)
{
    (void)handle;
    (void)name;
    ((struct lt_database *)arg)->wal_pages = pages;
    return SQLITE_OK;
}

static bool look_at(const char *path, const char *suffix, struct stat *seen)
{
    char *name = lt_format("%s%s", path, suffix);
    bool there = stat(name, seen) == 0;
    free(name);
    return there;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

bool lt_database_in_place(const struct lt_database *db)
{
    struct stat file, wal;
    return look_at(db->path, "", &file) && is_same(&file, &db->file) && look_at(db->path, "-wal", &wal) &&
           is_same(&wal, &db->wal);
}

void lt_database_checkpoint(struct lt_database *db)
{
    if (db->handle != NULL)
        sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
}

/* Opening. */

static int64_t number_of(struct lt_database *db, const char *text)
{
    sqlite3_stmt *statement = NULL;
    int64_t number = -1;
    if (sqlite3_prepare_v2(db->handle, text, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return number;
}

/* The switch to a write-ahead log is refused at once while others switch too: it is tried until it is done. */
static int switch_to_log(struct lt_database *db)
{
    int code = SQLITE_BUSY;
    for (int tries = 0; code == SQLITE_BUSY && database_is_busy(db, tries); tries++)
        code = sqlite3_exec(db->handle, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
    return code == SQLITE_OK ? code : lt_database_fail(db, code);
}

static int make_tables(struct lt_database *db)
{
    int code = execute(db, "BEGIN IMMEDIATE");
    if (code == SQLITE_OK && number_of(db, "SELECT count(*) FROM sqlite_master WHERE name = 'ltsh_queues'") == 0)
        code = execute(db, schema);
    if (code == SQLITE_OK)
        code = execute(db, "COMMIT");
    if (code != SQLITE_OK)
        lt_database_rollback(db);
    return code;
}

static int check_health(struct lt_database *db)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(db->handle, "PRAGMA quick_check(1)", -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    const char *found = code == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : "";
    if (code != SQLITE_ROW)
        lt_database_fail(db, code);
    else if (strcmp(found, "ok") != 0)
        fail_with(db, code = SQLITE_CORRUPT, found);
    else
        code = SQLITE_OK;
    sqlite3_finalize(statement);
    return code;
}

static int prepare_file(struct lt_database *db)
{
    char settings[200];
    snprintf(
        settings, sizeof settings,
        "PRAGMA synchronous = %s; PRAGMA cache_size = -%d; PRAGMA journal_size_limit = %d; PRAGMA temp_store = MEMORY",
        db->full_sync ? "FULL" : "NORMAL", (int)CACHE_KB, (int)LOG_KEPT);
    int code = SQLITE_OK;
    if (number_of(db, "PRAGMA page_count") == 0)
        code = execute(db, "PRAGMA auto_vacuum = INCREMENTAL");
    if (code == SQLITE_OK)
        code = execute(db, "PRAGMA schema_version"); /* reads the file */
    if (code == SQLITE_OK && number_of(db, "PRAGMA page_count") <= CHECKED_PAGES)
        code = check_health(db);
    if (code == SQLITE_OK)
        code = switch_to_log(db);
    if (code == SQLITE_OK)
        code = execute(db, settings);
    if (code == SQLITE_OK)
        code = make_tables(db);
    if (code == SQLITE_OK)
        code = lt_database_begin(db, true); /* a write, so that what cannot be written is known now */
    if (code == SQLITE_OK)
        code = lt_database_commit(db, true);
    if (code != SQLITE_OK)
        return code;
    if (!look_at(db->path, "", &db->file) || !look_at(db->path, "-wal", &db->wal))
        return fail_with(db, SQLITE_IOERR, strerror(errno));
    return SQLITE_OK;
}

int lt_database_open(struct lt_database *db)
{
    struct stat found;
    bool again = db->file.st_ino != 0; /* it was open before: another one is not made, nor taken for it */
    int how = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | (again ? 0 : SQLITE_OPEN_CREATE);
    if (again && (!look_at(db->path, "", &found) || !is_same(&found, &db->file)))
        return fail_with(db, SQLITE_CANTOPEN, "the file was removed or replaced; put it back, or stop this host");
    int code = sqlite3_open_v2(db->path, &db->handle, how, NULL);
    if (code != SQLITE_OK)
        lt_database_fail(db, code);
    if (code == SQLITE_OK) {
        sqlite3_busy_handler(db->handle, database_is_busy, db);
        sqlite3_wal_hook(db->handle, committed, db); /* and no checkpoints of SQLite's own */
        code = prepare_file(db);
    }
    if (code != SQLITE_OK)
        lt_database_close(db);
    return code;
}

void lt_database_close(struct lt_database *db)
{
    lt_database_rollback(db);
    for (int i = 0; i < LT_STATEMENTS; i++) {
        sqlite3_finalize(db->statements[i]);
        db->statements[i] = NULL;
    }
    sqlite3_close(db->handle);
    db->handle = NULL;
}
