/* A batch of requests as one transaction, on the store's thread. When it fails, none of it was done; and where that may be
 * the fault of a single request (a damaged page), each is tried by itself. */
#include "containers/sqlite/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "containers/sqlite/owners.h"
#include "containers/sqlite/perform.h"

static struct lt_sqlite_queue *find_queue(struct lt_sqlite_lane *lane, const char *name)
{
    struct lt_sqlite_queue *queue;
    TAILQ_FOREACH(queue, &lane->queues, link) {
        if (strcmp(queue->name, name) == 0)
            return queue;
    }
    queue = lt_zalloc(sizeof *queue);
    queue->name = lt_strdup(name);
    TAILQ_INSERT_TAIL(&lane->queues, queue, link);
    return queue;
}

static void list_member(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member)
{
    if (member == NULL || member->queue != NULL)
        return;
    member->queue = find_queue(lane, member->name);
    TAILQ_INSERT_TAIL(&lane->members, member, link);
}

/* It has left, as far as the file can be written: nothing is told to it any more. */
static void unlist_member(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member)
{
    struct lt_sqlite_news *news, *next;
    for (news = STAILQ_FIRST(&lane->committed_news); news != NULL; news = next) {
        next = STAILQ_NEXT(news, link);
        if (news->member != member)
            continue;
        STAILQ_REMOVE(&lane->committed_news, news, lt_sqlite_news, link);
        lt_sqlite_news_free(news);
    }
    TAILQ_REMOVE(&lane->members, member, link);
    member->queue = NULL;
}

/* What a transaction that is given up must not leave. */

static void begin_anew(struct lt_sqlite_lane *lane)
{
    struct lt_sqlite_queue *queue;
    struct lt_sqlite_member *member;
    TAILQ_FOREACH(queue, &lane->queues, link) {
        queue->number = 0;
        queue->changed = false;
    }
    TAILQ_FOREACH(member, &lane->members, link) {
        member->to_look = false;
        member->before = member->standing;
    }
    lane->rings = false;
}

static void give_up_transaction(struct lt_sqlite_lane *lane)
{
    struct lt_sqlite_member *member;
    lt_database_rollback(&lane->db);
    lt_sqlite_remove_locks(lane, false);
    lane->data_version = -1; /* what was found out of others is to be found out again */
    lt_sqlite_news_drop(&lane->news);
    TAILQ_FOREACH(member, &lane->members, link) {
        member->standing = member->before;
        member->claim_count = 0;
    }
}

static bool only_reads(const struct lt_sqlite_request *request)
{
    switch (request->kind) {
    case LT_SQLITE_GET:
        return !((const struct lt_get_op *)request->op)->waits;
    case LT_SQLITE_LIST:
    case LT_SQLITE_COUNT:
    case LT_SQLITE_HOSTS:
    case LT_SQLITE_LOAD:
        return true;
    default:
        return false;
    }
}

static int perform_request(struct lt_sqlite_lane *lane, struct lt_sqlite_request *request)
{
    static int (*const performs[])(struct lt_sqlite_lane *, struct lt_sqlite_request *) = {
        [LT_SQLITE_ADD] = lt_sqlite_add,         [LT_SQLITE_CLAIM] = lt_sqlite_claim,
        [LT_SQLITE_CHANGE] = lt_sqlite_change,   [LT_SQLITE_UPDATE] = lt_sqlite_update,
        [LT_SQLITE_GET] = lt_sqlite_get,         [LT_SQLITE_LIST] = lt_sqlite_list,
        [LT_SQLITE_COUNT] = lt_sqlite_count,     [LT_SQLITE_HOSTS] = lt_sqlite_hosts,
        [LT_SQLITE_RECOVER] = lt_sqlite_recover, [LT_SQLITE_ASK_STOP] = lt_sqlite_ask_stop,
        [LT_SQLITE_PAUSE] = lt_sqlite_pause,     [LT_SQLITE_SAVE] = lt_sqlite_output,
        [LT_SQLITE_LOAD] = lt_sqlite_output,     [LT_SQLITE_ERASE] = lt_sqlite_output,
        [LT_SQLITE_LOOK] = lt_sqlite_look,       [LT_SQLITE_PRUNE] = lt_sqlite_prune,
        [LT_SQLITE_LEAVE] = lt_sqlite_leave,     [LT_SQLITE_SET_LIMITS] = lt_sqlite_set_limits,
    };
    int code = request->member != NULL ? lt_sqlite_queue_read(lane, request->member->queue) : SQLITE_OK;
    return code == SQLITE_OK ? performs[request->kind](lane, request) : code;
}

/* From `first`, `count` of them, in one transaction. */
static int try_requests(struct lt_sqlite_lane *lane, struct lt_sqlite_request *first, unsigned count)
{
    struct lt_sqlite_request *request = first;
    bool writes = false;
    for (unsigned i = 0; i < count; i++, request = STAILQ_NEXT(request, link)) {
        lt_sqlite_request_clear(request);
        writes = writes || !only_reads(request);
    }
    begin_anew(lane);
    int code = lt_database_begin(&lane->db, writes);
    if (code == SQLITE_OK && writes && lt_sqlite_mark_due(lane))
        code = lt_sqlite_mark(lane);
    request = first;
    for (unsigned i = 0; code == SQLITE_OK && i < count; i++, request = STAILQ_NEXT(request, link))
        code = perform_request(lane, request);
    if (code == SQLITE_OK && writes)
        code = lt_sqlite_queues_write(lane);
    if (code == SQLITE_OK)
        code = lt_database_commit(&lane->db, writes);
    if (code != SQLITE_OK) {
        lane->db.failed = lane->db.failed || writes;
        lane->db.full = lane->db.full || (code & 0xff) == SQLITE_FULL;
        give_up_transaction(lane);
    }
    return code;
}

