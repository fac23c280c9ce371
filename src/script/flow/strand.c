#include "script/flow/strand.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "base/log.h"
#include "script/values/marks.h"

enum { SPARE_STRANDS = 1024 };

static bool resume_strand(struct lt_strand *strand);

static inline bool may_move(enum lt_strand_state from, enum lt_strand_state to)
{
#define TO(state_) (1U << LT_STRAND_##state_)
    static const unsigned moves[] = {
        [LT_STRAND_SPARE] = TO(MADE),
        [LT_STRAND_MADE] = TO(RUNS) | TO(PUT_OFF) | TO(QUEUED) | TO(DEFERRED) | TO(ENDS),
        [LT_STRAND_PUT_OFF] = TO(RUNS) | TO(ENDS),
        [LT_STRAND_RUNS] = TO(WAITS) | TO(QUEUED) | TO(ENDS),
        [LT_STRAND_WAITS] = TO(RUNS) | TO(DEFERRED) | TO(ENDS),
        [LT_STRAND_QUEUED] = TO(RUNS) | TO(DEFERRED) | TO(ENDS),
        [LT_STRAND_DEFERRED] = TO(QUEUED) | TO(ENDS),
        [LT_STRAND_ENDS] = TO(SPARE) | TO(DEAD),
        [LT_STRAND_DEAD] = 0,
    };
#undef TO
    return (moves[from] >> to & 1) != 0;
}

static void move_strand(struct lt_strand *strand, enum lt_strand_state to)
{
    assert(may_move(strand->state, to));
    strand->state = to;
}

void lt_strand_free(struct lt_strand *strand)
{
    free(strand->passing);
    free(strand);
}

static void let_go_of_strand(struct lt_strand *strand)
{
    struct lt_wait *wait = strand->wait;
    strand->wait = NULL;
    if (wait != NULL)
        wait->cancel(wait);
}

/* Resumes one that begins or wakes. True: it is a task, and was cut. */
LT_RUNS_LUA static bool begin_or_wake(struct lt_strand *strand)
{
    struct lt_script *script = strand->script;
    bool is_task = strand->kind == LT_STRAND_TASK;
    bool cut = resume_strand(strand) && is_task;
    if (cut)
        script->cut_round = script->loop->rounds;
    return cut;
}

/* Of the tasks that wake in one round of the loop one may use up a slice; the others go on in the next round, so that
 * many that compute do not hold up everybody together. (Of those that begin, their scheduler sees to it.) Those that were
 * told to end go on at once: they have little time. */
LT_RUNS_LUA static void go_on_woken(struct lt_strand *strand)
{
    struct lt_script *script = strand->script;
    if (strand->told)
        let_go_of_strand(strand);
    else if (strand->kind == LT_STRAND_TASK && script->woken_cut_round == script->loop->rounds) {
        lt_wake(strand);
        return;
    }
    if (begin_or_wake(strand))
        script->woken_cut_round = script->loop->rounds;
}

LT_RUNS_LUA static void begin_put_off(struct lt_strand *strand)
{
    struct lt_script *script = strand->script;
    script->put_off--;
    script->telling = true;
    resume_strand(strand);
    script->telling = false;
}

LT_RUNS_LUA static void on_strand_woken(struct lt_turn *turn)
{
    struct lt_strand *strand = lt_container_of(turn, struct lt_strand, wake);
    switch (strand->state) {
    case LT_STRAND_WAITS:
        go_on_woken(strand);
        break;
    case LT_STRAND_PUT_OFF:
        begin_put_off(strand);
        break;
    case LT_STRAND_DEAD:
        TAILQ_REMOVE(&strand->script->dead, strand, link);
        lt_strand_free(strand);
        break;
    default: /* it goes on by itself */
        break;
    }
}

enum { LONGEST_PASS = 7 };

/* One slice a round of the loop: whoever waits for I/O or a timer comes in between. Those that begin or wake come first:
 * when one of them has just used up a slice, the others pass, but for so many rounds only. */
LT_RUNS_LUA static void run_slice(struct lt_turn *turn)
{
    struct lt_script *script = lt_container_of(turn, struct lt_script, slice);
    struct lt_strand *strand = TAILQ_FIRST(&script->queued);
    if (strand == NULL)
        return;
    if (script->cut_round + 1 >= script->loop->rounds && script->passed < LONGEST_PASS) {
        script->passed++;
    } else {
        script->passed = 0;
        TAILQ_REMOVE(&script->queued, strand, next);
        resume_strand(strand);
    }
    if (!TAILQ_EMPTY(&script->queued))
        lt_loop_post(script->loop, turn);
}

