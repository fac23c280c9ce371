/* The scheduler's state, shared by the files of this folder and by nobody else.
 *
 * Who calls whom, from the top; nothing calls upwards, what is to be done there is signalled:
 *
 *     scheduler  opens, closes, sets
 *     pump       drains what was signalled
 *     close      the steps of closing; busy or idle
 *     claim poll recover   runs begin, are asked about, are taken over
 *     drive      one run: state x event -> action (machine)
 *     start stop export settle    the actions
 *     requests add explain        what the script asks
 *     store      the container: what is stored, and whether it is there
 *     ends wait  who is told of an end
 *     busy       whether there is anything to do
 *     forget     what was saved goes with its task
 *     finished   the finished list
 *     run        a run's life; signals */
#ifndef LTSH_SCHEDULER_STATE_H
#define LTSH_SCHEDULER_STATE_H

#include "base/container_of.h"
#include "base/histogram.h"
#include "base/log.h"
#include "scheduler/machine.h"
#include "scheduler/outcome.h"
#include "scheduler/scheduler.h"

TAILQ_HEAD(lt_run_list, lt_run);
LIST_HEAD(lt_run_bucket, lt_run);
TAILQ_HEAD(lt_request_list, lt_task_request);

/* Live output of a run: who holds it up. */
struct lt_flow {
    uint32_t refs; /* of the run, and of those who hold it */
    uint32_t holds;
    bool telling;       /* the observers are being told */
    struct lt_run *run; /* NULL: it is over */
};

/* What few runs need. */
struct lt_run_extra {
    struct lt_run *run;
    struct lt_update_op update;
    bool update_again;
    struct lt_status_op look; /* the last look before a timeout */
    struct lt_seen look_seen;
    struct lt_save_op save;
    struct lt_load_op erase;
    struct lt_flow *flow;
    struct lt_bytes *wish_reason;
    struct lt_bytes *stop_reason;
    struct lt_bytes *stop_answer; /* what its actuator last answered */
    double stopping_since;        /* Unix seconds */
    bool goes_on;                 /* without its host */
    LIST_ENTRY(lt_run_extra) given_up_link;
    struct lt_log_gate log;
};

struct lt_run {
    struct lt_work work; /* first: an actuator's lt_work is its run */
    struct lt_scheduler *scheduler;
    struct lt_timer timer;
    struct lt_report report; /* its end, when status is not LT_RUNNING */
    struct lt_change_op change;
    struct lt_request_list waiters; /* stops that wait for its end */
    TAILQ_ENTRY(lt_run) link;       /* in `to_start` or `active` */
    LIST_ENTRY(lt_run) bucket_link;
    TAILQ_ENTRY(lt_run) signal_link;
    TAILQ_ENTRY(lt_run) owed_link;
    struct {                        /* zero in a new one */
        struct lt_run_extra *extra; /* NULL: never needed */
        uint64_t signals;           /* bits 1 << enum lt_run_event: happened, and not yet driven */
        uint64_t token;
        double started;        /* monotonic */
        double decided;        /* monotonic: what its end means was */
        double pause;          /* before a failed stop, transition or export is tried again; grows */
        uint32_t refs;         /* the scheduler's, and those of calls under way beside the machine */
        uint32_t tries;        /* of output and save */
        uint32_t end_place;    /* in `ends` of the scheduler, while its transition is among them */
        uint32_t failed_epoch; /* of the store when it last failed to store; 0: never */
        uint8_t state;         /* enum lt_run_state; only drive.c changes it */
        uint8_t why;           /* enum lt_why */
        uint8_t wish;          /* enum lt_why: who asked last for its end */
        uint8_t timer_event;   /* what the timer signals */
        bool queued;           /* in `signalled` */
        bool driven;           /* by the driver, right now */
        bool begun;            /* its actuator knows of it */
        bool has_slot;
        bool in_line; /* in `to_start` */
        bool twin;    /* an earlier run of its task is not dead: this one is not found by its id, and waits again */
        bool saved;   /* something may have been saved */
        bool polled;  /* is in the poll under way */
        bool owing;   /* in `owed` */
        bool probing; /* stores although the store is thought to be down */
    };
};

enum { LT_RATE_SECONDS = 10 };

