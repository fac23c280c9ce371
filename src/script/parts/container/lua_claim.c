/* Claiming from a container in Lua, and taking over what ran on a host that died.
 *
 *     alone with the table: what it is still to be told -> what is claimed already, if it may start now
 *         -> claim(self, limit, full_keys, admit) -> tasks[, next_run_at]  they run there; what may not here is claimed
 *         or waiting(self, limit) -> tasks, to_running(self, task)         each is asked for; others are left alone
 *
 * What a table returns is checked: no task runs twice at once, none beyond the limits, whatever it says. The slot of a
 * task is taken before to_running is called, so that none is passed in the meantime.
 *
 * Full keys at the head of the list do not hold up what is behind them: a table that returns tasks of full keys, and as
 * many as it was asked for, is asked for more. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/parts/container/lua_container_state.h"
#include "script/task/task_object.h"
#include "script/values/marks.h"

static const double FIRST_PAUSE =
    0.05; /* before a table is asked again that does not return what should be due; doubles */
static const double LONGEST_PAUSE = 30;
static const double SHORTEST_PAUSE = 0.01; /* before one is asked again that says "at once" and returns nothing */
enum {
    FURTHEST_LOOK = 1 << 16, /* tasks of `waiting` that are looked at for one that may start */
    MOST_CLAIMED = 1 << 12,  /* that may not start, and are looked at each time; then the table is not asked for more */
    MOST_ASKED = 256,        /* at once, of those behind the first */
    FULL_KEYS = 256,         /* of so many keys the table is told which are full */
};

/* A growing array of keys, each with a reference; NULL is one too: no key. */
struct places {
    struct lt_bytes **items;
    uint32_t count;
    uint32_t size;
};

struct claim_call {
    struct lua_op op;
    struct lt_claim_op *claim;
    bool claims;   /* else: waiting and to_running */
    bool begun;    /* what was claimed already has been looked at */
    bool listing;  /* the first method is being called: `admit` answers */
    bool no_room;  /* somebody was not admitted, and not for its key */
    bool key_full; /* or for its key: then the scheduler is told when there is room */
    bool progressed;
    bool beyond;          /* somebody was not admitted as the limit was reached */
    bool wasted;          /* `admit` took places that no task used */
    uint32_t asked;       /* for how many the table was asked last; 0: it was not; */
    uint32_t listed;      /* and how many it returned */
    uint32_t admitted;    /* how many have their slot */
    struct lt_map full;   /* struct lt_bytes: the keys that the table is told are full */
    struct places places; /* what `admit` took and no task has used yet */
    struct lt_tasks found;
    uint32_t next;
    struct lt_task *task;  /* that is being made running; borrowed from `found` */
    struct lt_task *shown; /* the copy */
    int code;
    struct lt_bytes *message;
};

static void push_place(struct places *places, struct lt_bytes *key)
{
    if (places->count == places->size) {
        places->size = places->size > 0 ? places->size * 2 : 16;
        places->items = lt_realloc(places->items, places->size * sizeof(struct lt_bytes *));
    }
    places->items[places->count++] = lt_bytes_ref(key);
}

static void return_places(struct claim_call *claim)
{
    struct places *places = &claim->places;
    claim->wasted = places->count > 0;
    for (uint32_t i = 0; i < places->count; i++) {
        lt_limiter_return(claim->claim->limiter, places->items[i]);
        lt_bytes_unref(places->items[i]);
    }
    free(places->items);
    *places = (struct places){0};
}

static const char *full_key(const void *object, size_t *len)
{
    const struct lt_bytes *key = object;
    *len = key->len;
    return key->data;
}

static bool is_full(const struct claim_call *claim, const struct lt_bytes *key)
{
    return key != NULL && claim->full.count > 0 &&
           lt_map_find(&claim->full, lt_hash(key->data, key->len), key->data, key->len) != NULL;
}

/* Its tasks need not be returned. */
static void note_full(void *arg, struct lt_bytes *key)
{
    struct claim_call *claim = arg;
    if (key != NULL && !is_full(claim, key))
        lt_map_put(&claim->full, lt_hash(key->data, key->len), lt_bytes_ref(key));
}

