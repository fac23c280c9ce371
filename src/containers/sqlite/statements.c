/* The tables of a database, and all that is said to it. */
#include "containers/sqlite/statements.h"

/* One file has many queues. What is under way, what waits and what has ended are found by indexes of their own, which hold
 * nothing else, so that a claim and a transition cost the same however much is there. */
/* Tasks without a key apart, so that those of full keys are never gone through for them. */
#define DUE_INDEXES                                                                                                    \
    "CREATE INDEX ltsh_due ON ltsh_tasks(queue, priority DESC, place) WHERE state = 1 AND key IS NULL;"                \
    "CREATE INDEX ltsh_due_keyed ON ltsh_tasks(queue, priority DESC, place, key) WHERE state = 1 AND key IS NOT NULL;"

/* Of queues that are fair: the keys of which something is due, '' for tasks without one; the smallest turn is next. */
#define TURNS                                                                                                          \
    "CREATE TABLE ltsh_turns(queue INTEGER NOT NULL, key TEXT NOT NULL, turn INTEGER NOT NULL,"                        \
    " PRIMARY KEY(queue, key)) WITHOUT ROWID;"                                                                         \
    "CREATE INDEX ltsh_turns_next ON ltsh_turns(queue, turn);"                                                         \
    "CREATE INDEX ltsh_suspect_of ON ltsh_tasks(queue, key, priority DESC, place) WHERE state = 7;"
#define FAIR "fair INTEGER NOT NULL DEFAULT 0" /* keys have turns */

/* The queue's limits, -1: none was given; which of them were set, as bits; and the tokens of its rate, as they were at a
 * time of the monotonic clock. */
#define LIMITS_WITH(separator)                                                                                         \
    "limit_global REAL NOT NULL DEFAULT -1" separator "limit_key REAL NOT NULL DEFAULT -1" separator                   \
    "limit_burst REAL NOT NULL DEFAULT -1" separator "limit_per REAL NOT NULL DEFAULT -1" separator                    \
    "limits_set INTEGER NOT NULL DEFAULT 0" separator "tokens REAL NOT NULL DEFAULT 0" separator                       \
    "tokens_at REAL NOT NULL DEFAULT -1"
#define LIMITS LIMITS_WITH(", ")
#define ADD_LIMITS "ALTER TABLE ltsh_queues ADD COLUMN " LIMITS_WITH(";ALTER TABLE ltsh_queues ADD COLUMN ") ";"

