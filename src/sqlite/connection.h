/* A connection to an SQLite database on a thread of its own (a lane of one): calls are done in their order, and their answers
 * come back as turns. Nothing here knows Lua; parameters and rows cross as MessagePack.
 *
 * Statements are kept prepared, by their text. A call belongs to the connection from lt_sql_send until `done`. */
#ifndef LTSH_SQLITE_CONNECTION_H
#define LTSH_SQLITE_CONNECTION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "loop/lane.h"

struct lt_sql;
struct lt_sql_statement; /* one that has more rows; the connection's */

enum lt_sql_kind {
    LT_SQL_OPEN,  /* text: the path */
    LT_SQL_RUN,   /* all statements of the text, to their end: `changes` */
    LT_SQL_QUERY, /* its first rows */
    LT_SQL_FETCH, /* the next rows of `statement` */
    LT_SQL_RESET, /* it is done with `statement` */
    LT_SQL_CLOSE, /* and frees the connection; the last call */
};

struct lt_sql_call {
    /* Filled by its user after zeroing. */
    enum lt_sql_kind kind;
    char *text;                  /* owned by the call */
    struct lt_buffer parameters; /* MessagePack: a list, or a map of names; empty: none */
    uint32_t limit;              /* QUERY, FETCH: so many rows at most */
    struct lt_sql_statement *statement;
    void (*done)(struct lt_sql_call *call); /* on the loop's thread; the call is its user's again */

    /* What came of it. */
    int code;              /* of SQLite; 0: it went well */
    char *message;         /* else: owned by the call */
    int64_t changes;       /* rows that were inserted, updated or deleted */
    struct lt_buffer rows; /* each its length, in four bytes, and a map by column; NULLs are left out */
    bool more;             /* `statement` has more rows: it is to be fetched or reset */

    /* Its own. */
    struct lt_lane_job job;
    struct lt_sql *sql;
};

/* What all of SQLite in this process is set to; before anything of it is used, by main. */
void lt_sql_setup(void);

/* A connection that is not open yet: the first call opens it. `patience` is how many seconds it waits for a lock; negative:
 * as long as it takes. NULL: there is no descriptor for its thread. */
struct lt_sql *lt_sql_new(struct lt_loop *loop, double patience);

/* Hands in a call. False: there is no thread to do it (errno); it was not taken. */
bool lt_sql_send(struct lt_sql *sql, struct lt_sql_call *call);

/* Lets go of what a call holds, and not of the call. */
void lt_sql_call_clear(struct lt_sql_call *call);

/* Closes it when all calls are done; it waits for no lock any more. It frees itself. */
void lt_sql_close(struct lt_sql *sql);

#endif
