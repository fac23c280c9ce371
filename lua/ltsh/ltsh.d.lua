---@meta ltsh

-- Annotations for editors with the Lua language server. spec/annotations_spec.lua holds them against the real thing.
-- Durations are in seconds, with fractions; times are Unix times in seconds; sizes are in bytes. What can fail at run time
-- returns nil, a message and a code; misuse raises.

---@class ltsh
---@field version string The version of the host, e.g. "0.1.0".
local ltsh = {}

--------------------------------------------------------------------------------------------------------------------------
-- Time and jobs

---@class ltsh.ConsoleOptions
---@field schedulers? ltsh.Scheduler[] Which (default: all of the process, those made later too).
---@field host? string An address (default "127.0.0.1").
---@field port? integer 0: a free one (default 8000).
---@field token? string Who has it may use it. On an address that others reach one is made if there is none.
---@field allowed_hosts? string[] Further names of the Host header.
---@field base_path? string The path below which it is (default "/").
---@field read_only? boolean It shows, and changes nothing (default false).
---@field open? string[] Paths without the token, as "/metrics".
---@field redact? fun(task: ltsh.Task): table? What may be shown of a task.
---@field title? string The name of the page.
---@field hold? boolean Whether it keeps the process going (default true).

---@class ltsh.Console
---@field url string Where it is.
---@field port integer The port that it has.
---@field token? string The token that is asked for.
local Console = {}

---Ends it.
function Console:close() end

---A web page and a REST interface over schedulers. Raises if the address cannot be had.
---@param options? ltsh.ConsoleOptions
---@return ltsh.Console
function ltsh.console(options) end

---HTTP servers and requests of scripts.
---@class ltsh.http
ltsh.http = {}

---@class ltsh.HttpServerOptions
---@field host? string An address (default "127.0.0.1").
---@field port? integer 0: a free one (default).
---@field routes? table<string, fun(request: ltsh.HttpRequest): ltsh.HttpAnswer> By method and path: "GET /tasks/:id", "* /files/*rest".
---@field files? table<string, string> Folders by the beginning of a path: ["/static/"] = "public".
---@field max_body? integer|string Bytes of a request's body (default "1M").
---@field max_header? integer|string Bytes of a request's head (default "32K").
---@field timeout? number Seconds for a request to be whole (default 30).
---@field idle_timeout? number Seconds that a connection may be idle (default 60).
---@field handler_timeout? number Seconds for a handler (default 60).
---@field max_connections? integer Those beyond are closed at once (default 10000).
---@field allowed_hosts? string[] Names of the Host header that are answered (default: any).
---@field hold? boolean Whether it keeps the process going (default true).

---@class ltsh.HttpRequest
---@field method string GET, POST, ...
---@field path string Decoded.
---@field params table<string, string> What :name and *rest of the route stand for, decoded.
---@field query table<string, string> The last value of each name.
---@field query_all table<string, string[]> Each value of each name.
---@field headers table<string, string> Under any spelling.
---@field body string All of it.
---@field json any The body, decoded; one that is no JSON is answered with 400.
---@field remote string The client's address.

---@class ltsh.HttpEvent
---@field event? string Its name.
---@field data? any A text, or a value as JSON.
---@field id? string|integer What a client says when it comes back.
---@field retry? integer Milliseconds after which a client comes back.
---@field comment? string A line that no client tells of.

---@class ltsh.HttpAnswer
---@field status? integer 200, or 204 without a body.
---@field headers? table<string, string|number|string[]> A list: one line for each.
---@field body? string A text.
---@field json? any A value, instead of a body.
---@field file? string The path of a file; below `folder`, if that is given.
---@field folder? string Nothing leads out of it.
---@field events? fun(send: fun(event: ltsh.HttpEvent|string): boolean?) `send` waits for room and returns nil when the client has gone.

---@class ltsh.HttpServer
---@field url string Where it is.
---@field port integer The port that it has.
local HttpServer = {}

---Takes no more requests, lets those under way be answered, and waits until all is over.
---@param options? { drain: number }
function HttpServer:close(options) end

---An HTTP server. Raises if the address cannot be had.
---@param options ltsh.HttpServerOptions
---@return ltsh.HttpServer
function ltsh.http.server(options) end

---@class ltsh.HttpOptions
---@field url string http or https.
---@field method? string GET, or POST with a body.
---@field headers? table<string, string|number> Names and values.
---@field body? string What is sent.
---@field json? any A value that is sent as JSON, instead of a body.
---@field unix? string The path of a socket to connect to.
---@field timeout? number Seconds (default 60).
---@field connect_timeout? number Seconds (default 10).
---@field max_body? integer|string Bytes of the answer (default "64M").
---@field to_file? string Where the body goes.
---@field redirects? integer How many are followed (default 10).
---@field ca_file? string Certificates to trust.
---@field insecure? boolean Trust any certificate.

---@class ltsh.HttpResponse
---@field status integer 200, 404, ...
---@field headers table<string, string> Under any spelling.
---@field cookies string[] Each Set-Cookie.
---@field body string Empty with to_file.
---@field url string Where it came from in the end.
local HttpResponse = {}

---The body as JSON.
---@return any, string?
function HttpResponse:json() end

---One request. Codes: timeout, network, tls, too_large, bad_url, error. A status of 400 or more is an answer.
---@param options ltsh.HttpOptions
---@return ltsh.HttpResponse?, string?, string?
function ltsh.http.request(options) end

---The same with GET; a text is the address.
---@param options string|ltsh.HttpOptions
---@return ltsh.HttpResponse?, string?, string?
function ltsh.http.get(options) end

