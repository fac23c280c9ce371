/* The statements that are prepared, and what they speak of. */
#ifndef LTSH_CONTAINERS_SQLITE_STATEMENTS_H
#define LTSH_CONTAINERS_SQLITE_STATEMENTS_H

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

/* Each statement, and its text in statements.c. */
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
    LT_ST_KEYLESS,
    LT_ST_KEY_OF,
    LT_ST_NEXT_KEY,
    LT_ST_KEY_FIRST,
    LT_ST_CLAIM,
    LT_ST_TAKE,
    LT_ST_RUNNING_COUNT,
    LT_ST_RUNNING_OF,
    LT_ST_RUNNING_KEYS,
    LT_ST_ORPHANS,
    LT_ST_TAKE_ALL_OVER,
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
    LT_ST_HOSTS,
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

/* Makes the tables; what makes those of the next version from those of each earlier one, which begin with 1; the text of each statement; the columns of a row that lt_row_task reads. */
extern const char lt_schema[];
extern const char *const lt_migrations[];
extern const char *const lt_statement_texts[LT_STATEMENTS];
extern const char lt_row_columns[];

#endif
