/* The host's life:
 *
 *     open -> the main script as a strand -> the loop, until nothing is left to do -> close all schedulers -> close
 *
 * It ends early by an error in the script, by os.exit, or by a signal. All of these shut down in the same way: the
 * schedulers are closed, what runs has shutdown_grace seconds to end (none after os.exit or a second signal), and is
 * stopped then. */
#include "host.h"

#include <limits.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/container_of.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "loop/loop.h"
#include "scheduler/actuator.h"
#include "script/bind/bound.h"
#include "script/flow/call.h"
#include "script/flow/strand.h"
#include "script/open.h"
#include "script/values/marks.h"
#include "script/values/raw.h"
#include "workers/bind_workers.h"

enum { SIGNALS = 4 };
static const double SCRIPT_STALL = 10; /* seconds that the script may go on where no signal can reach it */
static const double PATIENCE = 2; /* seconds, after all was stopped at once, for stops that do not come to an end */
static const double GRACE = 10;   /* seconds that what ltsh.every called has to end, where no scheduler says another */

struct host {
    struct lt_loop loop;
    struct lt_script *script;
    uv_signal_t signals[SIGNALS];
    bool main_over;
    bool ending; /* shutting down */
    bool at_once;
    struct lt_timer patience;
    double grace_until;       /* monotonic: the longest shutdown_grace of those that were closed */
    struct lt_timer handlers; /* and then event handlers are not waited for any more */
    int status;
};

/* Shutting down. */

static void stop_loop(struct lt_timer *timer)
{
    lt_loop_stop(&(lt_container_of(timer, struct host, handlers))->loop);
}

/* All schedulers are closed: that was it. Event handlers that run may come to their end within the grace. */
static void on_closed(struct lt_script *script)
{
    struct host *host = script->host;
    if (!host->ending || !TAILQ_EMPTY(&script->schedulers))
        return;
    if (script->handlers == 0 || host->at_once)
        lt_loop_stop(&host->loop);
    else if (!lt_timer_active(&host->handlers))
        lt_timer_start(&host->loop, &host->handlers, host->grace_until, stop_loop);
}

/* Some work could not be stopped, though that was tried again and again: the process ends without it. */
static void give_up_tasks(struct lt_timer *timer)
{
    struct host *host = lt_container_of(timer, struct host, patience);
    const struct lt_bound *bound;
    TAILQ_FOREACH(bound, &host->script->schedulers, link)
        lt_log(LT_LOG_ERROR, "gave up waiting for its tasks to stop", LT_S("scheduler", bound->name));
    fflush(stdout);
    _exit(host->status);
}

static void end_host(struct host *host, int status, bool at_once, const char *reason)
{
    if (!host->ending)
        host->status = status;
    host->ending = true;
    host->script->hurry = true;
    host->at_once = host->at_once || at_once;
    double now = lt_loop_tick(&host->loop);
    struct lt_bound *bound;
    if (TAILQ_EMPTY(&host->script->schedulers) && host->grace_until == 0)
        host->grace_until = now + GRACE;
    TAILQ_FOREACH(bound, &host->script->schedulers, link) {
        double grace = host->at_once ? 0 : bound->shutdown_grace;
        if (now + grace > host->grace_until)
            host->grace_until = now + grace;
        lt_scheduler_close(bound->scheduler, grace, reason, NULL);
    }
    struct lt_opened *opened, *next;
    for (opened = LIST_FIRST(&host->script->opened); opened != NULL; opened = next) {
        next = LIST_NEXT(opened, link);
        if (opened->stop != NULL)
            opened->stop(opened);
    }
    if (host->at_once && !lt_timer_active(&host->patience))
        lt_timer_start(&host->loop, &host->patience, now + PATIENCE, give_up_tasks);
    on_closed(host->script);
}

static void on_exit_call(struct lt_script *script, int code)
{
    struct host *host = script->host;
    host->status = code;
    end_host(host, code, true, "shutdown");
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct host *host = lt_container_of(handle->loop, struct host, loop.uv);
    bool again = host->ending;
    lt_interrupt_heard();
    lt_log(LT_LOG_INFO, again ? "stopping at once" : "shutting down: running tasks may end, nothing new starts",
           LT_S("signal", number == SIGINT ? "SIGINT" : "SIGTERM"));
    end_host(host, 128 + number, again, "shutdown");
    if (again)
        lt_interrupt_after(PATIENCE + 1); /* a function of C may hold up the end, and the loop with it */
}

/* Nobody reads what the script prints. That is no fault, and nothing more is to be done for it. */
static void on_broken_pipe(uv_signal_t *handle, int number)
{
    struct host *host = lt_container_of(handle->loop, struct host, loop.uv);
    lt_interrupt_heard();
    if (!host->at_once) /* it is heard at each line that is printed */
        end_host(host, 128 + number, true, "shutdown");
    lt_interrupt_after(PATIENCE + 1);
}