---The same with POST.
---@param options string|ltsh.HttpOptions
---@return ltsh.HttpResponse?, string?, string?
function ltsh.http.post(options) end

---SQLite databases for scripts: calls wait, and the host goes on.
---@class ltsh.sqlite
ltsh.sqlite = {}

---Opens a database; the file is made if there is none.
---@param path string
---@param options? { timeout: number } Seconds that a call waits while another process holds it (default: as long as it takes)
---@return ltsh.Database? database
---@return string? message
---@return integer? code Of SQLite
function ltsh.sqlite.open(path, options) end

---A text to be stored as a blob.
---@param text string
---@return table blob
function ltsh.sqlite.blob(text) end

---A database, or one of its prepared statements, whose methods take no text. Parameters are `?` by position, or `:name` by one
---table.
---@class ltsh.Database
local database = {}

---Runs all statements of a text: how many rows they inserted, updated or deleted.
---@return integer? changes
---@return string? message
---@return integer? code
function database:exec(sql, ...) end

---An iterator over the rows of a query, tables by column.
function database:rows(sql, ...) end

---The first row of a query.
---@return table? row
function database:row(sql, ...) end

---The only value of the first row of a query.
function database:value(sql, ...) end

---A statement with the same methods.
---@return ltsh.Database statement
function database:prepare(sql) end

---Calls fn(database) in a transaction: committed when it returns, rolled back when it raises or its task ends. Others wait meanwhile.
function database:transaction(fn) end

---Closes it, when what was begun is done.
function database:close() end

---@class ltsh.Every What ltsh.every takes beside its schedule.
---@field tz? string The time zone of a cron expression, as "Europe/Berlin" (default: that of the process).
---@field catch_up? boolean The newest time that was missed is made up for, with one call (default false).
---@field overlap? boolean Called also while the last call is at work (default false).
---@field name? string By which its times are found in `store`.
---@field store? string|ltsh.Container A file, or a durable container, with the time of the last call, for `catch_up` over a restart.

---Calls a function at the times of a schedule, in a job of its own. It holds the process.
---@param schedule number|string Seconds, or a cron expression: "0 3 * * *", "@daily"
---@param fn fun(time: number) Gets the time that it is called for: whole seconds for cron, the same on every host
---@param options? ltsh.Every
---@return fun() stop Ends it; calls in progress go on
function ltsh.every(schedule, fn, options) end

---Waits for so many seconds (0: lets others run first). Where one cannot wait it raises.
---@param seconds number 0 or more, fractions allowed
function ltsh.sleep(seconds) end

---The time now: Unix time in seconds, with fractions.
---@return number time
function ltsh.now() end

---What ltsh.reload found.
---@class ltsh.Reloaded
---@field changed string[] The files whose new version is in use.
---@field failed table<string, string> Those that stay as they were, with the reason.

---Looks at every module file that was loaded, and takes up those that changed: what runs goes on in its version.
---@return ltsh.Reloaded
function ltsh.reload() end

---Runs a function beside the caller, at once until it first waits. An error that nobody waits for is logged.
---@param fn fun(...): ...
---@param ... any its arguments
---@return ltsh.Job
function ltsh.spawn(fn, ...) end

---Calls fn(done) and waits until done(...) is called, by a callback of luv or whoever; returns what it was given.
---What fn returns is what is behind the wait: when that is given up (a timeout, a stop), a function is called, a request
---of luv is cancelled, a handle closed. If fn returns nil and a message, that is the result, and nothing is waited for.
---@param fn fun(done: fun(...)): any
---@return any ...
function ltsh.await(fn) end

---A function that ltsh.spawn runs.
---@class ltsh.Job
local Job = {}

---Waits for the end. Returns what the function returned; nil and the error if it raised; nil, "cancelled", "cancelled".
---@return any ...
function Job:wait() end

---Makes its waiting calls raise; at the second one it is ended. Returns whether it was still running.
---@return boolean running
function Job:cancel() end

--------------------------------------------------------------------------------------------------------------------------
-- Tasks

---The states of a task.
---@alias ltsh.Status
---| "unstarted" # known to its container, not yet added
---| "waiting"
---| "running"
---| "exporting" # it has succeeded, its output is being saved
---| "success"
---| "failed"
---| "stopped"
---| "deleted"

---Plain data: booleans, numbers, strings, ltsh.json.null and tables of those.
---@alias ltsh.Data boolean|number|string|table|lightuserdata

---A failure: a reason, or a table that says more. A function of a task or module may `return nil, failure` or raise it.
---@alias ltsh.Failure string|ltsh.FailureTable

---@class ltsh.FailureTable
---@field reason? string What went wrong.
---@field retry? boolean false: no further attempt is made.
---@field retry_after? number Seconds until the next attempt, in place of the backoff.
---@field snooze? number|true Not a failure: it is tried again after so many seconds, and no attempt is used. true: after 1 s, doubling to 30 s.

---The wait before a retry grows by a factor with each attempt.
---@class ltsh.Backoff
---@field base number Seconds before the first retry.
---@field factor? number What each further wait is multiplied with, 1 or more (default 2).
---@field max? number Seconds that a wait is at most (default: no bound).
---@field jitter? number How far a wait may be off by chance, a part from 0 to 1 (default 0.1).

