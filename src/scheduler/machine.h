/* The machine of a run, from its claim to its free slot, as a table: state x event -> next state and action.
 *
 * It knows nothing but itself. Whatever happens to a run (an answer, a report, a timer, a wish) is an event; drive.c looks
 * it up here, goes to the next state, and does the action, which may give the next event at once. A pair that is not in
 * the table cannot happen, or does not matter: which of the two, the kind of the event says. */
#ifndef LTSH_SCHEDULER_MACHINE_H
#define LTSH_SCHEDULER_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

enum lt_run_state {
    LT_RUN_CLAIMED,           /* has its slot; not started yet */
    LT_RUN_RECOVERING,        /* taken over from a dead host; the actuator is asked */
    LT_RUN_RECOVERING_ENDED,  /* and its end was reported meanwhile */
    LT_RUN_RECOVERING_ENDING, /* and it is to be ended */
    LT_RUN_STARTING,          /* actuator.start is under way */
    LT_RUN_STARTING_ENDED,    /* and its end was reported meanwhile */
    LT_RUN_STARTING_ENDING,   /* and it is to be ended as soon as it has started */
    LT_RUN_RUNNING,
    LT_RUN_LOOKING,        /* its time is over; its status is asked for the last time */
    LT_RUN_STOPPING,       /* actuator.stop is under way */
    LT_RUN_STOPPING_ENDED, /* and its end was reported meanwhile */
    LT_RUN_STOP_PAUSE,     /* that failed; it will be called again */
    LT_RUN_ENDED,          /* its work is dead: what that means is decided at once */
    LT_RUN_MARKING,        /* running -> exporting is being stored */
    LT_RUN_MARKING_ENDING, /* and the export is to be given up */
    LT_RUN_MARK_OWED,      /* that could not be stored */
    LT_RUN_OUTPUT,         /* actuator.output is under way */
    LT_RUN_OUTPUT_ENDING,  /* and cannot be given up: its answer is waited for */
    LT_RUN_SAVING,         /* persister.save is under way */
    LT_RUN_SAVING_ENDING,
    LT_RUN_EXPORT_PAUSE, /* output and save will be tried again */
    LT_RUN_ERASING,      /* what may have been saved is being removed */
    LT_RUN_SETTLING,     /* its last transition is being stored */
    LT_RUN_SETTLE_OWED,  /* that could not be stored */
    LT_RUN_GONE,         /* the slot is free */
    LT_RUN_STATES
};

/* Of several that were signalled, the first in this order is driven first. */
enum lt_run_event {
    LT_EV_NONE,

    /* Answers, given by an action at once or signalled later: one at a time, and somebody waits for it. */
    LT_EV_STARTED,
    LT_EV_STARTED_ENDED, /* it runs no more: its end was reported while it started */
    LT_EV_START_FAILED,
    LT_EV_NOT_STARTED, /* a handler of `started` has ended it first */
    LT_EV_FOUND_RUNNING,
    LT_EV_FOUND_ENDED,
    LT_EV_FOUND_GONE,
    LT_EV_DEAD, /* stop: the work is dead */
    LT_EV_STOP_FAILED,
    LT_EV_OUTPUT,
    LT_EV_SAVED,
    LT_EV_EXPORT_FAILED, /* output or save */
    LT_EV_CANCELLED,     /* output or save was given up: no answer will come */
    LT_EV_ERASED,        /* or not: it was tried */
    LT_EV_STORED,
    LT_EV_REFUSED,    /* the store knows better */
    LT_EV_NOT_STORED, /* nobody knows whether it was */
    LT_EV_GIVEN_UP,   /* the same, or its stop failed, and the scheduler waits for nothing more */

    /* Decisions of an action. */
    LT_EV_EXPORT,        /* to be exported; that is stored first */
    LT_EV_EXPORT_MARKED, /* to be exported; the store knows, or need not */
    LT_EV_ERASE,         /* to be settled, when what may have been saved is removed */
    LT_EV_SETTLE,
    LT_EV_RETRY_EXPORT,
    LT_EV_DROP, /* the task is another host's */