static void free_claim(struct lt_adapter_call *call)
{
    struct claim_call *claim = (struct claim_call *)call;
    uint32_t position = 0;
    struct lt_bytes *key;
    while ((key = lt_map_next(&claim->full, &position)) != NULL)
        lt_bytes_unref(key);
    lt_map_free(&claim->full);
    return_places(claim);
    lt_tasks_free(&claim->found);
    lt_task_unref(claim->shown);
    lt_bytes_unref(claim->message);
}

static void ignore_claim(struct claim_call *claim, const struct lt_task *task, const char *why)
{
    lt_adapter_log(&claim->op.c->adapter,
                   claim->claims ? "what claim returned was ignored" : "what waiting returned was ignored", task, why);
}

static bool has_begun(const struct lt_record *record)
{
    return record != NULL && record->place == LT_RECORD_ACTIVE;
}

/* Reading lists. */

/* Whether the table at `index` is a list, and not one thing with fields. */
static bool is_list(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TTABLE)
        return false;
    if (lua_rawlen(L, index) > 0)
        return true;
    lua_pushnil(L);
    if (!lua_next(L, index))
        return true;
    lua_pop(L, 2);
    return false;
}

/* Reads the list that a method returned first. What is no task is left out, with an error in the log. Returns its
 * length, or -1 with an error. */
static int64_t read_tasks(struct lt_adapter_call *call, lua_State *L, int count, struct lt_tasks *tasks,
                          struct lt_error *error)
{
    int first = lua_gettop(L) - count + 1;
    if (lt_adapter_failed(L, count, error))
        return -1;
    if (count == 0)
        lua_pushnil(L);
    if (!is_list(L, first)) {
        lt_call_nonsense(&call->call, L, first, "a list of tasks", error);
        return -1;
    }
    lua_Unsigned length = lua_rawlen(L, first);
    for (lua_Unsigned i = 1; i <= length; i++) {
        struct lt_error why;
        lua_rawgeti(L, first, (lua_Integer)i);
        struct lt_task *task = lt_task_read(L, -1, &why);
        lua_pop(L, 1);
        if (task != NULL) {
            lt_tasks_push(tasks, task);
            continue;
        }
        struct lt_error named;
        lt_fail(&named, LT_ERROR, "%s: %s must return a list of tasks, but element %llu is none: %s",
                call->adapter->module.name, call->call.method, (unsigned long long)i, why.message);
        lt_adapter_log(call->adapter, "what is no task was ignored", NULL, named.message);
    }
    return length < UINT32_MAX ? (int64_t)length : UINT32_MAX;
}

static void read_next_run(struct claim_call *claim, lua_State *L, int count)
{
    struct lua_container *c = claim->op.c;
    int second = lua_gettop(L) - count + 2;
    struct lt_error error;
    c->next_at = 0;
    if (!claim->claims || count < 2 || lua_isnil(L, second))
        return;
    double next = lua_type(L, second) == LUA_TNUMBER ? lua_tonumber(L, second) : NAN;
    if (isnan(next)) {
        lt_call_nonsense(&claim->op.call.call, L, second, "the time of the next run as a number, or nil", &error);
        lt_adapter_log(&c->adapter, "the time of the next run was ignored", NULL, error.message);
    } else if (next < 9e15) { /* infinity means never */
        c->next_at = next > 0 ? next : 1;
    }
}

/* Expired tasks: they never began, and end here. */

/* Whether it should have begun by now and never did, as far as is known. */
static bool has_expired(const struct lt_task *task, const struct lt_task *known, double now)
{
    const struct lt_task_options *options = task->options;
    if (options == NULL || options->expires_at <= 0 || now < options->expires_at)
        return false;
    if (known != NULL) /* its run number says nothing: the table may have numbered a run that did not come to be */
        return known->attempts == 0 && (known->extra == NULL || known->extra->past == NULL);
    return task->status == LT_RUNNING ? task->attempts <= 1 : task->run == 0;
}

