#include "script/strand.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

enum { SPARE_STRANDS = 1024 };

static const char suspension; /* its address marks a yield of ours */

static struct lt_strand *strand_of(struct lt_turn *turn)
{
    return (struct lt_strand *)((char *)turn - offsetof(struct lt_strand, wake));
}

static void resume(struct lt_strand *strand, int arguments);

void lt_strand_free(struct lt_strand *strand)
{
    free(strand->passing);
    free(strand);
}

static void woken(struct lt_turn *turn)
{
    struct lt_strand *strand = strand_of(turn);
    if (strand->dead) {
        TAILQ_REMOVE(&strand->script->dead, strand, link);
        lt_strand_free(strand);
    } else if (strand->suspended)
        resume(strand, 0);
}

static struct lt_strand *make(struct lt_script *script)
{
    struct lt_strand *strand = lt_zalloc(sizeof *strand);
    strand->script = script;
    strand->L = lua_newthread(script->L);
    strand->ref = luaL_ref(script->L, LUA_REGISTRYINDEX);
    strand->wake.fn = woken;
    strand->timer = LT_TIMER_INIT;
    return strand;
}

struct lt_strand *lt_strand_new(struct lt_script *script, enum lt_strand_kind kind, void *owner,
                                void (*done)(struct lt_strand *strand, enum lt_outcome outcome, int count))
{
    struct lt_strand *strand = TAILQ_FIRST(&script->spare);
    if (strand != NULL) {
        TAILQ_REMOVE(&script->spare, strand, link);
        script->spare_count--;
    } else {
        strand = make(script);
    }
    strand->kind = kind;
    strand->owner = owner;
    strand->done = done;
    strand->closing = NULL;
    strand->kept = 0;
    strand->told = strand->raised = false;
    TAILQ_INSERT_TAIL(&script->live, strand, link);
    return strand;
}

static void let_go(struct lt_strand *strand)
{
    struct lt_wait *wait = strand->wait;
    strand->wait = NULL;
    if (wait != NULL)
        wait->cancel(wait);
}

static void discard(struct lt_strand *strand)
{
    luaL_unref(strand->script->L, LUA_REGISTRYINDEX, strand->ref);
    lt_bytes_set(&strand->traceback, NULL);
    strand->dead = strand->wake.posted; /* then its turn frees it */
    if (strand->dead)
        TAILQ_INSERT_TAIL(&strand->script->dead, strand, link);
    else
        lt_strand_free(strand);
}

/* Tells the owner; then the strand goes back to the pool, or away if its coroutine cannot be used again. */
static void finish(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    struct lt_script *script = strand->script;
    let_go(strand);
    strand->suspended = false;
    TAILQ_REMOVE(&script->live, strand, link);
    if (strand->done != NULL)
        strand->done(strand, outcome, count);
    if (outcome == LT_DONE && script->spare_count < SPARE_STRANDS && !strand->wake.posted) {
        lua_settop(strand->L, 0);
        TAILQ_INSERT_HEAD(&script->spare, strand, link);
        script->spare_count++;
        return;
    }
    discard(strand);
}

void lt_frame_enter(struct lt_script *script, struct lt_frame *frame, lua_State *L, bool can_yield)
{
    struct lt_frame *parent = script->frame;
    frame->L = L;
    frame->strand = parent != NULL ? parent->strand : NULL;
    frame->can_wait = can_yield && parent != NULL && parent->can_wait;
    frame->parent = parent;
    script->frame = frame;
}

void lt_frame_leave(struct lt_script *script, struct lt_frame *frame)
{
    script->frame = frame->parent;
}

/* Closes what the coroutine left open; nothing in it can wait any more. */
static void close_variables(struct lt_strand *strand)
{
    struct lt_frame frame = {.strand = strand, .parent = strand->script->frame};
    strand->script->frame = &frame;
    for (unsigned i = 0; i < strand->passing_count; i++) { /* each is referred to by the next one outwards */
        frame.L = strand->passing[i];
        lua_resetthread(frame.L);
        lua_settop(frame.L, 0);
    }
    frame.L = strand->L;
    lua_resetthread(strand->L);
    strand->script->frame = frame.parent;
    lua_settop(strand->L, 0);
}

/* The length of the position that error() or assert() put in front of the text on top of the stack; 0 if they did not
 * raise it. */
static size_t position_of(lua_State *L)
{
    lua_Debug thrower;
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    if (!lua_getstack(L, 0, &thrower) || !lua_getinfo(L, "f", &thrower))
        return 0;
    lua_CFunction function = lua_tocfunction(L, -1);
    const struct lt_script *script = lt_script_of(L);
    bool on_purpose = function != NULL && (function == script->error || function == script->assert);
    lua_pop(L, 1);
    for (int level = 1; on_purpose && level <= 3; level++) {
        luaL_where(L, level);
        size_t where_len;
        const char *where = lua_tolstring(L, -1, &where_len);
        bool starts = where_len > 0 && where_len <= len && memcmp(text, where, where_len) == 0;
        lua_pop(L, 1);
        if (starts)
            return where_len;
    }
    return 0;
}

