/* The database file of a store: opened, its tables made or refused, its statements prepared, its transactions.
 *
 * Of the store's own thread alone. A function that fails returns a code of SQLite's, and db->message says more; the
 * transaction is the caller's to give up then. */
#ifndef LTSH_CONTAINERS_SQLITE_DATABASE_H
#define LTSH_CONTAINERS_SQLITE_DATABASE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "containers/sqlite/statements.h"
#include "sqlite/patience.h"

struct lt_database {
    sqlite3 *handle; /* NULL: not open */
    sqlite3_stmt *statements[LT_STATEMENTS];
    char *path;
    char *message;               /* of the last failure */
    bool full_sync;              /* a commit is on disk, and not only with the kernel */
    atomic_bool wants_full_sync; /* from any thread: from the next transaction on */
    bool full;   /* and it failed since the disk is full: nothing is tried before that has some room again */
    bool failed; /* the last transaction that writes: so the next one does write, and shows whether that can be done */
    struct lt_sql_patience patience; /* for others that hold it; after a begin, how long that waited */
    int wal_pages;                   /* in the write-ahead log after the last commit */
    struct stat file, wal;           /* what is open */
    int64_t changes_before;          /* rows that were changed before this transaction */
    int64_t last; /* the number that was given out last, in this transaction; and as it is in the file */
    int64_t last_stored;
    int64_t commits; /* counts the transactions of everybody */
};

/* Opens the file, and makes its tables where there are none. What is no database, or of a later version, or damaged, is
 * refused and left as it is. */
int lt_database_open(struct lt_database *db);
void lt_database_close(struct lt_database *db);

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