/* The table is told of its end as soon as this is possible, and then it is delivered. */
static void expire_record(struct claim_call *claim, const struct lt_task *task)
{
    struct lua_container *c = claim->op.c;
    struct lt_task *shown = lt_task_clone(task);
    struct lt_bytes *reason = lt_bytes_printf("expired");
    lt_task_apply(shown, &(struct lt_transition){.to = LT_FAILED, .now = lua_container_wall(c), .reason = reason});
    lt_bytes_unref(reason);
    lua_untold_add(c, shown);
    claim->progressed = true;
}

/* Runs. */

/* Nothing of an earlier run is to be seen in a new one. */
static void clear_run(struct lt_task *task)
{
    lt_bytes_set(&task->output, NULL);
    if (task->extra == NULL)
        return;
    lt_bytes_set(&task->extra->handle, NULL);
    lt_bytes_set(&task->extra->progress, NULL);
    lt_bytes_set(&task->extra->host, NULL);
}

static uint64_t new_run(struct lua_container *c, const struct lt_task *task, const struct lt_task *known)
{
    if (c->last_run < task->run)
        c->last_run = task->run;
    if (known != NULL && c->last_run < known->run)
        c->last_run = known->run;
    return ++c->last_run;
}

/* Its place in the run is what the table says, as far as it says it, and makes sense. */
static void make_running(struct lua_container *c, struct lt_task *task, const struct lt_task *known, double now)
{
    bool numbered = task->status != LT_WAITING && task->run > (known != NULL ? known->run : 0);
    uint64_t given = task->run;
    uint32_t attempts = task->status == LT_RUNNING && task->attempts > 0 ? task->attempts - 1 : task->attempts;
    double started_at = task->status == LT_RUNNING && task->started_at > 0 ? task->started_at : now;
    if (numbered && c->last_run < given)
        c->last_run = given;
    uint64_t run = numbered ? given : new_run(c, task, known);
    clear_run(task);
    task->attempts = attempts;
    lt_task_apply_claimed(task, run, started_at);
}

/* It has its slot. */
static void start_record(struct claim_call *claim, struct lt_task *task)
{
    lt_records_file(&claim->op.c->records, task, lua_container_wall(claim->op.c));
    lt_claims_push(&claim->claim->claimed, lt_task_ref(task), 0, false);
    claim->progressed = true;
}

/* Limits. */

/* Uses a place that `admit` took. */
static bool use_place(struct claim_call *claim, const struct lt_bytes *key)
{
    struct places *places = &claim->places;
    for (uint32_t i = 0; i < places->count; i++) {
        const struct lt_bytes *of = places->items[i];
        bool same =
            key != NULL && of != NULL ? key->len == of->len && memcmp(key->data, of->data, key->len) == 0 : key == of;
        if (!same)
            continue;
        lt_bytes_unref(places->items[i]);
        places->items[i] = places->items[--places->count];
        return true;
    }
    return false;
}

static bool take_slot_of(struct claim_call *claim, struct lt_bytes *key)
{
    enum lt_admission admission = lt_limiter_admit(claim->claim->limiter, key);
    claim->no_room = claim->no_room || admission == LT_NO_ROOM;
    claim->key_full = claim->key_full || admission == LT_KEY_FULL;
    return admission == LT_ADMITTED;
}

/* Takes the slot, or notes why it could not. */
static bool admit_key(struct claim_call *claim, const struct lt_task *task)
{
    claim->beyond = claim->beyond || claim->admitted >= claim->claim->limit;
    if (claim->admitted >= claim->claim->limit)
        return false;
    if (!use_place(claim, lt_task_key(task)) && !take_slot_of(claim, lt_task_key(task)))
        return false;
    claim->admitted++;
    return true;
}

/* What is claimed already. */

struct lt_task *lua_container_unstarted(const struct lt_task *claimed)
{
    struct lt_task *task = lt_task_clone(claimed);
    if (task->attempts > 0)
        task->attempts--;
    task->status = LT_WAITING;
    task->started_at = 0;
    return task;
}

void lua_container_show_claimed(struct lua_container *c, struct lt_record *record)
{
    struct lt_task *task = lua_container_unstarted(record->claimed);
    lt_records_file(&c->records, task, lua_container_wall(c));
    lt_task_unref(task);
}