/* The container as it is known to be there or not. */
struct lt_store {
    bool down;
    bool probe_claims;           /* the next probe is a claim */
    bool claim_probe;            /* it is its turn */
    uint32_t epoch;              /* how often it came up */
    uint32_t claim_failed_epoch; /* as of a run */
    double pause;
    double claim_pause;
    double claim_not_before; /* monotonic: it failed by a fault of its own */
    double down_since;       /* Unix seconds */
    struct lt_timer probe;
    struct lt_run_list owed; /* runs whose transition could not be stored, in order */
    struct lt_log_gate log;
};

struct lt_scheduler {
    struct lt_loop *loop;
    struct lt_scheduler_config config;
    char *name;
    bool debug; /* each step is logged */
    struct lt_limiter limiter;
    struct lt_store store;

    /* What was signalled, for the pump. */
    struct lt_turn pump;
    struct lt_run_list signalled;
    bool to_begin;           /* something was started that the actuator has yet to let begin */
    bool beginning;          /* the pump is letting runs begin, and looks at those that were signalled next */
    struct lt_tasks expired; /* not told yet, from expired_next on */
    uint32_t expired_next;
    struct lt_request_list again; /* requests to be looked at again */
    bool room;                    /* there may be room for those who wait for it */

    /* claim.c */
    struct lt_claim_op claim;
    bool claimed;         /* its answer has come, and is to be handled */
    bool unclear;         /* its answer was lost: what it took is ours, and is not known before it is asked again */
    struct lt_timer wake; /* the next thing that comes by time alone */
    double next_at;       /* the container's: monotonic, */
    double next_date;     /* and by the wall clock */
    double ask_at;        /* monotonic: a container that cannot announce, or failed, is asked again; 0: not planned */
    bool work;            /* there may be something to claim */
    bool unlooked;        /* something came since the last claim: what that said may be old */
    bool waits;           /* it said that something waits */
    bool look;            /* a task with an expiry came: ask when it is due, though there may be no room */
    bool paused;
    bool paused_by_queue;
    struct lt_change_op **ends; /* of an ordered container: under way, each will free a slot */
    uint32_t end_count, end_size;
    struct lt_clock_watch clock;

    /* recover.c */
    bool recovered; /* starts nothing before */
    struct lt_recover_op recover;
    struct lt_timer recover_again;
    double recover_pause;
    TAILQ_HEAD(, lt_recovery) recoveries;

    /* poll.c */
    struct lt_timer poll_timer;
    struct lt_status_op poll;
    uint32_t poll_size;
    double poll_at;
    struct lt_log_gate poll_log;

    /* run.c */
    struct lt_run_bucket *runs; /* all, by the hash of their task's id */
    uint32_t bucket_mask;
    struct lt_run_list to_start;
    struct lt_run_list active; /* all other */
    struct lt_run_list spare;
    uint32_t run_count;
    uint32_t exporting;
    uint32_t calls; /* under way beside the machine: updates, looks, recoveries */

    /* requests.c, add.c, wait.c */
    TAILQ_HEAD(, lt_add_request) for_room;
    bool admitting;                   /* the first of them is being stored */
    uint64_t rooms;                   /* how often there was room */
    struct lt_request_list for_claim; /* stops of tasks whose claim is not answered yet */
    struct lt_request_list elsewhere; /* stops that another host was asked for */
    struct lt_request_list erasing;   /* deletions whose saved output is being removed */
    uint32_t requests;                /* under way */
    struct lt_map waits_by_id;

    /* ends.c */
    struct lt_finished finished;
    bool finished_awaited;
    TAILQ_HEAD(, lt_observer) observers;
    struct lt_telling *telling; /* who is being told right now */
    unsigned events;            /* wanted by any of them */
    struct lt_histogram wait_times;
    struct lt_histogram run_times;
    struct lt_stats stats;
    int64_t rate_second[LT_RATE_SECONDS];
    uint32_t rate_count[LT_RATE_SECONDS];

    /* close.c */
    bool busy;
    bool closing;
    bool stopping; /* closing, and the time to drain is over */
    bool leaving;  /* stopping, and all is through but what is left running */
    bool parts_closing;
    bool closed;
    unsigned closing_part;
    double close_at;
    double give_up_at; /* monotonic, when stopping: a stop that fails then is not repeated any more */
    LIST_HEAD(, lt_run_extra)
    given_up;              /* each with a reference: their actuator may still know them until it is closed */
    uint64_t left_running; /* so many runs go on without their host */
    struct lt_timer close_timer;
    struct lt_bytes *close_reason;
    struct lt_reply close_reply;
    STAILQ_HEAD(, lt_close_request) closers;
};

