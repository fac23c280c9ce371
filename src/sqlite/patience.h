/* Waiting for a lock that another connection to an SQLite database holds, in a thread that may wait: a busy handler for
 * connections, the script's and the store's. */
#ifndef LTSH_SQLITE_PATIENCE_H
#define LTSH_SQLITE_PATIENCE_H

#include <stdatomic.h>

struct lt_sql_patience {
    double seconds;    /* that it waits; negative: for as long as it takes */
    double hurried;    /* that it waits at most while `hurry` is set */
    atomic_bool hurry; /* from any thread */
    double waited;     /* seconds that the latest wait took; set to 0 before, to know whether there was one */
    double since;      /* its own: monotonic, when the present wait began */
};

/* For sqlite3_busy_handler: naps, and says whether to try again. `tries` is 0 at the beginning of a wait. */
int lt_sql_wait(void *patience, int tries);

#endif