static void keep_claimed(struct claim_call *claim, struct lt_task *task)
{
    struct lua_container *c = claim->op.c;
    struct lt_record *record = lt_records_hold(&c->records, task);
    lt_records_claim(&c->records, record, lt_task_ref(task));
    if (!has_begun(record))
        lua_container_show_claimed(c, record);
    claim->progressed = true;
}

/* Those that may start now do, in the order in which they came. */
static void start_claimed(struct claim_call *claim)
{
    struct lua_container *c = claim->op.c;
    double now = lua_container_wall(c);
    struct lt_record *record, *next;
    for (record = TAILQ_FIRST(&c->records.claimed); record != NULL && !claim->no_room && !claim->beyond;
         record = next) {
        next = TAILQ_NEXT(record, claimed_link);
        struct lt_task *task = record->claimed;
        bool ends = has_expired(task, record->task, now);
        if (has_begun(record) || (!ends && is_full(claim, lt_task_key(task))))
            continue;
        if (!ends && !admit_key(claim, task)) {
            note_full(claim, lt_task_key(task));
            continue;
        }
        lt_task_ref(task);
        lt_records_unclaim(&c->records, record);
        lt_task_inherit(task, record->task);
        task->started_at = now;
        if (ends)
            expire_record(claim, task);
        else
            start_record(claim, task);
        lt_task_unref(task);
    }
}

/* The style of waiting and to_running: they are asked for one by one. */

static void is_running(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct claim_call *claim = (struct claim_call *)call;
    struct lua_container *c = claim->op.c;
    struct lt_task *task = claim->task;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    if (code == LT_OK) {
        lt_task_apply_claimed(task, claim->shown->run, claim->shown->started_at);
        start_record(claim, task);
    } else {
        lt_limiter_return(claim->claim->limiter, lt_task_key(task));
        claim->admitted--;
    }
    if (lua_container_trouble(code)) { /* nobody knows what became of it: it is to wait again, if it does not */
        lt_adapter_log(&c->adapter, "a task could not be made running", task, error.message);
        struct lt_task *shown = lt_task_clone(claim->shown);
        lt_task_apply(shown,
                      &(struct lt_transition){
                          .to = LT_WAITING, .now = lua_container_wall(c), .run_at = task->run_at, .uncounted = true});
        lua_untold_add(c, shown);
    }
    lt_adapter_go(call);
}

LT_RUNS_LUA static void make_run(struct claim_call *claim, struct lt_task *task, const struct lt_task *known)
{
    struct lua_container *c = claim->op.c;
    uint64_t run = new_run(c, task, known);
    task->status = LT_WAITING;
    clear_run(task);
    claim->task = task;
    lt_task_unref(claim->shown);
    claim->shown = lt_task_clone(task);
    lt_task_apply_claimed(claim->shown, run, lua_container_wall(c));
    lua_container_tell(&claim->op.call, claim->shown, is_running);
}

/* What the table returned. */

/* Whether nothing is new about it: it runs, or is claimed, at no earlier run. */
static bool is_known_run(const struct lt_record *record, const struct lt_task *task)
{
    if (record == NULL || (!has_begun(record) && record->claimed == NULL))
        return false;
    const struct lt_task *known = record->claimed != NULL ? record->claimed : record->task;
    return known != NULL && (task->status != LT_RUNNING || task->run <= known->run);
}

/* True: a call is under way for it. */
LT_RUNS_LUA static bool handle_listed(struct claim_call *claim, struct lt_task *task)
{
    struct lua_container *c = claim->op.c;
    double now = lua_container_wall(c);
    const struct lt_record *record = lt_records_find(&c->records, task);
    const struct lt_task *known = record != NULL && record->place != LT_RECORD_GUEST ? record->task : NULL;
    const struct lt_task *waiting = known != NULL && known->status == LT_WAITING ? known : NULL;
    struct lua_untold *untold = lua_untold_find(c, task);
    bool may_run =
        task->status == LT_WAITING || task->status == LT_UNSTARTED || (task->status == LT_RUNNING && claim->claims);
    if (untold != NULL && claim->claims)
        lua_untold_claimed(c, untold, task);
    if (untold != NULL)
        return false;
    if (!may_run || is_known_run(record, task)) {
        ignore_claim(claim, task, may_run ? "it runs already" : "it is neither waiting nor made running by this");
        return false;
    }
    if (waiting != NULL)
        lt_task_inherit(task, waiting); /* its key may be among it */
    bool starts = !has_begun(record);
    if (starts && has_expired(task, waiting, now)) {
        expire_record(claim, task);
        return false;
    }
    if (claim->claims)
        make_running(c, task, known, now);
    starts = starts && admit_key(claim, task);
    if (!claim->claims && starts)
        make_run(claim, task, known);
    else if (claim->claims && starts)
        start_record(claim, task);
    else if (claim->claims)
        keep_claimed(claim, task);
    return !claim->claims && starts;
}