/* run.c: life, signals, and what everybody needs to know of a run. */
void lt_pump_post(struct lt_scheduler *s);
void lt_signal(struct lt_run *run, enum lt_run_event event);
bool lt_signalled(const struct lt_run *run, enum lt_run_event event);
void lt_run_arm(struct lt_run *run, double seconds, enum lt_run_event event); /* the timer signals it */
void lt_run_arm_at(struct lt_run *run, double due, enum lt_run_event event);
struct lt_run *lt_run_new(struct lt_scheduler *s, struct lt_task *task, uint64_t token); /* takes over the reference */
void lt_run_list(struct lt_run *run, struct lt_run_list *list); /* it is found by its id from here on */
void lt_run_unlist(struct lt_run *run, struct lt_run_list *list);
struct lt_run *lt_run_find(struct lt_scheduler *s, const char *id, size_t id_len);
struct lt_run_extra *lt_run_extra(struct lt_run *run); /* made when it is needed first */
void lt_run_ref(struct lt_run *run);
void lt_run_unref(struct lt_run *run);
void lt_run_free_spare(struct lt_scheduler *s);
void lt_run_ask_stop(struct lt_run *run, enum lt_why why, struct lt_bytes *reason);
double lt_run_grow_pause(struct lt_run *run);
void lt_call_under_way(struct lt_scheduler *s); /* beside the machine, under way */
void lt_call_over(struct lt_scheduler *s);

/* finished.c */
void lt_finished_push(struct lt_scheduler *s, struct lt_task *task);
void lt_finished_wake(struct lt_scheduler *s); /* there is something in the list, or there will be nothing */

/* ends.c, wait.c */
void lt_emit(struct lt_scheduler *s, enum lt_event event, struct lt_task *task, const struct lt_event_data *data);
void lt_tell_end(struct lt_scheduler *s, struct lt_task *task); /* a task ended: tells everybody */
void lt_room(struct lt_scheduler *s);                           /* who waits for room is to be asked again */
void lt_waits_ended(struct lt_scheduler *s, struct lt_task *task);
void lt_waits_close(struct lt_scheduler *s); /* closed: nobody waits for an end any more */

/* busy.c */
extern const char lt_inside_message[];
bool lt_scheduler_inside(const struct lt_scheduler *s); /* whether who asks is at work for the container */
void lt_request_begin(struct lt_scheduler *s); /* something was asked that keeps the scheduler from being idle */
void lt_request_end(struct lt_scheduler *s);
void lt_busy_review(struct lt_scheduler *s);     /* after something changed: tells the owner whether it is busy */
bool lt_work_left(const struct lt_scheduler *s); /* whether something runs, waits, or may */

/* requests.c, add.c, explain.c */
void lt_requests_again(struct lt_scheduler *s, struct lt_request_list *waiters); /* are looked at again, by the pump */
void lt_requests_run_gone(struct lt_scheduler *s, struct lt_request_list *waiters, struct lt_task *task);
void lt_requests_drain(struct lt_scheduler *s);
bool lt_requests_erase(const struct lt_scheduler *s, const struct lt_task *task); /* what one of its id saved goes */
void lt_requests_close(struct lt_scheduler *s); /* stopping: nobody waits for other hosts any more */
void lt_requests_elsewhere(struct lt_scheduler *s, const char *id, size_t id_len); /* it is where it was no more */
void lt_adds_room(struct lt_scheduler *s);  /* lets in the first of those who wait for room; its answer the next */
void lt_adds_close(struct lt_scheduler *s); /* closing: nobody waits for room any more */
struct lt_bytes *lt_explain(struct lt_scheduler *s, const struct lt_task *task, const char **code);

/* store.c */
enum lt_run_event lt_store_submit(struct lt_run *run); /* run->change.transition; what came of it, or LT_EV_NONE */
void lt_store_owe(struct lt_run *run);
void lt_store_forget(struct lt_run *run);                                    /* it owes nothing any more */
void lt_store_update(struct lt_run *run);                                    /* handle or progress changed */
bool lt_store_claim_ok(struct lt_scheduler *s);                              /* whether a claim makes sense now */
void lt_store_claimed(struct lt_scheduler *s, const struct lt_reply *reply); /* what came of it */
void lt_store_available(struct lt_scheduler *s, bool available, const char *why);
void lt_store_not_probed(struct lt_scheduler *s); /* a claim was to find out, and makes no sense now */
void lt_store_works(struct lt_scheduler *s);      /* it has answered */
void lt_store_retry_all(struct lt_scheduler *s);  /* what is owed is tried at once */
void lt_store_close(struct lt_scheduler *s);

