#include "scheduler/machine.h"

/* Reports and wishes: what every state does when they come. A state that is forgotten here does not compile: each row
 * needs all of its cells.
 *
 *     state               report: the work has ended          stop, shutdown                    the lease is lost
 */
/* clang-format off */
#define WISHES(W)                                                                                                           \
    W(CLAIMED,            CLAIMED, DISCARD_REPORT,            ENDED, WISH_DECIDE,               GONE, DROP)                 \
    W(RECOVERING,         RECOVERING_ENDED, NONE,             RECOVERING_ENDING, WISH,          RECOVERING_ENDING, LOSE)    \
    W(RECOVERING_ENDED,   RECOVERING_ENDED, DISCARD_REPORT,   RECOVERING_ENDED, NONE,           RECOVERING_ENDED, LOSE)     \
    W(RECOVERING_ENDING,  RECOVERING_ENDING, KEEP_REMAINS,    RECOVERING_ENDING, WISH,          RECOVERING_ENDING, LOSE)    \
    W(STARTING,           STARTING_ENDED, NONE,               STARTING_ENDING, WISH,            STARTING_ENDING, LOSE)      \
    W(STARTING_ENDED,     STARTING_ENDED, DISCARD_REPORT,     STARTING_ENDED, NONE,             STARTING_ENDED, LOSE)       \
    W(STARTING_ENDING,    STARTING_ENDING, KEEP_REMAINS,      STARTING_ENDING, WISH,            STARTING_ENDING, LOSE)      \
    W(RUNNING,            ENDED, DECIDE,                      STOPPING, WISH_STOP,              STOPPING, LOSE_STOP)        \
    W(LOOKING,            ENDED, DECIDE,                      STOPPING, WISH_STOP,              STOPPING, LOSE_STOP)        \
    W(STOPPING,           STOPPING_ENDED, KEEP_REMAINS,       STOPPING, WISH,                   STOPPING, LOSE)             \
    W(STOPPING_ENDED,     STOPPING_ENDED, DISCARD_REPORT,     STOPPING_ENDED, WISH,             STOPPING_ENDED, LOSE)       \
    W(STOP_PAUSE,         ENDED, REMAINS_DECIDE,              STOPPING, WISH_STOP,              STOP_PAUSE, LOSE)           \
    W(ENDED,              ENDED, DISCARD_REPORT,              ENDED, NONE,                      ENDED, NONE)                \
    W(MARKING,            MARKING, DISCARD_REPORT,            MARKING_ENDING, WISH,             MARKING_ENDING, LOSE)       \
    W(MARKING_ENDING,     MARKING_ENDING, DISCARD_REPORT,     MARKING_ENDING, WISH,             MARKING_ENDING, LOSE)       \
    W(MARK_OWED,          MARK_OWED, DISCARD_REPORT,          ENDED, WISH_DECIDE,               GONE, DROP)                 \
    W(OUTPUT,             OUTPUT, DISCARD_REPORT,             OUTPUT_ENDING, WISH_CANCEL,       OUTPUT_ENDING, LOSE_CANCEL) \
    W(OUTPUT_ENDING,      OUTPUT_ENDING, DISCARD_REPORT,      OUTPUT_ENDING, WISH,              OUTPUT_ENDING, LOSE)        \
    W(SAVING,             SAVING, DISCARD_REPORT,             SAVING_ENDING, WISH_CANCEL,       SAVING_ENDING, LOSE_CANCEL) \
    W(SAVING_ENDING,      SAVING_ENDING, DISCARD_REPORT,      SAVING_ENDING, WISH,              SAVING_ENDING, LOSE)        \
    W(EXPORT_PAUSE,       EXPORT_PAUSE, DISCARD_REPORT,       ENDED, WISH_DECIDE,               GONE, DROP)                 \
    W(ERASING,            ERASING, DISCARD_REPORT,            ERASING, NONE,                    ERASING, NONE)              \
    W(SETTLING,           SETTLING, DISCARD_REPORT,           SETTLING, NONE,                   SETTLING, NONE)             \
    W(SETTLE_OWED,        SETTLE_OWED, DISCARD_REPORT,        SETTLE_OWED, NONE,                SETTLE_OWED, NONE)          \
    W(GONE,               GONE, DISCARD_REPORT,               GONE, NONE,                       GONE, NONE)

/* All other events, where they may come.
 *
 *     state               event           next                action
 */