/* (module, function, ...): calls a function of lua/ltsh/ with the rest. */
static int call_in_module(lua_State *L)
{
    lua_getglobal(L, "require");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    lua_pushvalue(L, 2);
    lua_gettable(L, -2);
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 4);
    lua_call(L, 2, 1);
    return 1;
}

/* The same on the main state, with two texts (NULL: nil). Its result, or the error, is on top of the stack. */
LT_RUNS_LUA static bool call_module(lua_State *L, const char *module, const char *function, const char *first,
                                    const char *second)
{
    lua_pushcfunction(L, call_in_module);
    lua_pushstring(L, module);
    lua_pushstring(L, function);
    lua_pushstring(L, first);
    lua_pushstring(L, second);
    return lua_pcall(L, 4, 1, 0) == LUA_OK;
}

/* SIGHUP: module files that changed are taken up. */
LT_RUNS_LUA static void on_hangup(uv_signal_t *handle, int number)
{
    (void)number;
    struct host *host = lt_container_of(handle->loop, struct host, loop.uv);
    lua_State *L = host->script->L;
    if (!host->ending && !call_module(L, "ltsh.reload", "soon", NULL, NULL))
        lt_log(LT_LOG_ERROR, "reloading failed", LT_S("error", lua_tostring(L, -1)));
    lua_settop(L, 0);
}

static void watch_signals(struct host *host)
{
    static const struct {
        int number;
        uv_signal_cb fn;
    } signals[SIGNALS] = {{SIGINT, on_signal}, {SIGTERM, on_signal}, {SIGPIPE, on_broken_pipe}, {SIGHUP, on_hangup}};
    for (int i = 0; i < SIGNALS; i++) {
        uv_signal_init(&host->loop.uv, &host->signals[i]);
        host->signals[i].data = &host->loop;
        uv_signal_start(&host->signals[i], signals[i].fn, signals[i].number);
        uv_unref((uv_handle_t *)&host->signals[i]);
        if (signals[i].number != SIGHUP)
            lt_interrupt_watch(signals[i].number, &host->script->hurry);
    }
}

/* The main script. */

static void print_error(const char *program, const char *message)
{
    fflush(stdout);
    fprintf(stderr, "%s: %s\n", program, message);
}

LT_RUNS_LUA static void main_over(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    (void)count;
    struct host *host = strand->owner;
    host->main_over = true;
    if (outcome == LT_ENDED && strand->bounds.cut == LT_CUT_HELD && !host->ending) {
        print_error("ltsh", "the script held the host for 10 s where it cannot be preempted, and was ended");
        end_host(host, 1, false, "shutdown");
    }
    if (outcome != LT_RAISED || host->ending)
        return;
    struct lt_report failure = LT_REPORT(LT_FAILED);
    strand->position = 0; /* people want to see where */
    lt_failure_raised(strand, &failure, NULL);
    print_error("ltsh", failure.reason != NULL ? failure.reason->data : "the script raised a table");
    lt_report_clear(&failure);
    if (strand->traceback != NULL)
        fprintf(stderr, "%s\n", strand->traceback->data);
    end_host(host, 1, false, "shutdown");
}

/* arg[0..n] as in lua(1), and this program at -1; options of its own are left out. */
static void set_arg(lua_State *L, const struct lt_host_options *options)
{
    lua_pushglobaltable(L);
    lua_createtable(L, options->argc, 2);
    lua_pushstring(L, options->interpreter);
    lua_rawseti(L, -2, -1);
    lua_pushstring(L, options->script != NULL ? options->script : "-e");
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < options->argc; i++) {
        lua_pushstring(L, options->argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "arg");
    lua_pop(L, 1);
}

/* Puts our modules and the script's folder in front of package.path. The program finds its modules beside itself:
 * <here>/../share/ltsh/lua, in the build tree as after an installation. */
