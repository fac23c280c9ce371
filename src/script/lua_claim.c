/* Claiming from a container in Lua, and taking over what ran on a host that died.
 *
 *     claim(self, limit, full_keys) -> tasks[, next_run_at]      they run then; to_waiting for what may not start
 *     waiting(self, limit) -> tasks, to_running(self, task)      each is asked for; what may not start is left alone
 *
 * What a table returns is checked: no task runs twice at once, none beyond the limits, whatever it says. The slot of a
 * task is taken before to_running is called, so that none is passed in the meantime. */
#include "script/lua_container.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "script/task_object.h"

static const double FIRST_PAUSE =
    0.05; /* before a table is asked again that does not return what should be due; doubles */
static const double LONGEST_PAUSE = 30;
enum { FURTHEST_LOOK = 1 << 16 };          /* tasks of `waiting` that are looked at for one that may start */
static const double SHORTEST_PAUSE = 0.01; /* before one is asked again that says "at once" and returns nothing */

struct lt_claim_call {
    struct lt_adapter_call call;
    struct lua_container *c;
    struct lt_claim_op *op;
    bool claims;    /* else: waiting and to_running */
    bool full_keys; /* there were some to be left out */
    bool no_room;   /* somebody was not admitted, and not for its key */
    bool key_full;  /* or for its key: then the scheduler is told when there is room */
    bool progressed;
    uint32_t asked;  /* for how many the table was asked */
    uint32_t listed; /* and how many it returned */
    uint32_t tried;
    struct lt_tasks found;
    uint32_t next;
    struct lt_tasks deferred; /* claimed before the table had answered that they wait */
    struct lt_turn wake;      /* when it has */
    /* The call under way, other than the first. */
    struct lt_task *task; /* borrowed from `found` */
    struct lt_task *shown;
    struct lt_record *record;
    struct lt_transition expiry;
    int code;
    struct lt_bytes *message;
};

static void free_claim(struct lt_adapter_call *call)
{
    struct lt_claim_call *claim = (struct lt_claim_call *)call;
    lt_tasks_free(&claim->found);
    lt_tasks_free(&claim->deferred);
    lt_task_unref(claim->shown);
    lt_bytes_unref(claim->message);
    lt_bytes_unref(claim->expiry.reason);
}

static void show(struct lt_claim_call *claim, struct lt_task *shown)
{
    lt_task_unref(claim->shown);
    claim->shown = shown;
}

static bool is_active(const struct lt_record *record)
{
    return record != NULL && record->place == LT_RECORD_ACTIVE;
}

static void ignore(struct lt_claim_call *claim, const struct lt_task *task, const char *why)
{
    lt_adapter_log(&claim->c->adapter,
                   claim->claims ? "what claim returned was ignored" : "what waiting returned was ignored", task, why);
}

static const struct lt_task *task_known(const struct lt_record *record)
{
    return record != NULL && record->place != LT_RECORD_GUEST ? record->task : NULL;
}

/* Gives a task that the table returned what is known here of the same task as it waits, and returns that; NULL if
 * nothing is. To be done before a limit is asked: the key may be among it. */