/* start.c, recover.c, stop.c, export.c, settle.c: actions, each of which may give the next event. */
enum lt_run_event lt_act_start(struct lt_run *run);
enum lt_run_event lt_act_run(struct lt_run *run);
enum lt_run_event lt_act_resume(struct lt_run *run);
enum lt_run_event lt_act_look(struct lt_run *run);
enum lt_run_event lt_act_stop(struct lt_run *run);
enum lt_run_event lt_act_stop_pause(struct lt_run *run);
enum lt_run_event lt_act_give_up(struct lt_run *run);
void lt_note_timeout(struct lt_run *run);
void lt_note_wish(struct lt_run *run);
void lt_note_lease_lost(struct lt_run *run);
void lt_keep_remains(struct lt_run *run);
void lt_discard_report(struct lt_run *run);
enum lt_run_event lt_act_fail_start(struct lt_run *run);
enum lt_run_event lt_act_decide(struct lt_run *run);
enum lt_run_event lt_act_mark(struct lt_run *run);
void lt_note_marked(struct lt_run *run);
enum lt_run_event lt_act_output(struct lt_run *run);
enum lt_run_event lt_act_save(struct lt_run *run);
enum lt_run_event lt_act_cancel_export(struct lt_run *run);
enum lt_run_event lt_act_export_failed(struct lt_run *run);
enum lt_run_event lt_act_export_timed_out(struct lt_run *run);
enum lt_run_event lt_act_export_pause(struct lt_run *run);
enum lt_run_event lt_act_erase(struct lt_run *run);
enum lt_run_event lt_act_succeed(struct lt_run *run);
void lt_tell_settled(struct lt_run *run);
void lt_tell_stale(struct lt_run *run);
void lt_tell_dropped(struct lt_run *run);
void lt_tell_left(struct lt_run *run);
bool lt_leaves_running(
    const struct lt_scheduler *s); /* at the end work goes on: the next host asks the actuator for it */
enum lt_run_event lt_act_fail_export(struct lt_run *run, struct lt_bytes *reason);
bool lt_run_note_handle(struct lt_run *run); /* that start gave: true if there is one that is not noted yet */
bool lt_run_put_out(struct lt_run *run, enum lt_stream stream,
                    struct lt_bytes *bytes);                           /* live output; a reference moves */
void lt_run_take_report(struct lt_run *run, struct lt_report *report); /* takes over the report's bytes */
void lt_run_set_progress(struct lt_run *run, struct lt_bytes *progress);
void lt_run_deadline(struct lt_run *run,
                     double started); /* the run began then, on the monotonic clock, maybe elsewhere */

/* drive.c */
void lt_drive(struct lt_run *run, enum lt_run_event event);

/* poll.c, claim.c, recover.c */
void lt_poll_begin(struct lt_scheduler *s); /* something runs: polls it, if polling is on */
void lt_poll_set(struct lt_scheduler *s);   /* the interval may have changed */
void lt_poll_close(struct lt_scheduler *s);
bool lt_claim(struct lt_scheduler *s);        /* true: it was answered at once, so look again */
void lt_claim_handle(struct lt_scheduler *s); /* the answer has come */
void lt_claim_plan(struct lt_scheduler *s);   /* sets the timer for whatever will come by time alone */
void lt_claim_close(struct lt_scheduler *s);
void lt_recover_open(struct lt_scheduler *s);
void lt_recover_take(struct lt_scheduler *s, const struct lt_claimed *items, uint32_t count); /* those taken over */
void lt_recover_hurry(struct lt_scheduler *s);
void lt_recover_at_once(struct lt_scheduler *s); /* if it failed, and waits to be tried again */

/* queue.c */
void lt_query_run(void *scheduler, struct lt_run_query_op *op); /* for the actuator */

/* forget.c */
void lt_forget(struct lt_scheduler *s, struct lt_task *task); /* the container keeps it no longer */

/* close.c */
void lt_close_advance(struct lt_scheduler *s); /* after something changed: the next step of closing, if it is time */

static inline struct lt_run *lt_run_of(struct lt_work *work)
{
    return (struct lt_run *)work;
}

#endif
