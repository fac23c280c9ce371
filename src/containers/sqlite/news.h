/* News between owners, of this process and of others: rows, so that they wait for who is not there. */
#ifndef LTSH_CONTAINERS_SQLITE_NEWS_H
#define LTSH_CONTAINERS_SQLITE_NEWS_H

#include "containers/sqlite/lane.h"

enum lt_sqlite_news_kind { LT_SQLITE_NEWS_ENDED, LT_SQLITE_NEWS_STOP, LT_SQLITE_NEWS_LOST, LT_SQLITE_NEWS_DELETED };

struct lt_sqlite_about {
    enum lt_sqlite_news_kind kind;
    int64_t seq, run;
    const struct lt_task *task; /* that was deleted, of which only the id is known then; else NULL */
};

int lt_sqlite_news_add(struct lt_sqlite_lane *lane, int64_t owner, const struct lt_sqlite_about *about);

/* A task ended, or was deleted: who added it and who waits for it is told, and who waits for the queue to be done. */
int lt_sqlite_news_end(struct lt_sqlite_lane *lane, const struct lt_sqlite_member *member, int64_t adder,
                       const struct lt_sqlite_about *about);

/* Reads what there is for this owner, and tells the member. */
int lt_sqlite_news_read(struct lt_sqlite_lane *lane, struct lt_sqlite_member *member, int64_t owner);

/* Whether there is something. */
int lt_sqlite_news_any(struct lt_sqlite_lane *lane, int64_t owner, bool *found);

#endif