const char lt_schema[] =
    /* Queues; and one row without a name that is the file's own, here so that a commit writes a page less: `last`: see
     * lt_database_next. */
    "CREATE TABLE ltsh_queues(queue INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, paused INTEGER NOT NULL DEFAULT 0,"
    " n0 INTEGER NOT NULL DEFAULT 0, n1 INTEGER NOT NULL DEFAULT 0, n2 INTEGER NOT NULL DEFAULT 0,"
    " n3 INTEGER NOT NULL DEFAULT 0, n4 INTEGER NOT NULL DEFAULT 0, n5 INTEGER NOT NULL DEFAULT 0,"
    " n6 INTEGER NOT NULL DEFAULT 0, n7 INTEGER NOT NULL DEFAULT 0, version INTEGER, last INTEGER, commits INTEGER,"
    " " FAIR ", " LIMITS ");"
    "INSERT INTO ltsh_queues(queue, name, version, last, commits) VALUES(0, '', 4, 0, 0);"
    /* state: enum lt_row_state. item, output, progress, handle: JSON as text, or MessagePack as a blob where JSON cannot
     * hold the value; an item that is the integer 0 is in ltsh_items. */
    "CREATE TABLE ltsh_tasks(seq INTEGER PRIMARY KEY, queue INTEGER NOT NULL, id TEXT NOT NULL, state INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, place INTEGER NOT NULL, run INTEGER NOT NULL DEFAULT 0, owner INTEGER,"
    " attempts INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, snoozes INTEGER NOT NULL DEFAULT 0,"
    " past INTEGER NOT NULL DEFAULT 0, adder INTEGER, added_at REAL, run_at REAL, started_at REAL, ended_at REAL,"
    " expires_at REAL, key TEXT, stop TEXT, reason TEXT, version TEXT, host TEXT, options TEXT, handle, progress,"
    " output, item, UNIQUE(queue, id));" DUE_INDEXES
    "CREATE INDEX ltsh_keyed ON ltsh_tasks(queue, key, priority DESC, place) WHERE state = 1 AND key IS NOT NULL;"
    "CREATE INDEX ltsh_suspect ON ltsh_tasks(queue, priority DESC, place) WHERE state = 7;"
    "CREATE INDEX ltsh_delayed ON ltsh_tasks(queue, run_at) WHERE state = 0;"
    "CREATE INDEX ltsh_expiring ON ltsh_tasks(queue, expires_at) WHERE expires_at IS NOT NULL;"
    "CREATE INDEX ltsh_running ON ltsh_tasks(queue, owner, key) WHERE state >= 2 AND state <= 3;"
    "CREATE INDEX ltsh_ended ON ltsh_tasks(queue, state) WHERE ended_at IS NOT NULL;" TURNS
    /* Items that are not written anew with each transition, being large. */
    "CREATE TABLE ltsh_items(task INTEGER PRIMARY KEY, item);"
    /* Runs that are over and were not the last. */
    "CREATE TABLE ltsh_runs(task INTEGER NOT NULL, run INTEGER NOT NULL, started_at REAL, ended_at REAL, reason TEXT,"
    " version TEXT, host TEXT, PRIMARY KEY(task, run)) WITHOUT ROWID;"
    /* Ids that were added with `once`, remembered longer than their tasks. */
    "CREATE TABLE ltsh_once(queue INTEGER NOT NULL, id TEXT NOT NULL, added_at REAL NOT NULL,"
    " PRIMARY KEY(queue, id)) WITHOUT ROWID;"
    "CREATE INDEX ltsh_once_old ON ltsh_once(queue, added_at);"
    /* Schedulers that are at work on a queue. `lock` is the end of the name of a file that their process holds locked for
     * as long as it lives; `mark` changes while it can write; -1: it was given up, and what it ran is another's. */
    "CREATE TABLE ltsh_owners(owner INTEGER PRIMARY KEY, queue INTEGER NOT NULL, host TEXT NOT NULL, lock TEXT NOT "
    "NULL,"
    " lease REAL NOT NULL, mark INTEGER NOT NULL DEFAULT 0, since REAL NOT NULL);"
    /* What an owner is told: a task ended (kind 0), is to be stopped (1), was given to
     * another (2), or was deleted (3, with its id). */
    "CREATE TABLE ltsh_news(news INTEGER PRIMARY KEY, owner INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " task INTEGER NOT NULL, run INTEGER NOT NULL, id TEXT);"
    "CREATE INDEX ltsh_news_of ON ltsh_news(owner);"
    /* Who waits for the end of a task that he did not add. */
    "CREATE TABLE ltsh_watchers(task INTEGER NOT NULL, owner INTEGER NOT NULL, PRIMARY KEY(task, owner)) WITHOUT ROWID;"
    /* Outputs that ltsh.persister.sqlite saved. */
    "CREATE TABLE ltsh_outputs(name TEXT NOT NULL, id TEXT NOT NULL, run INTEGER NOT NULL, output,"
    " PRIMARY KEY(name, id)) WITHOUT ROWID;"
    /* Of ltsh.every: the last slot that was called. */
    "CREATE TABLE ltsh_slots(name TEXT PRIMARY KEY, schedule TEXT NOT NULL, time INTEGER NOT NULL) WITHOUT ROWID;"
    /* For people. */
    "CREATE VIEW ltsh_view AS SELECT q.name AS queue, t.id, CASE t.state WHEN 2 THEN 'running' WHEN 3 THEN 'exporting'"
    " WHEN 4 THEN 'success' WHEN 5 THEN 'failed' WHEN 6 THEN 'stopped' ELSE 'waiting' END AS status, t.priority, t.key,"
    " t.attempts, t.run, t.reason, t.host, t.added_at, t.run_at, t.started_at, t.ended_at, t.progress, t.output,"
    " CASE WHEN typeof(t.item) = 'integer' THEN i.item ELSE t.item END AS item"
    " FROM ltsh_tasks t JOIN ltsh_queues q USING(queue) LEFT JOIN ltsh_items i ON i.task = t.seq;";