static void queue_slice(struct lt_strand *strand)
{
    move_strand(strand, LT_STRAND_QUEUED);
    TAILQ_INSERT_TAIL(&strand->script->queued, strand, next);
    lt_loop_post(strand->script->loop, &strand->script->slice);
}

void lt_strands_open(struct lt_script *script)
{
    TAILQ_INIT(&script->live);
    TAILQ_INIT(&script->spare);
    TAILQ_INIT(&script->dead);
    TAILQ_INIT(&script->queued);
    script->slice.fn = run_slice;
}

/* From here to core_leave an error would be caught by nobody. To be given to core_leave. */
static bool core_enter(struct lt_script *script)
{
    struct lt_frame *frame = script->frame;
    bool was = frame != NULL && frame->in_core;
    if (frame != NULL)
        frame->in_core = true;
    return was;
}

static void core_leave(struct lt_script *script, bool was)
{
    if (script->frame != NULL)
        script->frame->in_core = was;
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
    strand->position = 0; /* of an error before this one, which a variable that was closed has raised */
    lt_bytes_set(&strand->traceback, NULL);
    if (strand->bounds.cut != LT_CUT_NOT || lua_type(L, 1) == LUA_TTABLE)
        return 1;
    size_t position = lua_type(L, 1) == LUA_TSTRING ? position_of(L) : 0;
    luaL_traceback(L, L, NULL, 1);
    size_t len;
    const char *text = lua_tolstring(L, -1, &len);
    const size_t foot_len = sizeof foot - 1;
    if (len > foot_len && memcmp(text + len - foot_len, foot, foot_len) == 0)
        len -= foot_len;
    lt_bytes_set(&strand->traceback, lt_bytes_new(text, len));
    strand->position = position; /* last: what failed above has another text */
    lua_settop(L, 1);
    return 1;
}

static int base_over(lua_State *L, int status, lua_KContext context)
{
    (void)context;
    if (status != LUA_OK && status != LUA_YIELD)
        lt_strand_now(lt_script_of(L))->failed = true;
    return lua_gettop(L) - 1; /* but the handler */
}

/* Whether its function left nothing behind. */
static bool is_as_new(struct lt_strand *strand)
{
    return strand->told == LT_TOLD_NOT && strand->bounds.cut == LT_CUT_NOT && strand->wait == NULL &&
           lua_gethookmask(strand->L) == 0 && lua_checkstack(strand->L, LUA_MINSTACK);
}

/* What is shorter than a tick is never cut; but where others compute too, and of one that was cut before. */
static void begin_slice(struct lt_script *script, const struct lt_strand *strand)
{
    bool busy = strand->kind == LT_STRAND_TASK && !TAILQ_EMPTY(&script->queued);
    script->ticks = strand->cuts > 0 || busy ? LT_SLICE_TICKS - 1 : 0;
    script->stall_since = 0;
    script->frame->label = strand->label;
}

static bool follow_guest(struct lt_strand *strand)
{
    struct lt_script *script = strand->script;
    bool was = core_enter(script);
    bool follows = strand->follow(strand, lua_gettop(strand->L) - 1 - strand->kept);
    core_leave(script, was);
    if (follows) {
        begin_slice(script, strand);
    } else {
        strand->done = NULL;
        strand->closing = NULL;
    }
    return follows;
}

/* What runs in a strand's coroutine: handler, what is kept, function, arguments... Protected, so that its `<close>`
 * variables are closed where they may still wait, and that its coroutine can be used again. A function that simply
 * returns, as most tasks' do, may be followed by another one: that is a fourth faster than to end and to begin. */
static int strand_base(lua_State *L)
{
    struct lt_strand *strand = lt_strand_now(lt_script_of(L));
    int arguments = lua_gettop(L) - strand->kept - 2;
    for (;;) {
        int status = lua_pcallk(L, arguments, LUA_MULTRET, 1, 0, base_over);
        if (status != LUA_OK || strand->follow == NULL || !is_as_new(strand))
            return base_over(L, status, 0);
        if (!follow_guest(strand))
            return 0;
    }
}

