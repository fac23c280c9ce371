/* This process among the hosts of a machine: what it leaves behind carries its id, and others can tell whether it still
 * lives.
 *
 * The proof of life is a lock on a file named after the id, which the kernel lets go of when the process ends, however it
 * ends. The folder is $XDG_RUNTIME_DIR/ltsh, else /run/ltsh for root, else /tmp/ltsh-UID: gone after a reboot, so the id
 * begins with the boot's. A file that nobody holds is removed when what its host left behind is gone; so a host of this
 * folder whose file is not there is dead too. Nothing of an instance whose death is not proven is ever touched. */
#ifndef LTSH_ACTUATORS_INSTANCE_H
#define LTSH_ACTUATORS_INSTANCE_H

#include <stdbool.h>

enum { LT_INSTANCE_SIZE = 40 };

/* The id of this process, made and locked at the first call: hexadecimal digits and a dash. NULL: the file could not be
 * made (errno says why), and nothing may be left behind that needs it. */
const char *lt_instance_id(void);

/* The folder of the files. The caller frees it. */
char *lt_instance_folder(void);

/* Whether the host with this id, of this machine, is known to be dead. `of` is the folder that it used; NULL: not known, and
 * then a file that is not there proves nothing. */
bool lt_instance_is_dead(const char *id, const char *of);

/* Calls dead(arg, id) for each host that did not end well and left its file in the folder; then removes the file. */
void lt_instance_bury(void (*dead)(void *arg, const char *id), void *arg);

#endif
