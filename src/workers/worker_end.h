/* The worker's end: a Lua state of its own on a loop of its own, which runs a module's function for one task at a time.
 * The same in a thread (thread.c) as in a process (process.c). */
#ifndef LTSH_WORKERS_WORKER_END_H
#define LTSH_WORKERS_WORKER_END_H

#include "loop/loop.h"
#include "script/task/task_run.h"
#include "script/values/marks.h"
#include "workers/message.h"

struct lt_worker_end {
    struct lt_loop *loop; /* this and the next three are set by who opens it */
    void (*send)(struct lt_worker_end *end, struct lt_message *message); /* to the host; takes over the message */
    _Atomic uint64_t *stopped; /* the run that the host wants to end, also where it cannot be preempted; or NULL */
    bool may_exit;             /* it has the process to itself */

    struct lt_script *script;
    int fn; /* the module's function */
    struct lt_task_run task_run;
    uint64_t seq; /* of the run; 0: none */
    double began;
    struct lt_mails to_start; /* what was handed ahead: its turn comes when the run has ended */
    struct lt_turn next;
    bool starting; /* it goes through to_start */
    bool over;     /* END has come, or the state is spent */
    struct {
        size_t used;
        size_t limit;   /* 0: none */
        size_t refused; /* the size of the last allocation that was refused */
        bool spent;
    } memory;
    struct lt_turn spent;
};

/* With the first fields set, and all others zero. */
void lt_worker_end_open(struct lt_worker_end *end);

/* A message from the host, which is taken over. When end->over is set after it, no more is to be given, and the loop
 * comes to its end. */
LT_RUNS_LUA void lt_worker_end_receive(struct lt_worker_end *end, struct lt_message *message);

/* Frees what it holds, after the loop has ended. */
LT_RUNS_LUA void lt_worker_end_close(struct lt_worker_end *end);

#endif