    LT_EV_REPORT, /* the end of its work; before all that is judged by it */

    /* Signals that may come late: what does not concern a state does not matter. */
    LT_EV_LOOKED, /* the last look saw no end */
    LT_EV_TRY,    /* to store again: the store is back, or its pause is over */
    LT_EV_PAUSE_OVER,
    LT_EV_EXPORT_LATE,
    LT_EV_DEADLINE,

    LT_EV_START, /* its turn has come */

    /* Wishes: as a report, they may come at any time, and each state has an answer. */
    LT_EV_STOP,
    LT_EV_LEASE_LOST,
    LT_RUN_EVENTS
};

enum lt_run_action {
    LT_ACT_NONE,
    LT_ACT_START,
    LT_ACT_RUN,        /* notes what start said; polls */
    LT_ACT_RUN_DECIDE, /* notes what start said; decides */
    LT_ACT_RUN_STOP,   /* notes what start said; calls stop */
    LT_ACT_RESUME,     /* found running: its deadline */
    LT_ACT_LOOK,
    LT_ACT_TIME_OUT, /* notes that its time is over */
    LT_ACT_TIME_OUT_STOP,
    LT_ACT_WISH, /* notes who wants its end, and why */
    LT_ACT_WISH_STOP,
    LT_ACT_WISH_CANCEL,
    LT_ACT_WISH_DECIDE,
    LT_ACT_LOSE, /* notes that its lease is lost */
    LT_ACT_LOSE_STOP,
    LT_ACT_LOSE_CANCEL,
    LT_ACT_STOP,
    LT_ACT_STOP_PAUSE,
    LT_ACT_GIVE_UP,      /* its work may live on: decides, or leaves it to the next host */
    LT_ACT_KEEP_REMAINS, /* a report that comes too late to count: only what the work left is kept */
    LT_ACT_REMAINS_DECIDE,
    LT_ACT_DISCARD_REPORT,
    LT_ACT_FAIL_START,
    LT_ACT_GONE_DECIDE, /* the work was found gone */
    LT_ACT_DECIDE,      /* what its end means */
    LT_ACT_MARK,
    LT_ACT_MARKED_DECIDE,
    LT_ACT_OUTPUT,
    LT_ACT_SAVE,
    LT_ACT_CANCEL,        /* its export takes too long */
    LT_ACT_EXPORT_FAILED, /* tries it again, or decides */
    LT_ACT_EXPORT_TIMED_OUT,
    LT_ACT_EXPORT_PAUSE,
    LT_ACT_ERASE,
    LT_ACT_SUCCEED,
    LT_ACT_SUBMIT,  /* stores the transition */
    LT_ACT_OWE,     /* waits until the store takes it */
    LT_ACT_SETTLED, /* tells everybody; frees the slot */
    LT_ACT_STALE,   /* its end came too late; frees the slot */
    LT_ACT_DROP,    /* frees the slot */
    LT_ACT_LEAVE,   /* as it is; frees the slot */
    LT_RUN_ACTIONS
};

struct lt_step {
    uint8_t next;   /* enum lt_run_state */
    uint8_t action; /* enum lt_run_action */
    bool known;     /* the pair is in the table */
};

/* What follows. Of a pair that is not in the table only `known`, which is false, means anything. */
const struct lt_step *lt_machine_step(enum lt_run_state state, enum lt_run_event event);

/* Whether the pair is in the table. */
bool lt_machine_expects(enum lt_run_state state, enum lt_run_event event);

/* Whether an event that a state does not expect is nothing: true for what may come late; else it cannot happen. */
bool lt_machine_may_be_late(enum lt_run_event event);

/* Whether a run in this state is exporting. */
static inline bool lt_machine_exports(enum lt_run_state state)
{
    return state >= LT_RUN_MARKING && state <= LT_RUN_ERASING;
}

/* Names for the log and for documents: "running", "deadline", "time out, stop". */
const char *lt_run_state_name(enum lt_run_state state);
const char *lt_run_event_name(enum lt_run_event event);
const char *lt_run_action_name(enum lt_run_action action);

#endif
