/* What bounds one call of a part that is written in Lua. */
#ifndef LTSH_SCHEDULER_CALL_LIMITS_H
#define LTSH_SCHEDULER_CALL_LIMITS_H

struct lt_call_limits {
    double timeout;   /* seconds until it must have returned; 0: no limit */
    double max_stall; /* seconds that it may hold the loop where it cannot be preempted; 0: no limit */
};

#endif
