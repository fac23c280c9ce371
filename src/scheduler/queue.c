/* What is asked of the queue as a whole, and goes straight to the container: list, count, hosts, pause on all hosts. */
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/alloc.h"
#include "scheduler/state.h"

/* Whether it can be asked; if not, that is answered. */
static bool begin_query(struct lt_scheduler *s, struct lt_reply *reply)
{
    if (s->closed || s->parts_closing) {
        lt_reply_send(reply, LT_CLOSED, "the scheduler is closed");
        return false;
    }
    lt_request_begin(s);
    return true;
}

/* Passes the container's answer on to who asked. */
static void end_query(struct lt_scheduler *s, struct lt_reply *answer, struct lt_reply *reply)
{
    lt_request_end(s);
    lt_reply_send(reply, answer->code, lt_reply_message(answer));
    lt_reply_clear(answer);
}

static void on_list(struct lt_reply *answer)
{
    struct lt_list_request *request = lt_container_of(answer, struct lt_list_request, op.reply);
    end_query(request->scheduler, answer, &request->reply);
}

void lt_scheduler_list(struct lt_scheduler *s, struct lt_list_request *request)
{
    request->scheduler = s;
    if (!begin_query(s, &request->reply))
        return;
    lt_reply_begin(&request->op.reply, s->loop, on_list);
    s->config.container->ops->list(s->config.container, &request->op);
    lt_reply_end(&request->op.reply);
}

static void on_count(struct lt_reply *answer)
{
    struct lt_count_request *request = lt_container_of(answer, struct lt_count_request, op.reply);
    end_query(request->scheduler, answer, &request->reply);
}

void lt_scheduler_count(struct lt_scheduler *s, struct lt_count_request *request)
{
    request->scheduler = s;
    if (!begin_query(s, &request->reply))
        return;
    lt_reply_begin(&request->op.reply, s->loop, on_count);
    s->config.container->ops->count(s->config.container, &request->op);
    lt_reply_end(&request->op.reply);
}

static void on_hosts(struct lt_reply *answer)
{
    struct lt_hosts_request *request = lt_container_of(answer, struct lt_hosts_request, op.reply);
    end_query(request->scheduler, answer, &request->reply);
}

/* Runs. */

struct run_query {
    struct lt_scheduler *scheduler;
    struct lt_run_query_op *op;
    struct lt_get_op get;
};

static void run_queried(struct lt_reply *answer)
{
    struct run_query *query = lt_container_of(answer, struct run_query, get.reply);
    struct lt_run_query_op *op = query->op;
    const struct lt_task *task = query->get.task;
    if (answer->code == LT_UNKNOWN)
        answer->code = LT_OK; /* it was forgotten, or deleted */
    op->under_way =
        task != NULL && task->run == op->run && (task->status == LT_RUNNING || task->status == LT_EXPORTING);
    end_query(query->scheduler, answer, &op->reply);
    lt_task_unref(query->get.task);
    free(query);
}

void lt_query_run(void *arg, struct lt_run_query_op *op)
{
    struct lt_scheduler *s = arg;
    op->under_way = false;
    if (!begin_query(s, &op->reply))
        return;
    struct run_query *query = lt_zalloc(sizeof *query);
    *query = (struct run_query){.scheduler = s, .op = op, .get = {.id = op->id, .id_len = op->id_len}};
    lt_reply_begin(&query->get.reply, s->loop, run_queried);
    s->config.container->ops->get(s->config.container, &query->get);
    lt_reply_end(&query->get.reply);
}

/* Nobody else has this queue. */
static void answer_alone(struct lt_scheduler *s, struct lt_hosts_op *op)
{
    char name[HOST_NAME_MAX + 1] = "localhost";
    struct lt_stats stats;
    gethostname(name, sizeof name - 1);
    lt_scheduler_stats(s, &stats);
    lt_queue_hosts_push(&op->hosts, (struct lt_queue_host){.name = lt_strdup(name),
                                                           .version = lt_strdup(LTSH_VERSION),
                                                           .pid = getpid(),
                                                           .heartbeat = lt_loop_wall(s->loop),
                                                           .running = stats.running + stats.exporting,
                                                           .self = true});
    lt_reply_ok(&op->reply);
}

void lt_scheduler_hosts(struct lt_scheduler *s, struct lt_hosts_request *request)
{
    struct lt_container *container = s->config.container;
    request->scheduler = s;
    if (!begin_query(s, &request->reply))
        return;
    lt_reply_begin(&request->op.reply, s->loop, on_hosts);
    if (container->ops->hosts != NULL)
        container->ops->hosts(container, &request->op);
    else
        answer_alone(s, &request->op);
    lt_reply_end(&request->op.reply);
}

static void on_pause_all(struct lt_reply *answer)
{
    struct lt_pause_request *request = lt_container_of(answer, struct lt_pause_request, inner);
    end_query(request->scheduler, answer, &request->reply);
}

void lt_scheduler_pause_all(struct lt_scheduler *s, bool paused, struct lt_pause_request *request)
{
    struct lt_container *container = s->config.container;
    request->scheduler = s;
    if (!begin_query(s, &request->reply))
        return;
    lt_reply_begin(&request->inner, s->loop, on_pause_all);
    if (container->ops->pause_all != NULL)
        container->ops->pause_all(container, paused, &request->inner);
    else
        lt_reply_send(&request->inner, LT_UNSUPPORTED, "this container has no queue that hosts share");
    lt_reply_end(&request->inner);
}
