/* The pump. */
#ifndef LTSH_SCHEDULER_PUMP_H
#define LTSH_SCHEDULER_PUMP_H

#include "loop/loop.h"

/* The turn of a scheduler's pump. */
void lt_pump(struct lt_turn *turn);

#endif
