#include "containers/limits_told.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

void lt_limits_tell(struct lt_limits_told *told, const char *queue, const char *differ)
{
    if (differ == NULL || strncmp(differ, told->differ, sizeof told->differ - 1) == 0)
        return;
    snprintf(told->differ, sizeof told->differ, "%s", differ);
    if (differ[0] != '\0')
        lt_log(LT_LOG_WARN,
               "the queue has other limits than this scheduler was given: the queue's hold, set{} changes them",
               LT_S("queue", queue), LT_S("limits", differ));
}