---A task as it is given to `scheduler:add`.
---@class ltsh.NewTask
---@field id? string 1 to 255 bytes of UTF-8 without control characters; made up if absent. One that has not ended is refused.
---@field item? ltsh.Data What the actuator works on.
---@field priority? integer Higher first (default 0); for containers that have priorities.
---@field delay? number Seconds until it may begin.
---@field run_at? number The time from which it may begin, Unix time in seconds.
---@field expires? number Seconds within which it must have begun; else it fails with the reason "expired".
---@field key? string What key_limit and rate go by, 1 to 255 bytes.
---@field timeout? number Seconds that a run may take, in place of the scheduler's.
---@field max_retries? integer Further attempts after a failed one, in place of the scheduler's.
---@field backoff? number|ltsh.Backoff Seconds before a retry, in place of the scheduler's.
---@field once? boolean Refused also if a task of this id has ended and is still known.

---A task as it was at one moment. `pairs` goes over the fields that are set; assigning one changes only this object.
---@class ltsh.Task
---@field id string Its name, 1 to 255 bytes.
---@field item? ltsh.Data What the actuator works on.
---@field priority integer Higher first.
---@field status ltsh.Status Its state.
---@field attempts integer Runs that counted.
---@field run? integer The number of its latest run: new for each, and never used again.
---@field reason? string Why it failed or was stopped; of a task that waits again, why its last run failed.
---@field output? ltsh.Data What the run returned.
---@field progress? ltsh.Data What the run reported last.
---@field handle? ltsh.Data The actuator's own, e.g. a container's id.
---@field version? string The version of the module that ran it.
---@field host? string The host that ran it.
---@field key? string What key_limit and rate go by.
---@field timeout? number Seconds that a run may take, if it has its own.
---@field max_retries? integer Further attempts, if it has its own.
---@field backoff? number|ltsh.Backoff Seconds before a retry, if it has its own.
---@field once? boolean Whether it was added with `once`.
---@field added_at? number When it was added, Unix time in seconds.
---@field run_at? number When it may begin (again), Unix time in seconds.
---@field expires_at? number By when it must have begun, Unix time in seconds.
---@field started_at? number When its latest run began, Unix time in seconds.
---@field ended_at? number When it ended, Unix time in seconds.
---@field lost integer How often it was lost with its host.
local Task = {}

---In a func task: tells how far it is. Returns nil, a message and "stale" if this run is over.
---@param progress ltsh.Data
---@return true? ok
---@return string? message
---@return string? code
function Task:report(progress) end

---In a func task: whether it was told to end, and why.
---@return boolean cancelled
---@return string? why
function Task:cancelled() end

---One run of a task.
---@class ltsh.Run
---@field run integer Its number.
---@field status? ltsh.Status The task's state, in the present or latest run.
---@field start? number When it began, Unix time in seconds.
---@field end? number When it ended, Unix time in seconds.
---@field reason? string Why it failed or was stopped.
---@field version? string The version of the module that ran it.
---@field host string The name of the host that ran it.

--------------------------------------------------------------------------------------------------------------------------
-- Schedulers

---Makes a scheduler. It lives, also if nobody refers to it, until its tasks have ended.
---@param options ltsh.SchedulerOptions
---@return ltsh.Scheduler
function ltsh.scheduler(options) end

---Starts as token bucket: so many at once, refilled over `per` seconds.
---@class ltsh.Rate
---@field [1] integer The number of starts.
---@field per number Seconds.
---@field key? boolean true: for each key by itself.

---How much of ended tasks is remembered.
---@class ltsh.Keep
---@field tasks? integer The number of tasks (default 10000).
---@field bytes? integer|string Bytes, or a size such as "64M" (the default).

---What `scheduler:set` can change.
---@class ltsh.ChangeableOptions
---@field limit? integer Tasks that run or export at once (default 1).
---@field global_limit? integer The limit over all schedulers on the queue, for containers that several hosts share.
---@field key_limit? integer|false|fun(key: string): number Tasks of the same key that run at once (default: no limit).
---@field rate? ltsh.Rate|false How many tasks start in how many seconds (default: no limit).
---@field timeout? number|false Seconds that a run may take (default: no limit). Then it is stopped and fails with the reason "timeout".
---@field export_timeout? number Seconds for `output` and `save` together (default 60).
---@field max_retries? integer Further attempts after a failed one (default 0).
---@field backoff? number|ltsh.Backoff|fun(attempt: integer, reason: string, task: ltsh.Task): number Seconds before a retry (default 0).
---@field max_lost? integer Times that a task may be lost with its host before it fails with the reason "lost" (default 3).
---@field schedule_interval? number Seconds between two questions to a container that cannot announce work (default 1).
---@field poll_interval? number|false Seconds between two status polls of running tasks; false: none. Default: none for built-in actuators, else 1, or 10 with `attach`.
---@field container_timeout? number Seconds that one call of a Lua container may take (default 30).
---@field callback_timeout? number Seconds that one call of any other Lua method or handler may take (default 30).
---@field max_stall? number Seconds that Lua code may hold the loop where it cannot be preempted (default 0.25).
---@field shutdown_grace? number Seconds that running tasks have to end when the process ends (default 10).
---@field on_shutdown? "stop"|"leave" What becomes of tasks that outlast it (default "stop"); "leave": durable ones whose actuator has `recover` go on without the host.

---@class ltsh.SchedulerOptions: ltsh.ChangeableOptions
---@field container ltsh.Container|ltsh.LuaContainer Where tasks live. It serves one scheduler.
---@field actuator ltsh.Actuator|ltsh.LuaActuator What runs tasks.
---@field persister? ltsh.Persister|ltsh.LuaPersister Where outputs are saved (default: nowhere).
---@field name? string In logs and metrics (default "scheduler-N").
---@field callback? boolean|ltsh.LuaReceiver true: the actuator pushes changes (default if it has `attach`); or a receiver.
---@field finished_size? integer Length of the finished list; 0: none (default 10000).
---@field on_lease_lost? "stop"|"continue" For containers that several hosts share: what becomes of work whose lease cannot be renewed (default "stop": it is ended before another host may begin it); "continue": it goes on, and its end counts if nobody has taken it over.
---@field keep? ltsh.Keep Ended tasks that `get` still knows, in memory containers.