static const struct lt_task *complete(const struct lt_record *record, struct lt_task *task)
{
    const struct lt_task *known = task_known(record);
    if (known == NULL || known->status != LT_WAITING)
        return NULL;
    lt_task_inherit(task, known);
    return known;
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

static void read_next_run(struct lt_claim_call *claim, lua_State *L, int count)
{
    struct lua_container *c = claim->c;
    int second = lua_gettop(L) - count + 2;
    struct lt_error error;
    c->next_at = 0;
    if (!claim->claims || count < 2 || lua_isnil(L, second))
        return;
    double next = lua_type(L, second) == LUA_TNUMBER ? lua_tonumber(L, second) : NAN;
    if (isnan(next)) {
        lt_call_nonsense(&claim->call.call, L, second, "the time of the next run as a number, or nil", &error);
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
    if (known != NULL)
        return known->attempts == 0 && (known->extra == NULL || known->extra->past == NULL);
    return task->status == LT_RUNNING ? task->attempts <= 1 : task->run == 0;
}

static void expired(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_claim_call *claim = (struct lt_claim_call *)call;
    struct lua_container *c = claim->c;
    struct lt_record *record = claim->record;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    if (code == LT_OK) {
        lt_task_apply(claim->task, &claim->expiry);
        lt_records_file(&c->records, claim->task, lua_container_wall(c));
        lt_tasks_push(&claim->op->expired, lt_task_ref(claim->task));
        claim->progressed = true;
    } else if (!lua_container_trouble(code)) {
        lt_records_forget(&c->records, record);
    } else {
        ignore(claim, claim->task, error.message);
        if (claim->claims) /* it is running there */
            lua_container_owe(c, lt_task_ref(claim->shown), lt_task_ref(claim->task));
    }
    record->busy = false;
    lua_container_settle(c, record);
    lt_adapter_go(call);
}

static void expire(struct lt_claim_call *claim, struct lt_task *task)
{
    struct lua_container *c = claim->c;
    claim->record = lt_records_hold(&c->records, task);
    claim->record->busy = true;
    claim->task = task;
    if (claim->expiry.reason == NULL)
        claim->expiry.reason = lua_container_expired_reason();
    claim->expiry.to = LT_FAILED;
    claim->expiry.run = task->run;
    claim->expiry.now = lua_container_wall(c);
    show(claim, lt_task_clone(task));
    lt_task_apply(claim->shown, &claim->expiry);
    lua_container_tell(&claim->call, claim->shown, expired);
}

/* The style of claim: they are running already. */

/* The table may have numbered the run that did not come to be: later transitions are checked with that number. */
static void file_given_back(struct lua_container *c, struct lt_task *shown)
{
    const struct lt_task *known = task_known(lt_records_find(&c->records, shown));
    if (known == NULL || known->status != LT_WAITING)
        return;
    lt_task_inherit(shown, known);
    lt_records_file(&c->records, shown, lua_container_wall(c));
}

/* Those who are to take it out again must know the number of this run. */
static void note_run(struct lua_container *c, const struct lt_task *shown)
{
    struct newcomer *newcomer = lua_container_find_newcomer(c, shown);
    if (newcomer != NULL)
        newcomer->run = shown->run;
    lua_container_owes_run(c, shown);
}

static void given_back(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_claim_call *claim = (struct lt_claim_call *)call;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    note_run(claim->c, claim->shown);
    if (code == LT_OK)
        file_given_back(claim->c, claim->shown);
    else
        lt_adapter_log(&claim->c->adapter, "a task that may not start yet could not be given back", claim->shown,
                       error.message);
    if (lua_container_trouble(code))
        lua_container_owe(claim->c, lt_task_ref(claim->shown), NULL);
    lt_adapter_go(call);
}

static void give_back(struct lt_claim_call *claim, const struct lt_task *task)
{
    show(claim, lt_task_clone(task));
    struct lt_task *shown = claim->shown;
    if (shown->status == LT_RUNNING && shown->attempts > 0)
        shown->attempts--;
    shown->status = LT_WAITING;
    lua_container_tell(&claim->call, shown, given_back);
}

static void dropped(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_claim_call *claim = (struct lt_claim_call *)call;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    note_run(claim->c, claim->shown);
    if (code != LT_OK)
        lt_adapter_log(&claim->c->adapter, "a task that was not added could not be stopped", claim->shown,
                       error.message);
    lt_adapter_go(call);
}

/* It is to be deleted: given back it would be returned again and again, before all others. */
static void drop(struct lt_claim_call *claim, const struct lt_task *task)
{
    struct lt_task *shown = lt_task_clone(task);
    struct lt_bytes *reason = lt_bytes_printf("not added");
    shown->status = LT_RUNNING;
    lt_task_apply(shown,
                  &(struct lt_transition){
                      .to = LT_STOPPED, .run = task->run, .now = lua_container_wall(claim->c), .reason = reason});
    lt_bytes_unref(reason);
    show(claim, shown);
    lua_container_tell(&claim->call, shown, dropped);
}

/* Nothing of an earlier run is to be seen in a new one. */
static void clear_run(struct lt_task *task)
{
    lt_bytes_set(&task->output, NULL);
    if (task->extra == NULL)
        return;
    lt_bytes_set(&task->extra->handle, NULL);
    lt_bytes_set(&task->extra->progress, NULL);
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

static void take(struct lt_claim_call *claim, struct lt_task *task)
{
    struct lua_container *c = claim->c;
    double now = lua_container_wall(c);
    make_running(c, task, task_known(lt_records_find(&c->records, task)), now);
    lt_records_file(&c->records, task, now);
    lt_tasks_push(&claim->op->claimed, lt_task_ref(task));
    claim->progressed = true;
}

/* Takes the slot, or notes why it could not. */
static bool admit(struct lt_claim_call *claim, const struct lt_task *task)
{
    enum lt_admission admission = lt_limiter_admit(claim->op->limiter, task);
    claim->no_room = claim->no_room || admission == LT_NO_ROOM;
    claim->key_full = claim->key_full || admission == LT_KEY_FULL;
    return admission == LT_ADMITTED;
}

static bool may_not_run(const struct lua_container *c, const struct lt_task *task)
{
    const struct newcomer *newcomer = lua_container_find_newcomer(c, task);
    return newcomer != NULL && newcomer->not_to_run;
}

/* Whether the table numbered its run anew: then it made it running again, whatever is thought of it here. */
static bool is_new_run(const struct lt_task *task, uint64_t than)
{
    return task->status == LT_RUNNING && task->run > than;
}

/* One that claim returned. True: a call is under way for it. */
static bool handle_claimed(struct lt_claim_call *claim, struct lt_task *task)
{
    struct lua_container *c = claim->c;
    const struct lt_record *record = lt_records_find(&c->records, task);
    if (record != NULL && record->returning) {
        lt_tasks_push(&claim->deferred, lt_task_ref(task));
        return false;
    }
    if (is_active(record)) {
        /* It runs here, or it is not known whether its end was stored: not twice at once, in any case. */
        ignore(claim, task, "it runs already");
        if (!is_new_run(task, record->task->run))
            return false;
        give_back(claim, task);
        return true;
    }
    if (task->status != LT_RUNNING && task->status != LT_WAITING && task->status != LT_UNSTARTED) {
        ignore(claim, task, "its status is neither running nor waiting");
        return false;
    }
    uint64_t owed_run = 0;
    if (!lua_container_forgive(c, task, &owed_run)) {
        ignore(claim, task, "it is being given back");
        if (!is_new_run(task, owed_run))
            return false;
        if (lua_container_deletes(c, task))
            drop(claim, task);
        else
            give_back(claim, task);
        return true;
    }
    bool beyond = claim->tried++ >= claim->op->limit;
    bool busy = record != NULL && record->busy;
    const struct lt_task *waiting = complete(record, task);
    if (!beyond && !busy && has_expired(task, waiting, lua_container_wall(c))) {
        expire(claim, task);
        return true;
    }
    if (beyond || may_not_run(c, task) || !admit(claim, task)) {
        give_back(claim, task);
        return true;
    }
    take(claim, task);
    return false;
}

/* The style of waiting and to_running: they are asked for one by one. */

static void end_running(struct lt_claim_call *claim)
{
    struct lt_record *record = claim->record;
    record->busy = false;
    lua_container_settle(claim->c, record);
    lt_adapter_go(&claim->call);
}

static void undone(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    (void)code; /* a table that did not make it running says no */
    (void)L;
    (void)count;
    (void)message;
    end_running((struct lt_claim_call *)call);
}

/* Nobody knows what became of it: it is to wait again, if it does not. */
static void undo(struct lt_claim_call *claim)
{
    struct lt_task *shown = lt_task_clone(claim->shown);
    lt_task_apply(shown, &(struct lt_transition){.to = LT_WAITING,
                                                 .now = lua_container_wall(claim->c),
                                                 .run_at = claim->task->run_at,
                                                 .uncounted = true});
    show(claim, shown);
    lua_container_tell(&claim->call, shown, undone);
}

static void is_running(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_claim_call *claim = (struct lt_claim_call *)call;
    struct lua_container *c = claim->c;
    struct lt_task *task = claim->task;
    struct lt_error error;
    code = lt_adapter_answer(call, code, L, count, message, LT_STALE, &error);
    if (code == LT_OK) {
        lt_task_apply_claimed(task, claim->shown->run, claim->shown->started_at);
        lt_records_file(&c->records, task, lua_container_wall(c));
        lt_tasks_push(&claim->op->claimed, lt_task_ref(task));
        claim->progressed = true;
    } else {
        lt_limiter_release(claim->op->limiter, task);
        if (lua_container_trouble(code)) {
            lt_adapter_log(&c->adapter, "a task could not be made running", task, error.message);
            undo(claim);
            return;
        }
    }
    end_running(claim);
}

static void make_run(struct lt_claim_call *claim, struct lt_task *task)
{
    struct lua_container *c = claim->c;
    const struct lt_task *known = task_known(lt_records_find(&c->records, task));
    uint64_t run = new_run(c, task, known);
    task->status = LT_WAITING;
    clear_run(task);
    claim->task = task;
    claim->record = lt_records_hold(&c->records, task);
    claim->record->busy = true;
    show(claim, lt_task_clone(task));
    lt_task_apply_claimed(claim->shown, run, lua_container_wall(c));
    lua_container_tell(&claim->call, claim->shown, is_running);
}

static bool handle_waiting(struct lt_claim_call *claim, struct lt_task *task)
{
    struct lua_container *c = claim->c;
    const struct lt_record *record = lt_records_find(&c->records, task);
    if (record != NULL && record->busy)
        return false; /* there will be an answer, and then another claim if it waits */
    if (is_active(record)) {
        ignore(claim, task, "it runs already");
        return false;
    }
    if (task->status != LT_WAITING && task->status != LT_UNSTARTED) {
        ignore(claim, task, "its status is not waiting");
        return false;
    }
    if (claim->tried >= claim->op->limit)
        return false;
    const struct lt_task *waiting = complete(record, task);
    if (has_expired(task, waiting, lua_container_wall(c))) {
        expire(claim, task);
        return true;
    }
    if (!admit(claim, task))
        return false;
    claim->tried++;
    make_run(claim, task);
    return true;
}

/* The claim. */

static void ask(struct lt_claim_call *claim, uint32_t limit);

/* Full keys at the head of the list must not hold up what is behind them: `waiting` knows nothing of keys, but may be
 * asked for more. */
static bool must_look_further(const struct lt_claim_call *claim)
{
    bool stuck = claim->key_full && !claim->no_room && claim->tried < claim->op->limit;
    return stuck && !claim->claims && claim->code == LT_OK && claim->listed >= claim->asked &&
           claim->asked < FURTHEST_LOOK;
}

static bool step(struct lt_adapter_call *call)
{
    struct lt_claim_call *claim = (struct lt_claim_call *)call;
    if (claim->asked == 0) {
        ask(claim, claim->op->limit);
        return false;
    }
    while (claim->next < claim->found.count) {
        struct lt_task *task = claim->found.items[claim->next++];
        if (claim->claims ? handle_claimed(claim, task) : handle_waiting(claim, task))
            return false;
    }
    while (claim->deferred.count > 0) {
        struct lt_task *task = claim->deferred.items[claim->deferred.count - 1];
        struct lt_record *record = lt_records_find(&claim->c->records, task);
        if (record != NULL && record->returning) {
            record->awaited = &claim->wake;
            return false;
        }
        claim->deferred.count--;
        lt_tasks_push(&claim->found, task); /* with its reference */
        claim->next = claim->found.count;
        if (handle_claimed(claim, task))
            return false;
    }
    if (must_look_further(claim)) {
        ask(claim, claim->asked * 4);
        return false;
    }
    return true;
}

static double earlier(double a, double b)
{
    return a <= 0 ? b : b <= 0 ? a : a < b ? a : b;
}

/* When to ask again although nobody announced anything; always in the future. */
static double next_time(struct lua_container *c, double now)
{
    double next = earlier(c->next_at, lt_records_next(&c->records));
    return next > 0 && next <= now ? now + SHORTEST_PAUSE : next;
}

/* Whether something should be due that the table did not return, or returned in vain: its clock may be coarse, or
 * somebody else has it. */
static bool is_missing(const struct lt_claim_call *claim, bool due, double now)
{
    const struct lua_container *c = claim->c;
    bool explained = claim->progressed || claim->no_room || claim->key_full || claim->full_keys;
    return !explained && (due || claim->listed >= claim->asked || (c->next_at > 0 && c->next_at <= now));
}

/* Then it is asked again soon, but ever more rarely. */
static double be_patient(struct lua_container *c, double now)
{
    c->pause = c->pause > 0 ? c->pause * 2 : FIRST_PAUSE;
    if (c->pause > LONGEST_PAUSE)
        c->pause = LONGEST_PAUSE;
    double next = earlier(c->next_at > now ? c->next_at : 0, lt_records_next(&c->records));
    return earlier(next, now + c->pause);
}

/* Whether the table spoke of a time that is not that of a delayed task which is known here (to about a second). */
static bool is_other_time(const struct lua_container *c)
{
    double known = lt_records_next(&c->records);
    return c->next_at > 0 && (known == 0 || fabs(known - c->next_at) > 1);
}

static void conclude(struct lt_claim_call *claim)
{
    struct lua_container *c = claim->c;
    struct lt_claim_op *op = claim->op;
    double now = lua_container_wall(c);
    uint32_t delayed = c->records.delayed.count;
    bool due = lt_records_any_due(&c->records, now);
    bool due_since = c->records.delayed.count < delayed; /* it was asked */
    bool full_list = claim->listed >= claim->asked;
    c->unseen = full_list || is_other_time(c);
    if (claim->progressed)
        c->pause = 0;
    op->more = due_since || (full_list && (claim->progressed || claim->no_room));
    op->next_at = is_missing(claim, due, now) ? be_patient(c, now) : next_time(c, now);
}

static void deliver_expired(struct lua_container *c, struct lt_claim_op *op)
{
    for (uint32_t i = 0; i < c->expired.count; i++)
        lt_tasks_push(&op->expired, c->expired.items[i]);
    c->expired.count = 0; /* the references moved */
}

static void over(struct lt_adapter_call *call)
{
    struct lt_claim_call *claim = (struct lt_claim_call *)call;
    struct lua_container *c = claim->c;
    c->claiming = NULL;
    if (claim->code == LT_OK)
        conclude(claim);
    else
        claim->op->next_at = next_time(c, lua_container_wall(c));
    deliver_expired(c, claim->op);
    lt_reply_send(call->reply, claim->code, claim->message != NULL ? claim->message->data : NULL);
    lt_adapter_call_free(call);
    lua_container_unpark(c);
}

static void check_length(struct lt_claim_call *claim)
{
    struct lua_container *c = claim->c;
    if (claim->listed <= claim->asked)
        return;
    lt_log_gated(&c->too_many_log, LT_LOG_ERROR,
                 claim->claims ? "claim returned more tasks than were asked for; the others go back"
                               : "waiting returned more tasks than were asked for",
                 LT_S("module", c->adapter.module.name));
}

static void listed(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct lt_claim_call *claim = (struct lt_claim_call *)call;
    struct lt_error error;
    if (code != LT_OK) {
        lt_fail(&error, code, "%s", message);
    } else {
        int64_t length = read_tasks(call, L, count, &claim->found, &error);
        if (length >= 0) {
            claim->listed = (uint32_t)length;
            read_next_run(claim, L, count);
            check_length(claim);
        } else {
            code = error.code;
        }
    }
    claim->code = code;
    if (code != LT_OK)
        claim->message = lt_bytes_new(error.message, strlen(error.message));
    lt_adapter_go(call);
}

struct key_list {
    lua_State *L;
    lua_Integer count;
};

static void push_key(void *arg, const struct lt_bytes *key)
{
    struct key_list *keys = arg;
    lua_pushlstring(keys->L, key->data, key->len);
    lua_rawseti(keys->L, -2, ++keys->count);
}

static void ask(struct lt_claim_call *claim, uint32_t limit)
{
    lua_State *L = lt_adapter_call_begin(&claim->call, claim->claims ? "claim" : "waiting", listed);
    claim->asked = limit;
    claim->next = 0;
    lt_tasks_clear(&claim->found);
    lua_pushinteger(L, limit);
    if (claim->claims) {
        struct key_list keys = {.L = L};
        lua_newtable(L);
        lt_limiter_full_keys(claim->op->limiter, push_key, &keys);
        claim->full_keys = keys.count > 0;
    }
    lt_adapter_call_run(&claim->call, claim->claims ? 2 : 1);
}

static void woken(struct lt_turn *turn)
{
    struct lt_claim_call *claim = (struct lt_claim_call *)((char *)turn - offsetof(struct lt_claim_call, wake));
    lt_adapter_go(&claim->call);
}

void lua_container_claim(struct lt_container *container, struct lt_claim_op *op)
{
    struct lua_container *c = lua_container_of(container);
    double now = lua_container_wall(c);
    bool due = lt_records_any_due(&c->records, now);
    op->next_at = 0;
    op->more = false;
    if (op->limit == 0) {
        double next = c->next_at > now ? c->next_at : 0;
        op->more = due || c->next_at > next;
        op->next_at = earlier(next, lt_records_next(&c->records));
        deliver_expired(c, op);
        lt_reply_ok(&op->reply);
        return;
    }
    struct lt_claim_call *claim = lt_adapter_call_new(&c->adapter, sizeof *claim, &op->reply);
    claim->call.free = free_claim;
    claim->call.step = step;
    claim->call.over = over;
    claim->wake.fn = woken;
    claim->c = c;
    claim->op = op;
    claim->claims = lt_module_has(&c->adapter.module, "claim");
    c->held = claim;
    if (c->undoing == 0)
        lua_container_begin_claim(c);
}

void lua_container_begin_claim(struct lua_container *c)
{
    if (c->held == NULL)
        return;
    c->claiming = c->held;
    c->held = NULL;
    lt_adapter_go(&c->claiming->call);
}

/* Recovery. */

struct recover_call {
    struct lt_adapter_call call;
    struct lua_container *c;
    struct lt_recover_op *op;
};

/* Takes one that the table calls running; false: it is not used. */
static bool adopt(struct lua_container *c, struct lt_task *task)
{
    if (task->status == LT_UNSTARTED)
        task->status = LT_RUNNING;
    if (task->status != LT_RUNNING && task->status != LT_EXPORTING) {
        lt_adapter_log(&c->adapter, "what running returned was ignored", task,
                       "its status is neither running nor exporting");
        return false;
    }
    if (lt_records_find(&c->records, task) != NULL) {
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

static void recovered(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct recover_call *recover = (struct recover_call *)call;
    struct lt_tasks found = {0};
    struct lt_error error;
    if (code == LT_OK && read_tasks(call, L, count, &found, &error) < 0) {
        code = error.code;
        message = error.message;
    }
    for (uint32_t i = 0; i < found.count; i++) {
        if (adopt(recover->c, found.items[i]))
            lt_tasks_push(&recover->op->tasks, lt_task_ref(found.items[i]));
    }
    lt_tasks_free(&found);
    lt_reply_send(call->reply, code, message);
    lt_adapter_call_free(call);
}

void lua_container_recover(struct lt_container *container, struct lt_recover_op *op)
{
    struct lua_container *c = lua_container_of(container);
    struct recover_call *recover = lt_adapter_call_new(&c->adapter, sizeof *recover, &op->reply);
    recover->c = c;
    recover->op = op;
    lt_adapter_call_begin(&recover->call, "running", recovered);
    lt_adapter_call_run(&recover->call, 0);
}
