/* The store behind ltsh.container.sqlite: one for each database file in a process, shared by all containers and persisters
 * on it.
 *
 *     the loop's thread           requests are gathered for as long as the thread is at work
 *     --- a batch of them --->    its thread: one transaction for all of them, in their order     batch.c
 *     <-- the same, answered --   after the commit: what was said is on disk
 *
 * What a request asks is done by one of the perform functions (add.c, claim.c, change.c, query.c), on the store's thread,
 * within the transaction. They know nothing of threads: what they find and say is in the request.
 *
 * Members. Each container of this process is a member of a queue, and one owner in the file: what it runs is its own as
 * long as its process lives (owners.c). */
#ifndef LTSH_CONTAINERS_SQLITE_STORE_H
#define LTSH_CONTAINERS_SQLITE_STORE_H

#include <sys/queue.h>

#include "base/log.h"
#include "containers/sqlite/columns.h"
#include "containers/sqlite/database.h"
#include "loop/lane.h"
#include "scheduler/container.h"
#include "scheduler/persister.h"

struct lt_sqlite_store;
struct lt_sqlite_lane;

/* A queue as it is in the file: read when it is first needed in a transaction, its counts written with the commit. */
struct lt_sqlite_queue {
    char *name;
    int64_t number; /* 0: not read in this transaction */
    bool paused;
    bool counted; /* its counts have changed */
    int64_t counts[LT_ROW_STATES];
    int64_t pruned_to[3]; /* where the search for old ended tasks goes on, for each ended state */
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
    struct lt_sqlite_store *store;
    char *name;                    /* of its queue */
    struct lt_sqlite_queue *queue; /* NULL: the store's thread does not know it */
    struct lt_sqlite_standing standing;
    struct lt_sqlite_standing before; /* this transaction, should it be given up */
    bool seen;                        /* it was found among the owners in the file */
    bool to_look;                     /* it is told that there may be work, with this transaction */
    double lease;
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
    LT_SQLITE_RECOVER, /* becomes an owner, and takes over what others left */
    LT_SQLITE_ASK_STOP,
    LT_SQLITE_PAUSE,
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
    struct lt_bytes *version, *progress, *handle;
    int from;          /* of a change: the state in which its task is thought to be */
    const char *name;  /* of a persister */
    const char *queue; /* of the container that shares its store: outputs are in the rows of tasks; or NULL */
    struct lt_sqlite_request **ends;
    uint32_t end_count;
    uint32_t limit;        /* of a claim */
    uint32_t global_limit; /* 0: none */
    uint32_t key_limit;    /* 0: none. The same for all keys */
    bool keys_limited;     /* in any way */
    bool key_once;         /* no more than one of a key in a claim: what its limit is, is not known here */
    struct lt_bytes **full_keys;
    uint32_t full_count;
    bool paused; /* of a pause */

    /* What came of it. */
    int code;
    char *message;
    int64_t seq;
    struct lt_claims claims;
    struct lt_tasks tasks;
    struct lt_task *task;
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
    bool rings; /* others are to be told that something changed */
    struct lt_log_gate log;
    double marked; /* monotonic: when this process last showed that it lives */
    struct lt_sqlite_news_list news;
    struct lt_sqlite_news_list committed_news; /* for the loop's thread, with the batch */
};

/* What each kind does; a code of SQLite's: not SQLITE_OK, and the transaction is given up. */
int lt_sqlite_add(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_claim(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_recover(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_change(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_update(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_ask_stop(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_get(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_list(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_count(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_pause(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_output(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_leave(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_look(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);
int lt_sqlite_prune(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request);

/* For those. */

/* The queue's row, read when it is needed first; made if there is none. */
int lt_sqlite_queue_read(struct lt_sqlite_lane *lane, struct lt_sqlite_queue *queue);
void lt_sqlite_count_move(struct lt_sqlite_queue *queue, int from, int to); /* < 0: from, or to, nowhere */

/* The answer, if it is not LT_OK. */
__attribute__((format(printf, 3, 4))) void lt_sqlite_refuse(struct lt_sqlite_request *request, int code,
                                                            const char *format, ...);

/* Ends the task of a row: counts it, tells owners elsewhere that want to know. */
int lt_sqlite_ended(struct lt_sqlite_lane *lane, const struct lt_sqlite_member *member, int64_t seq, int64_t adder);

/* Forgets a task that ended long ago, with what was saved of it. */
int lt_sqlite_forget(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, int64_t seq);

/* Removes a row and all that belongs to it. */
int lt_sqlite_delete_row(struct lt_sqlite_lane *lane, int64_t seq, bool large);

/* News for an owner, wherever it is: in the file, as `run` of that row is meant. */
enum { LT_SQLITE_NEWS_ENDED, LT_SQLITE_NEWS_STOP, LT_SQLITE_NEWS_LOST };
int lt_sqlite_add_news(struct lt_sqlite_lane *lane, int64_t owner, int kind, int64_t seq, int64_t run);

/* Tells a member, when the transaction is through. References move. */
struct lt_sqlite_news *lt_sqlite_tell(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member,
                                      enum lt_news_kind kind, struct lt_task *task, struct lt_bytes *reason);

/* Tells a member whether its queue is paused. */
void lt_sqlite_tell_paused(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member);

/* Tells members of this queue in this process that there may be work; but `except`. */
void lt_sqlite_tell_work(struct lt_sqlite_lane *lane, const struct lt_sqlite_queue *queue,
                         const struct lt_sqlite_member *except);

/* Whether anybody else is at work on this file. */
static inline bool lt_sqlite_has_others(const struct lt_sqlite_lane *lane)
{
    return !TAILQ_EMPTY(&lane->others);
}

double lt_sqlite_monotonic(void);

/* ---- for containers and persisters, on the loop's thread ---- */

/* The store of this file: made, or one reference more. NULL with a message: the file cannot be used. */
struct lt_sqlite_store *lt_sqlite_store_get(struct lt_loop *loop, const char *path, bool full_sync,
                                            struct lt_error *error);
void lt_sqlite_store_release(struct lt_sqlite_store *store);

/* A member of a queue, not yet at work; and no more. */
struct lt_sqlite_member *lt_sqlite_member_new(struct lt_sqlite_store *store, const char *queue);
void lt_sqlite_member_free(struct lt_sqlite_member *member);

/* A request to be filled; and its way. It is freed when it has been answered. */
struct lt_sqlite_request *lt_sqlite_request_new(enum lt_sqlite_kind kind, struct lt_sqlite_member *member, void *op,
                                                struct lt_reply *reply);
void lt_sqlite_request_ref(struct lt_sqlite_request *request);
void lt_sqlite_request_unref(struct lt_sqlite_request *request);
void lt_sqlite_send(struct lt_sqlite_store *store, struct lt_sqlite_request *request);

/* Looks for news of other processes from now on, every second at least; and not any more. Counted. */
void lt_sqlite_watch(struct lt_sqlite_store *store);
void lt_sqlite_unwatch(struct lt_sqlite_store *store);

/* The path of its file, for as long as the store is there. */
const char *lt_sqlite_store_path(const struct lt_sqlite_store *store);

/* A member could not say in the file that it has left: the lock file stays, from which others see that it is gone. */
void lt_sqlite_stranded(struct lt_sqlite_store *store);

/* A member is told to stop: other processes are waited for for a moment only, until it has left. */
void lt_sqlite_hurry(struct lt_sqlite_store *store, bool hurry);

#endif