#define STEPS(S)                                                                \
    S(CLAIMED,            START,          STARTING,           START)            \
                                                                                \
    S(RECOVERING,         FOUND_RUNNING,  RUNNING,            RESUME)           \
    S(RECOVERING,         FOUND_ENDED,    ENDED,              DECIDE)           \
    S(RECOVERING,         FOUND_GONE,     ENDED,              GONE_DECIDE)      \
    S(RECOVERING_ENDED,   FOUND_RUNNING,  ENDED,              DECIDE)           \
    S(RECOVERING_ENDED,   FOUND_ENDED,    ENDED,              DECIDE)           \
    S(RECOVERING_ENDED,   FOUND_GONE,     ENDED,              DECIDE)           \
    S(RECOVERING_ENDING,  FOUND_RUNNING,  STOPPING,           STOP)             \
    S(RECOVERING_ENDING,  FOUND_ENDED,    ENDED,              DECIDE)           \
    S(RECOVERING_ENDING,  FOUND_GONE,     ENDED,              DECIDE)           \
    S(RECOVERING,         GIVEN_UP,       GONE,               LEAVE)            \
    S(RECOVERING_ENDED,   GIVEN_UP,       ENDED,              DECIDE)           \
    S(RECOVERING_ENDING,  GIVEN_UP,       GONE,               LEAVE)            \
                                                                                \
    S(STARTING,           STARTED,        RUNNING,            RUN)              \
    S(STARTING,           STARTED_ENDED,  ENDED,              RUN_DECIDE)       \
    S(STARTING,           START_FAILED,   ENDED,              FAIL_START)       \
    S(STARTING,           NOT_STARTED,    CLAIMED,            NONE)             \
    S(STARTING,           DEADLINE,       STARTING_ENDING,    TIME_OUT)         \
    S(STARTING_ENDED,     STARTED,        ENDED,              RUN_DECIDE)       \
    S(STARTING_ENDED,     START_FAILED,   ENDED,              DECIDE)           \
    S(STARTING_ENDING,    STARTED,        STOPPING,           RUN_STOP)         \
    S(STARTING_ENDING,    START_FAILED,   ENDED,              DECIDE)           \
                                                                                \
    S(RUNNING,            DEADLINE,       LOOKING,            LOOK)             \
    S(LOOKING,            LOOKED,         STOPPING,           TIME_OUT_STOP)    \
    S(LOOKING,            PAUSE_OVER,     STOPPING,           TIME_OUT_STOP)    \
                                                                                \
    S(STOPPING,           DEAD,           ENDED,              DECIDE)           \
    S(STOPPING,           STOP_FAILED,    STOP_PAUSE,         STOP_PAUSE)       \
    S(STOPPING,           GIVEN_UP,       ENDED,              GIVE_UP)          \
    S(STOPPING_ENDED,     DEAD,           ENDED,              DECIDE)           \
    S(STOPPING_ENDED,     STOP_FAILED,    ENDED,              DECIDE)           \
    S(STOP_PAUSE,         PAUSE_OVER,     STOPPING,           STOP)             \
                                                                                \
    S(ENDED,              EXPORT,         MARKING,            MARK)             \
    S(ENDED,              EXPORT_MARKED,  OUTPUT,             OUTPUT)           \
    S(ENDED,              RETRY_EXPORT,   EXPORT_PAUSE,       EXPORT_PAUSE)     \
    S(ENDED,              ERASE,          ERASING,            ERASE)            \
    S(ENDED,              SETTLE,         SETTLING,           SUBMIT)           \
    S(ENDED,              DROP,           GONE,               DROP)             \
    S(ENDED,              GIVEN_UP,       GONE,               LEAVE)            \
                                                                                \
    S(MARKING,            STORED,         OUTPUT,             OUTPUT)           \
    S(MARKING,            REFUSED,        GONE,               STALE)            \
    S(MARKING,            NOT_STORED,     MARK_OWED,          OWE)              \
    S(MARKING,            GIVEN_UP,       GONE,               LEAVE)            \
    S(MARKING_ENDING,     STORED,         ENDED,              MARKED_DECIDE)    \
    S(MARKING_ENDING,     REFUSED,        GONE,               STALE)            \
    S(MARKING_ENDING,     NOT_STORED,     ENDED,              DECIDE)           \
    S(MARKING_ENDING,     GIVEN_UP,       ENDED,              DECIDE)           \
    S(MARK_OWED,          TRY,            MARKING,            MARK)             \
                                                                                \
    S(OUTPUT,             OUTPUT,         SAVING,             SAVE)             \
    S(OUTPUT,             EXPORT_FAILED,  ENDED,              EXPORT_FAILED)    \
    S(OUTPUT,             EXPORT_LATE,    OUTPUT,             CANCEL)           \
    S(OUTPUT,             CANCELLED,      ENDED,              EXPORT_TIMED_OUT) \
    S(OUTPUT_ENDING,      OUTPUT,         ENDED,              DECIDE)           \
    S(OUTPUT_ENDING,      EXPORT_FAILED,  ENDED,              DECIDE)           \
    S(OUTPUT_ENDING,      CANCELLED,      ENDED,              DECIDE)           \
    S(SAVING,             SAVED,          SETTLING,           SUCCEED)          \
    S(SAVING,             EXPORT_FAILED,  ENDED,              EXPORT_FAILED)    \
    S(SAVING,             EXPORT_LATE,    SAVING,             CANCEL)           \
    S(SAVING,             CANCELLED,      ENDED,              EXPORT_TIMED_OUT) \
    S(SAVING_ENDING,      SAVED,          ENDED,              DECIDE)           \
    S(SAVING_ENDING,      EXPORT_FAILED,  ENDED,              DECIDE)           \
    S(SAVING_ENDING,      CANCELLED,      ENDED,              DECIDE)           \
    S(EXPORT_PAUSE,       PAUSE_OVER,     OUTPUT,             OUTPUT)           \
    S(ERASING,            ERASED,         SETTLING,           SUBMIT)           \
                                                                                \
    S(SETTLING,           STORED,         GONE,               SETTLED)          \
    S(SETTLING,           REFUSED,        GONE,               STALE)            \
    S(SETTLING,           NOT_STORED,     SETTLE_OWED,        OWE)              \
    S(SETTLING,           GIVEN_UP,       GONE,               LEAVE)            \
    S(SETTLE_OWED,        TRY,            SETTLING,           SUBMIT)

