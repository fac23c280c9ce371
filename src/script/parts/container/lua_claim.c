/* Claiming from a container in Lua, and taking over what ran on a host that died.
 *
 *     alone with the table: what it is owed -> what is held, if there is a place for it now
 *         -> claim(self, limit, full_keys, admit) -> tasks[, next_run_at]    they run there
 *         or claim_waiting, which makes a claim of `waiting` and `to_running` (lua/ltsh/container_calls.lua)
 *         -> each is checked: no task runs twice at once, none beyond the limits, whatever the table says. Those that
 *            there is no place for are held */
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
    MOST_HELD = 1 << 12, /* then the table is not asked for more */
    MOST_ASKED = 256,    /* at once, of those behind what is held */
    FULL_KEYS = 256,     /* of so many keys the table is told which are full */
};

struct claim_call {
    struct lua_op op;
    struct lt_claim_op *claim;
    bool no_room;  /* there was no place for somebody, and not for its key */
    bool key_full; /* or for its key: then the scheduler is told when there is room */
    bool progressed;
    bool wasted;             /* `admit` took places that no task used */
    uint32_t asked;          /* for how many the table was asked; 0: it was not; */
    uint32_t listed;         /* and how many it returned */
    uint32_t full_keys;      /* how many it was told of */
    uint32_t started;        /* how many have their place */
    uint32_t given;          /* by choice: how many the table was asked to make running */
    struct lt_bytes **taken; /* the keys of those places that no task uses yet, with a reference each; NULL: no key */
    uint32_t taken_count;
    int code;
    struct lt_bytes *message;
};

static void ignore_task(struct claim_call *claim, const struct lt_task *task, const char *why)
{
    lt_adapter_log(&claim->op.c->adapter, "what claim returned was ignored", task, why);
}

/* Places. */

static bool take_place(struct claim_call *claim, struct lt_bytes *key)
{
    bool room = claim->started + claim->taken_count < claim->claim->limit;
    enum lt_admission admission = room ? lt_limiter_admit(claim->claim->limiter, key) : LT_NO_ROOM;
    claim->no_room = claim->no_room || admission == LT_NO_ROOM;
    claim->key_full = claim->key_full || admission == LT_KEY_FULL;
    return admission == LT_ADMITTED;
}

/* For a task that the table will return. */
static bool take_place_ahead(struct claim_call *claim, struct lt_bytes *key)
{
    if (!take_place(claim, key))
        return false;
    if (claim->taken == NULL)
        claim->taken = lt_alloc(claim->claim->limit * sizeof(struct lt_bytes *));
    claim->taken[claim->taken_count++] = lt_bytes_ref(key);
    return true;
}

static bool use_place(struct claim_call *claim, const struct lt_bytes *key)
{
    for (uint32_t i = 0; i < claim->taken_count; i++) {
        const struct lt_bytes *of = claim->taken[i];
        bool both = key != NULL && of != NULL;
        if (both ? key->len != of->len || memcmp(key->data, of->data, key->len) != 0 : key != of)
            continue;
        lt_bytes_unref(claim->taken[i]);
        claim->taken[i] = claim->taken[--claim->taken_count];
        return true;
    }
    return false;
}

static void return_places(struct claim_call *claim)
{
    claim->wasted = claim->taken_count > 0;
    while (claim->taken_count > 0) {
        struct lt_bytes *key = claim->taken[--claim->taken_count];
        lt_limiter_return(claim->claim->limiter, key);
        lt_bytes_unref(key);
    }
}

