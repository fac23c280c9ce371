#include "workers/worker_end.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "script/flow/call.h"
#include "script/open.h"
#include "script/values/marks.h"
#include "script/values/raw.h"
#include "workers/load.h"

/* Memory. What Lua is given is counted. Beyond the limit it gets a collection and then its end, at its next
 * instruction: small amounts are granted until then, since they may be needed where no error can be raised, and what the
 * core needs for what Lua has already got; large ones are refused, which Lua answers with a collection of its own and
 * another try. */

enum { SMALL = 1 << 20 };

static void spend_memory(struct lt_worker_end *end)
{
    struct lt_frame *frame = end->script->frame;
    end->memory.spent = true;
    if (frame->bounds != NULL) {
        frame->bounds->cut = LT_CUT_MEMORY;
        frame->bounds->deadline = 0; /* no last words: they would cost memory */
        frame->bounds->moments = LT_MOMENTS;
    }
    lt_loop_post(end->loop, &end->spent);
    lt_preempt_soon(end->script);
}

static bool is_beyond(const struct lt_worker_end *end, size_t more)
{
    return end->memory.limit > 0 && end->memory.used + more > end->memory.limit;
}

/* In the hook, after a collection. */
static void look_at_memory(struct lt_script *script)
{
    struct lt_worker_end *end = script->host;
    if (is_beyond(end, 0) && !end->memory.spent)
        spend_memory(end);
}

/* False: it is refused. */
static bool grant_memory(struct lt_worker_end *end, size_t more)
{
    const struct lt_frame *frame = end->script != NULL ? end->script->frame : NULL;
    if (frame == NULL || end->memory.spent || !is_beyond(end, more))
        return true;
    if (more < SMALL) {
        lt_look_at_memory_soon(end->script, look_at_memory);
        return true;
    }
    if (frame->in_core || end->memory.refused == more)
        spend_memory(end); /* it cannot be refused; or Lua has collected, and tried again */
    end->memory.refused = more;
    return frame->in_core;
}

static void *allocate_counted(void *arg, void *old, size_t old_size, size_t size)
{
    struct lt_worker_end *end = arg;
    size_t had = old != NULL ? old_size : 0;
    if (size == 0) {
        free(old);
        end->memory.used -= had;
        return NULL;
    }
    if (size > had && !grant_memory(end, size - had))
        return NULL;
    void *now = realloc(old, size);
    if (now != NULL)
        end->memory.used += size - had;
    return now;
}

/* Something else than the task used up the memory: it ends all the same. */
LT_RUNS_LUA static void memory_spent(struct lt_turn *turn)
{
    struct lt_worker_end *end = lt_container_of(turn, struct lt_worker_end, spent);
    struct lt_strand *strand = end->task_run.strand;
    if (end->over)
        return;
    if (strand == NULL) { /* what an earlier task left behind */
        struct lt_report report = LT_REPORT(LT_FAILED);
        end->over = true;
        end->send(end, lt_message_ended(0, &report, 0, true));
        return;
    }
    strand->bounds.cut = LT_CUT_MEMORY;
    lt_strand_kill(strand);
}

/* Runs. */

/* Whether the run ended by an allocation that was refused: functions of C do not all try again, or not in this way. */
static bool failed_for_memory(const struct lt_worker_end *end, const struct lt_report *report)
{
    return end->memory.refused > 0 && report->status == LT_FAILED && report->reason != NULL &&
           strstr(report->reason->data, "not enough memory") != NULL;
}

static bool is_report_too_long(const struct lt_report *report)
{
    size_t output = report->output != NULL ? report->output->len : 0;
    size_t reason = report->reason != NULL ? report->reason->len : 0;
    return output + reason > LT_MESSAGE_LONGEST - SMALL;
}

static void fail_report(struct lt_report *report, const char *reason)
{
    lt_report_clear(report);
    *report = LT_REPORT(LT_FAILED);
    report->reason = lt_bytes_new(reason, strlen(reason));
}

