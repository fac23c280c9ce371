/* From a member to the struct that it lies in. */
#ifndef LTSH_BASE_CONTAINER_OF_H
#define LTSH_BASE_CONTAINER_OF_H

#include <stddef.h>

#define lt_container_of(pointer_, type_, member_) ((type_ *)((char *)(pointer_)-offsetof(type_, member_)))

#endif
