/* For containers whose queue keeps the limits (ops->keeps_limits): a host that was given others is told so, once. */
#ifndef LTSH_CONTAINERS_LIMITS_TOLD_H
#define LTSH_CONTAINERS_LIMITS_TOLD_H

struct lt_limits_told {
    char differ[160]; /* as was logged last */
};

/* `differ`: which limits are others, and which they are; "": none; NULL: it is not known. */
void lt_limits_tell(struct lt_limits_told *told, const char *queue, const char *differ);

#endif
