/* What a process is known by, so that another of the same machine can prove that it is dead. */
#ifndef LTSH_CONTAINERS_REDIS_PROCESS_H
#define LTSH_CONTAINERS_REDIS_PROCESS_H

#include <stdbool.h>
#include <stddef.h>

enum { LT_REDIS_ABOUT = 128 };

/* This process: "PID START BOOT NAMESPACE VERSION". */
void lt_redis_about(char about[LT_REDIS_ABOUT]);

/* Whether what is described so was a process of this machine, seen from this namespace, that is not there any more. */
bool lt_redis_is_gone(const char *about, size_t len);

#endif
