/* The store on the loop's thread: found or made, asked, watched, closed. */
#include "containers/sqlite/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "containers/sqlite/batch.h"
#include "containers/sqlite/owners.h"
#include "containers/sqlite/path.h"

static const double LOOK = 1;           /* seconds between two looks for news of others */
static const double LOOK_PAUSE = 0.01;  /* and at least */
static const double FIRST_PATIENCE = 1; /* seconds that who opens it waits for others, the loop with him */
static const double HURRIED = 0.5;      /* that who stops does */
static const double PATIENCE = 30;      /* until the store is said to be down; then it is tried again and again */
enum { LOG_PAGES = 2000 /* after so many the log is written back */, LOG_WARNS = 65536 };

struct watch {
    uv_fs_event_t event; /* of the lock file, which others touch */
    struct lt_sqlite_store *store;
};

struct lt_sqlite_store {
    struct lt_loop *loop;
    struct lt_lane *thread;
    struct lt_sqlite_lane lane;
    int lock; /* the descriptor of the lock file */
    unsigned refs;
    unsigned watchers;
    int containers, full_containers; /* of which the latter want that */
    unsigned hurries;                /* members that are told to stop, and have not left */
    struct stat file;
    struct lt_sqlite_requests gathered;
    struct lt_sqlite_requests batch; /* under way */
    struct lt_lane_job job;
    struct lt_lane_job checkpoint;
    bool at_work;
    bool gathers; /* for one turn more */
    bool closed;  /* it is freed by the turn that is posted */
    bool checkpointing;
    double looked_at; /* monotonic */
    bool looking;     /* a look is gathered, or under way */
    bool warned;
    bool stranded;
    int log_pages;  /* of the log, after the batch */
    bool news_here; /* it wrote news for members of this process */
    struct lt_turn turn;
    struct lt_timer look;
    struct watch *watch;
    LIST_ENTRY(lt_sqlite_store) link;
};

/* Of a loop's thread: a file is opened once in a process that has one loop with containers. */
static _Thread_local LIST_HEAD(, lt_sqlite_store) stores;

/* Requests. */

struct lt_sqlite_request *lt_sqlite_request_new(enum lt_sqlite_kind kind, struct lt_sqlite_member *member, void *op,
                                                struct lt_reply *reply)
{
    struct lt_sqlite_request *request = lt_zalloc(sizeof *request);
    request->refs = 1;
    request->kind = kind;
    request->member = member;
    request->op = op;
    request->reply = reply;
    return request;
}

void lt_sqlite_request_ref(struct lt_sqlite_request *request)
{
    request->refs++;
}

void lt_sqlite_request_unref(struct lt_sqlite_request *request)
{
    if (--request->refs > 0)
        return;
    lt_sqlite_request_clear(request);
    for (uint32_t i = 0; i < request->end_count; i++)
        lt_sqlite_request_unref(request->ends[i]);
    for (uint32_t i = 0; i < request->full_count; i++)
        lt_bytes_unref(request->full_keys[i]);
    free(request->ends);
    free(request->full_keys);
    lt_bytes_unref(request->version);
    lt_bytes_unref(request->progress);
    free(request);
}

/* Batches. */

static void gather_turn(struct lt_turn *turn);

static void tell_news(struct lt_sqlite_store *store)
{
    struct lt_sqlite_news *news;
    while ((news = STAILQ_FIRST(&store->lane.committed_news)) != NULL) {
        STAILQ_REMOVE_HEAD(&store->lane.committed_news, link);
        struct lt_sqlite_member *member = news->member;
        struct lt_news told = {.kind = news->kind,
                               .run = news->run,
                               .token = news->token,
                               .task = news->task,
                               .reason = news->reason,
                               .on = news->on};
        if (news->task != NULL) {
            told.id = lt_task_id(news->task);
            told.id_len = news->task->id_len;
        }
        if (member->tell != NULL)
            member->tell(member->tell_arg, &told);
        lt_task_unref(news->task);
        lt_bytes_unref(news->reason);
        free(news);
    }
}

static void answer_request(struct lt_sqlite_request *request)
{
    struct lt_reply *reply = request->reply;
    if (request->answer != NULL)
        request->answer(request);
    if (reply != NULL) {
        reply->cancel_arg = NULL;
        lt_reply_send(reply, request->code, request->message);
    }
    lt_sqlite_request_unref(request);
}