static void run_over(struct lt_task_run *task_run, struct lt_report *report)
{
    struct lt_worker_end *end = lt_container_of(task_run, struct lt_worker_end, task_run);
    uint64_t seq = end->seq;
    end->seq = 0;
    if (end->memory.spent || failed_for_memory(end, report)) {
        end->memory.spent = true;
        fail_report(report, "memory limit");
    } else if (is_report_too_long(report)) {
        fail_report(report, "output: it is too long to come from a worker (1 GiB at most)");
        report->no_retry = true;
    }
    end->over = end->memory.spent;
    lt_task_unref(task_run->task);
    end->send(end, lt_message_ended(seq, report, lt_loop_now(end->loop) - end->began, end->memory.spent));
    lt_report_clear(report);
    if (!end->starting && !STAILQ_EMPTY(&end->to_start))
        lt_loop_post(end->loop, &end->next);
}

static bool run_progressed(struct lt_task_run *task_run, struct lt_bytes *progress)
{
    struct lt_worker_end *end = lt_container_of(task_run, struct lt_worker_end, task_run);
    bool runs = end->seq != 0;
    if (runs && progress->len <= LT_MESSAGE_LONGEST)
        end->send(end, lt_message_new(LT_MESSAGE_PROGRESS, end->seq, progress->data, progress->len));
    lt_bytes_unref(progress);
    return runs;
}

/* One that was handed ahead comes too late when what ran before it took long: its host may have given it to another. That
 * goes by the clock alone: the end of the run before was sent before the clock is read here. */
static bool is_too_late(struct lt_worker_end *end, const struct lt_message *message)
{
    double begin_by = lt_message_begin_by(message);
    return begin_by > 0 && lt_loop_now(end->loop) > begin_by;
}

LT_RUNS_LUA static void start_run(struct lt_worker_end *end, const struct lt_message *message)
{
    lt_loop_tick(end->loop);
    if (is_too_late(end, message)) {
        end->send(end, lt_message_new(LT_MESSAGE_NOT_BEGUN, message->head.seq, NULL, 0));
        return;
    }
    struct lt_task *task = lt_message_task(message);
    end->seq = message->head.seq;
    end->began = lt_loop_now(end->loop);
    end->memory.refused = 0;
    end->task_run = (struct lt_task_run){.task = task, .run = task->run, .over = run_over, .progress = run_progressed};
    struct lt_bounds bounds = {.deadline = message->head.time, .stopped = end->stopped, .seq = end->seq};
    lt_task_run_start(&end->task_run, end->script, end->fn, bounds);
}

/* Those whose turn has come. What a run left to be done soon is done before the next one begins: it may be the end of this
 * state, for its memory. */
LT_RUNS_LUA static void start_next(struct lt_turn *turn)
{
    struct lt_worker_end *end = lt_container_of(turn, struct lt_worker_end, next);
    struct lt_message *message;
    while (end->seq == 0 && !end->over && (message = lt_messages_first(&end->to_start)) != NULL) {
        if (!STAILQ_EMPTY(&end->loop->turns)) {
            lt_loop_post(end->loop, turn);
            return;
        }
        lt_messages_take(&end->to_start);
        end->starting = true;
        start_run(end, message);
        end->starting = false;
        free(message);
    }
}

/* Takes over the message. */
LT_RUNS_LUA static void start_in_order(struct lt_worker_end *end, struct lt_message *message)
{
    STAILQ_INSERT_TAIL(&end->to_start, &message->mail, link);
    start_next(&end->next);
}

/* The run that goes on, or the one whose turn has come and that has not begun. */
static void stop_run(struct lt_worker_end *end, uint64_t seq)
{
    struct lt_message *message = lt_messages_first(&end->to_start);
    if (end->seq == seq) {
        lt_task_run_stop(&end->task_run);
        return;
    }
    if (end->seq != 0 || message == NULL || message->head.seq != seq)
        return;
    lt_messages_take(&end->to_start);
    free(message);
    struct lt_report report = LT_REPORT(LT_FAILED);
    fail_report(&report, "stopped");
    end->send(end, lt_message_ended(seq, &report, 0, false));
    lt_report_clear(&report);
}