static void fail_requests(struct lt_sqlite_lane *lane, struct lt_sqlite_request *first, unsigned count)
{
    for (; count-- > 0; first = STAILQ_NEXT(first, link)) {
        lt_sqlite_request_clear(first);
        lt_sqlite_refuse(first, LT_ERROR, "%s", lane->db.message != NULL ? lane->db.message : "the database failed");
    }
}

/* Whether the file as a whole cannot be used now, so that it makes no sense to try one by one. */
static bool is_general(int code)
{
    switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_TOOBIG:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return false;
    default:
        return true;
    }
}

static void do_requests(struct lt_sqlite_lane *lane, struct lt_sqlite_request *first, unsigned count)
{
    int code = try_requests(lane, first, count);
    if (code == SQLITE_OK)
        return;
    if (is_general(code) || count == 1) {
        fail_requests(lane, first, count);
        return;
    }
    for (; count > 0; count--, first = STAILQ_NEXT(first, link)) {
        if (try_requests(lane, first, 1) != SQLITE_OK)
            fail_requests(lane, first, 1);
    }
}

/* The file that is open is not the one behind the path any more, or its log is not: what another process commits would not
 * be seen, and what is committed here would be lost. Nothing that was said may be lost: the log that is open is written
 * into the file, and that is opened anew. */
static bool come_back(struct lt_sqlite_lane *lane)
{
    struct lt_database *db = &lane->db;
    struct stat now;
    int64_t commits = db->commits;
    int persist = 1;
    bool moved = stat(db->path, &now) != 0 || now.st_ino != db->file.st_ino || now.st_dev != db->file.st_dev;
    free(db->message);
    db->message =
        lt_format(moved ? "%s: the file was removed or replaced while it was open; put it back, or stop this host"
                        : "%s: its log was removed while it was open",
                  db->path);
    lt_log_gated(&lane->log, LT_LOG_ERROR, "the database is not in its place", LT_S("error", db->message));
    if (moved)
        return false;
    sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_PERSIST_WAL, &persist);
    sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_FULL, NULL, NULL);
    lt_database_close(db);
    return lt_database_open(db) == SQLITE_OK && db->commits >= commits;
}

static void finish_batch(struct lt_sqlite_lane *lane, struct lt_sqlite_request *first, unsigned count)
{
    lane->displaced = !lt_database_in_place(&lane->db) && !come_back(lane);
    lt_sqlite_remove_locks(lane, !lane->displaced);
    STAILQ_CONCAT(&lane->committed_news, &lane->news);
    if (lane->displaced) {
        fail_requests(lane, first, count);
        return;
    }
    if (lane->rings)
        lt_sqlite_ring(lane);
}

static void do_batch(struct lt_sqlite_lane *lane, struct lt_sqlite_requests *requests)
{
    struct lt_sqlite_request *first = STAILQ_FIRST(requests), *request;
    unsigned count = 0;
    STAILQ_FOREACH(request, requests, link) {
        list_member(lane, request->member);
        count++;
    }
    if (lane->db.handle == NULL && lt_database_open(&lane->db) != SQLITE_OK) {
        fail_requests(lane, first, count);
        return;
    }
    if (count == 1 && first->kind == LT_SQLITE_LOOK && !lt_sqlite_look_needed(lane))
        return;
    if (lane->displaced && !lt_database_in_place(&lane->db)) { /* nothing is done in a file that is not there */
        fail_requests(lane, first, count);
        return;
    }
    do_requests(lane, first, count);
    finish_batch(lane, first, count);
}

void lt_sqlite_batch(struct lt_sqlite_lane *lane, struct lt_sqlite_requests *requests)
{
    struct lt_sqlite_request *request;
    do_batch(lane, requests);
    STAILQ_FOREACH(request, requests, link) {
        if (request->kind == LT_SQLITE_LEAVE && request->member->queue != NULL)
            unlist_member(lane, request->member);
    }
}

double lt_sqlite_show_life(struct lt_sqlite_lane *lane)
{
    double next = lt_sqlite_mark_interval(lane);
    if (lane->db.handle == NULL || !lt_sqlite_mark_due(lane))
        return next;
    int code = lt_database_begin(&lane->db, true);
    if (code == SQLITE_OK)
        code = lt_sqlite_mark(lane);
    if (code == SQLITE_OK)
        code = lt_database_commit(&lane->db, true);
    if (code != SQLITE_OK) {
        lt_database_rollback(&lane->db);
        lane->marked = 0; /* it was not shown */
    }
    return next;
}

void lt_sqlite_lane_clear(struct lt_sqlite_lane *lane)
{
    lt_sqlite_news_drop(&lane->news);
    lt_sqlite_news_drop(&lane->committed_news);
    lt_sqlite_forget_others(lane);
    struct lt_sqlite_queue *queue;
    while ((queue = TAILQ_FIRST(&lane->queues)) != NULL) {
        TAILQ_REMOVE(&lane->queues, queue, link);
        free(queue->name);
        free(queue);
    }
    free(lane->lock);
    free(lane->db.path);
    free(lane->db.message);
}