static void do_checkpoint(struct lt_lane_job *job)
{
    struct lt_sqlite_store *store = lt_container_of(job, struct lt_sqlite_store, checkpoint);
    lt_database_checkpoint(&store->lane.db);
}

static void checkpoint_done(struct lt_lane_job *job)
{
    struct lt_sqlite_store *store = lt_container_of(job, struct lt_sqlite_store, checkpoint);
    store->checkpointing = false;
}

/* The log is written back off the way of commits, once it has some size. */
static void look_at_log(struct lt_sqlite_store *store, int pages)
{
    if (pages >= LOG_WARNS && !store->warned)
        lt_log(LT_LOG_WARN, "the log of the database is large, since somebody reads the database for long",
               LT_S("database", store->lane.db.path), LT_I("megabytes", pages / 256));
    store->warned = pages >= LOG_WARNS || (store->warned && pages > LOG_WARNS / 2);
    if (pages < LOG_PAGES || store->checkpointing)
        return;
    store->checkpoint = (struct lt_lane_job){.work = do_checkpoint, .done = checkpoint_done};
    store->checkpointing = lt_lane_send(store->thread, &store->checkpoint);
}

static void look_now(struct lt_sqlite_store *store);

static void work_batch(struct lt_lane_job *job)
{
    struct lt_sqlite_store *store = lt_container_of(job, struct lt_sqlite_store, job);
    lt_sqlite_batch(&store->lane, &store->batch);
    store->log_pages = store->lane.db.wal_pages;
    store->lane.db.wal_pages = 0;
    store->news_here = store->lane.local_news;
}

static void batch_done(struct lt_lane_job *job)
{
    struct lt_sqlite_store *store = lt_container_of(job, struct lt_sqlite_store, job);
    struct lt_sqlite_requests answered = STAILQ_HEAD_INITIALIZER(answered);
    struct lt_sqlite_request *request;
    int pages = store->log_pages;
    bool looks = store->news_here;
    STAILQ_CONCAT(&answered, &store->batch);
    store->at_work = false;
    store->refs++; /* who is told may let go of it */
    while ((request = STAILQ_FIRST(&answered)) != NULL) {
        STAILQ_REMOVE_HEAD(&answered, link);
        answer_request(request);
    }
    tell_news(store);
    look_at_log(store, pages);
    if (looks) /* a member has news from another of this process: that is told before anybody is thought to be idle */
        look_now(store);
    if (!STAILQ_EMPTY(&store->gathered))
        lt_loop_post(store->loop, &store->turn);
    lt_sqlite_store_release(store);
}

static void fail_gathered(struct lt_sqlite_store *store)
{
    struct lt_sqlite_request *request;
    while ((request = STAILQ_FIRST(&store->batch)) != NULL) {
        STAILQ_REMOVE_HEAD(&store->batch, link);
        lt_sqlite_refuse(request, LT_ERROR, "there is no thread for the database: %s", strerror(errno));
        answer_request(request);
    }
}

/* What has come since the last batch goes with the next. It waits for a turn, so that what an answer leads to (the script
 * adds the next task, the pump claims) goes together. */
static void gather_turn(struct lt_turn *turn)
{
    struct lt_sqlite_store *store = lt_container_of(turn, struct lt_sqlite_store, turn);
    if (store->closed) {
        free(store);
        return;
    }
    if (store->at_work || STAILQ_EMPTY(&store->gathered))
        return;
    store->gathers = !store->gathers;
    if (store->gathers) {
        lt_loop_post(store->loop, turn);
        return;
    }
    STAILQ_CONCAT(&store->batch, &store->gathered);
    store->job = (struct lt_lane_job){.work = work_batch, .done = batch_done};
    store->at_work = lt_lane_send(store->thread, &store->job);
    if (!store->at_work)
        fail_gathered(store);
}

void lt_sqlite_send(struct lt_sqlite_store *store, struct lt_sqlite_request *request)
{
    request->now = lt_loop_wall(store->loop);
    if (request->reply != NULL)
        request->reply->cancel_arg = request;
    STAILQ_INSERT_TAIL(&store->gathered, request, link);
    if (!store->at_work)
        lt_loop_post(store->loop, &store->turn);
}

