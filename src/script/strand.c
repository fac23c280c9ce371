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

static bool resume(struct lt_strand *strand, int arguments);
static bool go(struct lt_strand *strand, int arguments);

void lt_strand_free(struct lt_strand *strand)
{
    free(strand->passing);
    free(strand);
}

static void let_go(struct lt_strand *strand)
{
    struct lt_wait *wait = strand->wait;
    strand->wait = NULL;
    if (wait != NULL)
        wait->cancel(wait);
}

/* Takes it out of the queue for its next slice, if it is in one. */
static void leave_queue(struct lt_strand *strand)
{
    if (strand->queue != NULL)
        TAILQ_REMOVE(strand->queue, strand, next_slice);
    strand->queue = NULL;
}

static void enter_queue(struct lt_strand *strand, struct lt_strand_list *queue, struct lt_turn *turn)
{
    strand->queue = queue;
    TAILQ_INSERT_TAIL(queue, strand, next_slice);
    lt_loop_post(strand->script->loop, turn);
}

/* Of the tasks that wake in one round of the loop one may use up a slice; the others go on in the next round, so that
 * many that compute do not hold up everybody together. (Of those that begin, their scheduler sees to it.) */
static bool may_go_on(const struct lt_strand *strand)
{
    const struct lt_script *script = strand->script;
    return strand->kind != LT_STRAND_TASK || script->woken_cut_round != script->loop->rounds;
}

/* It was woken. */
static void go_on(struct lt_strand *strand)
{
    struct lt_script *script = strand->script;
    leave_queue(strand);
    if (go(strand, 0))
        script->woken_cut_round = script->loop->rounds;
}

static void woken(struct lt_turn *turn)
{
    struct lt_strand *strand = strand_of(turn);
    struct lt_script *script = strand->script;
    if (strand->dead) {
        TAILQ_REMOVE(&script->dead, strand, link);
        lt_strand_free(strand);
    } else if (!strand->suspended || strand->queue == &script->preempted || strand->held || strand->deferred) {
        return;                /* it goes on by itself */
    } else if (strand->told) { /* at once: it has little time */
        let_go(strand);
        go_on(strand);
    } else if (may_go_on(strand)) {
        go_on(strand);
    } else if (strand->queue == NULL) {
        enter_queue(strand, &script->awake, &script->wake);
    }
}

static void wake_next(struct lt_turn *turn)
{
    struct lt_script *script = (struct lt_script *)((char *)turn - offsetof(struct lt_script, wake));
    struct lt_strand *strand;
    while ((strand = TAILQ_FIRST(&script->awake)) != NULL && may_go_on(strand))
        go_on(strand);
    if (strand != NULL)
        lt_loop_post(script->loop, turn);
}

void lt_strand_ending(struct lt_timer *timer)
{
    lt_strand_kill((struct lt_strand *)((char *)timer - offsetof(struct lt_strand, ending)));
}

enum { LONGEST_PASS = 7 };

/* One slice a round of the loop: whoever waits for I/O or a timer comes in between. Those that begin or wake come first:
 * when one of them has just used up a slice, the others pass, but for so many rounds only. */
static void run_slice(struct lt_turn *turn)
{
    struct lt_script *script = (struct lt_script *)((char *)turn - offsetof(struct lt_script, slice));
    struct lt_strand *strand = TAILQ_FIRST(&script->preempted);
    if (strand == NULL)
        return;
    if (script->cut_round + 1 >= script->loop->rounds && script->passed < LONGEST_PASS) {
        script->passed++;
        lt_loop_post(script->loop, turn);
        return;
    }
    script->passed = 0;
    leave_queue(strand);
    strand->slices++;
    if (strand->kind == LT_STRAND_FINALIZER && strand->slices > LT_FINALIZER_SLICES)
        lt_strand_kill(strand);
    else
        resume(strand, strand->arguments);
    if (!TAILQ_EMPTY(&script->preempted))
        lt_loop_post(script->loop, &script->slice);
}

