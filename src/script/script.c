#include "script/script.h"

#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "script/baselib.h"
#include "script/bind_core.h"
#include "script/corolib.h"
#include "script/finalizer.h"
#include "script/future.h"
#include "script/strand.h"
#include "script/task_object.h"

static const double MAX_STALL = 0.25;

static int never(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return luaL_error(L, "os.exit: the process is ending");
}

static void forget(struct lt_wait *wait)
{
    (void)wait;
}

/* os.exit([code[, close]]): everything is closed first. The caller waits for that and never returns. */
static int os_exit(lua_State *L)
{
    static struct lt_wait nothing = {forget};
    struct lt_script *script = lt_script_of(L);
    int code = EXIT_SUCCESS;
    if (lua_isboolean(L, 1))
        code = lua_toboolean(L, 1) ? EXIT_SUCCESS : EXIT_FAILURE;
    else
        code = (int)luaL_optinteger(L, 1, EXIT_SUCCESS);
    const struct lt_strand *caller = lt_strand_now(script);
    if (script->may_exit)
        _exit(code);
    if (script->worker)
        return luaL_error(L, "os.exit: a worker cannot end the host");
    if (caller != NULL && (caller->kind == LT_STRAND_TASK || caller->kind == LT_STRAND_METHOD))
        return luaL_error(L, "os.exit: a task or a module cannot end the host");
    struct lt_strand *strand = lt_wait_check(L, "os.exit");
    script->exit(script, code);
    return lt_wait(L, strand, &nothing, never);
}

void lt_script_preload(lua_State *L, const char *name, lua_CFunction open)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

static lua_CFunction global_function(lua_State *L, const char *name)
{
    lua_getglobal(L, name);
    lua_CFunction function = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    return function;
}

static int panic(lua_State *L)
{
    const char *message = lua_tostring(L, -1);
    lt_log(LT_LOG_ERROR, "an error outside of any protection, the host cannot go on",
           LT_S("error", message != NULL ? message : "not a text"));
    return 0; /* Lua aborts */
}

static void *allocate(void *arg, void *old, size_t old_size, size_t size)
{
    (void)arg;
    (void)old_size;
    if (size > 0)
        return realloc(old, size);
    free(old);
    return NULL;
}

struct lt_script *lt_script_open(struct lt_loop *loop, const struct lt_script_options *options)
{
    struct lt_script *script = lt_zalloc(sizeof *script);
    lua_State *L = lua_newstate(options->alloc != NULL ? options->alloc : allocate, options->alloc_arg);
    if (L == NULL) {
        free(script);
        return NULL;
    }
    script->L = L;
    script->loop = loop;
    script->worker = options->worker;
    script->may_exit = options->may_exit;
    lt_strands_open(script);
    script->max_stall = MAX_STALL;
    TAILQ_INIT(&script->schedulers);
    *(struct lt_script **)lua_getextraspace(L) = script; /* before the first coroutine, which copies it */
    lua_atpanic(L, panic);
    luaL_openlibs(L);
    /* Tasks make garbage that is young: a twentieth faster. (What was mended in lgc.c after 5.4.4 concerns pacing
     * only.) */
    lua_gc(L, LUA_GCGEN, 0, 0);
    script->error = global_function(L, "error");
    script->assert = global_function(L, "assert");
    lt_corolib_open(L);
    lt_baselib_open(L);
    lt_finalizer_open(L);
    lua_getglobal(L, "os");
    lua_pushcfunction(L, os_exit);
    lua_setfield(L, -2, "exit");
    lua_pop(L, 1);
    lt_task_object_open(L);
    lt_future_open(L);
    lt_script_preload(L, "ltsh.core", lt_open_core);
    lt_script_preload(L, "luv", lt_open_luv);
    lt_preempt_open(script);
    return script;
}

void lt_script_end(struct lt_script *script)
{
    struct lt_strand *strand;
    while ((strand = TAILQ_FIRST(&script->live)) != NULL)
        lt_strand_kill(strand);
}

void lt_script_close(struct lt_script *script)
{
    struct lt_strand *strand;
    lt_script_end(script); /* callbacks may have begun something */
    script->closing = true;
    while ((strand = TAILQ_FIRST(&script->spare)) != NULL) {
        TAILQ_REMOVE(&script->spare, strand, link);
        lt_strand_free(strand);
    }
    lua_close(script->L);
    lt_preempt_close(script);
    while ((strand = TAILQ_FIRST(&script->dead)) != NULL) {
        TAILQ_REMOVE(&script->dead, strand, link);
        lt_strand_free(strand);
    }
    lt_buffer_free(&script->scratch);
    free(script);
}
