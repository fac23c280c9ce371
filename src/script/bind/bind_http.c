/* core.http_server: the HTTP server of scripts. lua/ltsh/http_server.lua makes ltsh.http.server from it:
 *
 *     server = core.http_server(options, methods)     raises if the address cannot be had
 *     server:port()   server:close(drain)             the latter waits until all is over
 *     methods:handle(method, target, headers, body, remote) -> status, lines, what, a, b, c
 *         lines: whole header lines; what: a body or nil; "file", descriptor, offset, length; or "events", function
 *     methods:events(function, stream)                then: sends with stream:send(text) -> true; nil: nobody is there
 *     core.open_beneath(folder, path) -> descriptor, size, changed at; nil, message
 *
 * Each request is a call of `handle`, which may wait. The server lives until it is closed, or the script ends. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "http/server.h"
#include "script/bind/bind_core.h"
#include "script/parts/adapter.h"
#include "script/values/marks.h"

static const char *const SERVER = "ltsh.http_server";
static const char *const STREAM = "ltsh.http_stream";

enum { LARGE = 1 << 20 }; /* bytes of an answer for which it is looked whether there is so much memory */

struct server {
    struct lt_adapter adapter;
    struct lt_http_server *http; /* NULL: closed */
    struct lt_opened opened;     /* in the script's list until then */
    struct lt_wait wait;
    struct lt_strand *closer; /* waits for that; NULL: nobody */
    int ref;                  /* the registry's, of its object */
};

static struct lt_script *script_of_server(const struct server *server)
{
    return server->adapter.module.script;
}

/* Requests under way: the process waits for them when it is told to end. */

static void request_begins(const struct server *server)
{
    script_of_server(server)->handlers++;
}

static void request_over(const struct server *server)
{
    struct lt_script *script = script_of_server(server);
    if (--script->handlers == 0 && TAILQ_EMPTY(&script->schedulers) && script->closed != NULL)
        script->closed(script);
}

/* Streams of events. The object, and the call that fills it, know the same one. */

struct stream {
    struct lt_http_request *request; /* NULL: it is over, or nobody is there */
    struct lt_wait wait;
    struct lt_strand *sender; /* waits for room; NULL: nobody */
    uint32_t refs;
};

static void unref_stream(struct stream *stream)
{
    if (--stream->refs == 0)
        free(stream);
}

static void stream_gone(struct lt_http_request *request)
{
    struct stream *stream = request->user;
    stream->request = NULL;
    if (stream->sender != NULL)
        lt_wake(stream->sender);
}

static void stream_drained(struct lt_http_request *request)
{
    const struct stream *stream = request->user;
    if (stream->sender != NULL)
        lt_wake(stream->sender);
}

static void leave_send(struct lt_wait *wait)
{
    lt_container_of(wait, struct stream, wait)->sender = NULL;
}

LT_RAISES static struct stream *check_stream(lua_State *L)
{
    return *(struct stream **)luaL_checkudata(L, 1, STREAM);
}

static int send_result(lua_State *L, const struct stream *stream)
{
    if (stream->request != NULL)
        lua_pushboolean(L, 1);
    else
        lua_pushnil(L);
    return 1;
}

static int send_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct stream *stream = lt_container_of(lt_wait_over(L), struct stream, wait);
    stream->sender = NULL;
    lt_wait_done(L);
    return send_result(L, stream);
}

static int stream_send(lua_State *L)
{
    struct stream *stream = check_stream(L);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    if (stream->sender != NULL)
        return luaL_error(L, "send: another coroutine waits in it");
    struct lt_strand *strand = lt_wait_check(L, "send");
    lt_memory_check(L, "send", 2 * len);
    if (stream->request == NULL || lt_http_send(stream->request, text, len))
        return send_result(L, stream);
    stream->wait.cancel = leave_send;
    stream->sender = strand;
    return lt_wait(L, strand, &stream->wait, send_over);
}

static int stream_collected(lua_State *L)
{
    struct stream **box = luaL_checkudata(L, 1, STREAM);
    if (*box != NULL)
        unref_stream(*box);
    *box = NULL;
    return 0;
}

struct stream_call {
    struct lt_adapter_call call;
    struct stream *stream;
};

static void free_stream_call(struct lt_adapter_call *call)
{
    struct stream *stream = ((struct stream_call *)call)->stream;
    struct lt_http_request *request = stream->request;
    stream->request = NULL;
    if (request != NULL) {
        request->gone = request->drained = NULL;
        lt_http_finish(request);
    }
    if (stream->sender != NULL)
        lt_wake(stream->sender);
    unref_stream(stream);
    request_over(lt_container_of(call->adapter, struct server, adapter));
}

