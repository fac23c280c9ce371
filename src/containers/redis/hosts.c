/* Which processes have schedulers on the queue, for people. Each has an owner for every scheduler of its own there, which
 * said at its joining what it is; when it was heard of last is the end of its lease less the lease. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "containers/redis/container_state.h"
#include "containers/redis/process.h"
#include "containers/redis/record.h"

/* What an owner said of itself. The texts are not ended by a 0. */
struct owner {
    double lease;
    const char *name, *about;
    size_t name_len, about_len;
};

/* 8 bytes: since when; 8: the lease; one, and the name of the machine; the rest is of process.h. */
static bool read_owner(const redisReply *said, struct owner *owner)
{
    enum { LEASE = 8, NAME = 16 };
    if (said == NULL || said->type != REDIS_REPLY_STRING || said->len <= NAME)
        return false;
    owner->name_len = (unsigned char)said->str[NAME];
    if (said->len < NAME + 1 + owner->name_len)
        return false;
    owner->lease = lt_redis_unpack_double(said->str + LEASE);
    owner->name = said->str + NAME + 1;
    owner->about = owner->name + owner->name_len;
    owner->about_len = said->len - (size_t)(owner->about - said->str);
    return true;
}

bool lt_redis_is_dead(const redisReply *said)
{
    struct owner owner;
    return read_owner(said, &owner) && lt_redis_is_gone(owner.about, owner.about_len);
}

static struct lt_queue_host *find_host(struct lt_queue_hosts *hosts, const char *name, int64_t pid)
{
    for (uint32_t i = 0; i < hosts->count; i++) {
        if (hosts->items[i].pid == pid && strcmp(hosts->items[i].name, name) == 0)
            return &hosts->items[i];
    }
    return NULL;
}

/* One owner: its letters, the seconds that are left of its lease, what it said of itself, how many tasks it runs. */
static void note_owner(const struct lt_redis *redis, const redisReply *part, double now, struct lt_queue_hosts *hosts)
{
    const redisReply *running = lt_redis_element(part, 3);
    const char *left = lt_redis_text(part, 1);
    struct owner owner;
    if (left == NULL || running == NULL || !read_owner(lt_redis_element(part, 2), &owner))
        return;
    double ends = now + strtod(left, NULL);
    char *about = lt_format("%.*s", (int)owner.about_len, owner.about);
    char *name = lt_format("%.*s", (int)owner.name_len, owner.name);
    const char *version = strrchr(about, ' ');
    int64_t pid = strtoll(about, NULL, 10);
    struct lt_queue_host *host = find_host(hosts, name, pid);
    if (host == NULL) {
        host = lt_queue_hosts_push(hosts, (struct lt_queue_host){.name = lt_strdup(name), .pid = pid});
        host->version = version != NULL ? lt_strdup(version + 1) : NULL;
        host->self = pid == getpid() && strcmp(name, redis->host) == 0;
    }
    host->heartbeat = ends - owner.lease > host->heartbeat ? ends - owner.lease : host->heartbeat;
    host->lease_end = ends > host->lease_end ? ends : host->lease_end;
    host->running += (uint64_t)running->integer;
    free(about);
    free(name);
}

static void hosts_known(struct lt_redis_request *request)
{
    const struct lt_redis *redis = request->user;
    struct lt_hosts_op *op = request->op;
    const redisReply *owners = lt_redis_element(request->reply, 2);
    if (owners == NULL) {
        lt_redis_fail(request, &op->reply);
    } else {
        for (size_t i = 0; i < owners->elements; i++)
            note_owner(redis, owners->element[i], lt_loop_wall(redis->loop), &op->hosts);
        lt_reply_ok(&op->reply);
    }
    lt_redis_request_free(request);
}

void lt_redis_hosts(struct lt_container *container, struct lt_hosts_op *op)
{
    struct lt_redis *redis = lt_redis_of(container);
    struct lt_redis_request *request = lt_redis_request(redis, "h", op, hosts_known);
    request->patient = true;
    lt_redis_send(redis->link, request);
}
