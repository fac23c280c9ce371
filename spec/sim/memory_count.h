/* How many blocks of memory are allocated now, by all code that is linked here. */
#ifndef LTSH_SIM_MEMORY_COUNT_H
#define LTSH_SIM_MEMORY_COUNT_H

#include <stdint.h>

int64_t memory_blocks(void);

#endif