static void stream_over(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    (void)L;
    (void)count;
    if (code != LT_OK && ((struct stream_call *)call)->stream->request != NULL)
        lt_adapter_log(call->adapter, "a stream of events was ended", NULL, message);
    lt_adapter_call_free(call);
}

static int push_stream(lua_State *L)
{
    struct stream *stream = lua_touserdata(L, 1);
    struct stream **box = lua_newuserdatauv(L, sizeof(struct stream *), 0);
    *box = NULL;
    luaL_setmetatable(L, STREAM);
    *box = stream;
    stream->refs++;
    return 1;
}

/* The function is at `index` of L. */
LT_RUNS_LUA static void run_stream(struct server *server, struct lt_http_request *request, lua_State *L, int index)
{
    struct stream_call *call = lt_adapter_call_new(&server->adapter, sizeof *call, NULL);
    struct stream *stream = call->stream = lt_zalloc(sizeof *stream);
    call->call.free = free_stream_call;
    stream->refs = 1;
    stream->request = request;
    request->user = stream;
    request->gone = stream_gone;
    request->drained = stream_drained;
    request_begins(server);
    lua_State *inner = lt_adapter_call_begin(&call->call, "events", stream_over);
    call->call.call.limits.timeout = 0; /* it ends with its client */
    lua_pushvalue(L, index);
    lua_xmove(L, inner, 1);
    lua_pushcfunction(inner, push_stream);
    lua_pushlightuserdata(inner, stream);
    if (lua_pcall(inner, 1, 1, 0) != LUA_OK) {
        lt_adapter_call_abort(&call->call);
        return;
    }
    lt_adapter_call_run(&call->call, 2);
}

/* Requests. */

struct request_call {
    struct lt_adapter_call call;
    struct lt_http_request *request; /* NULL: answered, or gone */
};

static void answer_error(struct lt_http_request *request, int status, const char *code, const char *text)
{
    static const char type[] = "Content-Type: application/json\r\n";
    request->gone = NULL;
    lt_http_answer(request, status, type, sizeof type - 1,
                   lt_bytes_printf("{\"error\":\"%s\",\"code\":\"%s\"}", text, code));
}

static void request_gone(struct lt_http_request *request)
{
    ((struct request_call *)request->user)->request = NULL;
}

static void free_request_call(struct lt_adapter_call *call)
{
    struct request_call *handling = (struct request_call *)call;
    if (handling->request != NULL)
        answer_error(handling->request, 503, "closed", "this server is closing");
    request_over(lt_container_of(call->adapter, struct server, adapter));
}

LT_RUNS_LUA static void answer(struct server *server, struct lt_http_request *request, lua_State *L, int first)
{
    size_t len = 0, what_len = 0;
    int status = (int)lua_tointeger(L, first);
    const char *lines = lua_tolstring(L, first + 1, &len);
    bool is_file = lua_type(L, first + 3) == LUA_TNUMBER;
    const char *what = lua_tolstring(L, first + 2, &what_len);
    request->gone = NULL;
    if (what_len > LARGE && !lt_memory_has(2 * what_len)) {
        answer_error(request, 503, "full", "there is not enough memory for the answer");
    } else if (is_file) {
        lt_http_answer_file(request, status, lines, len, (int)lua_tointeger(L, first + 3),
                            (uint64_t)lua_tointeger(L, first + 4), (uint64_t)lua_tointeger(L, first + 5));
    } else if (!lua_isnoneornil(L, first + 3)) {
        lt_http_stream(request, status, lines, len);
        run_stream(server, request, L, first + 3);
    } else {
        lt_http_answer(request, status, lines, len, what != NULL ? lt_bytes_new(what, what_len) : NULL);
    }
}

static void close_unsent(lua_State *L, int first)
{
    if (lua_type(L, first + 3) == LUA_TNUMBER)
        close((int)lua_tointeger(L, first + 3));
}

LT_RUNS_LUA static void handled(struct lt_adapter_call *call, int code, lua_State *L, int count, const char *message)
{
    struct request_call *handling = (struct request_call *)call;
    struct server *server = lt_container_of(call->adapter, struct server, adapter);
    struct lt_http_request *request = handling->request;
    (void)message;
    handling->request = NULL;
    if (code == LT_OK && request != NULL)
        answer(server, request, L, lua_gettop(L) - count + 1);
    else if (code == LT_OK)
        close_unsent(L, lua_gettop(L) - count + 1);
    else if (request != NULL)
        answer_error(request, code == LT_TIMEOUT ? 503 : 500, code == LT_TIMEOUT ? "timeout" : "internal",
                     code == LT_TIMEOUT ? "the request took too long" : "the request could not be handled");
    lt_adapter_call_free(call);
}

