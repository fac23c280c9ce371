/* core.exec: a process for a script, on what the process actuator stands on. lua/ltsh/exec.lua makes ltsh.exec from it:
 *
 *     local process <close> = core.exec(item, timeout, live)   starts it
 *     process:next() -> "stdout" | "stderr", bytes; or nil     waits for output, if it is live, and for the end
 *     process:result() -> a table; or nil, message
 *
 * Closing or collecting the object before the end ends the process, and all that it left, by its signal and its grace. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "actuators/process/process.h"
#include "base/alloc.h"
#include "base/container_of.h"
#include "base/tree.h"
#include "script/bind/bind_core.h"
#include "script/flow/strand.h"
#include "script/values/marks.h"
#include "script/values/values.h"

static const char *const EXEC = "ltsh.process";

struct chunk {
    STAILQ_ENTRY(chunk) link;
    int stream;
    size_t len;
    char bytes[];
};

/* It lives until it has ended and its object is closed. */
struct exec {
    struct lt_child child;
    struct lt_wait wait;
    struct lt_strand *waiter; /* in next; NULL: nobody */
    STAILQ_HEAD(, chunk) chunks;
    struct lt_timer timeout;
    char *failure; /* it could not be started */
    bool owned;    /* its object is open */
    bool live;     /* output is told as it comes */
    bool ended;
    bool timed_out;
};

static void free_exec(struct exec *exec)
{
    struct chunk *chunk;
    while ((chunk = STAILQ_FIRST(&exec->chunks)) != NULL) {
        STAILQ_REMOVE_HEAD(&exec->chunks, link);
        free(chunk);
    }
    lt_child_free(&exec->child);
    free(exec->failure);
    free(exec);
}

static void exec_over(struct exec *exec)
{
    lt_timer_stop(exec->child.loop, &exec->timeout);
    exec->ended = true;
    if (!exec->owned)
        free_exec(exec);
    else if (exec->waiter != NULL)
        lt_wake(exec->waiter);
}

static void exec_ended(struct lt_child *child)
{
    exec_over(lt_container_of(child, struct exec, child));
}

static void exec_started(struct lt_child *child, const char *failure)
{
    struct exec *exec = lt_container_of(child, struct exec, child);
    if (failure == NULL)
        return;
    exec->failure = lt_strdup(failure);
    exec_over(exec);
}

static bool exec_output(struct lt_child *child, int stream, const char *bytes, size_t len)
{
    struct exec *exec = lt_container_of(child, struct exec, child);
    if (!exec->live || !exec->owned)
        return true;
    struct chunk *chunk = lt_alloc(sizeof *chunk + len);
    chunk->stream = stream;
    chunk->len = len;
    memcpy(chunk->bytes, bytes, len);
    STAILQ_INSERT_TAIL(&exec->chunks, chunk, link);
    if (exec->waiter != NULL)
        lt_wake(exec->waiter);
    return false; /* until it was taken */
}

static void exec_late(struct lt_timer *timer)
{
    struct exec *exec = lt_container_of(timer, struct exec, timeout);
    exec->timed_out = true;
    lt_child_stop(&exec->child, false);
}

static void leave_wait(struct lt_wait *wait)
{
    lt_container_of(wait, struct exec, wait)->waiter = NULL;
}

LT_RAISES static struct exec *check_exec(lua_State *L)
{
    struct exec **box = luaL_checkudata(L, 1, EXEC);
    if (*box == NULL)
        luaL_error(L, "the process is closed");
    return *box;
}

static int next_over(lua_State *L, int status, lua_KContext context);

/* What there is, or -1: it is to be waited for. */
static int take_next(lua_State *L, struct exec *exec)
{
    struct chunk *chunk = STAILQ_FIRST(&exec->chunks);
    if (chunk == NULL && !exec->ended)
        return -1;
    if (chunk == NULL) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushstring(L, chunk->stream == 1 ? "stdout" : "stderr");
    lua_pushlstring(L, chunk->bytes, chunk->len); /* before it is let go of */
    STAILQ_REMOVE_HEAD(&exec->chunks, link);
    free(chunk);
    if (STAILQ_EMPTY(&exec->chunks) && !exec->ended)
        lt_child_more(&exec->child);
    return 2;
}