/* The module. */

static void send_text(struct lt_worker_end *end, enum lt_message_kind kind, const char *text)
{
    end->send(end, lt_message_new(kind, 0, text, strlen(text) + 1));
}

static void module_broken(struct lt_worker_end *end, const char *why)
{
    end->over = true;
    send_text(end, LT_MESSAGE_BROKEN, why);
}

LT_RUNS_LUA static void module_loaded(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    struct lt_worker_end *end = strand->owner;
    struct lt_report failure = LT_REPORT(LT_FAILED);
    if (outcome == LT_DONE && count == 1) {
        end->fn = luaL_ref(strand->L, LUA_REGISTRYINDEX);
        send_text(end, LT_MESSAGE_LOADED, "");
        return;
    }
    if (outcome == LT_RAISED) {
        strand->position = 0; /* people want to see where */
        lt_failure_raised(strand, &failure, NULL);
    }
    const char *why = end->memory.spent ? "memory limit" : "the module was not loaded";
    module_broken(end, failure.reason != NULL ? failure.reason->data : why);
    lt_report_clear(&failure);
}

/* Calls ltsh.base.install() and ltsh.module.worker(path, source). Protected. */
static int find_task_function(lua_State *L)
{
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ltsh.base");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "install");
    lua_call(L, 0, 0);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "ltsh.module");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "task_function");
    return 1;
}

static void set_path(lua_State *L, const char *name, const char *path)
{
    lt_raw_global(L, "package");
    lua_pushstring(L, path);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

LT_RUNS_LUA static void load_module(struct lt_worker_end *end, const struct lt_message *message)
{
    struct lt_load load;
    lt_load_read(message, &load);
    struct lt_script_options options = {
        .alloc = allocate_counted, .alloc_arg = end, .worker = true, .may_exit = end->may_exit};
    end->script = lt_script_open(end->loop, &options);
    if (end->script == NULL) {
        module_broken(end, "out of memory");
        return;
    }
    end->script->host = end;
    lua_State *L = end->script->L;
    set_path(L, "path", load.path);
    set_path(L, "cpath", load.cpath);
    lua_pushcfunction(L, find_task_function);
    if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
        module_broken(end, lua_tostring(L, -1));
        return;
    }
    end->memory.limit = load.memory;
    struct lt_strand *strand = lt_strand_new(end->script, LT_STRAND_JOB, end, module_loaded);
    lua_xmove(L, strand->L, 1);
    lua_pushstring(strand->L, load.module);
    lua_pushlstring(strand->L, load.source, load.source_len);
    lt_strand_run(strand, 2);
}

void lt_worker_end_open(struct lt_worker_end *end)
{
    STAILQ_INIT(&end->to_start);
    end->next.fn = start_next;
    end->spent.fn = memory_spent;
}

LT_RUNS_LUA void lt_worker_end_receive(struct lt_worker_end *end, struct lt_message *message)
{
    switch (message->head.kind) {
    case LT_MESSAGE_LOAD:
        load_module(end, message);
        break;
    case LT_MESSAGE_START:
        start_in_order(end, message);
        return;
    case LT_MESSAGE_STOP:
        stop_run(end, message->head.seq);
        break;
    case LT_MESSAGE_END:
        end->over = true;
        break;
    default:
        break;
    }
    free(message);
}

LT_RUNS_LUA void lt_worker_end_close(struct lt_worker_end *end)
{
    lt_messages_free(&end->to_start);
    if (end->script == NULL)
        return;
    end->memory.limit = 0;
    lt_script_end(end->script);
    lt_loop_finish(end->loop);
    lt_script_close(end->script);
    end->script = NULL;
}