/* The claim. */

static void claim_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct claim_call *claim = (struct claim_call *)call;
    struct lt_error error;
    claim->listing = false;
    int64_t length = 0;
    if (code != LT_OK)
        lt_fail(&error, code, "%s", message);
    else if ((length = read_tasks(call, L, count, &claim->found, &error)) < 0)
        code = error.code;
    claim->code = code;
    if (code != LT_OK) {
        claim->message = lt_bytes_new(error.message, strlen(error.message));
    } else {
        claim->listed = (uint32_t)length;
        read_next_run(claim, L, count);
    }
    lt_adapter_go(call);
}

static void push_full_keys(lua_State *L, const struct lt_map *full)
{
    uint32_t position = 0;
    const struct lt_bytes *key;
    lua_createtable(L, (int)full->count, 0);
    for (lua_Integer i = 1; (key = lt_map_next(full, &position)) != NULL; i++) {
        lua_pushlstring(L, key->data, key->len);
        lua_rawseti(L, -2, i);
    }
}

/* admit_key(key) -> whether a task of this key may start: then it has its place. For the call that it was given to. */
static int lua_admit(lua_State *L)
{
    struct lt_adapter *adapter = lt_adapter_of_function(L);
    struct lua_container *c = adapter != NULL ? lua_container_of_adapter(adapter) : NULL;
    if (!lua_isnoneornil(L, 1) && lua_type(L, 1) != LUA_TSTRING)
        return lt_argument_error(L, "admit", "key", "a string or nil", 1);
    struct claim_call *claim = c != NULL ? c->claiming : NULL;
    bool admitted = false;
    if (claim != NULL && claim->listing && c->claims == lt_adapter_function_number(L)) {
        size_t len;
        const char *text = lua_tolstring(L, 1, &len);
        struct lt_bytes *key = text != NULL ? lt_bytes_new(text, len) : NULL;
        claim->beyond = claim->beyond || claim->admitted + claim->places.count >= claim->claim->limit;
        admitted = claim->admitted + claim->places.count < claim->claim->limit && take_slot_of(claim, key);
        if (admitted)
            push_place(&claim->places, key);
        lt_bytes_unref(key);
    }
    lua_pushboolean(L, admitted);
    return 1;
}

LT_RUNS_LUA static void ask_table(struct claim_call *claim, uint32_t limit)
{
    struct lua_container *c = claim->op.c;
    lua_State *L = lt_adapter_call_begin(&claim->op.call, claim->claims ? "claim" : "waiting", claim_returned);
    claim->asked = limit;
    claim->next = 0;
    claim->listing = true;
    lt_tasks_clear(&claim->found);
    if (claim->claims)
        lt_limiter_full_keys(claim->claim->limiter, FULL_KEYS, note_full, claim);
    c->claims++;
    lua_pushinteger(L, limit);
    if (claim->claims) {
        push_full_keys(L, &claim->full);
        lt_adapter_push_function(&c->adapter, L, lua_admit, c->claims);
    }
    lt_adapter_call_run(&claim->op.call, claim->claims ? 3 : 1);
}

/* For how many the table is asked: for more than may start, if what it returned last was claimed. 0: it is not. */
static uint32_t how_many(const struct claim_call *claim)
{
    uint32_t claimed = claim->op.c->records.claimed_count;
    uint32_t room = claim->claim->limit - claim->admitted;
    if (room == 0 || claim->no_room || claimed >= MOST_CLAIMED)
        return 0;
    if (claimed > MOST_ASKED)
        claimed = MOST_ASKED;
    return room > claimed ? room : claimed;
}