---What can happen to a task, see `scheduler:on`.
---@alias ltsh.Event "added"|"started"|"progress"|"output"|"retried"|"finished"

---Codes of what can fail, the third result.
---@alias ltsh.Code string

---@class ltsh.ListOptions
---@field status? ltsh.Status Only tasks in this state.
---@field key? string Only tasks of this key.
---@field limit? integer How many at most (default 1000).
---@field offset? integer How many are left out at the beginning (default 0).
---@field order? "oldest"|"newest" In the order of adding (the default), or the other way round.

---@class ltsh.CountOptions
---@field status? ltsh.Status Only tasks in this state.

---@class ltsh.CloseOptions
---@field drain? number Seconds that running tasks have to end (default 0).

---A process that has schedulers on a queue.
---@class ltsh.QueueHost
---@field name string Of its machine.
---@field version? string Of ltsh; nil: not known.
---@field pid? integer Of the process; nil: not known.
---@field heartbeat number When it last showed that it lives, Unix seconds by the clock of who asks.
---@field lease_end? number Until when that is believed; nil: there are no leases.
---@field running integer Tasks of the queue that it runs or exports.
---@field self boolean It is this process.

---Figures of a scheduler; counts are since it was made.
---@class ltsh.Stats
---@field waiting? integer Tasks that could begin. nil, as `delayed`, if the container cannot count.
---@field delayed? integer Tasks that wait for their time.
---@field running integer Tasks that run.
---@field exporting integer Tasks whose output is being saved.
---@field success integer Tasks that have succeeded.
---@field failed integer Tasks that have failed.
---@field stopped integer Tasks that were stopped.
---@field retried integer Attempts that were followed by another.
---@field finished_dropped integer Ends that fell out of the full finished list.
---@field stale integer Changes of runs that were over already.
---@field abandoned integer Worker threads that did not come back from a C function.
---@field oldest_waiting number Seconds that the oldest waiting task has been waiting.
---@field wait ltsh.Quantiles Seconds from due to start.
---@field run ltsh.Quantiles Seconds from start to end.
---@field rate number Ends a second, over the last ten seconds.

---@class ltsh.Quantiles
---@field p50 number The median, in seconds.
---@field p99 number What one in a hundred exceeds, in seconds.

---Runs the tasks of its container with its actuator. All methods may wait.
---@class ltsh.Scheduler
local Scheduler = {}

---Adds a task. Codes: exists, full, closed, unstorable, refused.
---@param task ltsh.NewTask|ltsh.Task
---@param seconds? number how long to wait for room (default 0)
---@return string? id
---@return string? message
---@return ltsh.Code? code
function Scheduler:add(task, seconds) end

---Adds all tasks of a list, or none.
---@param tasks (ltsh.NewTask|ltsh.Task)[]
---@param seconds? number how long to wait for room (default 0)
---@return string[]? ids
---@return string? message
---@return ltsh.Code? code
function Scheduler:add_all(tasks, seconds) end

---The task of this id, if it is known.
---@param id string
---@return ltsh.Task? task
---@return string? message
---@return ltsh.Code? code
function Scheduler:get(id) end

---The tasks that are known, in the order of adding.
---@param options? ltsh.ListOptions
---@return ltsh.Task[]? tasks
---@return string? message
---@return ltsh.Code? code
function Scheduler:list(options) end

---How many tasks are known.
---@param options? ltsh.CountOptions
---@return integer? count
---@return string? message
---@return ltsh.Code? code
function Scheduler:count(options) end

---The hosts on the queue, in the order in which they came; of a container that hosts do not share, this one.
---@return ltsh.QueueHost[]? hosts
---@return string? message
---@return ltsh.Code? code
function Scheduler:hosts() end

---The output of a task: from the persister, else what is kept.
---@param id string
---@return ltsh.Data? output
---@return string? message
---@return ltsh.Code? code
function Scheduler:output(id) end

---The runs of a task, the oldest first.
---@param id string
---@return ltsh.Run[]? runs
---@return string? message
---@return ltsh.Code? code
function Scheduler:history(id) end

---Waits until a task has ended. Codes: timeout, unknown.
---@param id string
---@param seconds? number how long at most (default: as long as it takes)
---@return ltsh.Task? task
---@return string? message
---@return ltsh.Code? code
function Scheduler:wait(id, seconds) end

---Stops a task, and returns it when it is dead.
---@param id string
---@param reason? string
---@return ltsh.Task? task
---@return string? message
---@return ltsh.Code? code
function Scheduler:stop(id, reason) end

---Lets a task that has ended run again, as if it was new.
---@param id string
---@return ltsh.Task? task
---@return string? message
---@return ltsh.Code? code
function Scheduler:retry(id) end

---Forgets a task that does not run, and its saved output.
---@param id string
---@return true? ok
---@return string? message
---@return ltsh.Code? code
function Scheduler:delete(id) end

---Goes over the tasks that have ended here, each once: `for task in scheduler:finished() do`. It waits for the next one, and
---ends when none is left to end.
---@return fun(): ltsh.Task?
function Scheduler:finished() end

---Says why a task is where it is: a sentence for people, and one of the codes due, limit, rate, key, delayed, paused,
---capacity, down, running, exporting, stopping, ended, unknown.
---@param id string
---@return string? sentence
---@return string code
---@return ltsh.Code? failed
function Scheduler:explain(id) end