static void free_claim(struct lt_adapter_call *call)
{
    struct claim_call *claim = (struct claim_call *)call;
    return_places(claim);
    free(claim->taken);
    lt_bytes_unref(claim->message);
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
static void make_running(struct lua_container *c, struct lt_task *task, const struct lt_task *known)
{
    bool numbered = task->status != LT_WAITING && task->run > (known != NULL ? known->run : 0);
    uint64_t given = task->run;
    uint32_t attempts = task->status == LT_RUNNING && task->attempts > 0 ? task->attempts - 1 : task->attempts;
    double started_at = task->status == LT_RUNNING && task->started_at > 0 ? task->started_at : lua_container_wall(c);
    if (numbered && c->last_run < given)
        c->last_run = given;
    uint64_t run = numbered ? given : new_run(c, task, known);
    clear_run(task);
    task->attempts = attempts;
    lt_task_apply_claimed(task, run, started_at);
}

/* Whether it should have begun by now and never did, as far as is known. */
static bool has_expired(const struct lua_container *c, const struct lt_task *task, const struct lt_task *known)
{
    const struct lt_task_options *options = task->options;
    if (options == NULL || options->expires_at <= 0 || lua_container_wall(c) < options->expires_at)
        return false;
    if (known != NULL) /* its run number says nothing: the table may have numbered a run that did not come to be */
        return known->attempts == 0 && (known->extra == NULL || known->extra->past == NULL);
    return task->status == LT_RUNNING ? task->attempts <= 1 : task->run == 0;
}

/* It has its place. */
static void start_task(struct claim_call *claim, struct lt_task *task, bool expired)
{
    struct lua_container *c = claim->op.c;
    claim->started++;
    claim->progressed = true;
    lt_records_file(&c->records, task, lua_container_wall(c));
    lt_claims_push(&claim->claim->claimed, (struct lt_claimed){.task = lt_task_ref(task), .expired = expired});
}

/* It is shown as waiting. */
static void hold_task(struct claim_call *claim, struct lt_task *task)
{
    claim->progressed = true;
    task->status = LT_WAITING;
    task->attempts--;
    task->started_at = 0;
    lt_records_hold(&claim->op.c->records, task);
}

/* In the order in which they came. */
static void start_held(struct claim_call *claim)
{
    struct lua_container *c = claim->op.c;
    struct lt_record *record, *next;
    for (record = lt_records_first(&c->records, LT_RECORD_HELD); record != NULL && !claim->no_room; record = next) {
        next = TAILQ_NEXT(record, link);
        if (!take_place(claim, lt_task_key(record->task)))
            continue;
        struct lt_task *task = lt_task_clone(record->task);
        bool expired = has_expired(c, task, record->task);
        lt_task_apply_claimed(task, task->run, lua_container_wall(c));
        start_task(claim, task, expired);
        lt_task_unref(task);
    }
}

/* What the table returned. */

/* Why it is not to run; NULL: it is. */
static const char *why_ignored(const struct lt_task *task, const struct lt_record *record, bool claimed)
{
    bool waits = task->status == LT_WAITING || task->status == LT_UNSTARTED;
    bool runs_here = record != NULL && (record->place == LT_RECORD_ACTIVE || record->place == LT_RECORD_HELD);
    if (!waits && !(claimed && task->status == LT_RUNNING))
        return "it is neither waiting nor made running by this";
    if (runs_here && (waits || task->run <= record->task->run))
        return "it runs already";
    return NULL;
}

/* What this host knows of a task that the table gives it. */
static const struct lt_task *know_task(const struct lt_record *record, struct lt_task *task)
{
    if (record == NULL || !lt_record_shown(record))
        return NULL;
    if (!lt_status_ended(record->task->status))
        lt_task_inherit(task, record->task); /* its key may be among it */
    return record->task;
}

static void take_listed(struct claim_call *claim, struct lt_task *task)
{
    struct lua_container *c = claim->op.c;
    struct lt_record *record = lt_records_find(&c->records, task);
    if (record != NULL && record->place == LT_RECORD_OWED) {
        record->runs = true; /* there, and not here */
        record->task->run = task->run;
        c->tell_at = 0;
        return;
    }
    const char *why = why_ignored(task, record, true);
    if (why != NULL) {
        ignore_task(claim, task, why);
        return;
    }
    const struct lt_task *known = know_task(record, task);
    bool expired = has_expired(c, task, known);
    make_running(c, task, known);
    if (use_place(claim, lt_task_key(task)) || take_place(claim, lt_task_key(task)))
        start_task(claim, task, expired);
    else
        hold_task(claim, task);
}

static void read_next_run(struct claim_call *claim, lua_State *L, int count)
{
    struct lua_container *c = claim->op.c;
    int second = lua_gettop(L) - count + 2;
    struct lt_error error;
    c->next_at = 0;
    if (count < 2 || lua_isnil(L, second))
        return;
    double next = lua_type(L, second) == LUA_TNUMBER ? lua_tonumber(L, second) : NAN;
    if (isnan(next)) {
        lt_call_nonsense(&claim->op.call.call, L, second, "the time of the next run as a number, or nil", &error);
        lt_adapter_log(&c->adapter, "the time of the next run was ignored", NULL, error.message);
    } else if (next < 9e15) { /* infinity means never */
        c->next_at = next > 0 ? next : 1;
    }
}

/* What waits still, which the table was asked for too. */
static int read_seen(struct claim_call *claim, lua_State *L, int count, struct lt_error *error)
{
    struct lt_claim_op *op = claim->claim;
    struct lt_tasks found = {0};
    int64_t length = lua_container_read_tasks(&claim->op.call, L, count, &found, error);
    for (uint32_t i = 0; i < found.count; i++) {
        struct lt_task *task = found.items[i];
        const struct lt_record *record = lt_records_find(&claim->op.c->records, task);
        bool owed = record != NULL && record->place == LT_RECORD_OWED;
        know_task(record, task);
        if (!owed && why_ignored(task, record, false) == NULL) {
            task->status = LT_WAITING;
            lt_tasks_push(&op->seen, lt_task_ref(task));
        }
    }
    op->due = length < op->look ? op->seen.count : UINT64_MAX;
    claim->op.c->unseen = length >= op->look;
    lt_tasks_free(&found);
    return length < 0 ? error->code : LT_OK;
}

static void claim_returned(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct claim_call *claim = (struct claim_call *)call;
    struct lt_tasks found = {0};
    struct lt_error error;
    int64_t length = 0;
    if (code != LT_OK)
        lt_fail(&error, code, "%s", message);
    else if ((length = lua_container_read_tasks(call, L, count, &found, &error)) < 0)
        code = error.code;
    else if (!claim->claim->by_choice)
        read_next_run(claim, L, count);
    else if (claim->claim->look > 0)
        code = read_seen(claim, L, count - 1, &error);
    claim->code = code;
    claim->message = code != LT_OK ? lt_bytes_new(error.message, strlen(error.message)) : NULL;
    claim->listed = (uint32_t)length;
    for (uint32_t i = 0; i < found.count; i++)
        take_listed(claim, found.items[i]);
    lt_tasks_free(&found);
    lt_adapter_go(call);
}

/* The question. */

/* admit(key) -> whether a task of this key may start: then it has its place. For the call that it was given to. */
static int admit_key(lua_State *L)
{
    struct claim_call *claim = (struct claim_call *)lua_op_of_function(L);
    if (!lua_isnoneornil(L, 1) && lua_type(L, 1) != LUA_TSTRING)
        return lt_argument_error(L, "admit", "key", "a string or nil", 1);
    size_t len;
    const char *text = lua_tolstring(L, 1, &len);
    struct lt_bytes *key = claim != NULL && text != NULL ? lt_bytes_new(text, len) : NULL;
    lua_pushboolean(L, claim != NULL && take_place_ahead(claim, key));
    lt_bytes_unref(key);
    return 1;
}

/* run(task) -> the task of `waiting` as it will be when it runs; it has its place. Else nil, and whether others may. */
static int run_waiting(lua_State *L)
{
    struct claim_call *claim = (struct claim_call *)lua_op_of_function(L);
    struct lt_task *task = claim != NULL ? lua_container_read_task(&claim->op.call, L, 1) : NULL;
    if (task == NULL)
        return 0;
    struct lua_container *c = claim->op.c;
    const struct lt_record *record = lt_records_find(&c->records, task);
    const char *why = why_ignored(task, record, false);
    const struct lt_task *known = know_task(record, task);
    if (why != NULL)
        ignore_task(claim, task, why);
    bool owed = record != NULL && record->place == LT_RECORD_OWED;
    if (why == NULL && !owed && take_place_ahead(claim, lt_task_key(task))) {
        task->status = LT_WAITING;
        make_running(c, task, known);
        lt_call_prolong(&claim->op.call.call);
        lt_task_push(L, task);
    } else {
        lua_pushnil(L);
    }
    lt_task_unref(task);
    lua_pushboolean(L, !claim->no_room);
    return 2;
}

/* run() -> the next of the choices that there is a place for, as it will be when it runs; nil: there are no more. */
static int run_choice(lua_State *L)
{
    struct claim_call *claim = (struct claim_call *)lua_op_of_function(L);
    while (claim != NULL && claim->given < claim->claim->choice_count) {
        struct lua_container *c = claim->op.c;
        struct lt_choice *choice = &claim->claim->choices[claim->given++];
        const struct lt_record *record = lt_records_find(&c->records, choice->task);
        bool owed = record != NULL && record->place == LT_RECORD_OWED;
        if (owed || why_ignored(choice->task, record, false) != NULL) {
            choice->state = LT_CHOICE_GONE;
            continue;
        }
        if (!take_place_ahead(claim, lt_task_key(choice->task)))
            continue;
        choice->state = LT_CHOICE_GONE; /* if it is not among those that the table made running */
        struct lt_task *task = lt_task_clone(choice->task);
        make_running(c, task, know_task(record, task));
        lt_call_prolong(&claim->op.call.call);
        lt_task_push(L, task);
        lt_task_unref(task);
        return 1;
    }
    return 0;
}

static void push_full_key(void *arg, struct lt_bytes *key)
{
    lua_State *L = arg;
    if (key == NULL)
        return;
    lua_pushlstring(L, key->data, key->len);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

LT_RUNS_LUA static void ask_table(struct claim_call *claim)
{
    struct lua_op *op = &claim->op;
    if (claim->claim->by_choice) {
        lua_State *L = lua_op_call(op, "claim_chosen", "waiting", claim_returned);
        lua_op_push_function(op, L, run_choice);
        lua_pushinteger(L, claim->claim->look);
        lt_adapter_call_run(&op->call, 2);
        return;
    }
    if (!lt_module_has(&op->call.adapter->module, "claim")) {
        lua_State *L = lua_op_call(op, "claim_waiting", "waiting", claim_returned);
        lua_pushinteger(L, claim->asked);
        lua_op_push_function(op, L, run_waiting);
        lt_adapter_call_run(&op->call, 2);
        return;
    }
    lua_State *L = lua_op_call(op, "claim", "claim", claim_returned);
    lua_pushinteger(L, claim->asked);
    lua_newtable(L);
    lt_limiter_full_keys(claim->claim->limiter, FULL_KEYS, push_full_key, L);
    claim->full_keys = (uint32_t)lua_rawlen(L, -1);
    lua_op_push_function(op, L, admit_key);
    lt_adapter_call_run(&op->call, 3);
}

/* For how many the table is asked: for more than may start, if what it returned last is held. 0: it is not. */
static uint32_t how_many(const struct claim_call *claim)
{
    uint32_t held = claim->op.c->records.held;
    if (claim->claim->by_choice)
        return claim->claim->choice_count + claim->claim->look;
    uint32_t room = claim->claim->limit - claim->started;
    if (room == 0 || claim->no_room || held >= MOST_HELD)
        return 0;
    if (held > MOST_ASKED)
        held = MOST_ASKED;
    return room > held ? room : held;
}

LT_RUNS_LUA static bool claim_step(struct lt_adapter_call *call)
{
    struct claim_call *claim = (struct claim_call *)call;
    if (claim->code == LT_OK && lua_container_pay(&claim->op))
        return false;
    if (claim->asked > 0)
        return true;
    if (!claim->claim->by_choice)
        start_held(claim);
    claim->asked = how_many(claim);
    if (claim->asked == 0)
        return true;
    ask_table(claim);
    return false;
}

/* What it means for the next one. */

/* Whether something should be due that the table did not return, or returned in vain: its clock may be coarse, or
 * somebody else has it. */
static bool is_missing(const struct claim_call *claim, bool due, double now)
{
    const struct lua_container *c = claim->op.c;
    bool explained = claim->progressed || claim->no_room || claim->key_full || claim->full_keys > 0;
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
               (claim->progressed && (full_list || claim->wasted || c->announced));
    if (starved || is_missing(claim, due, now))
        ask_again_in(c, op, be_patient(c));
    else if (c->next_at > 0 && c->next_at <= now)
        ask_again_in(c, op, SHORTEST_PAUSE);
}

/* Those that were chosen are the caller's own objects: it is only told what became of them. */
static void conclude_choices(struct lt_claim_op *op)
{
    for (uint32_t i = 0; i < op->claimed.count; i++) {
        struct lt_task *task = op->claimed.items[i].task;
        for (uint32_t k = 0; k < op->choice_count; k++) {
            struct lt_choice *choice = &op->choices[k];
            if (choice->task->hash != task->hash || strcmp(choice->task->data, task->data) != 0)
                continue;
            choice->state = LT_CHOICE_TAKEN;
            choice->run = task->run;
            choice->started_at = task->started_at;
            choice->expired = op->claimed.items[i].expired;
        }
        lt_task_unref(task);
    }
    op->claimed.count = 0;
}

/* What a claim says in any case. */
static void say_rest(struct lua_container *c, struct lt_claim_op *op)
{
    double now = lua_container_wall(c);
    for (uint32_t i = 0; i < c->ended.count; i++)
        lt_tasks_push(&op->expired, c->ended.items[i]);
    c->ended.count = 0; /* their references moved */
    op->next_date = lt_earlier(c->next_at > now ? c->next_at : 0, lt_records_next(&c->records));
    bool owes = lt_records_first(&c->records, LT_RECORD_OWED) != NULL;
    if (owes)
        op->next_at = lt_earlier(op->next_at, c->tell_at);
    op->waits = c->records.counts[LT_WAITING] > 0 || c->unseen || owes;
}

static void claim_over(struct lt_adapter_call *call)
{
    struct claim_call *claim = (struct claim_call *)call;
    struct lua_container *c = claim->op.c;
    return_places(claim);
    if (claim->claim->by_choice)
        conclude_choices(claim->claim);
    else if (claim->asked == 0)
        claim->claim->more = claim->no_room || claim->started == claim->claim->limit;
    else if (claim->code == LT_OK)
        conclude_claim(claim);
    say_rest(c, claim->claim);
    lua_op_end(&claim->op, claim->code, claim->message != NULL ? claim->message->data : NULL);
}

static void begin_claim(struct lua_op *op)
{
    op->c->announced = false;
    lt_adapter_go(&op->call);
}

void lua_container_claim(struct lt_container *container, struct lt_claim_op *op)
{
    struct lua_container *c = lua_container_of(container);
    double now = lua_container_wall(c);
    op->next_at = op->next_date = 0;
    op->more = false;
    op->due = UINT64_MAX;
    for (uint32_t i = 0; i < op->choice_count; i++)
        op->choices[i].state = LT_CHOICE_WAITS;
    bool owes = lt_records_first(&c->records, LT_RECORD_OWED) != NULL;
    if (op->limit == 0 && op->look == 0 && (!owes || lt_loop_now(c->env.loop) < c->tell_at)) {
        op->more = lt_records_any_due(&c->records, now) || (c->next_at > 0 && c->next_at <= now);
        say_rest(c, op);
        lt_reply_ok(&op->reply);
        return;
    }
    struct claim_call *claim = lua_op_new(c, sizeof *claim, NULL, &op->reply, begin_claim);
    claim->op.call.free = free_claim;
    claim->op.call.step = claim_step;
    claim->op.call.over = claim_over;
    claim->claim = op;
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
    if (lt_record_shown(record)) {
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
    if (code == LT_OK && lua_container_read_tasks(call, L, count, &found, &error) < 0) {
        code = error.code;
        message = error.message;
    }
    for (uint32_t i = 0; i < found.count; i++) {
        if (adopt_task(recover->op.c, found.items[i]))
            lt_claims_push(&recover->recover->tasks,
                           (struct lt_claimed){.task = lt_task_ref(found.items[i]), .taken_over = true});
    }
    lt_tasks_free(&found);
    lua_op_end(&recover->op, code, message);
}

LT_RUNS_LUA static void begin_recover(struct lua_op *op)
{
    lua_op_call(op, "running", "running", recover_returned);
    lt_adapter_call_run(&op->call, 0);
}

void lua_container_recover(struct lt_container *container, struct lt_recover_op *op)
{
    struct recover_call *recover =
        lua_op_new(lua_container_of(container), sizeof *recover, NULL, &op->reply, begin_recover);
    recover->recover = op;
    lua_op_enter(&recover->op);
}