static struct lt_strand *make_strand(struct lt_script *script)
{
    struct lt_strand *strand = lt_zalloc(sizeof *strand);
    bool was = core_enter(script);
    strand->script = script;
    strand->L = lua_newthread(script->L);
    strand->ref = luaL_ref(script->L, LUA_REGISTRYINDEX);
    core_leave(script, was);
    lt_mark(strand->L, LT_MARK_STRAND);
    strand->wake.fn = on_strand_woken;
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
        strand = make_strand(script);
    }
    if (lua_gethookmask(strand->L) != 0) /* of whoever made it, or had it before */
        lua_sethook(strand->L, NULL, 0, 0);
    lua_pushcfunction(strand->L, strand_base);
    lua_pushcfunction(strand->L, note_error);
    move_strand(strand, LT_STRAND_MADE);
    const struct lt_strand *maker = lt_strand_now(script);
    strand->kind = kind;
    strand->guest =
        kind == LT_STRAND_TASK || kind == LT_STRAND_METHOD || (kind == LT_STRAND_JOB && maker != NULL && maker->guest);
    strand->owner = owner;
    strand->done = done;
    strand->closing = NULL;
    strand->follow = NULL;
    strand->label = NULL;
    strand->group = NULL;
    strand->kept = 0;
    strand->cuts = 0;
    strand->position = 0;
    strand->bounds = (struct lt_bounds){0};
    strand->told = LT_TOLD_NOT;
    strand->failed = false;
    TAILQ_INSERT_TAIL(&script->live, strand, link);
    return strand;
}

static void discard_strand(struct lt_strand *strand)
{
    luaL_unref(strand->script->L, LUA_REGISTRYINDEX, strand->ref);
    lt_bytes_set(&strand->traceback, NULL);
    if (strand->wake.posted) { /* then its turn frees it */
        move_strand(strand, LT_STRAND_DEAD);
        TAILQ_INSERT_TAIL(&strand->script->dead, strand, link);
    } else {
        lt_strand_free(strand);
    }
}

void lt_group_init(struct lt_group *group)
{
    group->computing = NULL;
    TAILQ_INIT(&group->deferred);
}

static void defer_strand(struct lt_strand *strand)
{
    move_strand(strand, LT_STRAND_DEFERRED);
    TAILQ_INSERT_TAIL(&strand->group->deferred, strand, next);
}

static void undefer_strand(struct lt_strand *strand)
{
    TAILQ_REMOVE(&strand->group->deferred, strand, next);
    queue_slice(strand);
}

/* It waits or is over: those that it kept back go on. */
static void free_group(struct lt_strand *strand)
{
    struct lt_group *group = strand->group;
    if (group == NULL || group->computing != strand)
        return;
    group->computing = NULL;
    while (!TAILQ_EMPTY(&group->deferred))
        undefer_strand(TAILQ_FIRST(&group->deferred));
}

/* It ends, from wherever it is. */
static void leave_strand(struct lt_strand *strand)
{
    struct lt_script *script = strand->script;
    let_go_of_strand(strand);
    if (strand->state == LT_STRAND_QUEUED)
        TAILQ_REMOVE(&script->queued, strand, next);
    else if (strand->state == LT_STRAND_DEFERRED)
        TAILQ_REMOVE(&strand->group->deferred, strand, next);
    else if (strand->state == LT_STRAND_PUT_OFF)
        script->put_off--;
    move_strand(strand, LT_STRAND_ENDS);
    free_group(strand);
}

void lt_strand_ungroup(struct lt_strand *strand)
{
    if (strand->state == LT_STRAND_DEFERRED)
        undefer_strand(strand);
    free_group(strand);
    strand->group = NULL;
}

/* Tells the owner of one that has left; then it goes back to the pool, or away if its coroutine cannot be used again. */
static void finish_strand(struct lt_strand *strand, enum lt_outcome outcome, int count)
{
    struct lt_script *script = strand->script;
    lt_timer_stop(script->loop, &strand->ending);
    TAILQ_REMOVE(&script->live, strand, link);
    bool was = core_enter(script);
    if (strand->done != NULL)
        strand->done(strand, outcome, count);
    core_leave(script, was);
    if (outcome != LT_ENDED && lua_status(strand->L) == LUA_OK && script->spare_count < SPARE_STRANDS &&
        !strand->wake.posted) {
        lua_settop(strand->L, 0);
        lt_bytes_set(&strand->traceback, NULL);
        move_strand(strand, LT_STRAND_SPARE);
        TAILQ_INSERT_HEAD(&script->spare, strand, link);
        script->spare_count++;
        return;
    }
    discard_strand(strand);
}

