#include "workers/worker_end.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/call.h"
#include "workers/load.h"

/* Memory. What Lua is given is counted. Beyond the limit it gets a collection and then its end, at its next
 * instruction: small amounts are granted until then, since they may be needed where no error can be raised; large ones
 * are refused, which Lua answers with a collection of its own and another try. */

enum { SMALL = 1 << 20 };

static void spend(struct lt_worker_end *end)
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
        spend(end);
}

/* False: it is refused. */
static bool grant(struct lt_worker_end *end, size_t more)
{
    bool runs = end->script != NULL && end->script->frame != NULL;
    if (!runs || end->memory.spent || !is_beyond(end, more))
        return true;
    if (more < SMALL) {
        end->script->look_at_memory = look_at_memory;
        lt_preempt_soon(end->script);
        return true;
    }
    if (end->memory.refused == more)
        spend(end); /* Lua has collected and tried again */
    end->memory.refused = more;
    return false;
}

static void *allocate(void *arg, void *old, size_t old_size, size_t size)
{
    struct lt_worker_end *end = arg;
    size_t had = old != NULL ? old_size : 0;
    if (size == 0) {
        free(old);
        end->memory.used -= had;
        return NULL;
    }
    if (size > had && !grant(end, size - had))
        return NULL;
    void *now = realloc(old, size);
    if (now != NULL)
        end->memory.used += size - had;
    return now;
}

/* Something else than the task used up the memory: it ends all the same. */
static void on_spent(struct lt_turn *turn)
{
    struct lt_worker_end *end = (struct lt_worker_end *)((char *)turn - offsetof(struct lt_worker_end, spent));
    struct lt_strand *strand = end->task_run.strand;
    if (end->over)
        return;
    if (strand == NULL) { /* what an earlier task left behind */
        struct lt_report report = LT_REPORT(LT_FAILED);
        end->over = true;
        end->send(end, lt_message_ended(0, &report, true));
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

static void over(struct lt_task_run *task_run, struct lt_report *report)
{
    struct lt_worker_end *end = (struct lt_worker_end *)((char *)task_run - offsetof(struct lt_worker_end, task_run));
    uint64_t seq = end->seq;
    end->seq = 0;
    if (end->memory.spent || failed_for_memory(end, report)) {
        end->memory.spent = true;
        lt_report_clear(report);
        *report = LT_REPORT(LT_FAILED);
        report->reason = lt_bytes_printf("memory limit");
    }
    end->over = end->memory.spent;
    lt_task_unref(task_run->task);
    end->send(end, lt_message_ended(seq, report, end->memory.spent));
    lt_report_clear(report);
}

static bool report_progress(struct lt_task_run *task_run, struct lt_bytes *progress)
{
    struct lt_worker_end *end = (struct lt_worker_end *)((char *)task_run - offsetof(struct lt_worker_end, task_run));
    bool runs = end->seq != 0;
    if (runs)
        end->send(end, lt_message_new(LT_MESSAGE_PROGRESS, end->seq, progress->data, progress->len));
    lt_bytes_unref(progress);
    return runs;
}

static void start(struct lt_worker_end *end, const struct lt_message *message)
{
    struct lt_task *task = lt_message_task(message);
    end->seq = message->head.seq;
    end->memory.refused = 0;
    end->task_run = (struct lt_task_run){.task = task, .run = task->run, .over = over, .progress = report_progress};
    struct lt_bounds bounds = {.deadline = message->head.deadline, .stopped = end->stopped, .seq = end->seq};
    lt_loop_tick(end->loop);
    lt_task_run_start(&end->task_run, end->script, end->fn, bounds);
}

/* The module. */

static void send_text(struct lt_worker_end *end, enum lt_message_kind kind, const char *text)
{
    end->send(end, lt_message_new(kind, 0, text, strlen(text) + 1));
}

static void break_off(struct lt_worker_end *end, const char *why)
{
    end->over = true;
    send_text(end, LT_MESSAGE_BROKEN, why);
}

static void loaded(struct lt_strand *strand, enum lt_outcome outcome, int count)
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
    break_off(end, failure.reason != NULL ? failure.reason->data : why);
    lt_report_clear(&failure);
}

/* Calls ltsh.base.install() and ltsh.module.worker(path, source). Protected. */
static int prepare(lua_State *L)
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
    lua_getglobal(L, "package");
    lua_pushstring(L, path);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

static void load(struct lt_worker_end *end, const struct lt_message *message)
{
    struct lt_load load;
    lt_load_read(message, &load);
    struct lt_script_options options = {.alloc = allocate, .alloc_arg = end, .worker = true, .may_exit = end->may_exit};
    end->script = lt_script_open(end->loop, &options);
    if (end->script == NULL) {
        break_off(end, "out of memory");
        return;
    }
    end->script->host = end;
    end->spent.fn = on_spent;
    lua_State *L = end->script->L;
    set_path(L, "path", load.path);
    set_path(L, "cpath", load.cpath);
    lua_pushcfunction(L, prepare);
    if (lua_pcall(L, 0, 1, 0) != LUA_OK) {
        break_off(end, lua_tostring(L, -1));
        return;
    }
    end->memory.limit = load.memory;
    struct lt_strand *strand = lt_strand_new(end->script, LT_STRAND_JOB, end, loaded);
    lua_xmove(L, strand->L, 1);
    lua_pushstring(strand->L, load.module);
    lua_pushlstring(strand->L, load.source, load.source_len);
    lt_strand_run(strand, 2);
}

void lt_worker_end_receive(struct lt_worker_end *end, const struct lt_message *message)
{
    switch (message->head.kind) {
    case LT_MESSAGE_LOAD:
        load(end, message);
        break;
    case LT_MESSAGE_START:
        start(end, message);
        break;
    case LT_MESSAGE_STOP:
        if (end->seq == message->head.seq)
            lt_task_run_stop(&end->task_run);
        break;
    case LT_MESSAGE_END:
        end->over = true;
        break;
    default:
        break;
    }
}

void lt_worker_end_close(struct lt_worker_end *end)
{
    if (end->script == NULL)
        return;
    end->memory.limit = 0;
    lt_script_end(end->script);
    lt_loop_finish(end->loop);
    lt_script_close(end->script);
    end->script = NULL;
}