/* `waiting` may simply be asked for more. */
static bool must_look_further(const struct claim_call *claim)
{
    bool stuck = claim->key_full && !claim->no_room && claim->admitted < claim->claim->limit;
    return stuck && !claim->claims && claim->code == LT_OK && claim->listed >= claim->asked &&
           claim->asked < FURTHEST_LOOK;
}

LT_RUNS_LUA static bool claim_step(struct lt_adapter_call *call)
{
    struct claim_call *claim = (struct claim_call *)call;
    if (lua_untold_tell(&claim->op))
        return false;
    if (!claim->begun) {
        claim->begun = true;
        start_claimed(claim);
        uint32_t count = how_many(claim);
        if (count > 0) {
            ask_table(claim, count);
            return false;
        }
    }
    while (claim->next < claim->found.count) {
        if (handle_listed(claim, claim->found.items[claim->next++]))
            return false;
    }
    if (must_look_further(claim)) {
        ask_table(claim, claim->asked * 4);
        return false;
    }
    return !lua_untold_tell(&claim->op);
}

/* What it means for the next one. */

/* Whether something should be due that the table did not return, or returned in vain: its clock may be coarse, or
 * somebody else has it. */
static bool is_missing(const struct claim_call *claim, bool due, double now)
{
    const struct lua_container *c = claim->op.c;
    bool explained = claim->progressed || claim->no_room || claim->key_full || claim->full.count > 0;
    return !explained &&
           (due || c->announced || claim->listed >= claim->asked || (c->next_at > 0 && c->next_at <= now));
}

/* Then it is asked again soon, but ever more rarely. */
static double be_patient(struct lua_container *c)
{
    c->pause = c->pause > 0 ? c->pause * 2 : FIRST_PAUSE;
    if (c->pause > LONGEST_PAUSE)
        c->pause = LONGEST_PAUSE;
    return c->pause;
}

/* Whether the table spoke of a time that is not that of a delayed task which is known here (to about a second). */
static bool is_other_time(const struct lua_container *c)
{
    double known = lt_records_next(&c->records);
    return c->next_at > 0 && (known == 0 || fabs(known - c->next_at) > 1);
}

/* When to ask again although nobody announced anything: so many seconds from now. */
static void ask_again_in(const struct lua_container *c, struct lt_claim_op *op, double seconds)
{
    op->next_at = lt_earlier(op->next_at, lt_loop_now(c->env.loop) + seconds);
}

/* What the answer of the table means for the next claim. */
static void conclude_claim(struct claim_call *claim)
{
    struct lua_container *c = claim->op.c;
    struct lt_claim_op *op = claim->claim;
    double now = lua_container_wall(c);
    uint32_t delayed = c->records.delayed.count;
    bool due = lt_records_any_due(&c->records, now);
    bool due_since = c->records.delayed.count < delayed; /* it was asked */
    bool full_list = claim->listed >= claim->asked;
    c->unseen = c->ops.durable && (full_list || is_other_time(c));
    if (claim->progressed)
        c->pause = 0;
    bool starved = claim->wasted && !claim->progressed; /* the table took places for nothing */
    op->more = due_since || (claim->no_room && !starved) ||
               (claim->progressed && (full_list || claim->beyond || c->announced));
    if (starved || is_missing(claim, due, now))
        ask_again_in(c, op, be_patient(c));
    else if (c->next_at > 0 && c->next_at <= now)
        ask_again_in(c, op, SHORTEST_PAUSE);
}

/* What a claim says in any case. */
static void say_rest(struct lua_container *c, struct lt_claim_op *op)
{
    double now = lua_container_wall(c);
    for (uint32_t i = 0; i < c->ended.count; i++)
        lt_tasks_push(&op->expired, c->ended.items[i]);
    c->ended.count = 0; /* their references moved */
    op->next_date = lt_earlier(c->next_at > now ? c->next_at : 0, lt_records_next(&c->records));
    if (!STAILQ_EMPTY(&c->untold))
        op->next_at = lt_earlier(op->next_at, c->tell_at);
    op->waits =
        c->records.counts[LT_WAITING] > 0 || c->records.claimed_count > 0 || c->unseen || !STAILQ_EMPTY(&c->untold);
}

