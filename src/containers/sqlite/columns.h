/* Values of tasks in columns, and tasks from rows. Of the store's thread. */
#ifndef LTSH_CONTAINERS_SQLITE_COLUMNS_H
#define LTSH_CONTAINERS_SQLITE_COLUMNS_H

#include <sqlite3.h>

#include "containers/sqlite/database.h"
#include "scheduler/task.h"

/* Binds an encoded value: as JSON text, or as the MessagePack that it is where JSON does not hold it exactly (inf, strings of
 * any bytes, keys that are no strings). No bytes: NULL. */
void lt_bind_value(sqlite3_stmt *statement, int place, const char *data, size_t len);
void lt_bind_bytes_value(sqlite3_stmt *statement, int place, const struct lt_bytes *value);

/* Binds text, or NULL for none; a time, or NULL for 0. */
void lt_bind_text(sqlite3_stmt *statement, int place, const char *data, size_t len);
void lt_bind_bytes_text(sqlite3_stmt *statement, int place, const struct lt_bytes *text);
void lt_bind_time(sqlite3_stmt *statement, int place, double time);

/* The value, or the text, in a column, with a reference; NULL for NULL. */
struct lt_bytes *lt_column_value(sqlite3_stmt *statement, int column);
struct lt_bytes *lt_column_bytes(sqlite3_stmt *statement, int column);

/* The options of a task as JSON, NULL for none; bound. */
void lt_bind_options(sqlite3_stmt *statement, int place, const struct lt_task_options *options);

/* The task in the columns of ROW, with one reference; NULL: its item cannot be read. `host`: the name of this one. */
struct lt_task *lt_row_task(struct lt_database *db, sqlite3_stmt *row, const char *host);

/* The columns that are looked at otherwise. */
enum {
    LT_COLUMN_SEQ = 0,
    LT_COLUMN_PRIORITY = 3,
    LT_COLUMN_PLACE = 4,
    LT_COLUMN_RUN = 5,
    LT_COLUMN_OWNER = 6,
    LT_COLUMN_STOP = 24,
    LT_COLUMN_ADDER = 25
};

/* Adds what is known of its earlier runs. */
int lt_row_history(struct lt_database *db, struct lt_task *task, const char *host);

/* The status that scripts see. */
enum lt_status lt_row_status(int state);

#endif