LT_RAISES LT_RUNS_LUA static void push_headers(lua_State *L, const struct lt_http_request *request)
{
    lua_createtable(L, 0, (int)request->header_count);
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct lt_http_header *header = &request->headers[i];
        lua_pushlstring(L, header->name, header->name_len);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TSTRING) {
            lua_pushstring(L, strcmp(header->name, "cookie") == 0 ? "; " : ", ");
            lua_pushlstring(L, header->value, header->value_len);
            lua_concat(L, 3);
        } else {
            lua_pop(L, 1);
            lua_pushlstring(L, header->value, header->value_len);
        }
        lua_rawset(L, -3);
    }
}

static int push_request(lua_State *L)
{
    const struct lt_http_request *request = lua_touserdata(L, 1);
    lua_settop(L, 0);
    luaL_checkstack(L, 16, "request");
    lua_pushstring(L, request->method);
    lua_pushlstring(L, request->target, request->target_len);
    push_headers(L, request);
    lua_pushlstring(L, request->body != NULL ? request->body : "", request->body_len);
    lua_pushstring(L, request->remote);
    return 5;
}

LT_RUNS_LUA static void on_request(void *arg, struct lt_http_request *request)
{
    struct server *server = arg;
    struct request_call *handling = lt_adapter_call_new(&server->adapter, sizeof *handling, NULL);
    handling->call.free = free_request_call;
    handling->request = request;
    request->user = handling;
    request->gone = request_gone;
    request_begins(server);
    lua_State *L = lt_adapter_call_begin(&handling->call, "handle", handled);
    lua_pushcfunction(L, push_request);
    lua_pushlightuserdata(L, request);
    if (lua_pcall(L, 1, 5, 0) != LUA_OK) {
        handling->request = NULL;
        answer_error(request, 503, "full", "there is not enough memory for the request");
        lt_adapter_call_abort(&handling->call);
        return;
    }
    lt_adapter_call_run(&handling->call, 5);
}

/* Closing. */

static void free_server(struct lt_adapter *adapter)
{
    free(lt_container_of(adapter, struct server, adapter));
}

static void adapter_closed(struct lt_adapter *adapter, int code, const char *message)
{
    (void)code;
    (void)message;
    struct server *server = lt_container_of(adapter, struct server, adapter);
    luaL_unref(script_of_server(server)->L, LUA_REGISTRYINDEX, server->ref);
    server->ref = LUA_NOREF;
    if (server->closer != NULL)
        lt_wake(server->closer);
}

LT_RUNS_LUA static void server_closed(void *arg)
{
    struct server *server = arg;
    server->http = NULL;
    LIST_REMOVE(&server->opened, link);
    lt_adapter_close(&server->adapter, adapter_closed);
}

/* The script ends: the loop closes what is open of it. */
static void server_ends(struct lt_opened *opened)
{
    struct server *server = lt_container_of(opened, struct server, opened);
    lt_http_server_close(server->http, 0, NULL);
    server->http = NULL;
    server->adapter.open = false; /* its calls have ended: it goes with its object */
}

/* The process is told to end: what is under way may. */
static void server_stops(struct lt_opened *opened)
{
    const struct server *server = lt_container_of(opened, struct server, opened);
    lt_http_server_close(server->http, 1e9, server_closed);
}

LT_RAISES static struct server *check_server(lua_State *L)
{
    struct server **box = luaL_checkudata(L, 1, SERVER);
    if (*box == NULL)
        luaL_error(L, "the server is closed");
    return *box;
}

static void leave_close(struct lt_wait *wait)
{
    lt_container_of(wait, struct server, wait)->closer = NULL;
}

static int close_over(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct server *server = lt_container_of(lt_wait_over(L), struct server, wait);
    server->closer = NULL;
    lt_wait_done(L);
    return 0;
}

static int server_close(lua_State *L)
{
    struct server *server = check_server(L);
    double drain = luaL_optnumber(L, 2, 0);
    struct lt_strand *strand = lt_wait_check(L, "close");
    if (server->http != NULL)
        lt_http_server_close(server->http, drain, server_closed);
    if (server->ref == LUA_NOREF || server->closer != NULL)
        return 0;
    server->wait.cancel = leave_close;
    server->closer = strand;
    return lt_wait(L, strand, &server->wait, close_over);
}

static int server_port(lua_State *L)
{
    const struct server *server = check_server(L);
    lua_pushinteger(L, server->http != NULL ? lt_http_server_port(server->http) : 0);
    return 1;
}