static void claim_over(struct lt_adapter_call *call)
{
    struct claim_call *claim = (struct claim_call *)call;
    struct lua_container *c = claim->op.c;
    c->claiming = NULL;
    return_places(claim);
    if (claim->asked == 0)
        claim->claim->more = claim->no_room || claim->admitted == claim->claim->limit;
    else if (claim->code == LT_OK)
        conclude_claim(claim);
    say_rest(c, claim->claim);
    lua_op_end(&claim->op, claim->code, claim->message != NULL ? claim->message->data : NULL);
}

static void begin_claim(struct lua_op *op)
{
    op->c->claiming = (struct claim_call *)op;
    op->c->announced = false;
    lt_adapter_go(&op->call);
}

LT_RUNS_LUA void lua_container_claim(struct lt_container *container, struct lt_claim_op *op)
{
    struct lua_container *c = lua_container_of(container);
    double now = lua_container_wall(c);
    op->next_at = op->next_date = 0;
    op->more = false;
    if (op->limit == 0 && (STAILQ_EMPTY(&c->untold) || lt_loop_now(c->env.loop) < c->tell_at)) {
        op->more = lt_records_any_due(&c->records, now) || (c->next_at > 0 && c->next_at <= now);
        say_rest(c, op);
        lt_reply_ok(&op->reply);
        return;
    }
    struct claim_call *claim = lua_op_new(c, sizeof *claim, &op->reply, begin_claim);
    claim->op.call.free = free_claim;
    claim->op.call.step = claim_step;
    claim->op.call.over = claim_over;
    claim->claim = op;
    claim->claims = lt_module_has(&c->adapter.module, "claim");
    claim->full.key = full_key;
    lua_op_enter(&claim->op);
}

/* Recovery. */

struct recover_call {
    struct lua_op op;
    struct lt_recover_op *recover;
};

/* Takes one that the table calls running; false: it is not used. */
static bool adopt_task(struct lua_container *c, struct lt_task *task)
{
    if (task->status == LT_UNSTARTED)
        task->status = LT_RUNNING;
    if (task->status != LT_RUNNING && task->status != LT_EXPORTING) {
        lt_adapter_log(&c->adapter, "what running returned was ignored", task,
                       "its status is neither running nor exporting");
        return false;
    }
    const struct lt_record *record = lt_records_find(&c->records, task);
    if (record != NULL && record->place != LT_RECORD_GUEST) {
        lt_adapter_log(&c->adapter, "what running returned was ignored", task, "it is in the list twice");
        return false;
    }
    if (task->run == 0)
        task->run = c->last_run + 1;
    if (c->last_run < task->run)
        c->last_run = task->run;
    if (task->attempts == 0)
        task->attempts = 1;
    if (task->started_at <= 0)
        task->started_at = lua_container_wall(c);
    lt_records_file(&c->records, task, lua_container_wall(c));
    return true;
}

static void recover_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct recover_call *recover = (struct recover_call *)call;
    struct lt_tasks found = {0};
    struct lt_error error;
    if (code == LT_OK && read_tasks(call, L, count, &found, &error) < 0) {
        code = error.code;
        message = error.message;
    }
    for (uint32_t i = 0; i < found.count; i++) {
        if (adopt_task(recover->op.c, found.items[i]))
            lt_claims_push(&recover->recover->tasks, lt_task_ref(found.items[i]), 0, true);
    }
    lt_tasks_free(&found);
    lua_op_end(&recover->op, code, message);
}

LT_RUNS_LUA static void begin_recover(struct lua_op *op)
{
    lt_adapter_call_begin(&op->call, "running", recover_returned);
    lt_adapter_call_run(&op->call, 0);
}

void lua_container_recover(struct lt_container *container, struct lt_recover_op *op)
{
    struct recover_call *recover = lua_op_new(lua_container_of(container), sizeof *recover, &op->reply, begin_recover);
    recover->recover = op;
    lua_op_enter(&recover->op);
}