/* Looking. */

static void looked(struct lt_sqlite_request *request)
{
    ((struct lt_sqlite_store *)request->op)->looking = false;
}

static void look_now_and_then(struct lt_timer *timer);

static void look_now(struct lt_sqlite_store *store)
{
    if (store->looking || store->watchers == 0)
        return;
    store->looking = true;
    store->looked_at = lt_loop_now(store->loop);
    struct lt_sqlite_request *request = lt_sqlite_request_new(LT_SQLITE_LOOK, NULL, store, NULL);
    request->answer = looked;
    lt_sqlite_send(store, request);
}

/* However often others say that something changed, it is looked at a hundred times a second at most. */
static void look_soon(struct lt_sqlite_store *store)
{
    double next = store->looked_at + LOOK_PAUSE;
    if (lt_loop_now(store->loop) >= next)
        look_now(store);
    else if (store->look.due > next)
        lt_timer_start(store->loop, &store->look, next, look_now_and_then);
}

static void look_now_and_then(struct lt_timer *timer)
{
    struct lt_sqlite_store *store = lt_container_of(timer, struct lt_sqlite_store, look);
    look_now(store);
    lt_timer_start(store->loop, &store->look, lt_loop_now(store->loop) + LOOK, look_now_and_then);
}

static void lock_touched(uv_fs_event_t *event, const char *name, int events, int status)
{
    const struct watch *watch = lt_container_of(event, struct watch, event);
    (void)name;
    (void)events;
    (void)status;
    if (watch->store != NULL)
        look_soon(watch->store);
}

static void free_watch(uv_handle_t *handle)
{
    free(lt_container_of((uv_fs_event_t *)handle, struct watch, event));
}

/* Where there is no watching, the timer is all there is. */
static void begin_watch(struct lt_sqlite_store *store)
{
    char *path = lt_format("%s%s", store->lane.db.path, store->lane.lock);
    store->watch = lt_zalloc(sizeof *store->watch);
    store->watch->store = store;
    uv_fs_event_init(&store->loop->uv, &store->watch->event);
    store->watch->event.data = store->loop;
    uv_fs_event_start(&store->watch->event, lock_touched, path, 0);
    uv_unref((uv_handle_t *)&store->watch->event);
    free(path);
    lt_timer_start(store->loop, &store->look, lt_loop_tick(store->loop) + LOOK, look_now_and_then);
}

static void end_watch(struct lt_sqlite_store *store)
{
    lt_timer_stop(store->loop, &store->look);
    store->watch->store = NULL;
    if (!uv_is_closing((uv_handle_t *)&store->watch->event))
        uv_close((uv_handle_t *)&store->watch->event, free_watch);
    store->watch = NULL;
}

void lt_sqlite_watch(struct lt_sqlite_store *store)
{
    if (store->watchers++ == 0)
        begin_watch(store);
}

void lt_sqlite_unwatch(struct lt_sqlite_store *store)
{
    if (--store->watchers == 0)
        end_watch(store);
}

static double show_life(void *arg)
{
    return lt_sqlite_show_life(&((struct lt_sqlite_store *)arg)->lane);
}

/* Opening and closing. */

const char *lt_sqlite_store_path(const struct lt_sqlite_store *store)
{
    return store->lane.db.path;
}

void lt_sqlite_durability(struct lt_sqlite_store *store, bool full, int more)
{
    store->containers += more;
    store->full_containers += full ? more : 0;
    atomic_store(&store->lane.db.wants_full_sync, store->containers == 0 || store->full_containers > 0);
}

void lt_sqlite_stranded(struct lt_sqlite_store *store)
{
    store->stranded = true;
}

void lt_sqlite_hurry(struct lt_sqlite_store *store)
{
    store->hurries++;
    atomic_store(&store->lane.db.patience.hurry, true);
}

void lt_sqlite_hurried(struct lt_sqlite_store *store)
{
    atomic_store(&store->lane.db.patience.hurry, --store->hurries > 0);
}

