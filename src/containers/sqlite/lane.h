/* What the store's thread has, and what all of its functions need: a transaction's queues, the news for members of this
 * process, the answers of requests. */
#ifndef LTSH_CONTAINERS_SQLITE_LANE_H
#define LTSH_CONTAINERS_SQLITE_LANE_H

#include <sys/queue.h>

#include "base/log.h"
#include "containers/sqlite/columns.h"
#include "containers/sqlite/database.h"
#include "scheduler/container.h"

struct lt_sqlite_lane;

/* limits.c */
enum lt_sqlite_limit {
    LT_SQLITE_GLOBAL,
    LT_SQLITE_KEY, /* a number, the same for all keys */
    LT_SQLITE_BURST,
    LT_SQLITE_PER, /* seconds */
    LT_SQLITE_LIMITS,
};

/* A queue as it is in the file: read when it is first needed in a transaction, what changes written with the commit. */
struct lt_sqlite_queue {
    char *name;
    int64_t number; /* 0: not read in this transaction */
    bool paused;
    bool changed; /* what follows has */
    bool fair;    /* its keys have turns */
    int64_t counts[LT_ROW_STATES];
    double limits[LT_SQLITE_LIMITS]; /* 0: taken back; < 0: none was given */
    int64_t limits_set;              /* bits of those that were set, and not only given */
    double tokens, tokens_at;        /* of the rate, at this time (monotonic); < 0: it was full */
    int64_t pruned_to[3];            /* where the search for old ended tasks goes on, for each ended state */
    TAILQ_ENTRY(lt_sqlite_queue) link;
};

struct lt_sqlite_standing {
    int64_t owner;  /* 0: it is none yet, or is none any more */
    int64_t former; /* what it was when it was taken for dead */
    int64_t alone;  /* the row of a suspect that runs alone; 0: none */
    bool open;
    bool held; /* something was not claimed that may be after any end */
    bool told_paused;
};

/* Of the store's thread from its first request to LT_SQLITE_LEAVE, but for what it is told. */
struct lt_sqlite_member {
    char *name;                    /* of its queue */
    struct lt_sqlite_queue *queue; /* NULL: the store's thread does not know it */
    struct lt_sqlite_standing standing;
    struct lt_sqlite_standing before; /* this transaction, should it be given up */
    bool seen;                        /* it was found among the owners in the file */
    bool to_look;                     /* it is told that there may be work, with this transaction */
    double lease;
    bool fair;      /* it takes them by their keys' turns */
    double keep[3]; /* seconds that ended tasks are kept: success, failed, stopped; < 0: for ever */
    /* The latest claim: asked again with its number, its tasks are given again. */
    uint64_t claim_number;
    int64_t *claim_rows;
    uint32_t claim_count;
    /* What it is to be told: the loop's thread's. */
    void (*tell)(void *arg, const struct lt_news *news);
    void *tell_arg;
    TAILQ_ENTRY(lt_sqlite_member) link;
};

enum lt_sqlite_kind {
    LT_SQLITE_ADD,
    LT_SQLITE_CLAIM,
    LT_SQLITE_CHANGE,
    LT_SQLITE_UPDATE,
    LT_SQLITE_GET,
    LT_SQLITE_LIST,
    LT_SQLITE_COUNT,
    LT_SQLITE_HOSTS,
    LT_SQLITE_RECOVER, /* becomes an owner, and takes over what others left */
    LT_SQLITE_ASK_STOP,
    LT_SQLITE_PAUSE,
    LT_SQLITE_SET_LIMITS,
    LT_SQLITE_SAVE,
    LT_SQLITE_LOAD,
    LT_SQLITE_ERASE,
    LT_SQLITE_LOOK,  /* for news, and for owners that died */
    LT_SQLITE_PRUNE, /* a step of forgetting what is old */
    LT_SQLITE_LEAVE, /* is no owner any more */
};

/* News for a member, that the loop's thread is to tell. */
struct lt_sqlite_news {
    struct lt_sqlite_member *member;
    enum lt_news_kind kind;
    struct lt_task *task; /* with a reference */
    uint64_t run, token;
    bool on;
    struct lt_bytes *reason;
    STAILQ_ENTRY(lt_sqlite_news) link;
};
STAILQ_HEAD(lt_sqlite_news_list, lt_sqlite_news);

struct lt_sqlite_request {
    enum lt_sqlite_kind kind;
    struct lt_sqlite_member *member;                   /* NULL: of a persister */
    void *op;                                          /* the container's operation, in place until it is answered */
    struct lt_reply *reply;                            /* of that; NULL: nobody waits for it */
    void (*answer)(struct lt_sqlite_request *request); /* copies what was found into `op`; may be NULL */
    uint32_t refs;                                     /* of the loop's thread */
    double now;                                        /* the wall clock when it was asked */