static int exec_next(lua_State *L)
{
    struct exec *exec = check_exec(L);
    int count = take_next(L, exec);
    if (count >= 0)
        return count;
    struct lt_strand *strand = lt_wait_check(L, "ltsh.exec");
    exec->wait.cancel = leave_wait;
    exec->waiter = strand;
    return lt_wait(L, strand, &exec->wait, next_over);
}

static int next_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct exec *exec = lt_container_of(lt_wait_over(L), struct exec, wait);
    exec->waiter = NULL;
    lt_wait_done(L);
    return exec_next(L);
}

static int exec_result(lua_State *L)
{
    struct exec *exec = check_exec(L);
    if (exec->failure != NULL) {
        lua_pushnil(L);
        lua_pushstring(L, exec->failure);
        return 2;
    }
    json_t *output = lt_process_output(&exec->child);
    if (exec->timed_out)
        json_object_set_new(output, "timed_out", json_true());
    struct lt_bytes *bytes = lt_tree_bytes(output);
    json_decref(output);
    struct lt_buffer *scratch = &lt_script_of(L)->scratch; /* is freed with the script, whatever is raised below */
    scratch->len = 0;
    lt_buffer_append(scratch, bytes->data, bytes->len);
    lt_bytes_unref(bytes);
    lua_pushlstring(L, scratch->data, scratch->len);
    size_t len;
    const char *data = lua_tolstring(L, -1, &len);
    if (lt_value_decode(L, data, len) != 0)
        return luaL_error(L, "ltsh.exec: its result cannot be read");
    return 1;
}

static int exec_close(lua_State *L)
{
    struct exec **box = luaL_checkudata(L, 1, EXEC);
    struct exec *exec = *box;
    *box = NULL;
    if (exec == NULL)
        return 0;
    exec->owned = false;
    if (exec->ended) {
        free_exec(exec);
        return 0;
    }
    lt_timer_stop(exec->child.loop, &exec->timeout);
    lt_child_stop(&exec->child, false);
    lt_child_more(&exec->child); /* nobody takes it, and its end is to be seen */
    return 0;
}

/* core.exec(item, timeout or nil, live) -> a process */
static int core_exec(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    double timeout = luaL_optnumber(L, 2, 0);
    struct lt_error error;
    struct lt_process_spec spec;
    struct exec **box = lua_newuserdatauv(L, sizeof(struct exec *), 0);
    *box = NULL;
    luaL_setmetatable(L, EXEC);
    lt_child_prepare(lt_script_of(L)->loop);
    struct lt_buffer encoded = {0};
    int code = lt_value_encode(L, 1, &encoded, "ltsh.exec", &error);
    json_t *item = code == LT_OK ? lt_tree_read(encoded.data, encoded.len) : NULL;
    lt_buffer_free(&encoded);
    if (code == LT_OK)
        code = lt_process_spec_read(&spec, item, NULL, "ltsh.exec", &error);
    json_decref(item);
    if (code != LT_OK)
        return luaL_error(L, "%s", error.message);
    struct exec *exec = lt_zalloc(sizeof *exec);
    STAILQ_INIT(&exec->chunks);
    exec->timeout = LT_TIMER_INIT;
    exec->owned = true;
    exec->live = lua_toboolean(L, 3);
    exec->child.loop = lt_script_of(L)->loop;
    exec->child.spec = spec;
    exec->child.started = exec_started;
    exec->child.output = exec_output;
    exec->child.ended = exec_ended;
    *box = exec;
    lt_child_start(&exec->child);
    if (timeout > 0 && !exec->ended)
        lt_timer_start(exec->child.loop, &exec->timeout, lt_loop_tick(exec->child.loop) + timeout, exec_late);
    return 1;
}

void lt_bind_exec(lua_State *L)
{
    static const luaL_Reg methods[] = {{"next", exec_next}, {"result", exec_result}, {NULL, NULL}};
    luaL_newmetatable(L, EXEC);
    lua_pushcfunction(L, exec_close);
    lua_setfield(L, -2, "__close");
    lua_pushcfunction(L, exec_close);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_pushcfunction(L, core_exec);
    lua_setfield(L, -2, "exec");
}