static int server_collected(lua_State *L)
{
    struct server **box = luaL_checkudata(L, 1, SERVER);
    if (*box != NULL)
        lt_adapter_release(&(*box)->adapter);
    *box = NULL;
    return 0;
}

/* Opening. */

LT_RAISES LT_RUNS_LUA static double option(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    double value = luaL_checknumber(L, -1);
    lua_pop(L, 1);
    return value;
}

/* core.http_server({ host=, port=, max_body=, ... all of them, hold= }, methods) */
static int core_http_server(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    struct lt_script *script = lt_script_of(L);
    struct lt_error error;
    lua_settop(L, 2);
    lua_getfield(L, 1, "hold");
    lua_getfield(L, 1, "host"); /* stays */
    struct lt_http_options options = {.host = luaL_checkstring(L, 4),
                                      .port = (int)option(L, "port"),
                                      .max_body = (size_t)option(L, "max_body"),
                                      .max_header = (size_t)option(L, "max_header"),
                                      .timeout = option(L, "timeout"),
                                      .idle_timeout = option(L, "idle_timeout"),
                                      .max_connections = (uint32_t)option(L, "max_connections"),
                                      .holds = lua_toboolean(L, 3)};
    double handler_timeout = option(L, "handler_timeout");
    struct server **box = lua_newuserdatauv(L, sizeof(struct server *), 0);
    *box = NULL;
    luaL_setmetatable(L, SERVER);
    lua_pushvalue(L, -1);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    struct server *server = lt_zalloc(sizeof *server);
    server->ref = ref;
    lt_adapter_init(&server->adapter, L, 2, "server", free_server);
    server->http = lt_http_server_open(script->loop, &options, on_request, server, &error);
    if (server->http == NULL) {
        lt_adapter_release(&server->adapter); /* it was never opened */
        luaL_unref(L, LUA_REGISTRYINDEX, ref);
        return luaL_error(L, "%s", error.message);
    }
    *box = server;
    server->opened.end = server_ends;
    server->opened.stop = server_stops;
    LIST_INSERT_HEAD(&script->opened, &server->opened, link);
    lt_adapter_open(&server->adapter, script->loop,
                    (struct lt_call_limits){.timeout = handler_timeout, .max_stall = script->max_stall});
    return 1;
}

/* Files. */

static int open_file(int folder, const char *path)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
}

/* core.open_beneath(folder, path): a regular file that is in the folder, wherever links lead */
static int core_open_beneath(lua_State *L)
{
    const char *folder = luaL_checkstring(L, 1), *path = luaL_checkstring(L, 2);
    int dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = dir >= 0 ? open_file(dir, path) : -1;
    int code = fd >= 0 ? 0 : errno;
    struct stat file = {0};
    if (dir >= 0)
        close(dir);
    if (fd >= 0 && (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode))) {
        close(fd);
        fd = -1;
        code = ENOENT;
    }
    if (fd < 0) {
        lua_pushnil(L);
        lua_pushstring(L, strerror(code));
        return 2;
    }
    lua_pushinteger(L, fd);
    lua_pushinteger(L, (lua_Integer)file.st_size);
    lua_pushnumber(L, (double)file.st_mtim.tv_sec + (double)file.st_mtim.tv_nsec * 1e-9);
    return 3;
}

/* core.close_descriptor(fd): of a file that is not to be sent after all */
static int core_close_descriptor(lua_State *L)
{
    close((int)luaL_checkinteger(L, 1));
    return 0;
}

static int core_http_reason(lua_State *L)
{
    lua_pushstring(L, lt_http_reason((int)luaL_checkinteger(L, 1)));
    return 1;
}

void lt_bind_http(lua_State *L)
{
    static const luaL_Reg server_methods[] = {{"port", server_port}, {"close", server_close}, {NULL, NULL}};
    static const luaL_Reg stream_methods[] = {{"send", stream_send}, {NULL, NULL}};
    static const luaL_Reg functions[] = {{"http_server", core_http_server},
                                         {"http_reason", core_http_reason},
                                         {"open_beneath", core_open_beneath},
                                         {"close_descriptor", core_close_descriptor},
                                         {NULL, NULL}};
    luaL_newmetatable(L, SERVER);
    lua_pushcfunction(L, server_collected);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, server_methods);
    lua_setfield(L, -2, "__index");
    luaL_newmetatable(L, STREAM);
    lua_pushcfunction(L, stream_collected);
    lua_setfield(L, -2, "__gc");
    luaL_newlib(L, stream_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 2);
    luaL_setfuncs(L, functions, 0);
}