    /* Copies of what may change meanwhile. */
    struct lt_bytes *version, *progress;
    int from;          /* of a change: the state in which its task is thought to be */
    const char *name;  /* of a persister */
    const char *queue; /* of the container that shares its store: outputs are in the rows of tasks; or NULL */
    struct lt_sqlite_request **ends;
    uint32_t end_count;
    uint32_t limit;                 /* of a claim */
    double given[LT_SQLITE_LIMITS]; /* to this host; of a change: as they are to be, < 0: as they are */
    bool key_once;                  /* no more than one of a key in a claim: what its limit is, is not known here */
    struct lt_bytes **full_keys;
    uint32_t full_count;
    bool paused; /* of a pause */

    /* What came of it. */
    int code;
    char *message;
    uint32_t global_limit; /* of the queue. 0: none */
    uint32_t key_limit;    /* 0: none. The same for all keys */
    bool keys_limited;     /* in any way */
    char differ[160];      /* where the limits that were given are others */
    double token_in;       /* seconds until the rate allows the next start; 0: it does */
    uint32_t queue_full;   /* as many run as this limit allows; 0: there is room */
    struct lt_claims claims;
    struct lt_tasks tasks;
    struct lt_tasks seen; /* of a claim by choice */
    struct lt_task *task;
    struct lt_queue_hosts hosts;
    struct lt_bytes *bytes;
    double next_date;
    bool more, waits;
    uint64_t counts[LT_ROW_STATES];
    double oldest;
    int64_t after; /* of a list: where the next begins */
    STAILQ_ENTRY(lt_sqlite_request) link;
};
STAILQ_HEAD(lt_sqlite_requests, lt_sqlite_request);

/* Another process that has owners in the file. */
struct lt_sqlite_other {
    char *lock;
    int64_t owner;
    int64_t queue;
    double lease;
    int64_t mark;
    double mark_seen; /* monotonic: since when it is this */
    bool seen;        /* in the present look */
    TAILQ_ENTRY(lt_sqlite_other) link;
};

/* What the store's thread has. */
struct lt_sqlite_lane {
    struct lt_database db;
    char host[65];
    char *lock; /* the end of the name of this process's lock file */
    TAILQ_HEAD(, lt_sqlite_queue) queues;
    TAILQ_HEAD(, lt_sqlite_member) members;
    TAILQ_HEAD(, lt_sqlite_other) others;
    int64_t data_version; /* of the file: it changes with what others commit */
    bool local_news;      /* a member is to read what another of this process wrote for it */
    char **dead_locks;    /* paths of lock files that go with this transaction */
    unsigned dead_count;
    bool displaced; /* the file was not in its place after the last batch, and nobody can say what became of that */
    bool rings;     /* others are to be told that something changed */
    struct lt_log_gate log;
    double marked; /* monotonic: when this process last showed that it lives */
    struct lt_sqlite_news_list news;
    struct lt_sqlite_news_list committed_news; /* for the loop's thread, with the batch */
};

/* The queue's row, read when it is needed first in a transaction; made if there is none. */
int lt_sqlite_queue_read(struct lt_sqlite_lane *lane, struct lt_sqlite_queue *queue);
void lt_sqlite_count_move(struct lt_sqlite_queue *queue, int from, int to); /* < 0: from, or to, nowhere */
int lt_sqlite_queues_write(struct lt_sqlite_lane *lane);

/* The answer, if it is not LT_OK; and lets go of what a request found. */
__attribute__((format(printf, 3, 4))) void lt_sqlite_refuse(struct lt_sqlite_request *request, int code,
                                                            const char *format, ...);
void lt_sqlite_request_clear(struct lt_sqlite_request *request);

/* Runs a statement whose parameters are one or two numbers, of a row, an owner, a queue; `second` is 0 if it has one. */
int lt_sqlite_run_on(struct lt_sqlite_lane *lane, enum lt_statement which, int64_t first, int64_t second);

/* The task of a row (lt_row_columns); NULL, and the database's message says so: it cannot be read. */
struct lt_task *lt_sqlite_read_row(struct lt_sqlite_lane *lane, sqlite3_stmt *row);

/* Removes a row and all that belongs to it. */
int lt_sqlite_delete_row(struct lt_sqlite_lane *lane, int64_t seq, bool large);

/* Tells a member, when the transaction is through. References move. */
struct lt_sqlite_news *lt_sqlite_tell(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member,
                                      enum lt_news_kind kind, struct lt_task *task, struct lt_bytes *reason);

/* Tells a member whether its queue is paused. */
void lt_sqlite_tell_paused(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member);

/* Tells members of this queue (NULL: of all) in this process that there may be work; but `except`. */
void lt_sqlite_tell_work(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue,
                         const struct lt_sqlite_member *except);

/* Lets go of news. */
void lt_sqlite_news_free(struct lt_sqlite_news *news);
void lt_sqlite_news_drop(struct lt_sqlite_news_list *list);

/* Whether nobody else is at work on this file, neither in this process nor in another. */
bool lt_sqlite_is_alone(const struct lt_sqlite_lane *lane);

double lt_sqlite_monotonic(void);

#endif