/* An error came out of it. What only its frames can tell is noted before they are closed. */
static void raised(struct lt_strand *strand)
{
    lua_State *L = strand->L;
    strand->position = 0;
    if (lua_type(L, -1) != LUA_TTABLE) {
        if (lua_type(L, -1) == LUA_TSTRING)
            strand->position = position_of(L);
        luaL_traceback(L, L, NULL, 0);
        lt_bytes_set(&strand->traceback, lt_bytes_new(lua_tostring(L, -1), lua_rawlen(L, -1)));
        lua_pop(L, 1);
    }
    if (strand->closing != NULL)
        strand->closing(strand);
    struct lt_frame frame = {.L = L, .strand = strand, .parent = strand->script->frame};
    strand->script->frame = &frame;
    lua_resetthread(L); /* the error stays on top, or the one that a __close put in its place */
    strand->script->frame = frame.parent;
    if (lua_gettop(L) == 0)
        lua_pushnil(L);
    finish(strand, LT_RAISED, 1);
}

void lt_strand_kill(struct lt_strand *strand)
{
    let_go(strand);
    strand->suspended = false;
    if (strand->closing != NULL)
        strand->closing(strand);
    close_variables(strand);
    finish(strand, LT_ENDED, 0);
}

static void resume(struct lt_strand *strand, int arguments)
{
    struct lt_script *script = strand->script;
    struct lt_frame frame = {.L = strand->L, .strand = strand, .parent = script->frame, .can_wait = true};
    lua_State *from = script->frame != NULL ? script->frame->L : NULL;
    int count = 0;
    strand->suspended = false;
    strand->passing_count = 0;
    strand->running = true;
    script->frame = &frame;
    int status = lua_resume(strand->L, from, arguments, &count);
    script->frame = frame.parent;
    strand->running = false;
    if (status == LUA_OK) {
        finish(strand, LT_DONE, count - strand->kept);
    } else if (status != LUA_YIELD) {
        raised(strand);
    } else if (count == 1 && lt_is_suspension(strand->L, -1)) {
        lua_pop(strand->L, 1);
        strand->suspended = true;
        if (strand->told && strand->raised && strand->wait == NULL)
            lt_strand_kill(strand);
    } else { /* a C function yielded by itself; ours and the script's never do at the base */
        lua_settop(strand->L, 0);
        lua_pushliteral(strand->L, "attempt to yield from outside a coroutine");
        raised(strand);
    }
}

void lt_strand_run(struct lt_strand *strand, int arguments)
{
    resume(strand, arguments);
}

void lt_strand_tell(struct lt_strand *strand, const char *why)
{
    if (strand->told)
        return;
    strand->told = true;
    strand->why = why;
    if (strand->suspended) {
        let_go(strand);
        lt_wake(strand);
    }
}

void lt_wake(struct lt_strand *strand)
{
    lt_loop_post(strand->script->loop, &strand->wake);
}

bool lt_is_suspension(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TLIGHTUSERDATA && lua_touserdata(L, index) == (const void *)&suspension;
}

static void note_passing(struct lt_strand *strand, lua_State *inner)
{
    if (strand->passing_count == strand->passing_size) {
        strand->passing_size = strand->passing_size > 0 ? strand->passing_size * 2 : 4;
        strand->passing = lt_realloc(strand->passing, strand->passing_size * sizeof(lua_State *));
    }
    strand->passing[strand->passing_count++] = inner;
}

int lt_pass_suspension(lua_State *L, lua_State *inner, lua_KFunction k)
{
    if (inner != NULL)
        note_passing(lt_script_of(L)->frame->strand, inner);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&suspension);
    return lua_yieldk(L, 1, 0, k);
}

bool lt_wait_possible(lua_State *L)
{
    const struct lt_frame *frame = lt_script_of(L)->frame;
    return frame != NULL && frame->L == L && frame->can_wait && lua_isyieldable(L);
}

bool lt_wait_ready(lua_State *L)
{
    return lt_wait_possible(L) && !lt_script_of(L)->frame->strand->told;
}

/* Never called: a strand that is ended for good is not resumed. */
static int ended(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return luaL_error(L, "the task has ended");
}

/* A strand that was told to end: its first waiting call raises; the next one never returns. */
static void end_if_told(lua_State *L, struct lt_strand *strand)
{
    if (!strand->told)
        return;
    if (strand->raised) {
        lt_pass_suspension(L, NULL, ended);
        return;
    }
    strand->raised = true;
    lua_pushstring(L, strand->why); /* without a position: it is nobody's fault */
    lua_error(L);
}

struct lt_strand *lt_wait_check(lua_State *L, const char *function)
{
    struct lt_script *script = lt_script_of(L);
    if (!lt_wait_possible(L)) {
        luaL_error(L,
                   "%s: cannot wait here (a callback of libuv, or called through a C function that cannot wait); use "
                   "ltsh.spawn",
                   function);
        return NULL;
    }
    struct lt_strand *strand = script->frame->strand;
    let_go(strand);
    end_if_told(L, strand);
    return strand;
}

int lt_wait(lua_State *L, struct lt_strand *strand, struct lt_wait *wait, lua_KFunction k)
{
    strand->wait = wait;
    if (strand->told) { /* by what it began just now: a task that stops itself */
        let_go(strand);
        end_if_told(L, strand);
    }
    return lt_pass_suspension(L, NULL, k);
}

struct lt_wait *lt_wait_over(lua_State *L)
{
    struct lt_strand *strand = lt_script_of(L)->frame->strand;
    if (strand->wait == NULL)
        end_if_told(L, strand);
    return strand->wait;
}

void lt_wait_done(lua_State *L)
{
    lt_script_of(L)->frame->strand->wait = NULL;
}
