/* A lane: the one way to have work done on other threads, and its answer brought back to the loop as a turn.
 *
 *     loop's thread --lt_lane_send--> queue --> a thread: job->work(job)
 *     loop's thread <--turn: job->done(job)--  answers, with one wake-up for however many there are
 *
 * A job belongs to the lane from lt_lane_send until its `done`; what `work` may touch is the job's alone meanwhile. No lock
 * is held while it works. The loop is held while jobs are under way. Jobs begin in their order, and are answered in the
 * order in which they are done. */
#ifndef LTSH_LOOP_LANE_H
#define LTSH_LOOP_LANE_H

#include <stdbool.h>

#include "loop/loop.h"
#include "loop/mailbox.h"

struct lt_lane_job {
    void (*work)(struct lt_lane_job *job); /* on a thread of the lane, all signals blocked */
    void (*done)(struct lt_lane_job *job); /* on the loop's thread, from a flat stack */
    struct lt_mail mail;
};

struct lt_lane;

/* Opens one with so many threads, named `name` (15 bytes at most). They begin with the first job. NULL: there is no
 * descriptor for it (errno). */
struct lt_lane *lt_lane_open(struct lt_loop *loop, unsigned threads, const char *name);

/* Hands in a job. False: there is no thread to do it, and none can be made (errno says why); it was not taken. */
bool lt_lane_send(struct lt_lane *lane, struct lt_lane_job *job);

/* Calls `fn` on a thread of the lane now and then, when that has nothing else to do: also while the loop is held up. It says
 * in how many seconds it wants to be called again, first after a moment. Before the first job, of a lane with one thread. */
void lt_lane_every(struct lt_lane *lane, double (*fn)(void *arg), void *arg);

/* Ends the threads when they have done what was handed in, and frees the lane; what was not answered yet is not answered any
 * more. With `leave`, threads and lane stay until the process ends: for work that must not outlive its thread. */
void lt_lane_close(struct lt_lane *lane, bool leave);

#endif