/* Closes what the coroutine left open; nothing in it can wait or be preempted any more, and it has little time. */
LT_RUNS_LUA static void close_coroutine(struct lt_strand *strand, lua_State *L, struct lt_bounds *bounds)
{
    struct lt_frame frame;
    lt_frame_enter(strand->script, &frame, L, strand, bounds, false);
    lua_resetthread(L);
    lt_frame_leave(strand->script, &frame);
    lua_settop(L, 0);
    lt_unmark(L, LT_MARK_PASSING);
}

LT_RUNS_LUA static void close_variables(struct lt_strand *strand)
{
    struct lt_script *script = strand->script;
    struct lt_bounds bounds = {.deadline = lt_loop_tick(script->loop) + LT_LAST_WORDS, .cut = LT_CUT_LATE};
    struct lt_slice outer = lt_slice_begin(script);
    for (unsigned i = 0; i < strand->passing_count; i++) /* each is referred to by the next one outwards */
        close_coroutine(strand, strand->passing[i], &bounds);
    close_coroutine(strand, strand->L, &bounds);
    lt_slice_end(script, outer);
}

/* It was killed in the middle, or ended where it cannot be preempted, whatever it made of that. */
LT_RUNS_LUA static void end_unasked(struct lt_strand *strand)
{
    leave_strand(strand);
    if (strand->closing != NULL)
        strand->closing(strand);
    close_variables(strand);
    finish_strand(strand, LT_ENDED, 0);
}

LT_RUNS_LUA void lt_strand_kill(struct lt_strand *strand)
{
    if (strand->state != LT_STRAND_ENDS) /* by a variable of its own, that is being closed */
        end_unasked(strand);
}

void lt_strand_fail(struct lt_strand *strand, const char *why)
{
    lua_settop(strand->L, strand->kept);
    lua_pushstring(strand->L, why);
    leave_strand(strand);
    finish_strand(strand, LT_RAISED, 1);
}

/* Its results may fill the stack: those who read them need room too. */
LT_RUNS_LUA static void came_to_its_end(struct lt_strand *strand, int count)
{
    bool has_room = lua_checkstack(strand->L, LUA_MINSTACK);
    if (strand->bounds.cut != LT_CUT_NOT) {
        end_unasked(strand);
    } else if (!has_room) {
        lt_strand_fail(strand, "too many results");
    } else {
        leave_strand(strand);
        if (strand->failed)
            finish_strand(strand, LT_RAISED, 1);
        else
            finish_strand(strand, LT_DONE, count - strand->kept);
    }
}

bool lt_strand_has_room(struct lt_strand *strand, int arguments)
{
    return lua_checkstack(strand->L, arguments + 1) != 0;
}

/* True: it was cut. */
LT_RUNS_LUA static bool resume_strand(struct lt_strand *strand)
{
    struct lt_script *script = strand->script;
    if (strand->group != NULL && strand->group->computing != NULL && strand->group->computing != strand) {
        defer_strand(strand);
        return false;
    }
    lua_State *from = script->frame != NULL ? script->frame->L : NULL;
    struct lt_frame frame;
    int arguments = strand->arguments, count = 0;
    strand->arguments = 0;
    strand->passing_count = 0;
    move_strand(strand, LT_STRAND_RUNS);
    struct lt_slice outer = lt_slice_begin(script);
    lt_unmark(strand->L, LT_MARK_PASSING);
    lt_frame_enter(script, &frame, strand->L, strand, &strand->bounds, true);
    begin_slice(script, strand);
    frame.slice = strand->kind == LT_STRAND_SCRIPT ? LT_SCRIPT_SLICE : 0;
    int status = lua_resume(strand->L, from, arguments, &count);
    lt_frame_leave(script, &frame);
    lt_slice_end(script, outer);
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
        lt_loop_tick(script->loop); /* time has passed */
        strand->cuts++;
        queue_slice(strand);
    } else if (frame.waits) {
        strand->cuts = 0;
        move_strand(strand, LT_STRAND_WAITS);
        if (strand->told == LT_TOLD_RAISED && strand->wait == NULL)
            lt_strand_kill(strand);
    } else { /* a C function yielded by itself; ours and the script's never do at the base */
        lt_strand_fail(strand, "attempt to yield from outside a coroutine");
    }
    return frame.preempted;
}