const char *const lt_migrations[] = {
    "",
    /* to 2: what is due without a key has an index of its own */
    "DROP INDEX ltsh_due;" DUE_INDEXES "UPDATE ltsh_queues SET version = 2 WHERE queue = 0;",
    /* to 3: turns */
    TURNS "ALTER TABLE ltsh_queues ADD COLUMN " FAIR ";UPDATE ltsh_queues SET version = 3 WHERE queue = 0;",
    /* to 4: limits */
    ADD_LIMITS "UPDATE ltsh_queues SET version = 4 WHERE queue = 0;",
};

#define ROW                                                                                                            \
    "seq, id, state, priority, place, run, owner, attempts, lost, snoozes, added_at, run_at, started_at, ended_at,"    \
    " expires_at, key, reason, version, host, options, handle, progress, output, item, stop, adder"

const char lt_row_columns[] = ROW;

#define DUE_KEYLESS " FROM ltsh_tasks WHERE queue = ?1 AND state = 1 AND key IS NULL"
#define DUE_KEYED " FROM ltsh_tasks WHERE queue = ?1 AND state = 1 AND key IS NOT NULL"

const char *const lt_statement_texts[LT_STATEMENTS] = {
    [LT_ST_BEGIN] = "BEGIN IMMEDIATE",
    [LT_ST_BEGIN_READ] = "BEGIN",
    [LT_ST_COMMIT] = "COMMIT",
    [LT_ST_SAVEPOINT] = "SAVEPOINT one",
    [LT_ST_ROLLBACK_TO] = "ROLLBACK TO one",
    [LT_ST_RELEASE] = "RELEASE one",
    [LT_ST_DATA_VERSION] = "PRAGMA data_version",
    [LT_ST_FILE] = "SELECT version, last, commits FROM ltsh_queues WHERE queue = 0",
    [LT_ST_FILE_SET] = "UPDATE ltsh_queues SET last = ?1, commits = ?2 WHERE queue = 0",
    [LT_ST_QUEUE] = "SELECT queue, paused, fair, n0, n1, n2, n3, n4, n5, n6, n7, limit_global, limit_key, limit_burst,"
                    " limit_per, tokens, tokens_at, limits_set FROM ltsh_queues WHERE name = ?1",
    [LT_ST_QUEUE_NEW] = "INSERT INTO ltsh_queues(name) VALUES(?1)",
    [LT_ST_QUEUE_SET] = "UPDATE ltsh_queues SET n0 = ?2, n1 = ?3, n2 = ?4, n3 = ?5, n4 = ?6, n5 = ?7, n6 = ?8,"
                        " n7 = ?9, limit_global = ?10, limit_key = ?11, limit_burst = ?12, limit_per = ?13, tokens ="
                        " ?14, tokens_at = ?15, limits_set = ?16 WHERE queue = ?1",
    [LT_ST_QUEUE_PAUSE] = "UPDATE ltsh_queues SET paused = ?2 WHERE queue = ?1",
    [LT_ST_QUEUE_FAIR] = "UPDATE ltsh_queues SET fair = 1 WHERE queue = ?1",
    [LT_ST_ADD] =
        "INSERT OR IGNORE INTO ltsh_tasks(seq, queue, id, state, priority, place, adder, added_at, run_at, expires_at,"
        " key, options, item) VALUES(?1, ?2, ?3, ?4, ?5, ?1, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [LT_ST_ADD_ITEM] = "INSERT INTO ltsh_items VALUES(?1, ?2)",
    [LT_ST_ITEM] = "SELECT item FROM ltsh_items WHERE task = ?1",
    [LT_ST_KNOWN] = "SELECT seq, state FROM ltsh_tasks WHERE queue = ?1 AND id = ?2",
    [LT_ST_ONCE_KNOWN] = "SELECT 1 FROM ltsh_once WHERE queue = ?1 AND id = ?2",
    [LT_ST_ONCE_ADD] = "INSERT OR REPLACE INTO ltsh_once VALUES(?1, ?2, ?3)",
    [LT_ST_ONCE_DELETE] = "DELETE FROM ltsh_once WHERE queue = ?1 AND id = ?2",
    [LT_ST_ONCE_PRUNE] = "DELETE FROM ltsh_once WHERE (queue, id) IN (SELECT queue, id FROM ltsh_once WHERE queue = ?1"
                         " AND added_at < ?2 ORDER BY added_at LIMIT ?3)",
    [LT_ST_HEAD] = "SELECT state, run, owner, adder, lost, past, id, typeof(item) FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_DELAYED_DUE] = "SELECT seq, lost FROM ltsh_tasks WHERE queue = ?1 AND state = 0 AND run_at <= ?2"
                          " ORDER BY run_at LIMIT ?3",
    [LT_ST_WAKE] = "UPDATE ltsh_tasks SET state = ?2, place = ?3 WHERE seq = ?1",
    [LT_ST_NEXT_DELAYED] = "SELECT run_at FROM ltsh_tasks WHERE queue = ?1 AND state = 0 ORDER BY run_at LIMIT 1",
    [LT_ST_EXPIRED] =
        "SELECT seq, state FROM ltsh_tasks WHERE queue = ?1 AND expires_at IS NOT NULL AND expires_at <= ?2"
        " ORDER BY expires_at LIMIT ?3",
    [LT_ST_NEXT_EXPIRY] = "SELECT expires_at FROM ltsh_tasks WHERE queue = ?1 AND expires_at IS NOT NULL"
                          " ORDER BY expires_at LIMIT 1",
    [LT_ST_FIRST_DUE] =
        "SELECT priority, place, added_at, run_at" DUE_KEYLESS
        " UNION ALL SELECT priority, place, added_at, run_at" DUE_KEYED " ORDER BY priority DESC, place LIMIT 1",
    [LT_ST_FIRST_SUSPECT] = "SELECT priority, place, seq FROM ltsh_tasks WHERE queue = ?1 AND state = 7"
                            " ORDER BY priority DESC, place LIMIT 1",
    [LT_ST_DUE_ROWS] =
        "SELECT " ROW DUE_KEYLESS " UNION ALL SELECT " ROW DUE_KEYED " ORDER BY priority DESC, place LIMIT ?2",
    [LT_ST_CLAIM_CANDIDATES] = "SELECT seq, priority, place, key" DUE_KEYLESS
                               " UNION ALL SELECT seq, priority, place, key" DUE_KEYED " ORDER BY priority DESC, place",
    [LT_ST_KEYLESS] = "SELECT seq, priority, place" DUE_KEYLESS " ORDER BY priority DESC, place LIMIT ?2 OFFSET ?3",
    [LT_ST_KEY_OF] = "SELECT key FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_NEXT_KEY] = "SELECT key FROM ltsh_tasks INDEXED BY ltsh_keyed WHERE queue = ?1 AND state = 1"
                       " AND key IS NOT NULL AND key >= ?2 ORDER BY key LIMIT 1",
    [LT_ST_KEY_FIRST] =
        "SELECT seq, priority, place FROM ltsh_tasks INDEXED BY ltsh_keyed WHERE queue = ?1 AND state = 1"
        " AND key IS NOT NULL AND key = ?2 ORDER BY priority DESC, place LIMIT ?3 OFFSET ?4",
    [LT_ST_TURNS] = "SELECT key, turn FROM ltsh_turns WHERE queue = ?1 ORDER BY turn",
    [LT_ST_TURNS_OF_KEYS] =
        "INSERT OR REPLACE INTO ltsh_turns SELECT queue, key, min(place) FROM ltsh_tasks INDEXED BY ltsh_keyed"
        " WHERE queue = ?1 AND state = 1 AND key IS NOT NULL GROUP BY key",
    [LT_ST_TURN_OF_KEYLESS] = "INSERT OR REPLACE INTO ltsh_turns SELECT queue, '', place" DUE_KEYLESS
                              " ORDER BY priority DESC, place LIMIT 1",
    [LT_ST_TURNS_OF_SUSPECTS] = "INSERT OR IGNORE INTO ltsh_turns SELECT queue, coalesce(key, ''), min(place)"
                                " FROM ltsh_tasks WHERE queue = ?1 AND state = 7 GROUP BY key",
    /* A place is a number of the same counter, and this one has just been given. */
    [LT_ST_TURN_NEW] =
        "INSERT OR REPLACE INTO ltsh_turns SELECT queue, coalesce(key, ''), place FROM ltsh_tasks t WHERE seq = ?1"
        " AND NOT EXISTS(SELECT 1 FROM ltsh_tasks o INDEXED BY ltsh_keyed WHERE o.queue = t.queue AND o.state = 1"
        " AND o.key IS NOT NULL AND o.key = t.key AND o.seq <> ?1)"
        " AND (t.key IS NOT NULL OR NOT EXISTS(SELECT 1 FROM ltsh_tasks o INDEXED BY ltsh_due WHERE o.queue = t.queue"
        " AND o.state = 1 AND o.key IS NULL AND o.seq <> ?1))",
    [LT_ST_TURN_BACK] = "INSERT INTO ltsh_turns SELECT queue, coalesce(key, ''), ?2 FROM ltsh_tasks WHERE seq = ?1"
                        " ON CONFLICT(queue, key) DO UPDATE SET turn = min(turn, excluded.turn)",
    [LT_ST_TURN_MOVE] = "UPDATE ltsh_turns SET turn = ?3 WHERE queue = ?1 AND key = ?2",
    [LT_ST_TURN_DROP] = "DELETE FROM ltsh_turns WHERE queue = ?1 AND key = ?2",
    [LT_ST_TURN_OF_SUSPECT] =
        "SELECT t.seq, t.priority, t.place, r.turn FROM ltsh_turns r CROSS JOIN ltsh_tasks t ON t.seq ="
        " (SELECT s.seq FROM ltsh_tasks s INDEXED BY ltsh_suspect_of WHERE s.queue = r.queue AND s.state = 7"
        " AND s.key IS nullif(r.key, '') ORDER BY s.priority DESC, s.place LIMIT 1)"
        " WHERE r.queue = ?1 AND r.turn <= ?2 ORDER BY r.turn LIMIT 1",
    [LT_ST_CLAIM] = "UPDATE ltsh_tasks SET state = 2, run = ?2, owner = ?3, attempts = attempts + 1, started_at = ?4,"
                    " host = ?5, expires_at = NULL, ended_at = NULL, stop = NULL, version = NULL WHERE seq = ?1",
    [LT_ST_TAKE] = "UPDATE ltsh_tasks SET state = 2, run = ?2, owner = ?3, attempts = attempts + 1, started_at = ?4,"
                   " host = ?5, expires_at = NULL, ended_at = NULL, stop = NULL, version = NULL WHERE seq = ?1"
                   " AND state = 1 AND run = ?6",
    [LT_ST_RUNNING_COUNT] = "SELECT count(*) FROM ltsh_tasks WHERE queue = ?1 AND state >= 2 AND state <= 3",
    [LT_ST_RUNNING_OF] =
        "SELECT count(*) FROM ltsh_tasks WHERE queue = ?1 AND owner = ?2 AND state >= 2 AND state <= 3",
    [LT_ST_RUNNING_KEYS] = "SELECT key, count(*) FROM ltsh_tasks WHERE queue = ?1 AND key IS NOT NULL"
                           " AND state >= 2 AND state <= 3 GROUP BY key",
    [LT_ST_ORPHANS] =
        "SELECT " ROW " FROM ltsh_tasks WHERE queue = ?1 AND owner = 0 AND state >= 2 AND state <= 3 LIMIT ?2",
    [LT_ST_TAKE_ALL_OVER] =
        "UPDATE ltsh_tasks SET owner = ?2 WHERE queue = ?1 AND owner = 0 AND state >= 2 AND state <= 3",
    [LT_ST_TAKE_OVER] = "UPDATE ltsh_tasks SET owner = ?2 WHERE seq = ?1",
    [LT_ST_END] = "UPDATE ltsh_tasks SET state = ?2, ended_at = ?3, reason = ?4, output = ?5, progress ="
                  " coalesce(?6, progress), version = coalesce(?7, version), expires_at = NULL WHERE seq = ?1"
                  " AND run = ?8 AND owner IS ?9 AND state = ?10",
    [LT_ST_MARK_EXPORTING] = "UPDATE ltsh_tasks SET state = 3 WHERE seq = ?1",
    [LT_ST_WAIT] =
        "UPDATE ltsh_tasks SET state = ?2, place = ?3, run_at = ?4, reason = ?5, attempts = attempts - ?6,"
        " lost = lost + ?7, snoozes = CASE WHEN ?8 THEN min(snoozes + 1, 255) ELSE 0 END, past = ?9, version ="
        " coalesce(?10, version), handle = NULL, progress = NULL, output = NULL, stop = NULL WHERE seq = ?1",
    [LT_ST_WAIT_AS_BEFORE] =
        "UPDATE ltsh_tasks SET state = CASE WHEN lost > 0 THEN 7 ELSE 1 END, attempts = attempts - 1,"
        " run = CASE WHEN attempts = 1 AND lost = 0 AND snoozes = 0 THEN 0 ELSE run END,"
        " started_at = CASE WHEN attempts = 1 AND lost = 0 AND snoozes = 0 THEN NULL ELSE started_at END,"
        " handle = NULL, progress = NULL, output = NULL, stop = NULL WHERE seq = ?1",
    [LT_ST_RETRY] = "UPDATE ltsh_tasks SET state = ?2, place = ?3, run_at = ?4, reason = ?5, attempts = 0, lost = 0,"
                    " snoozes = 0, past = ?6, handle = NULL, progress = NULL, output = NULL, stop = NULL,"
                    " started_at = NULL, ended_at = NULL, version = NULL, owner = NULL, host = NULL WHERE seq = ?1",
    [LT_ST_UPDATE] = "UPDATE ltsh_tasks SET handle = ?4, progress = ?5 WHERE seq = ?1 AND run = ?2 AND owner = ?3"
                     " AND state >= 2 AND state <= 3",
    [LT_ST_ASK_STOP] = "UPDATE ltsh_tasks SET stop = ?2 WHERE seq = ?1",
    [LT_ST_REMEMBER_RUN] = "INSERT OR REPLACE INTO ltsh_runs SELECT seq, run, started_at, coalesce(?2, ended_at),"
                           " coalesce(?3, reason), coalesce(?4, version), host FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_PRUNE_RUNS] = "DELETE FROM ltsh_runs WHERE task = ?1 AND run <="
                         " (SELECT run FROM ltsh_runs WHERE task = ?1 ORDER BY run DESC LIMIT 1 OFFSET ?2)",
    [LT_ST_DELETE] = "DELETE FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_DELETE_ITEM] = "DELETE FROM ltsh_items WHERE task = ?1",
    [LT_ST_DELETE_WATCHERS] = "DELETE FROM ltsh_watchers WHERE task = ?1",
    [LT_ST_DELETE_RUNS] = "DELETE FROM ltsh_runs WHERE task = ?1",
    [LT_ST_GET] = "SELECT " ROW " FROM ltsh_tasks WHERE queue = ?1 AND id = ?2",
    [LT_ST_GET_SEQ] = "SELECT " ROW " FROM ltsh_tasks WHERE seq = ?1",
    [LT_ST_RUNS] =
        "SELECT run, started_at, ended_at, reason, version, host FROM ltsh_runs WHERE task = ?1 ORDER BY run",
    [LT_ST_OLD_ENDED] = "SELECT seq, added_at, ended_at FROM ltsh_tasks WHERE queue = ?1 AND state = ?2"
                        " AND ended_at IS NOT NULL AND seq > ?3 ORDER BY seq LIMIT ?4",
    [LT_ST_OWNER_NEW] =
        "INSERT INTO ltsh_owners(owner, queue, host, lock, lease, since) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
    [LT_ST_OWNERS] = "SELECT owner, queue, lock, lease, mark FROM ltsh_owners",
    [LT_ST_HOSTS] =
        "SELECT owner, host, lock, lease, mark, (SELECT count(*) FROM ltsh_tasks t INDEXED BY ltsh_running WHERE"
        " t.queue = ?1 AND t.owner = o.owner AND t.state >= 2 AND t.state <= 3) FROM ltsh_owners o WHERE o.queue = ?1"
        " ORDER BY owner",
    [LT_ST_OWNER_MARK] = "UPDATE ltsh_owners SET mark = mark + 1 WHERE owner = ?1 AND mark >= 0",
    [LT_ST_OWNER_GIVE_UP] = "UPDATE ltsh_owners SET mark = -1 WHERE owner = ?1",
    [LT_ST_OWNER_GONE] = "DELETE FROM ltsh_owners WHERE owner = ?1",
    [LT_ST_OWNER_LOST] =
        "UPDATE ltsh_tasks SET owner = 0 WHERE queue = ?1 AND owner = ?2 AND state >= 2 AND state <= 3",
    [LT_ST_OWNER_TELL_LOST] = "INSERT INTO ltsh_news(owner, kind, task, run) SELECT owner, 2, seq, run FROM ltsh_tasks"
                              " WHERE queue = ?1 AND owner = ?2 AND state >= 2 AND state <= 3",
    [LT_ST_NEWS_DROP] = "DELETE FROM ltsh_news WHERE owner = ?1",
    [LT_ST_NEWS_ADD] = "INSERT INTO ltsh_news(owner, kind, task, run, id) SELECT owner, ?2, ?3, ?4, ?5 FROM ltsh_owners"
                       " WHERE owner = ?1",
    [LT_ST_NEWS] = "SELECT n.news, n.kind, n.task, n.run, t.adder, t.stop, n.id FROM ltsh_news n"
                   " LEFT JOIN ltsh_tasks t ON t.seq = n.task WHERE n.owner = ?1 ORDER BY n.news LIMIT 1000",
    [LT_ST_NEWS_READ] = "DELETE FROM ltsh_news WHERE owner = ?1 AND news <= ?2",
    [LT_ST_WATCH_ADD] = "INSERT OR IGNORE INTO ltsh_watchers VALUES(?1, ?2)",
    [LT_ST_WATCHERS] = "SELECT owner FROM ltsh_watchers WHERE task = ?1",
    [LT_ST_OWNER_MOVE_WATCHES] = "UPDATE OR REPLACE ltsh_watchers SET owner = ?2 WHERE owner = ?1",
    [LT_ST_OWNER_MOVE_TASKS] = "UPDATE ltsh_tasks SET adder = ?2 WHERE adder = ?1 AND ended_at IS NULL",
    [LT_ST_SAVE_OUTPUT] = "INSERT OR REPLACE INTO ltsh_outputs VALUES(?1, ?2, ?3, ?4)",
    [LT_ST_LOAD_OUTPUT] = "SELECT output FROM ltsh_outputs WHERE name = ?1 AND id = ?2",
    [LT_ST_ROW_OUTPUT] = "SELECT output FROM ltsh_tasks WHERE id = ?2 AND queue = (SELECT queue FROM ltsh_queues"
                         " WHERE name = ?1)",
    [LT_ST_ERASE_OUTPUT] = "DELETE FROM ltsh_outputs WHERE name = ?1 AND id = ?2",
};
