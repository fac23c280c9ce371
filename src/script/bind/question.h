/* What a script asks of its scheduler, and may have to wait for.
 *
 *     ask: a question on the heap; if the answer comes at once, its results are returned at once;
 *          else the strand waits, and where it may not, the call raises and the answer is dropped
 *
 * A question is freed by who comes last: the strand that took its answer, or the answer that finds nobody. */
#ifndef LTSH_SCRIPT_BIND_QUESTION_H
#define LTSH_SCRIPT_BIND_QUESTION_H

#include "script/bind/bound.h"
#include "script/values/marks.h"

enum lt_question_kind {
    LT_ASK_ADD,
    LT_ASK_ONE,
    LT_ASK_UNTIL,
    LT_ASK_LIST,
    LT_ASK_COUNT,
    LT_ASK_HOSTS,
    LT_ASK_PAUSE,
    LT_ASK_CLOSE
};

struct lt_question {
    struct lt_wait wait; /* first */
    enum lt_question_kind kind;
    struct lt_bound *bound;
    struct lt_strand *strand;                                      /* who waits; NULL: nobody yet, or any more */
    const char *function;                                          /* static: its name in messages */
    int (*push)(lua_State *L, const struct lt_question *question); /* the results of LT_OK */
    bool answered;
    bool dropped; /* nobody will take the answer */
    bool late;    /* the caller's time was over first */
    struct lt_timer timer;
    struct lt_tasks tasks; /* that are added; one alone lies in `single` */
    struct lt_task *single;
    struct lt_bytes *text; /* a copy of the id, or the key */
    struct lt_bytes *other_text;
    struct lt_bytes *reason;
    union {
        struct lt_reply reply; /* the first member of them all */
        struct lt_add_request add;
        struct lt_task_request one;
        struct lt_wait_request until;
        struct lt_list_request list;
        struct lt_count_request count;
        struct lt_hosts_request hosts;
        struct lt_pause_request pause;
        struct lt_close_request close;
    } as;
};

/* The scheduler, if it can be asked anything; else `*failed` is the number of results pushed. Raises if it is none. */
LT_RAISES struct lt_bound *lt_bound_check_open(lua_State *L, const char *function, int *failed);

/* A question whose reply is begun. `function` (static) is named in messages, `push` pushes the results when it went well,
 * and returns their number. */
struct lt_question *lt_question_new(struct lt_bound *bound, enum lt_question_kind kind, const char *function,
                                    int (*push)(lua_State *L, const struct lt_question *question));

/* After it was asked: returns its results, or waits for them, at most `seconds` (< 0: as long as it takes). To be
 * returned; raises where nothing may wait. */
LT_RAISES LT_RUNS_LUA int lt_question_ask(lua_State *L, struct lt_question *question, double seconds);

/* Results: nil, a message and the name of a code (LT_FULL ...); the one of a closed scheduler; true. */
int lt_push_failure(lua_State *L, const char *message, int code);
int lt_push_closed(lua_State *L);
int lt_push_true(lua_State *L, const struct lt_question *question);

/* The seconds at `index`, or -1 when there is nothing. Raises. */
LT_RAISES double lt_check_seconds(lua_State *L, int index, const char *function);

/* Raises if there is no memory for a copy of so many bytes; of ids and keys as they are meant to be there always is. */
LT_RAISES void lt_check_copy(lua_State *L, const char *function, size_t len);

#endif