static struct lt_sqlite_store *find_store(const struct lt_loop *loop, const char *path)
{
    struct stat file;
    struct lt_sqlite_store *store;
    if (stat(path, &file) != 0)
        return NULL;
    LIST_FOREACH(store, &stores, link) {
        if (store->loop == loop && store->file.st_ino == file.st_ino && store->file.st_dev == file.st_dev)
            return store;
    }
    return NULL;
}

static void close_store(struct lt_sqlite_store *store)
{
    if (store->thread != NULL)
        lt_lane_close(store->thread, false);
    lt_database_close(&store->lane.db);
    if (store->lock >= 0) {
        char *path = lt_format("%s%s", store->lane.db.path, store->lane.lock);
        if (!store->stranded)
            unlink(path);
        free(path);
        close(store->lock);
    }
    lt_sqlite_lane_clear(&store->lane);
    struct lt_sqlite_request *look;
    while ((look = STAILQ_FIRST(&store->gathered)) != NULL) { /* nobody who asked for anything is left */
        STAILQ_REMOVE_HEAD(&store->gathered, link);
        lt_sqlite_request_unref(look);
    }
    store->closed = true;
    if (!store->turn.posted)
        free(store);
}

static struct lt_sqlite_store *new_store(struct lt_loop *loop, char *path)
{
    struct lt_sqlite_store *store = lt_zalloc(sizeof *store);
    store->loop = loop;
    store->refs = 1;
    store->lock = -1;
    store->turn.fn = gather_turn;
    store->look = LT_TIMER_INIT;
    STAILQ_INIT(&store->gathered);
    STAILQ_INIT(&store->batch);
    TAILQ_INIT(&store->lane.queues);
    TAILQ_INIT(&store->lane.members);
    TAILQ_INIT(&store->lane.others);
    STAILQ_INIT(&store->lane.news);
    STAILQ_INIT(&store->lane.committed_news);
    store->lane.db.path = path;
    store->lane.db.patience.hurried = HURRIED;
    atomic_store(&store->lane.db.wants_full_sync, true);
    gethostname(store->lane.host, sizeof store->lane.host - 1);
    return store;
}

/* Opens file, lock and thread. Where another process holds the database for long, it is opened when that is over. */
static bool open_store(struct lt_sqlite_store *store, struct lt_error *error)
{
    struct lt_database *db = &store->lane.db;
    db->patience.seconds = FIRST_PATIENCE;
    int code = lt_database_open(db);
    db->patience.seconds = PATIENCE;
    if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY) {
        if (!lt_sqlite_path_explain(db->path, error))
            lt_fail(error, LT_ERROR, "%s", db->message);
        return false;
    }
    stat(db->path, &store->file);
    store->lock = lt_sqlite_lock_open(db->path, &store->lane.lock);
    store->thread = store->lock >= 0 ? lt_lane_open(store->loop, 1, "ltsh-sqlite") : NULL;
    if (store->thread == NULL) {
        lt_fail(error, LT_ERROR, "%s: no file can be made and locked beside it: %s", db->path, strerror(errno));
        return false;
    }
    lt_lane_every(store->thread, show_life, store);
    return true;
}

struct lt_sqlite_store *lt_sqlite_store_get(struct lt_loop *loop, const char *path, struct lt_error *error)
{
    char *whole = lt_sqlite_path_resolve(path);
    if (whole == NULL) {
        lt_fail(error, LT_ERROR, "%s: the folder cannot be used: %s", path, strerror(errno));
        return NULL;
    }
    struct lt_sqlite_store *store = find_store(loop, whole);
    if (store != NULL) {
        free(whole);
        store->refs++;
        return store;
    }
    store = new_store(loop, whole);
    if (!open_store(store, error)) {
        close_store(store);
        return NULL;
    }
    LIST_INSERT_HEAD(&stores, store, link);
    return store;
}

void lt_sqlite_store_release(struct lt_sqlite_store *store)
{
    if (--store->refs > 0)
        return;
    LIST_REMOVE(store, link);
    if (store->watchers > 0)
        end_watch(store);
    close_store(store);
}

struct lt_sqlite_member *lt_sqlite_member_new(const char *queue)
{
    struct lt_sqlite_member *member = lt_zalloc(sizeof *member);
    member->name = lt_strdup(queue);
    return member;
}

void lt_sqlite_member_free(struct lt_sqlite_member *member)
{
    free(member->name);
    free(member->claim_rows);
    free(member);
}