/* clang-format on */

#define CELL(state_, event_, next_, action_)                                                                           \
    [LT_RUN_##state_][LT_EV_##event_] = {LT_RUN_##next_, LT_ACT_##action_, true},
#define WISH_CELLS(state_, report_, report_action_, stop_, stop_action_, lost_, lost_action_)                          \
    CELL(state_, REPORT, report_, report_action_)                                                                      \
    CELL(state_, STOP, stop_, stop_action_)                                                                            \
    CELL(state_, LEASE_LOST, lost_, lost_action_)

static const struct lt_step table[LT_RUN_STATES][LT_RUN_EVENTS] = {WISHES(WISH_CELLS) STEPS(CELL)};

#define COUNT(...) +1 /* NOLINT(bugprone-macro-parentheses): a sum */
_Static_assert(0 WISHES(COUNT) == LT_RUN_STATES, "each state has a row of wishes");

const struct lt_step *lt_machine_step(enum lt_run_state state, enum lt_run_event event)
{
    return &table[state][event];
}

bool lt_machine_expects(enum lt_run_state state, enum lt_run_event event)
{
    return table[state][event].known;
}

bool lt_machine_may_be_late(enum lt_run_event event)
{
    return event >= LT_EV_LOOKED && event <= LT_EV_START;
}

const char *lt_run_state_name(enum lt_run_state state)
{
    static const char *const names[LT_RUN_STATES] = {
        [LT_RUN_CLAIMED] = "claimed",
        [LT_RUN_RECOVERING] = "recovering",
        [LT_RUN_RECOVERING_ENDED] = "recovering, ended",
        [LT_RUN_RECOVERING_ENDING] = "recovering, to be ended",
        [LT_RUN_STARTING] = "starting",
        [LT_RUN_STARTING_ENDED] = "starting, ended",
        [LT_RUN_STARTING_ENDING] = "starting, to be ended",
        [LT_RUN_RUNNING] = "running",
        [LT_RUN_LOOKING] = "looking",
        [LT_RUN_STOPPING] = "stopping",
        [LT_RUN_STOPPING_ENDED] = "stopping, ended",
        [LT_RUN_STOP_PAUSE] = "stop pause",
        [LT_RUN_ENDED] = "ended",
        [LT_RUN_MARKING] = "marking",
        [LT_RUN_MARKING_ENDING] = "marking, to be ended",
        [LT_RUN_MARK_OWED] = "mark owed",
        [LT_RUN_OUTPUT] = "output",
        [LT_RUN_OUTPUT_ENDING] = "output, to be ended",
        [LT_RUN_SAVING] = "saving",
        [LT_RUN_SAVING_ENDING] = "saving, to be ended",
        [LT_RUN_EXPORT_PAUSE] = "export pause",
        [LT_RUN_ERASING] = "erasing",
        [LT_RUN_SETTLING] = "settling",
        [LT_RUN_SETTLE_OWED] = "settle owed",
        [LT_RUN_GONE] = "gone",
    };
    return names[state];
}

const char *lt_run_event_name(enum lt_run_event event)
{
    static const char *const names[LT_RUN_EVENTS] = {
        [LT_EV_NONE] = "nothing",
        [LT_EV_STARTED] = "started",
        [LT_EV_STARTED_ENDED] = "started and ended",
        [LT_EV_START_FAILED] = "start failed",
        [LT_EV_NOT_STARTED] = "not started",
        [LT_EV_FOUND_RUNNING] = "found running",
        [LT_EV_FOUND_ENDED] = "found ended",
        [LT_EV_FOUND_GONE] = "found gone",
        [LT_EV_DEAD] = "dead",
        [LT_EV_STOP_FAILED] = "stop failed",
        [LT_EV_OUTPUT] = "output",
        [LT_EV_SAVED] = "saved",
        [LT_EV_EXPORT_FAILED] = "export failed",
        [LT_EV_CANCELLED] = "cancelled",
        [LT_EV_ERASED] = "erased",
        [LT_EV_STORED] = "stored",
        [LT_EV_REFUSED] = "refused",
        [LT_EV_NOT_STORED] = "not stored",
        [LT_EV_GIVEN_UP] = "given up",
        [LT_EV_EXPORT] = "export",
        [LT_EV_EXPORT_MARKED] = "export, marked",
        [LT_EV_ERASE] = "erase",
        [LT_EV_SETTLE] = "settle",
        [LT_EV_RETRY_EXPORT] = "retry export",
        [LT_EV_DROP] = "drop",
        [LT_EV_LOOKED] = "looked",
        [LT_EV_TRY] = "try",
        [LT_EV_PAUSE_OVER] = "pause over",
        [LT_EV_EXPORT_LATE] = "export late",
        [LT_EV_DEADLINE] = "deadline",
        [LT_EV_START] = "start",
        [LT_EV_REPORT] = "report",
        [LT_EV_STOP] = "stop",
        [LT_EV_LEASE_LOST] = "lease lost",
    };
    return names[event];
}

const char *lt_run_action_name(enum lt_run_action action)
{
    static const char *const names[LT_RUN_ACTIONS] = {
        [LT_ACT_NONE] = "",
        [LT_ACT_START] = "start",
        [LT_ACT_RUN] = "run",
        [LT_ACT_RUN_DECIDE] = "run, decide",
        [LT_ACT_RUN_STOP] = "run, stop",
        [LT_ACT_RESUME] = "resume",
        [LT_ACT_LOOK] = "look",
        [LT_ACT_TIME_OUT] = "time out",
        [LT_ACT_TIME_OUT_STOP] = "time out, stop",
        [LT_ACT_WISH] = "wish",
        [LT_ACT_WISH_STOP] = "wish, stop",
        [LT_ACT_WISH_CANCEL] = "wish, cancel",
        [LT_ACT_WISH_DECIDE] = "wish, decide",
        [LT_ACT_LOSE] = "lose",
        [LT_ACT_LOSE_STOP] = "lose, stop",
        [LT_ACT_LOSE_CANCEL] = "lose, cancel",
        [LT_ACT_STOP] = "stop",
        [LT_ACT_STOP_PAUSE] = "pause",
        [LT_ACT_GIVE_UP] = "give up",
        [LT_ACT_KEEP_REMAINS] = "keep remains",
        [LT_ACT_REMAINS_DECIDE] = "keep remains, decide",
        [LT_ACT_DISCARD_REPORT] = "discard report",
        [LT_ACT_FAIL_START] = "fail, decide",
        [LT_ACT_GONE_DECIDE] = "gone, decide",
        [LT_ACT_DECIDE] = "decide",
        [LT_ACT_MARK] = "mark",
        [LT_ACT_MARKED_DECIDE] = "marked, decide",
        [LT_ACT_OUTPUT] = "output",
        [LT_ACT_SAVE] = "save",
        [LT_ACT_CANCEL] = "cancel",
        [LT_ACT_EXPORT_FAILED] = "export failed",
        [LT_ACT_EXPORT_TIMED_OUT] = "export timed out",
        [LT_ACT_EXPORT_PAUSE] = "pause",
        [LT_ACT_ERASE] = "erase",
        [LT_ACT_SUCCEED] = "succeed",
        [LT_ACT_SUBMIT] = "submit",
        [LT_ACT_OWE] = "owe",
        [LT_ACT_SETTLED] = "settled",
        [LT_ACT_STALE] = "stale",
        [LT_ACT_DROP] = "drop",
        [LT_ACT_LEAVE] = "leave",
    };
    return names[action];
}
