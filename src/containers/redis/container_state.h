/* What the container has, on the loop's thread, and what its files share. */
#ifndef LTSH_CONTAINERS_REDIS_CONTAINER_STATE_H
#define LTSH_CONTAINERS_REDIS_CONTAINER_STATE_H

#include <sys/queue.h>

#include "base/container_of.h"
#include "base/map.h"
#include "containers/limits_told.h"
#include "containers/redis/link.h"
#include "containers/redis/redis.h"

/* A run that this host has, from its claim to its last transition: to be told when its lease is lost. */
struct lt_redis_run {
    uint64_t run, token;
    bool forsaken; /* it was told that its lease is lost: whatever it does now is not stored */
    bool told;     /* the same, also of what goes on without one */
    bool seen;     /* the queue says so too, as far as it has been asked */
    uint8_t id_len;
    char id[];
};

struct lt_redis {
    struct lt_container base;
    struct lt_loop *loop;
    struct lt_redis_link *link; /* NULL: closed */
    struct lt_container_env env;
    struct lt_redis_options options;
    char host[65];
    LIST_HEAD(, adding) adding; /* what is being added */
    struct lt_map runs;
    uint32_t forsaken_runs; /* of them */
    double oldest;          /* as of the last count */
    struct lt_timer prune;
    bool forgets;
    bool open, released;
    bool was_ready;         /* at least once */
    char *down;             /* why the server is not there; NULL: it is, or that is not known yet */
    bool paused_told;       /* what the scheduler was told */
    bool reading;           /* news are being read */
    bool read_again;        /* there are more by now */
    uint64_t claim_token;   /* of the claim that was sent last */
    long long known_number; /* claims by choice: what was added until this one was shown, as far as it comes first */
    bool claim_lost;        /* the answer to the last claim never came: it is asked again, and gives the same tasks */
    bool comparing;         /* what this host runs with what the queue says that it does */
    bool compare_again;     /* once more, when the claim was answered or that is over */
    struct lt_limits_told limits_told;
    char last_news[300];
    size_t last_news_len;
    void (*outcome_fn)(void *arg, const char *refused);
    void *outcome_arg;
};

static inline struct lt_redis *lt_redis_of(struct lt_container *container)
{
    return lt_container_of(container, struct lt_redis, base);
}

/* A request with this letter; and it is answered through `done`, which frees it. */
struct lt_redis_request *lt_redis_request(struct lt_redis *redis, const char *operation, void *op,
                                          void (*done)(struct lt_redis_request *request));

/* Adds an argument: bytes; a number, 6 or 8 bytes of one; seconds from now, or a date; bytes with "+" before, or "" for none. */
void lt_redis_put(struct lt_redis_request *request, const void *data, size_t len);
void lt_redis_put_text(struct lt_redis_request *request, const char *text);
void lt_redis_put_number(struct lt_redis_request *request, double number);
void lt_redis_put_packed(struct lt_redis_request *request, uint64_t number, size_t bytes);
void lt_redis_put_when(struct lt_redis_request *request, bool relative, double time);
void lt_redis_put_optional(struct lt_redis_request *request, const struct lt_bytes *bytes);

/* What the answer begins with ("ok", "stale", ...), or NULL: there is none. */
const char *lt_redis_outcome(const struct lt_redis_request *request);

/* Whether it begins with that. */
bool lt_redis_answers(const struct lt_redis_request *request, const char *outcome);

/* Answers `reply` with what went wrong: the request's own failure, or an answer that is none of those expected. */
void lt_redis_fail(const struct lt_redis_request *request, struct lt_reply *reply);

/* The runs of this host (runs.c). */
void lt_redis_note_run(struct lt_redis *redis, const char *id, uint8_t id_len, uint64_t run, uint64_t token);
struct lt_redis_run *lt_redis_find_run(const struct lt_redis *redis, const char *id, size_t len);
void lt_redis_forget_run(struct lt_redis *redis, struct lt_redis_run *run);
void lt_redis_open_runs(struct lt_redis *redis);
void lt_redis_free_runs(struct lt_redis *redis);

/* Tells the scheduler something; that the lease of a run, of all runs, is lost. */
void lt_redis_tell(const struct lt_redis *redis, const struct lt_news *news);
void lt_redis_tell_lost(struct lt_redis *redis, struct lt_redis_run *run);
void lt_redis_tell_all_lost(struct lt_redis *redis);

/* Asks the queue what this host runs: what it does not know of waits again. At once; or if the queue, which counted `mine` with
 * a claim, has others: answers come in the order of what was asked, so both know the same then unless something was lost. */
void lt_redis_compare_runs(struct lt_redis *redis);
bool lt_redis_has_runs(const struct lt_redis *redis, long long mine);

/* Limits (limits.c): told with a claim; that the queue has others, as it answers ("": it has not); set. */
void lt_redis_put_limits(const struct lt_redis *redis, struct lt_redis_request *request, struct lt_limiter *limiter);
void lt_redis_set_limits(struct lt_container *container, const struct lt_limits *limits, unsigned named);

/* Adding (add.c). */
void lt_redis_add(struct lt_container *container, struct lt_add_op *op);
void lt_redis_free_adding(struct lt_redis *redis);

/* Claims and recovery (claim.c). */
void lt_redis_claim(struct lt_container *container, struct lt_claim_op *op);
void lt_redis_recover(struct lt_container *container, struct lt_recover_op *op);
void lt_redis_key_open(struct lt_container *container, const struct lt_bytes *key);

/* Who is on the queue; and whether one that said this of itself is known to be dead (hosts.c). */
void lt_redis_hosts(struct lt_container *container, struct lt_hosts_op *op);
bool lt_redis_is_dead(const redisReply *said);

/* Questions (query.c). */
void lt_redis_get(struct lt_container *container, struct lt_get_op *op);
void lt_redis_list(struct lt_container *container, struct lt_list_op *op);
void lt_redis_count(struct lt_container *container, struct lt_count_op *op);

/* How the server is there (presence.c), before that is told on to what hears the link: is told by the link; at the opening. */
void lt_redis_hear(void *arg, enum lt_redis_event event, const char *text);
void lt_redis_tell_down(const struct lt_redis *redis);

/* What the link tells (news.c). */
void lt_redis_told(void *arg, enum lt_redis_event event, const char *text);

#endif