static void set_path(lua_State *L, const struct lt_host_options *options)
{
    char program[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    program[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash != NULL)
        *slash = '\0';
    const char *script = options->script != NULL && strcmp(options->script, "-") != 0 ? options->script : "";
    const char *end_of_folder = strrchr(script, '/');
    int folder_len = end_of_folder != NULL ? (int)(end_of_folder - script) : 0;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", folder_len, script);
    if (end_of_folder == NULL)
        snprintf(folder, sizeof folder, ".");
    else if (folder_len == 0)
        snprintf(folder, sizeof folder, "/");
    lt_raw_global(L, "package");
    lt_raw_field(L, -1, "path");
    lua_pushfstring(L, "%s/../share/ltsh/lua/?.lua;%s/../share/ltsh/lua/?/init.lua;%s/?.lua;%s/?/init.lua;%s", program,
                    program, folder, folder, lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

static int load_script(lua_State *L, const struct lt_host_options *options)
{
    if (options->code != NULL)
        return luaL_loadbuffer(L, options->code, strlen(options->code), "=-e");
    return luaL_loadfile(L, strcmp(options->script, "-") == 0 ? NULL : options->script);
}

LT_RUNS_LUA static int check_script(struct lt_script *script, const struct lt_host_options *options)
{
    lua_State *L = script->L;
    script->max_stall = SCRIPT_STALL; /* as modules may take that the script itself loads */
    if (!call_module(L, "ltsh.check", "run", options->script, options->code)) {
        print_error(options->program, lua_tostring(L, -1));
        return 1;
    }
    return lua_toboolean(L, -1) ? 0 : 1;
}

/* The loop ran dry: whatever the script waits for will never come. */
static void complain_stuck(struct host *host)
{
    struct lt_strand *strand;
    TAILQ_FOREACH(strand, &host->script->live, link) {
        if (strand->kind != LT_STRAND_SCRIPT)
            continue;
        luaL_traceback(host->script->L, strand->L, "the script waits for something that cannot come any more", 0);
        print_error("ltsh", lua_tostring(host->script->L, -1));
        lua_pop(host->script->L, 1);
    }
    host->status = 1;
}

LT_RUNS_LUA static void start_main(struct host *host, const struct lt_host_options *options)
{
    struct lt_script *script = host->script;
    struct lt_strand *strand = lt_strand_new(script, LT_STRAND_SCRIPT, host, main_over);
    strand->bounds.max_stall = SCRIPT_STALL;
    if (!lt_strand_has_room(strand, options->argc)) {
        lt_strand_fail(strand, "too many arguments on the command line");
        return;
    }
    lua_xmove(script->L, strand->L, 1);
    for (int i = 0; i < options->argc; i++)
        lua_pushstring(strand->L, options->argv[i]);
    lt_strand_run(strand, options->argc);
}

LT_RUNS_LUA static void run_script(struct host *host, const struct lt_host_options *options)
{
    lua_State *L = host->script->L;
    if (options->check) {
        host->status = check_script(host->script, options);
        return;
    }
    if (options->watch && !call_module(L, "ltsh.reload", "watch", NULL, NULL))
        print_error(options->program, lua_tostring(L, -1));
    if (options->progress && !call_module(L, "ltsh.progress", "all", NULL, NULL))
        print_error(options->program, lua_tostring(L, -1));
    if (options->console != NULL && !call_module(L, "ltsh.console_flag", "start", options->console, NULL)) {
        print_error(options->program, lua_tostring(L, -1));
        host->status = 1;
        return;
    }
    if (!call_module(L, "ltsh.base", "install", NULL, NULL))
        print_error(options->program, lua_tostring(L, -1));
    lua_settop(L, 0);
    if (load_script(L, options) != LUA_OK) {
        print_error(options->program, lua_tostring(L, -1));
        host->status = 1;
        return;
    }
    watch_signals(host);
    start_main(host, options);
    if (!host->ending || !TAILQ_EMPTY(&host->script->schedulers))
        lt_loop_run(&host->loop);
    if (!host->main_over && !host->ending)
        complain_stuck(host);
}

/* Schedulers that are idle, or that a shutdown did not see: they are closed, as their containers may have to be. */
static void close_all(struct host *host)
{
    end_host(host, host->status, true, "shutdown");
    if (!TAILQ_EMPTY(&host->script->schedulers))
        lt_loop_run(&host->loop);
    lt_timer_stop(&host->loop, &host->patience);
}

LT_RUNS_LUA int lt_host_run(const struct lt_host_options *options)
{
    struct host host = {.patience = LT_TIMER_INIT, .handlers = LT_TIMER_INIT};
    if (lt_loop_open(&host.loop) != 0) {
        print_error(options->program, "cannot open the event loop");
        return 1;
    }
    host.script = lt_script_open(&host.loop, &(struct lt_script_options){0});
    if (host.script == NULL) {
        print_error(options->program, "out of memory");
        return 1;
    }
    host.script->host = &host;
    host.script->exit = on_exit_call;
    host.script->closed = on_closed;
    lt_script_preload(host.script->L, "ltsh.workers", lt_open_workers);
    set_arg(host.script->L, options);
    set_path(host.script->L, options);
    run_script(&host, options);
    close_all(&host);
    lt_script_end(host.script);
    close_all(&host); /* of what was begun by variables that were closed just now */
    lt_loop_finish(&host.loop);
    lt_script_close(host.script);
    lt_loop_close(&host.loop);
    return host.status;
}
