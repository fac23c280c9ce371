/* The database file of a store: opened, its tables made or refused, its statements prepared, its transactions.
 *
 * Of the store's own thread alone. A function that fails returns a code of SQLite's, and db->message says more; the
 * transaction is the caller's to give up then. */
#ifndef LTSH_CONTAINERS_SQLITE_DATABASE_H
#define LTSH_CONTAINERS_SQLITE_DATABASE_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* What a row's `state` says: as enum lt_status, but that what waits is told apart by whether it may be claimed. */
enum lt_row_state {
    LT_ROW_DELAYED = 0, /* until run_at */
    LT_ROW_DUE = 1,
    LT_ROW_RUNNING = 2,
    LT_ROW_EXPORTING = 3,
    LT_ROW_SUCCESS = 4,
    LT_ROW_FAILED = 5,
    LT_ROW_STOPPED = 6,
    LT_ROW_SUSPECT = 7, /* due, and lost with a host before: it may be what ended that, so it runs alone */
    LT_ROW_STATES,
};

/* Each statement, and its text in database.c. */
enum lt_statement {
    LT_ST_BEGIN,
    LT_ST_BEGIN_READ,
    LT_ST_COMMIT,
    LT_ST_SAVEPOINT,
    LT_ST_ROLLBACK_TO,
    LT_ST_RELEASE,
    LT_ST_DATA_VERSION,
    LT_ST_FILE,
    LT_ST_FILE_SET,
    LT_ST_QUEUE,
    LT_ST_QUEUE_NEW,
    LT_ST_QUEUE_COUNTS,
    LT_ST_QUEUE_PAUSE,
    LT_ST_ADD,
    LT_ST_ADD_ITEM,
    LT_ST_ITEM,
    LT_ST_KNOWN,
    LT_ST_ONCE_KNOWN,
    LT_ST_ONCE_ADD,
    LT_ST_ONCE_DELETE,
    LT_ST_ONCE_PRUNE,
    LT_ST_HEAD,
    LT_ST_DELAYED_DUE,
    LT_ST_WAKE,
    LT_ST_NEXT_DELAYED,
    LT_ST_EXPIRED,
    LT_ST_NEXT_EXPIRY,
    LT_ST_FIRST_DUE,
    LT_ST_FIRST_SUSPECT,
    LT_ST_DUE_ROWS,
    LT_ST_CLAIM_CANDIDATES,
    LT_ST_KEY_OF,
    LT_ST_NEXT_KEY,
    LT_ST_KEY_FIRST,
    LT_ST_CLAIM,
    LT_ST_RUNNING_COUNT,
    LT_ST_RUNNING_OF,
    LT_ST_RUNNING_KEYS,
    LT_ST_ORPHANS,
    LT_ST_TAKE_OVER,
    LT_ST_END,
    LT_ST_MARK_EXPORTING,
    LT_ST_WAIT,
    LT_ST_WAIT_AS_BEFORE,
    LT_ST_RETRY,
    LT_ST_UPDATE,
    LT_ST_ASK_STOP,
    LT_ST_REMEMBER_RUN,
    LT_ST_PRUNE_RUNS,
    LT_ST_DELETE,
    LT_ST_DELETE_ITEM,
    LT_ST_DELETE_WATCHERS,
    LT_ST_DELETE_RUNS,
    LT_ST_GET,
    LT_ST_GET_SEQ,
    LT_ST_RUNS,
    LT_ST_OLD_ENDED,
    LT_ST_OWNER_NEW,
    LT_ST_OWNERS,
    LT_ST_OWNER_MARK,
    LT_ST_OWNER_GONE,
    LT_ST_OWNER_GIVE_UP,
    LT_ST_OWNER_LOST,
    LT_ST_OWNER_TELL_LOST,
    LT_ST_NEWS_DROP,
    LT_ST_NEWS_ADD,
    LT_ST_NEWS,
    LT_ST_NEWS_READ,
    LT_ST_WATCH_ADD,
    LT_ST_WATCHERS,
    LT_ST_OWNER_MOVE_WATCHES,
    LT_ST_OWNER_MOVE_TASKS,
    LT_ST_SAVE_OUTPUT,
    LT_ST_LOAD_OUTPUT,
    LT_ST_ROW_OUTPUT,
    LT_ST_ERASE_OUTPUT,
    LT_STATEMENTS,
};

struct lt_database {
    sqlite3 *handle; /* NULL: not open */
    sqlite3_stmt *statements[LT_STATEMENTS];
    char *path;
    char *message;               /* of the last failure */
    bool full_sync;              /* a commit is on disk, and not only with the kernel */
    atomic_bool wants_full_sync; /* from the loop's thread: with the next transaction */
    bool full;   /* and it failed since the disk is full: nothing is tried before that has some room again */
    bool failed; /* the last transaction that writes: so the next one does write, and shows whether that can be done */
    double patience;   /* seconds that it waits for others */
    atomic_bool hurry; /* from any thread: it waits for others for a moment only */
    double waits_since;
    double waited;          /* seconds that the last transaction waited for others */
    int wal_pages;          /* in the write-ahead log after the last commit */
    struct stat file, wal;  /* what is open */
    int64_t changes_before; /* rows that were changed before this transaction */
    int64_t last;           /* the number that was given out last, in this transaction; and as it is in the file */
    int64_t last_stored;
    int64_t commits; /* counts the transactions of everybody */
};

/* Opens the file, and makes its tables where there are none. What is no database, or of a later version, or damaged, is
 * refused and left as it is. */
int lt_database_open(struct lt_database *db);
void lt_database_close(struct lt_database *db);

/* The columns of a row that lt_row_task reads. */
extern const char lt_row_columns[];

/* A prepared statement, reset and without bindings; NULL: it cannot be prepared. */
sqlite3_stmt *lt_database_statement(struct lt_database *db, enum lt_statement which);

/* Steps one that gives no rows, and resets it. */
int lt_database_run(struct lt_database *db, sqlite3_stmt *statement);

/* Begins a transaction, for writing or only for reading; waits for others as long as that takes. */
int lt_database_begin(struct lt_database *db, bool writes);
int lt_database_commit(struct lt_database *db, bool writes);
void lt_database_rollback(struct lt_database *db);

/* The next number: of a task, a place in the queue, a run. Never given out again, by whatever process. */
int64_t lt_database_next(struct lt_database *db);

/* Notes what SQLite says of the last failure, and returns `code`. */
int lt_database_fail(struct lt_database *db, int code);

/* Notes the failure of the last call of SQLite's, and returns its code. */
int lt_database_error(struct lt_database *db);

/* Whether the file behind the path and its log are those that are open. */
bool lt_database_in_place(const struct lt_database *db);

/* Writes the log back into the file, as far as readers allow. */
void lt_database_checkpoint(struct lt_database *db);

#endif
