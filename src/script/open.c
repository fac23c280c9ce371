#include "script/open.h"

#include <lualib.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "script/bind/bind_core.h"
#include "script/flow/future.h"
#include "script/flow/preempt.h"
#include "script/flow/strand.h"
#include "script/lib/baselib.h"
#include "script/lib/corolib.h"
#include "script/lib/finalizer.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"
#include "script/values/raw.h"

static const double MAX_STALL = 0.25;

void lt_script_preload(lua_State *L, const char *name, lua_CFunction open)
{
    lt_raw_field(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE); /* luaL_openlibs has made it */
    lua_pushcfunction(L, open);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

static lua_CFunction global_function(lua_State *L, const char *name)
{
    lt_raw_global(L, name);
    lua_CFunction function = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    return function;
}

static int lua_panic(lua_State *L)
{
    const char *message = lua_tostring(L, -1);
    lt_log(LT_LOG_ERROR, "an error outside of any protection, the host cannot go on",
           LT_S("error", message != NULL ? message : "not a text"));
    return 0; /* Lua aborts */
}

/* There is no memory. Lua that asks for much is refused: it collects, tries again, and raises. Little is granted from
 * what is kept, since it may be needed where no error can be raised; if a collection does not help, whoever runs gets
 * the error at its next instruction (preempt.c). */
static void *grant_reserve(struct lt_script *script, void *old, size_t size)
{
    enum { LITTLE = 1 << 20 };
    bool runs = script->frame != NULL && !script->frame->in_core;
    if ((runs && size >= LITTLE) || !lt_memory_give_up())
        return NULL;
    script->memory_low = true;
    lt_preempt_soon(script);
    return realloc(old, size);
}

static void *allocate(void *arg, void *old, size_t old_size, size_t size)
{
    (void)old_size;
    if (size == 0) {
        free(old);
        return NULL;
    }
    void *now = old == NULL ? malloc(size) : realloc(old, size);
    return now != NULL ? now : grant_reserve(arg, old, size);
}

LT_RUNS_LUA struct lt_script *lt_script_open(struct lt_loop *loop, const struct lt_script_options *options)
{
    struct lt_script *script = lt_zalloc(sizeof *script);
    lua_State *L =
        options->alloc != NULL ? lua_newstate(options->alloc, options->alloc_arg) : lua_newstate(allocate, script);
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
    lt_memory_low(); /* from now on there is something kept */
    TAILQ_INIT(&script->schedulers);
    LIST_INIT(&script->opened);
    *(struct lt_script **)lua_getextraspace(L) = script; /* before the first coroutine, which copies it */
    lua_atpanic(L, lua_panic);
    luaL_openlibs(L);
    /* Tasks make garbage that is young: a twentieth faster. (What was mended in lgc.c after 5.4.4 concerns pacing
     * only.) */
    lua_gc(L, LUA_GCGEN, 0, 0);
    script->error = global_function(L, "error");
    script->assert = global_function(L, "assert");
    lt_corolib_open(L);
    lt_baselib_open(L);
    lt_finalizer_open(L);
    lt_task_object_open(L);
    lt_future_open(L);
    lt_script_preload(L, "ltsh.core", lt_open_core);
    lt_script_preload(L, "luv", lt_open_luv);
    lt_preempt_open(script);
    return script;
}

LT_RUNS_LUA void lt_script_end(struct lt_script *script)
{
    struct lt_strand *strand;
    while ((strand = TAILQ_FIRST(&script->live)) != NULL)
        lt_strand_kill(strand);
    struct lt_opened *opened;
    while ((opened = LIST_FIRST(&script->opened)) != NULL) {
        LIST_REMOVE(opened, link);
        opened->end(opened);
    }
}

LT_RUNS_LUA void lt_script_close(struct lt_script *script)
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