---Starts no tasks from now on; with `queue = true` no host on the queue does.
---@param options? { queue?: boolean }
---@return true? ok
---@return string? message
---@return ltsh.Code? code
function Scheduler:pause(options) end

---Starts tasks again.
---@param options? { queue?: boolean }
---@return true? ok
---@return string? message
---@return ltsh.Code? code
function Scheduler:resume(options) end

---Changes options while it runs; those that cannot change raise.
---@param options ltsh.ChangeableOptions
---@return true? ok
---@return string? message
---@return ltsh.Code? code
function Scheduler:set(options) end

---How it stands.
---@return ltsh.Stats? stats
---@return string? message
---@return ltsh.Code? code
function Scheduler:stats() end

---Calls fn(task, ...) after each such change, in order. Returns a function that ends this.
---@param event ltsh.Event
---@param fn fun(task: ltsh.Task, ...)
---@return fun() remove
---@overload fun(self: ltsh.Scheduler, event: "added"|"started"|"progress"|"finished", fn: fun(task: ltsh.Task)): fun()
---@overload fun(self: ltsh.Scheduler, event: "output", fn: fun(task: ltsh.Task, stream: string, bytes: string)): fun()
---@overload fun(self: ltsh.Scheduler, event: "retried", fn: fun(task: ltsh.Task, reason: string?, delay: number)): fun()
function Scheduler:on(event, fn) end

---Waits until it is closed or the process is told to end: for services.
---@return true ok
function Scheduler:run() end

---Shows a progress bar on standard error whenever it has work. Returns a function that ends this.
---@return fun() remove
function Scheduler:progress_bar() end

---Closes it: nothing more is started, what runs is stopped, what waits in memory ends as stopped. `local scheduler <close>`
---does so too.
---@param options? ltsh.CloseOptions
---@return true ok
function Scheduler:close(options) end

--------------------------------------------------------------------------------------------------------------------------
-- Containers

---A built-in container.
---@class ltsh.Container

---@class ltsh.MemoryOptions
---@field size? integer Tasks that have not ended, at most (default 1000000).
---@field fair? boolean Keys that wait take turns; order and priorities are within a key (default false).

---@class ltsh.container
ltsh.container = {}

---In memory: first in, first out.
---@param options? ltsh.MemoryOptions
---@return ltsh.Container
function ltsh.container.queue(options) end

---In memory: higher priority first, then first in, first out.
---@param options? ltsh.MemoryOptions
---@return ltsh.Container
function ltsh.container.priority(options) end

---@class ltsh.KeepSeconds
---@field success? number Seconds for which tasks that succeeded are kept (default: for ever).
---@field failed? number Seconds for which tasks that failed are kept.
---@field stopped? number Seconds for which tasks that were stopped are kept.

---@class ltsh.SqliteOptions
---@field path string The database file; its folder must be there.
---@field queue? string Which of the queues in the file (default "default").
---@field durability? "full"|"normal" "full": what add returned survives a loss of power (default); "normal": the end of the process.
---@field keep? ltsh.KeepSeconds How long tasks are kept after their end.
---@field lease? number Seconds after which the tasks of a host that lives and does not move are another's (default 15).
---@field fair? boolean Keys that wait take turns, over all hosts on the queue that say so; order and priorities are within a key (default false).

---In an SQLite database: tasks outlive the host, and schedulers of any process of this machine share the queue. Raises if the file cannot be used.
---@param options ltsh.SqliteOptions
---@return ltsh.Container
function ltsh.container.sqlite(options) end