/* Handler, what is kept, function and arguments are there. */
static void push_prepared(struct lt_strand *strand, int arguments)
{
    strand->arguments = lua_gettop(strand->L) - 1;
    strand->kept = strand->arguments - arguments - 2;
}

LT_RUNS_LUA void lt_strand_run(struct lt_strand *strand, int arguments)
{
    push_prepared(strand, arguments);
    begin_or_wake(strand);
}

void lt_strand_run_later(struct lt_strand *strand, int arguments)
{
    push_prepared(strand, arguments);
    queue_slice(strand);
}

void lt_strand_put_off(struct lt_strand *strand, int arguments)
{
    push_prepared(strand, arguments);
    move_strand(strand, LT_STRAND_PUT_OFF);
    strand->script->put_off++;
    lt_wake(strand);
}

LT_RUNS_LUA static void last_words_are_over(struct lt_timer *timer)
{
    lt_strand_kill(lt_container_of(timer, struct lt_strand, ending));
}

void lt_strand_tell(struct lt_strand *strand, const char *why)
{
    if (strand->told)
        return;
    struct lt_loop *loop = strand->script->loop;
    strand->told = LT_TOLD;
    strand->why = why;
    lt_timer_start(loop, &strand->ending, lt_loop_tick(loop) + LT_LAST_WORDS, last_words_are_over);
    if (strand->wait != NULL)
        lt_wake(strand); /* and there it lets go: what it waits for may be told in turn, and so on */
}

void lt_wake(struct lt_strand *strand)
{
    lt_loop_post(strand->script->loop, &strand->wake);
}

static void note_passing(struct lt_strand *strand, lua_State *inner)
{
    if (strand->passing_count == strand->passing_size) {
        strand->passing_size = strand->passing_size > 0 ? strand->passing_size * 2 : 4;
        strand->passing = lt_realloc(strand->passing, strand->passing_size * sizeof(lua_State *));
    }
    strand->passing[strand->passing_count++] = inner;
}

LT_RAISES LT_RUNS_LUA int lt_pass_suspension(lua_State *L, lua_State *inner, lua_KFunction k)
{
    struct lt_frame *frame = lt_script_of(L)->frame;
    if (inner != NULL)
        note_passing(frame->strand, inner);
    frame->waits = true;
    lt_mark(L, LT_MARK_PASSING);
    return lua_yieldk(L, 0, 0, k);
}

bool lt_wait_possible(lua_State *L)
{
    const struct lt_frame *frame = lt_script_of(L)->frame;
    return frame != NULL && frame->L == L && frame->strand != NULL && frame->can_yield && lua_isyieldable(L);
}

bool lt_wait_ready(lua_State *L)
{
    return lt_wait_possible(L) && !lt_script_of(L)->frame->strand->told;
}

/* Never called: a strand that is ended for good is not resumed. */
static int never_resumed(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    return luaL_error(L, "the task has ended");
}

/* A strand that was told to end: its first waiting call raises; the next one never returns. */
LT_RAISES LT_RUNS_LUA static void end_if_told(lua_State *L, struct lt_strand *strand)
{
    if (!strand->told)
        return;
    if (strand->told == LT_TOLD_RAISED) {
        lt_pass_suspension(L, NULL, never_resumed);
        return;
    }
    strand->told = LT_TOLD_RAISED;
    lua_pushstring(L, strand->why); /* without a position: it is nobody's fault */
    lua_error(L);
}

LT_RAISES LT_RUNS_LUA struct lt_strand *lt_wait_check(lua_State *L, const char *function)
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
    let_go_of_strand(strand);
    end_if_told(L, strand);
    return strand;
}

LT_RAISES LT_RUNS_LUA int lt_wait(lua_State *L, struct lt_strand *strand, struct lt_wait *wait, lua_KFunction k)
{
    strand->wait = wait;
    if (strand->told) { /* by what it began just now: a task that stops itself */
        let_go_of_strand(strand);
        end_if_told(L, strand);
    }
    return lt_pass_suspension(L, NULL, k);
}

LT_RAISES LT_RUNS_LUA struct lt_wait *lt_wait_over(lua_State *L)
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
