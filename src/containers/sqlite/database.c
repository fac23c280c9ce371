#include "containers/sqlite/database.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/alloc.h"
#include "containers/sqlite/statements.h"

enum { VERSION = 4 }; /* of the schema */
enum { CHECKED_PAGES = 8192 /* of a larger file a check takes too long: its faults are found when they are met */ };

/* 64 MB of pages in memory; the log is cut back to 16 MB when it begins anew. */
static const char SETTINGS[] =
    "PRAGMA cache_size = -65536; PRAGMA journal_size_limit = 16777216; PRAGMA temp_store = MEMORY";

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

/* Statements. */

sqlite3_stmt *lt_database_statement(struct lt_database *db, enum lt_statement which)
{
    sqlite3_stmt **statement = &db->statements[which];
    if (*statement == NULL && sqlite3_prepare_v3(db->handle, lt_statement_texts[which], -1, SQLITE_PREPARE_PERSISTENT,
                                                 statement, NULL) != SQLITE_OK)
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

static void set_sync(struct lt_database *db, bool full)
{
    db->full_sync = full;
    sqlite3_exec(db->handle, full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
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
    bool full = atomic_load(&db->wants_full_sync);
    if (db->full_sync != full)
        set_sync(db, full);
    db->patience.waited = 0;
    int code = lt_database_run(db, lt_database_statement(db, writes ? LT_ST_BEGIN : LT_ST_BEGIN_READ));
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
    for (int tries = 0; code == SQLITE_BUSY && lt_sql_wait(&db->patience, tries); tries++)
        code = sqlite3_exec(db->handle, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);
    return code == SQLITE_OK ? code : lt_database_fail(db, code);
}

/* What an earlier version made becomes what this one makes. */
static int migrate(struct lt_database *db)
{
    int code = SQLITE_OK;
    int64_t version = number_of(db, "SELECT version FROM ltsh_queues WHERE queue = 0");
    for (; code == SQLITE_OK && version > 0 && version < VERSION; version++)
        code = execute(db, lt_migrations[version]);
    return code;
}

static int make_tables(struct lt_database *db)
{
    int code = execute(db, "BEGIN IMMEDIATE");
    if (code == SQLITE_OK && number_of(db, "SELECT count(*) FROM sqlite_master WHERE name = 'ltsh_queues'") == 0)
        code = execute(db, lt_schema);
    else if (code == SQLITE_OK)
        code = migrate(db);
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
        code = execute(db, SETTINGS);
    if (code == SQLITE_OK)
        set_sync(db, atomic_load(&db->wants_full_sync));
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
        sqlite3_busy_handler(db->handle, lt_sql_wait, &db->patience);
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