---@class ltsh.RedisTls
---@field ca? string A file in PEM: whose certificates are trusted (default: the system's authorities).
---@field cert? string A file in PEM: the certificate of this host, for servers that want one; with `key`.
---@field key? string A file in PEM: its key, without a password.
---@field name? string Whom the server's certificate must be for (default: the host).

---@class ltsh.RedisOptions
---@field url string|string[] redis://[user:password@]host[:port][/database], rediss:// for TLS, or unix:///path[?db=N]; a list: nodes of a Cluster, or a master and its replicas, tried in turn.
---@field sentinels? string[] Addresses of sentinels; the host of `url` is the name of the master then.
---@field tls? ltsh.RedisTls For rediss://: what is trusted, and who this host is.
---@field queue? string The name of the queue on that server (default "default").
---@field keep? ltsh.KeepSeconds How long tasks are kept after their end.
---@field lease? number Seconds after which the tasks of a host that does not renew its lease are another's (default 15).
---@field fair? boolean Keys that wait take turns, on the whole queue from then on; order and priorities are within a key (default false).
---@field wait_replicas? integer How many replicas have what `add` returned (default 0: nobody waits for them).

---On a Redis server: schedulers of any machine share the queue. Waits for the first attempt to connect: raises when the server refuses this host; else goes on trying.
---@param options ltsh.RedisOptions
---@return ltsh.Container
function ltsh.container.redis(options) end

---Tasks are in `persistent`, and `memory` says in which order they run. Every transition is stored first. Raises if they cannot be combined, as when one of two built-in ones is fair and the other is not.
---@param memory ltsh.Container|ltsh.LuaContainer One in memory; one in Lua needs add_running.
---@param persistent ltsh.Container|ltsh.LuaContainer One that is durable; one in Lua needs waiting and to_running.
---@return ltsh.Container
function ltsh.container.combine(memory, persistent) end

---Loads a container from a Lua file that returns its methods, or a function(options) that does. Raises if it cannot.
---@param path string
---@param options? any
---@return ltsh.LuaContainer
function ltsh.container.load(path, options) end

---A container written in Lua. All methods may wait. A transition returns a true value; or nil and a message, and changes
---nothing, if the task's status or run does not allow it. It has `claim`, or `waiting` and `to_running`; these, `add` and
---`running` are called alone, transitions of different tasks side by side.
---@class ltsh.LuaContainer
---@field add fun(self: ltsh.LuaContainer, task: ltsh.Task): any, string?, ltsh.Code? Takes a new task. Codes: exists, full, refused.
---@field claim? fun(self: ltsh.LuaContainer, limit: integer, full_keys: string[], admit: fun(key: string?): boolean): ltsh.Task[], number? Takes up to `limit` due tasks from waiting to running. `admit` takes the place of one task of this key, and says whether it may start. The second result: when the next one is due, Unix time in seconds.
---@field waiting? fun(self: ltsh.LuaContainer, limit: integer): ltsh.Task[] Up to `limit` due tasks; removes nothing.
---@field to_running? fun(self: ltsh.LuaContainer, task: ltsh.Task): any, string? It has been started.
---@field to_waiting fun(self: ltsh.LuaContainer, task: ltsh.Task): any, string? It waits again, not before task.run_at.
---@field to_exporting fun(self: ltsh.LuaContainer, task: ltsh.Task): any, string? It has succeeded, its output is being saved.
---@field to_success fun(self: ltsh.LuaContainer, task: ltsh.Task): any, string? It has ended well.
---@field to_failed fun(self: ltsh.LuaContainer, task: ltsh.Task, reason: string): any, string? It has failed for good.
---@field to_stopped fun(self: ltsh.LuaContainer, task: ltsh.Task): any, string? It was stopped.
---@field to_deleted fun(self: ltsh.LuaContainer, task: ltsh.Task): any, string? It is to be forgotten.
---@field update_running? fun(self: ltsh.LuaContainer, task: ltsh.Task): any, string? Its handle or progress has changed.
---@field running fun(self: ltsh.LuaContainer): ltsh.Task[] The tasks that run.
---@field running_count fun(self: ltsh.LuaContainer): integer How many run.
---@field add_running? fun(self: ltsh.LuaContainer, task: ltsh.Task): any, string? Takes a task that runs already; needed of the memory part of a combined container.
---@field attach? fun(self: ltsh.LuaContainer, announce: fun()) Gets the function to call when there is work.
---@field get? fun(self: ltsh.LuaContainer, id: string): ltsh.Task? The task of this id.
---@field list? fun(self: ltsh.LuaContainer, options: ltsh.ListOptions): ltsh.Task[] The tasks that are known.
---@field count? fun(self: ltsh.LuaContainer, options: ltsh.CountOptions): integer How many tasks are known.
---@field close? fun(self: ltsh.LuaContainer) The scheduler is closed.

---Runs a program to its end. A function of a script waits meanwhile; when it is ended, so is the program, with all that it left.
---@param options ltsh.ExecOptions As { "ls", "-l", cwd = "/" }.
---@return ltsh.ExecResult? result Whatever its exit code is; nil if it could not be started.
---@return string? message
---@return string? code
function ltsh.exec(options) end

--------------------------------------------------------------------------------------------------------------------------
-- Actuators

---A built-in actuator. It can serve several schedulers.
---@class ltsh.Actuator

---@class ltsh.FuncOptions
---@field run? fun(task: ltsh.Task): ltsh.Data?, ltsh.Failure? Runs a task, and returns its output; or nil and a failure.
---@field module? string In place of `run`: a Lua file that returns such a function, or a table with one named `run`.
---@field init? fun(task: ltsh.Task): ltsh.Task?, string? Looks at a task before it is stored, and may change it; nil and a message refuse it.
---@field workers? integer So many Lua states of their own run the module, one task each at a time (default 1).
---@field isolate? "thread"|"process" What a worker is (default "thread"). A process can be killed whatever it does.
---@field memory? integer|string The most that a worker's Lua state may use: bytes, or a text such as "64M".
---@field max_abandoned? integer With so many threads that did not come back from C, none is started (default 4).

---What a container is to be; docs/processes-and-docker.md says more. An item of a task, or what those of an actuator leave out.
---@class ltsh.DockerItem
---@field image? string With a tag, or `latest` is meant.
---@field cmd? string|string[] The program and its arguments; the image's own if it is missing.
---@field args? string[] Further arguments, after `cmd`.
---@field shell? string In place of `cmd`: a command line for /bin/sh.
---@field entrypoint? string|string[] In place of the image's.
---@field name? string Default: made from the task's id and run.
---@field env? table<string, string|number> Added to the image's.
---@field cwd? string The folder in which it starts (`working_dir` too).
---@field working_dir? string As `cwd`.
---@field user? string A name of the image's, or "uid:gid".
---@field hostname? string The name of the host that it seems to be.
---@field stdin? string Bytes that it reads; without, it has no input.
---@field stdout? "capture"|"discard" Default "capture".
---@field stderr? "capture"|"discard"|"stdout" Default "capture"; "stdout": one stream, in its order.
---@field pty? boolean Gives it a terminal.
---@field max_output? integer|string Bytes of each stream that are kept, head and tail (default 1 MiB).
---@field limits? { memory?: integer|string, cpu?: number, processes?: integer, open_files?: integer } `cpu = 1.5`: one and a half cores.
---@field memory? integer|string As `limits.memory`. No swap beyond it.
---@field cpu_percent? number As `limits.cpu`, in hundredths.
---@field pids? integer As `limits.processes`.
---@field ulimits? table<string, integer|integer[]> Soft and hard.
---@field volumes? table<string, string> A folder of the host, which must exist, or the name of a volume = where it is seen, with `:ro` to read only.
---@field exposed_ports? (string|integer)[] Ports that it listens on, as 80 or "53/udp".
---@field ports? table<string, string|integer> A port of the container, "53/udp" = one of the host, maybe with an address.
---@field network_disabled? boolean It has no network.
---@field network_mode? string "none", "bridge", "host", or the name of a network.
---@field privileged? boolean It may do what root of the host may.
---@field read_only? boolean Its root file system.
---@field init? boolean Runs a small init as process 1.
---@field cap_add? string[] Capabilities that it has beyond the usual.
---@field cap_drop? string[] Capabilities that it has not.
---@field labels? table<string, string> Of the container; names that begin with "ltsh." are the host's own.
---@field pull? "missing"|"always"|"never" Default "missing".
---@field pull_timeout? number Seconds (default 1800).
---@field auth? table Of the registry: { username =, password =, serveraddress = }.
---@field stop_signal? string|integer Default: the image's, else TERM.
---@field stop_grace? number Seconds before KILL (default 5).
---@field success_codes? integer[] Default { 0 }.
---@field no_retry_codes? integer[] Further attempts after these have no sense.
---@field keep? boolean It is not removed.
---@field host_config? table Is merged into the engine's HostConfig as it is.

---@class ltsh.ProcessOptions: ltsh.ProcessItem
---@field progress? fun(line: string, stream: "stdout"|"stderr"): ltsh.Data? Is called with each line of output, as \r or \n ends it; returns how far the task is.

---@class ltsh.DockerOptions: ltsh.DockerItem
---@field progress? fun(line: string, stream: "stdout"|"stderr"): ltsh.Data? As for processes.
---@field host? string Where the engine is (default: DOCKER_HOST, else unix:///var/run/docker.sock).
---@field tls? { ca?: string, cert?: string, key?: string } Files in PEM (default: as DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say).
---@field version? string Of the API, as "1.41" (default: DOCKER_API_VERSION, else the newest that both know).

---What a process is to be; docs/processes-and-docker.md says more. An item of a task, what those of an actuator leave out, or what ltsh.exec runs.
---@class ltsh.ProcessItem
---@field cmd? string|string[] The program and its arguments. The item itself may be such a list: { "ls", "-l" }.
---@field args? string[] Further arguments, after `cmd`.
---@field shell? string In place of `cmd`: a command line for /bin/sh.
---@field env? table<string, string|number> Added to the host's.
---@field clear_env? boolean `env` is all that it has.
---@field cwd? string The folder in which it starts (`working_dir` too).
---@field working_dir? string As `cwd`.
---@field stdin? string|{ file: string } Bytes that it reads, or a file; without, it reads from /dev/null.
---@field stdout? string|{ file: string } "capture" (default), "inherit", "discard", or the path of a file: anew at the first attempt, at its end in a retry.
---@field stderr? string|{ file: string } The same; "stdout": one stream, in its order.
---@field pty? boolean Gives it a terminal.
---@field user? string A name, or "uid:gid".
---@field group? string A name or a number.
---@field umask? string|integer In octal, as "022".
---@field nice? integer From -20 to 19.
---@field limits? { memory?: integer|string, cpu_seconds?: integer, open_files?: integer, file_size?: integer|string, processes?: integer } What it may use at most.
---@field max_output? integer|string Bytes of each stream that are kept, head and tail (default 1 MiB).
---@field stop_signal? string|integer Default "TERM".
---@field stop_grace? number Seconds before KILL (default 5).
---@field success_codes? integer[] Default { 0 }.
---@field no_retry_codes? integer[] Further attempts after these have no sense.

---@class ltsh.ExecOptions: ltsh.ProcessItem
---@field timeout? number Seconds; then it is ended, and the result has `timed_out`.
---@field stream? fun(name: "stdout"|"stderr", bytes: string) Is called with output as it comes. May wait.

---@class ltsh.ExecResult
---@field code? integer The exit code; nil if a signal ended it.
---@field signal? integer The signal that ended it.
---@field stdout? string What it put out, as far as it was kept.
---@field stderr? string The same of standard error.
---@field timed_out? boolean It was ended at its timeout.
---@field usage { user: number, system: number, max_rss: integer } Seconds and bytes that it used.

---@class ltsh.actuator
ltsh.actuator = {}

---Runs each task as a process. Its output is { code =, signal =, stdout =, stderr =, usage = }.
---@param options? ltsh.ProcessOptions
---@return ltsh.Actuator
function ltsh.actuator.process(options) end

---Runs each task as a container of a Docker Engine. Its output is { code =, oom =, stdout =, stderr = }.
---@param options? ltsh.DockerOptions
---@return ltsh.Actuator
function ltsh.actuator.docker(options) end

---Runs a Lua function for each task. What it returns is the output; nil and a failure, or an error: the run has failed.
---@param given fun(task: ltsh.Task): ltsh.Data?, ltsh.Failure?
---@return ltsh.Actuator
---@overload fun(options: ltsh.FuncOptions): ltsh.Actuator
function ltsh.actuator.func(given) end

---Loads an actuator from a Lua file that returns its methods, or a function(options) that does. Raises if it cannot.
---@param path string
---@param options? any
---@return ltsh.LuaActuator
function ltsh.actuator.load(path, options) end

---How a task stands, as an actuator or a receiver tells it.
---@class ltsh.Report
---@field status ltsh.Status Its state: "running", "success", "failed" or "stopped".
---@field reason? string Why it failed or was stopped.
---@field progress? ltsh.Data How far it is.
---@field output? ltsh.Data What it has made.
---@field retry? boolean false: a failure that no further attempt would change.
---@field retry_after? number Seconds until the next attempt.
---@field snooze? number|true Not a failure: seconds until it is tried again.

---A change of a task that is pushed.
---@class ltsh.Push: ltsh.Report
---@field id string The task.
---@field run? integer The run; one of an old run is dropped. It may be left out where the sender cannot know it.

---An actuator written in Lua. All methods may wait. It has `status`, to be polled, or `attach`, to push changes.
---@class ltsh.LuaActuator
---@field start fun(self: ltsh.LuaActuator, task: ltsh.Task): ltsh.Data?, ltsh.Failure? Starts a run. Returns a handle or true; nil and a failure: the run has failed.
---@field stop fun(self: ltsh.LuaActuator, task: ltsh.Task): any, ltsh.Failure? Returns true when the work is dead.
---@field status? fun(self: ltsh.LuaActuator, tasks: ltsh.Task[]): ltsh.Report[] How tasks stand, in their order.
---@field init? fun(self: ltsh.LuaActuator, task: ltsh.Task): ltsh.Task|ltsh.NewTask|nil, string? Called by `add` before anything is stored. May change all but the id; nil and a message: it is refused.
---@field output? fun(self: ltsh.LuaActuator, task: ltsh.Task): ltsh.Data? The output of a task that has succeeded.
---@field attach? fun(self: ltsh.LuaActuator, notify: fun(change: ltsh.Push)) Gets the function that pushes changes.
---@field recover? fun(self: ltsh.LuaActuator, task: ltsh.Task): true|ltsh.Report|nil The task ran when its host died. true: it still runs; a report: it has ended; nil: it is gone.
---@field close? fun(self: ltsh.LuaActuator) The scheduler is closed.

--------------------------------------------------------------------------------------------------------------------------
-- Persisters and receivers

---A built-in persister.
---@class ltsh.Persister

---@class ltsh.persister
ltsh.persister = {}

---@class ltsh.SqlitePersisterOptions
---@field path string The database file; its folder must be there.
---@field name? string Of this persister's outputs, among those in the file (default "default").

---In an SQLite database. Where the container is in the same file, an output is stored with the success of its task. Raises if the file cannot be used.
---@param options ltsh.SqlitePersisterOptions
---@return ltsh.Persister
function ltsh.persister.sqlite(options) end

---@class ltsh.FilesOptions
---@field dir string The folder; it is made if it is not there.

---As files in a folder: NAME.json, or NAME.msgpack where JSON does not hold the value.
---@param options ltsh.FilesOptions
---@return ltsh.LuaPersister
function ltsh.persister.files(options) end

---Loads a persister from a Lua file that returns its methods, or a function(options) that does. Raises if it cannot.
---@param path string
---@param options? any
---@return ltsh.LuaPersister
function ltsh.persister.load(path, options) end

---A persister written in Lua. All methods may wait.
---@class ltsh.LuaPersister
---@field save fun(self: ltsh.LuaPersister, task: ltsh.Task, data: ltsh.Data): any, ltsh.Failure? Saves an output; maybe twice for a run.
---@field load fun(self: ltsh.LuaPersister, task: ltsh.Task): ltsh.Data? The saved output.
---@field delete fun(self: ltsh.LuaPersister, task: ltsh.Task): any, ltsh.Failure? Forgets it.
---@field close? fun(self: ltsh.LuaPersister) The scheduler is closed.

---@class ltsh.callback
ltsh.callback = {}

---Loads a receiver from a Lua file that returns its methods, or a function(options) that does. Raises if it cannot.
---@param path string
---@param options? any
---@return ltsh.LuaReceiver
function ltsh.callback.load(path, options) end

---A receiver written in Lua. All methods may wait.
---@class ltsh.LuaReceiver
---@field receive fun(self: ltsh.LuaReceiver, push: fun(change: ltsh.Push)) Gets the function to call with changes from elsewhere.
---@field close? fun(self: ltsh.LuaReceiver) The scheduler is closed.

--------------------------------------------------------------------------------------------------------------------------
-- Log and JSON

---Lines in the host's log, on standard error. Fields are shown behind the message: { name = text, number or boolean }.
---@class ltsh.log
ltsh.log = {}

---What helps to find a fault; shown with --log-level debug.
---@param message string
---@param fields? table<string, string|number|boolean>
function ltsh.log.debug(message, fields) end

---What happens.
---@param message string
---@param fields? table<string, string|number|boolean>
function ltsh.log.info(message, fields) end

---What should be looked at.
---@param message string
---@param fields? table<string, string|number|boolean>
function ltsh.log.warn(message, fields) end

---What has gone wrong.
---@param message string
---@param fields? table<string, string|number|boolean>
function ltsh.log.error(message, fields) end

---@class ltsh.json
---@field null lightuserdata What stands for null.
ltsh.json = {}

---@class ltsh.JsonOptions
---@field pretty? boolean true: on several lines, indented.

---The JSON text of a value. Raises for what JSON cannot say, naming the place.
---@param value any
---@param options? ltsh.JsonOptions
---@return string text
function ltsh.json.encode(value, options) end

---The value of a JSON text; or nil, a message with line and column, "invalid".
---@param text string
---@return any value
---@return string? message
---@return ltsh.Code? code
function ltsh.json.decode(text) end

---Marks a table, or makes one, that is an array also when it is empty.
---@param list? any[]
---@return any[]
function ltsh.json.array(list) end

return ltsh
