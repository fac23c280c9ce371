/* A worker as the host sees it: something that takes messages, answers them, and one day is gone. */
#ifndef LTSH_WORKERS_WORKER_H
#define LTSH_WORKERS_WORKER_H

#include "loop/loop.h"
#include "script/values/marks.h"
#include "workers/message.h"

struct lt_worker;

struct lt_worker_ops {
    /* Takes over the message. */
    void (*send)(struct lt_worker *worker, struct lt_message *message);
    /* The run is to end, also where its Lua cannot be preempted. */
    void (*stop)(struct lt_worker *worker, uint64_t seq);
    /* Asks it to end; `gone` is called when it has, and until then the loop is held. */
    void (*end)(struct lt_worker *worker);
    /* It does not come to its end. True: it was killed, and `gone` is called soon. False: it cannot be killed, and is
     * left alone; `gone` is called if it ever comes back, and it holds nothing. */
    bool (*kill)(struct lt_worker *worker);
    /* The owner goes: neither function is called any more. It frees itself. */
    void (*disown)(struct lt_worker *worker);
};

struct lt_worker {
    const struct lt_worker_ops *ops;
    struct lt_loop *loop;
    void *owner;
    void (*received)(struct lt_worker *worker, const struct lt_message *message);
    /* It has ended: "ended", "signal 11", "exit code 3". It is freed after this. */
    void (*gone)(struct lt_worker *worker, const char *how);
};

/* Each starts one; it will be gone if that fails. The caller sets owner, received and gone before the loop runs. */
struct lt_worker *lt_thread_worker_new(struct lt_loop *loop);
struct lt_worker *lt_process_worker_new(struct lt_loop *loop);

/* What such a process runs: answers its host on descriptor 3 until that closes it. Returns the exit status. */
LT_RUNS_LUA int lt_process_worker_main(void);

#endif