static void queue_slice(struct lt_strand *strand)
{
    enter_queue(strand, &strand->script->preempted, &strand->script->slice);
}

void lt_strands_open(struct lt_script *script)
{
    TAILQ_INIT(&script->live);
    TAILQ_INIT(&script->spare);
    TAILQ_INIT(&script->dead);
    TAILQ_INIT(&script->preempted);
    TAILQ_INIT(&script->awake);
    script->slice.fn = run_slice;
    script->wake.fn = wake_next;
}

static struct lt_strand *make(struct lt_script *script)
{
    struct lt_strand *strand = lt_zalloc(sizeof *strand);
    strand->script = script;
    strand->L = lua_newthread(script->L);
    strand->ref = luaL_ref(script->L, LUA_REGISTRYINDEX);
    *(uintptr_t *)lua_getextraspace(strand->L) |= 1;
    strand->wake.fn = woken;
    strand->timer = strand->ending = LT_TIMER_INIT;
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
    strand->group = NULL;
    strand->arguments = 0;
    strand->kept = 0;
    strand->slices = 0;
    strand->bounds = (struct lt_bounds){0};
    strand->told = strand->raised = strand->failed = strand->computes = false;
    TAILQ_INSERT_TAIL(&script->live, strand, link);
    return strand;
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

void lt_group_init(struct lt_group *group)
{
    group->computing = NULL;
    TAILQ_INIT(&group->deferred);
}

static void defer(struct lt_strand *strand, int arguments)
{
    strand->arguments = arguments;
    strand->suspended = strand->deferred = true;
    TAILQ_INSERT_TAIL(&strand->group->deferred, strand, next_slice);
}

/* It waits or is over: those that it kept back go on. */
static void free_group(struct lt_strand *strand)
{
    struct lt_group *group = strand->group;
    if (group == NULL || group->computing != strand)
        return;
    group->computing = NULL;
    struct lt_strand *next;
    while ((next = TAILQ_FIRST(&group->deferred)) != NULL) {
        TAILQ_REMOVE(&group->deferred, next, next_slice);
        next->deferred = false;
        queue_slice(next);
    }
}

/* What suspends it is over, one way or the other. */
static void leave(struct lt_strand *strand)
{
    let_go(strand);
    strand->suspended = false;
    leave_queue(strand);
    if (strand->deferred)
        TAILQ_REMOVE(&strand->group->deferred, strand, next_slice);
    strand->deferred = false;
    free_group(strand);
}

void lt_strand_ungroup(struct lt_strand *strand)
{
    if (strand->deferred) {
        TAILQ_REMOVE(&strand->group->deferred, strand, next_slice);
        strand->deferred = false;
        queue_slice(strand);
    }
    free_group(strand);
    strand->group = NULL;
}

/* It was cut. If a step of the collector in it began a finalizer that is not through, it goes on after that. */
static void cut(struct lt_strand *strand)
{
    strand->suspended = true;
    strand->held = strand->finalizers > 0;
    if (!strand->held)
        queue_slice(strand);
}

void lt_strand_hold(struct lt_strand *strand, struct lt_strand *finalizer)
{
    finalizer->waited_by = strand;
    strand->finalizers++;
}

static void release_held(struct lt_strand *finalizer)
{
    struct lt_strand *strand = finalizer->waited_by;
    finalizer->waited_by = NULL;
    if (strand == NULL || --strand->finalizers > 0 || !strand->held)
        return;
    strand->held = false;
    queue_slice(strand);
}

/* It ends, and its finalizers with it. */
static void let_go_of_finalizers(struct lt_strand *strand)
{
    struct lt_strand *one;
    if (strand->finalizers == 0)
        return;
    TAILQ_FOREACH(one, &strand->script->live, link) {
        if (one->waited_by != strand)
            continue;
        one->waited_by = NULL;
        lt_strand_tell(one, "the finalizer was ended");
    }
    strand->finalizers = 0;
    strand->held = false;
}

/* Tells the owner; then the strand goes back to the pool, or away if its coroutine cannot be used again. */
static void finish(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    struct lt_script *script = strand->script;
    leave(strand);
    lt_timer_stop(script->loop, &strand->ending);
    TAILQ_REMOVE(&script->live, strand, link);
    release_held(strand);
    let_go_of_finalizers(strand);
    if (strand->done != NULL)
        strand->done(strand, outcome, count);
    if (outcome != LT_ENDED && lua_status(strand->L) == LUA_OK && script->spare_count < SPARE_STRANDS &&
        !strand->wake.posted) {
        lua_settop(strand->L, 0);
        lt_bytes_set(&strand->traceback, NULL);
        TAILQ_INSERT_HEAD(&script->spare, strand, link);
        script->spare_count++;
        return;
    }
    discard(strand);
}

/* Closes what the coroutine left open; nothing in it can wait or be preempted any more, and it has little time. */
static void close_coroutine(struct lt_strand *strand, lua_State *L, struct lt_bounds *bounds)
{
    struct lt_frame frame;
    lt_frame_enter(strand->script, &frame, L, strand, bounds, false);
    lua_resetthread(L);
    lt_frame_leave(strand->script, &frame);
    lua_settop(L, 0);
}

static void close_variables(struct lt_strand *strand)
{
    struct lt_script *script = strand->script;
    struct lt_bounds bounds = {.deadline = lt_loop_tick(script->loop) + LT_LAST_WORDS, .cut = LT_CUT_LATE};
    struct lt_slice outer = lt_slice_begin(script);
    for (unsigned i = 0; i < strand->passing_count; i++) /* each is referred to by the next one outwards */
        close_coroutine(strand, strand->passing[i], &bounds);
    close_coroutine(strand, strand->L, &bounds);
    lt_slice_end(script, outer);
}

/* In a message handler: the length of the position that error() or assert() put in front of the text on top of the
 * stack; 0 if they did not raise it. */
static size_t position_of(lua_State *L)
{
    lua_Debug thrower;
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    if (!lua_getstack(L, 1, &thrower) || !lua_getinfo(L, "f", &thrower))
        return 0;
    lua_CFunction function = lua_tocfunction(L, -1);
    const struct lt_script *script = lt_script_of(L);
    bool on_purpose = function != NULL && (function == script->error || function == script->assert);
    lua_pop(L, 1);
    for (int level = 2; on_purpose && level <= 4; level++) {
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

/* The message handler of every strand: notes what only the frames of the error can tell. */
static int note_error(lua_State *L)
{
    static const char foot[] = "\n\t[C]: in ?"; /* the strand's own base */
    struct lt_strand *strand = lt_strand_now(lt_script_of(L));
    strand->position = 0;
    if (strand->bounds.cut != LT_CUT_NOT || lua_type(L, 1) == LUA_TTABLE)
        return 1;
    if (lua_type(L, 1) == LUA_TSTRING)
        strand->position = position_of(L);
    luaL_traceback(L, L, NULL, 1);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    const size_t foot_len = sizeof foot - 1;
    if (len > foot_len && memcmp(text + len - foot_len, foot, foot_len) == 0)
        len -= foot_len;
    lt_bytes_set(&strand->traceback, lt_bytes_new(text, len));
    lua_settop(L, 1);
    return 1;
}

static int base_over(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - 1; /* but the handler */
    lt_strand_now(lt_script_of(L))->failed = true;
    return 1;
}

/* What runs in a strand's coroutine: handler, function, arguments... Protected, so that its `<close>` variables are
 * closed where they may still wait, and that its coroutine can be used again. */
static int base(lua_State *L)
{
    return base_over(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, 0, base_over), 0);
}

/* It was killed in the middle, or ended where it cannot be preempted, whatever it made of that. */
static void end_unasked(struct lt_strand *strand)
{
    if (strand->closing != NULL)
        strand->closing(strand);
    close_variables(strand);
    finish(strand, LT_ENDED, 0);
}

void lt_strand_kill(struct lt_strand *strand)
{
    leave(strand);
    end_unasked(strand);
}

static void came_to_its_end(struct lt_strand *strand, int count)
{
    if (strand->bounds.cut != LT_CUT_NOT)
        end_unasked(strand);
    else if (strand->failed)
        finish(strand, LT_RAISED, 1);
    else
        finish(strand, LT_DONE, count - strand->kept);
}

/* True: it was cut. */
static bool resume(struct lt_strand *strand, int arguments)
{
    struct lt_script *script = strand->script;
    if (strand->group != NULL && strand->group->computing != NULL && strand->group->computing != strand) {
        defer(strand, arguments);
        return false;
    }
    strand->arguments = 0;
    lua_State *from = script->frame != NULL ? script->frame->L : NULL;
    struct lt_frame frame;
    int count = 0;
    strand->suspended = false;
    strand->passing_count = 0;
    strand->running = true;
    struct lt_slice outer = lt_slice_begin(script);
    bool busy = strand->kind == LT_STRAND_TASK && !TAILQ_EMPTY(&script->preempted); /* others compute too */
    script->ticks = strand->computes || busy ? LT_SLICE_TICKS - 1 : 0;
    lt_frame_enter(script, &frame, strand->L, strand, &strand->bounds, true);
    int status = lua_resume(strand->L, from, arguments, &count);
    lt_frame_leave(script, &frame);
    lt_slice_end(script, outer);
    strand->running = false;
    strand->computes = frame.preempted;
    if (!frame.preempted)
        free_group(strand);
    else if (strand->group != NULL)
        strand->group->computing = strand;
    if (status == LUA_OK) {
        came_to_its_end(strand, count);
    } else if (status != LUA_YIELD) { /* outside of its base: no memory, or no C stack */
        strand->failed = true;
        came_to_its_end(strand, count);
    } else if (frame.preempted) {
        lua_pop(strand->L, count);  /* the suspension, if it passed through a coroutine of the script's */
        lt_loop_tick(script->loop); /* time has passed */
        cut(strand);
    } else if (count == 1 && lt_is_suspension(strand->L, -1)) {
        lua_pop(strand->L, 1);
        strand->suspended = true;
        if (strand->told && strand->raised && strand->wait == NULL)
            lt_strand_kill(strand);
    } else { /* a C function yielded by itself; ours and the script's never do at the base */
        lua_settop(strand->L, 0);
        lua_pushliteral(strand->L, "attempt to yield from outside a coroutine");
        finish(strand, LT_RAISED, 1);
    }
    return frame.preempted;
}

static void push_base(lua_State *L, int arguments)
{
    lua_pushcfunction(L, base);
    lua_pushcfunction(L, note_error);
    lua_rotate(L, -(arguments + 3), 2);
}

/* Resumes one that begins or wakes. True: it is a task, and was cut. */
static bool go(struct lt_strand *strand, int arguments)
{
    struct lt_script *script = strand->script;
    bool task = strand->kind == LT_STRAND_TASK;
    bool cut = resume(strand, arguments) && task;
    if (cut)
        script->cut_round = script->loop->rounds;
    return cut;
}

void lt_strand_run(struct lt_strand *strand, int arguments)
{
    push_base(strand->L, arguments);
    go(strand, arguments + 2);
}

void lt_strand_run_later(struct lt_strand *strand, int arguments)
{
    push_base(strand->L, arguments);
    strand->suspended = true;
    strand->arguments = arguments + 2;
    queue_slice(strand);
}

void lt_strand_tell(struct lt_strand *strand, const char *why)
{
    if (strand->told)
        return;
    struct lt_loop *loop = strand->script->loop;
    strand->told = true;
    strand->why = why;
    lt_timer_start(loop, &strand->ending, lt_loop_tick(loop) + LT_LAST_WORDS, lt_strand_ending);
    if (strand->wait != NULL)
        lt_wake(strand); /* and there it lets go: what it waits for may be told in turn, and so on */
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
    return frame != NULL && frame->L == L && frame->strand != NULL && frame->strand->kind != LT_STRAND_FINALIZER &&
           frame->can_yield && lua_isyieldable(L);
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
