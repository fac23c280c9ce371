/* The path of a database: made plain, and why it cannot be used. */
#ifndef LTSH_CONTAINERS_SQLITE_PATH_H
#define LTSH_CONTAINERS_SQLITE_PATH_H

#include <stdbool.h>

#include "base/error.h"

/* The path without links and dots, the caller's to free; or NULL with errno: its folder is to be there. */
char *lt_sqlite_path_resolve(const char *path);

/* Which of the files (the database, its log) cannot be written, or that the folder cannot, where the log is made, and whose
 * it is. False: it is something else. */
bool lt_sqlite_path_explain(const char *path, struct lt_error *error);

#endif
