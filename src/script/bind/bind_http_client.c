/* core.http_request: one request of a script, without following where it leads. lua/ltsh/http_client.lua makes
 * ltsh.http.request from it:
 *
 *     core.http_request{ url=, method=, lines={ "Name: value", ... }, body=, unix=, timeout=, connect_timeout=, max_body=,
 *                        file=, ca_file=, insecure= }    waits
 *         -> status, { name, value, ... }, body, where it leads or nil; nil, message, code
 *
 * Names are looked up on threads of ours and handed to libcurl: a transfer that is given up while libcurl's own resolver waits
 * for a name server would hold the loop until that answers; and libuv's threads would hold the end of the process. A body is read piece by piece and cannot be rewound, so libcurl does not
 * send it again on another connection. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/container_of.h"
#include "loop/lane.h"
#include "net/transfer.h"
#include "script/bind/bind_core.h"
#include "script/flow/call.h"
#include "script/flow/strand.h"
#include "script/values/marks.h"

static const char *const CLIENT = "ltsh.http_client";

/* Threads that look up names. Those that nobody waits for any more are left alone with the answers that they wait for. */
struct names {
    struct lt_lane *lane;
    unsigned live, lost; /* lookups under way: somebody waits for it; nobody does */
};
enum { NAME_THREADS = 16 };

/* What the requests of a script share. */
struct client {
    struct lt_net *net;
    struct names *names; /* NULL: none were needed yet */
    struct lt_opened opened;
    uint32_t requests; /* that use it */
    bool ended;
};

/* A lookup may take longer than whoever asked for it waits. */
struct lookup {
    struct lt_lane_job job;
    struct names *names;
    struct request *request; /* NULL: nobody waits any more */
    char *host;
    int code; /* of getaddrinfo */
    struct addrinfo *found;
};

struct request {
    struct lt_wait wait;
    struct lt_strand *strand;
    struct client *client;
    struct lt_transfer *transfer; /* NULL: it is over */
    struct lookup *lookup;        /* NULL: none is under way */
    struct curl_slist *resolved;
    struct lt_timer timer;
    struct lt_buffer body; /* to be sent */
    size_t sent;
    int file; /* what comes is written there; -1: nowhere */
    char *path, *part;
    uint64_t most, received;
    long port;
    /* What came of it. */
    long status;
    const char *code; /* NULL: it is answered */
    char message[512];
    struct lt_buffer headers; /* names and values, each with its NUL */
    struct lt_buffer answer;
    char *leads_to;
};

/* Files: written beside the target, and renamed when all is there. */

static void drop_file(struct request *request)
{
    if (request->file >= 0)
        close(request->file);
    request->file = -1;
    if (request->part != NULL)
        unlink(request->part);
    free(request->part);
    request->part = NULL;
}

static bool open_part(struct request *request, const char *path)
{
    request->path = lt_strdup(path);
    request->part = lt_format("%s.part-XXXXXX", path);
    request->file = mkostemp(request->part, O_CLOEXEC);
    if (request->file >= 0)
        return true;
    free(request->part);
    request->part = NULL;
    return false;
}

static void request_fails(struct request *request, const char *code, const char *message)
{
    request->code = code;
    snprintf(request->message, sizeof request->message, "%s", message);
}

static void keep_file(struct request *request)
{
    int failed = fchmod(request->file, 0644) != 0 || close(request->file) != 0 ? errno : 0;
    request->file = -1;
    if (failed == 0 && rename(request->part, request->path) != 0)
        failed = errno;
    if (failed != 0) {
        request_fails(request, "error", strerror(failed));
        return;
    }
    free(request->part);
    request->part = NULL;
}

/* The end. */

static void close_names(struct client *client, struct names *names, bool leave)
{
    lt_lane_close(names->lane, leave);
    client->names = NULL;
    free(names);
}

/* What only lost lookups use is left to them: they hold neither the loop nor the end of the process. */
static void end_lookup(struct request *request)
{
    struct lookup *lookup = request->lookup;
    if (lookup == NULL)
        return;
    lookup->request = NULL;
    request->lookup = NULL;
    lookup->names->live--;
    lookup->names->lost++;
    if (lookup->names->live == 0)
        close_names(request->client, lookup->names, true);
}

static void free_request(struct request *request)
{
    struct client *client = request->client;
    end_lookup(request);
    lt_timer_stop(request->strand->script->loop, &request->timer);
    if (request->transfer != NULL)
        lt_transfer_cancel(request->transfer);
    drop_file(request);
    curl_slist_free_all(request->resolved);
    lt_buffer_free(&request->body);
    lt_buffer_free(&request->headers);
    lt_buffer_free(&request->answer);
    free(request->leads_to);
    free(request->path);
    client->requests--;
    free(request);
}

static void cancel_request(struct lt_wait *wait)
{
    free_request(lt_container_of(wait, struct request, wait));
}

static void request_over(struct request *request)
{
    lt_timer_stop(request->strand->script->loop, &request->timer);
    lt_wake(request->strand);
}

static void is_late(struct lt_timer *timer)
{
    struct request *request = lt_container_of(timer, struct request, timer);
    end_lookup(request);
    if (request->transfer != NULL)
        lt_transfer_cancel(request->transfer);
    request->transfer = NULL;
    request_fails(request, "timeout", "it took longer than the time given");
    request_over(request);
}

/* The transfer. */

static const char *code_of(CURLcode result)
{
    switch (result) {
    case CURLE_OPERATION_TIMEDOUT:
        return "timeout";
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return "bad_url";
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_ENGINE_SETFAILED:
        return "tls";
    default:
        return "network";
    }
}

static void read_headers(struct request *request, CURL *easy)
{
    struct curl_header *header = NULL;
    while ((header = curl_easy_nextheader(easy, CURLH_HEADER, -1, header)) != NULL) {
        lt_buffer_append(&request->headers, header->name, strlen(header->name) + 1);
        lt_buffer_append(&request->headers, header->value, strlen(header->value) + 1);
    }
}

static void data_comes(struct lt_transfer *transfer, const char *bytes, size_t len)
{
    struct request *request = transfer->user;
    size_t done = 0;
    if (request->code != NULL)
        return;
    request->received += len;
    if (request->received > request->most) {
        request_fails(request, "too_large", "the answer is larger than max_body");
    } else if (request->file < 0) {
        if (lt_buffer_try_reserve(&request->answer, len))
            lt_buffer_append(&request->answer, bytes, len);
        else
            request_fails(request, "too_large", "there is not enough memory for the answer");
    }
    while (request->code == NULL && request->file >= 0 && done < len) {
        ssize_t count = write(request->file, bytes + done, len - done);
        if (count < 0 && errno != EINTR)
            request_fails(request, "error", strerror(errno));
        done += count > 0 ? (size_t)count : 0;
    }
    if (request->code == NULL)
        return;
    request->transfer = NULL;
    lt_transfer_cancel(transfer);
    request_over(request);
}

static void transfer_done(struct lt_transfer *transfer)
{
    struct request *request = transfer->user;
    char *leads_to = NULL;
    request->transfer = NULL;
    request->status = transfer->status;
    if (transfer->result != CURLE_OK) {
        const char *problem = transfer->problem[0] != '\0' ? transfer->problem : curl_easy_strerror(transfer->result);
        request_fails(request, code_of(transfer->result), problem);
    } else {
        read_headers(request, transfer->easy);
        curl_easy_getinfo(transfer->easy, CURLINFO_REDIRECT_URL, &leads_to);
        request->leads_to = leads_to != NULL ? lt_strdup(leads_to) : NULL;
        if (request->file >= 0 && request->leads_to == NULL)
            keep_file(request);
    }
    request_over(request);
}

static size_t give_body(char *bytes, size_t one, size_t count, void *arg)
{
    struct request *request = arg;
    size_t room = one * count, left = request->body.len - request->sent;
    size_t len = left < room ? left : room;
    memcpy(bytes, request->body.data + request->sent, len);
    request->sent += len;
    return len;
}

/* Names. */

static void start_transfer(struct request *request)
{
    if (request->resolved != NULL)
        curl_easy_setopt(request->transfer->easy, CURLOPT_RESOLVE, request->resolved);
    lt_transfer_start(request->transfer);
}

static void note_addresses(struct request *request, const char *host, const struct addrinfo *found)
{
    char *entry = lt_format("+%s:%ld:", host, request->port);
    for (const struct addrinfo *one = found; one != NULL; one = one->ai_next) {
        char address[64] = "";
        uv_ip_name(one->ai_addr, address, sizeof address);
        bool v6 = one->ai_family == AF_INET6;
        char *longer = lt_format("%s%s%s%s%s", entry, one == found ? "" : ",", v6 ? "[" : "", address, v6 ? "]" : "");
        free(entry);
        entry = longer;
    }
    request->resolved = curl_slist_append(NULL, entry);
    free(entry);
}

static void look_up(struct lt_lane_job *job)
{
    struct lookup *lookup = lt_container_of(job, struct lookup, job);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    lookup->code = getaddrinfo(lookup->host, NULL, &hints, &lookup->found);
}

static void lookup_failed(struct request *request, const char *host, const char *why)
{
    char *message = lt_format("the host '%s' cannot be found: %s", host, why);
    lt_transfer_cancel(request->transfer);
    request->transfer = NULL;
    request_fails(request, "network", message);
    free(message);
    request_over(request);
}

static void looked_up(struct lt_lane_job *job)
{
    struct lookup *lookup = lt_container_of(job, struct lookup, job);
    struct request *request = lookup->request;
    if (request == NULL) {
        lookup->names->lost--;
    } else {
        lookup->names->live--;
        request->lookup = NULL;
        if (lookup->code == 0) {
            note_addresses(request, lookup->host, lookup->found);
            start_transfer(request);
        } else {
            lookup_failed(request, lookup->host, gai_strerror(lookup->code));
        }
    }
    if (lookup->found != NULL)
        freeaddrinfo(lookup->found);
    free(lookup->host);
    free(lookup);
}

static bool is_address(const char *host)
{
    struct sockaddr_in v4;
    return host[0] == '[' || uv_ip4_addr(host, 0, &v4) == 0;
}

static struct names *names_of(struct client *client, struct lt_loop *loop)
{
    if (client->names != NULL)
        return client->names;
    struct lt_lane *lane = lt_lane_open(loop, NAME_THREADS, "ltsh-names");
    if (lane == NULL)
        return NULL;
    client->names = lt_zalloc(sizeof *client->names);
    client->names->lane = lane;
    return client->names;
}

static void begin_lookup(struct request *request, const char *host)
{
    struct names *names = names_of(request->client, request->strand->script->loop);
    struct lookup *lookup = lt_zalloc(sizeof *lookup);
    lookup->job = (struct lt_lane_job){.work = look_up, .done = looked_up};
    lookup->names = names;
    lookup->request = request;
    lookup->host = lt_strdup(host);
    if (names == NULL || !lt_lane_send(names->lane, &lookup->job)) {
        free(lookup->host);
        free(lookup);
        lookup_failed(request, host, strerror(errno));
        return;
    }
    names->live++;
    request->lookup = lookup;
}

/* The host of an address, to be freed by curl_free; NULL: it is none that can be asked. */
static char *read_url(const char *url, long *port, CURLUcode *why)
{
    CURLU *parts = curl_url();
    char *host = NULL, *number = NULL, *scheme = NULL;
    *why = curl_url_set(parts, CURLUPART_URL, url, 0);
    if (*why == CURLUE_OK)
        *why = curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0);
    if (*why == CURLUE_OK && strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
        *why = CURLUE_UNSUPPORTED_SCHEME;
    if (*why == CURLUE_OK)
        *why = curl_url_get(parts, CURLUPART_PORT, &number, CURLU_DEFAULT_PORT);
    if (*why == CURLUE_OK)
        *why = curl_url_get(parts, CURLUPART_HOST, &host, 0);
    if (*why == CURLUE_OK)
        *port = strtol(number, NULL, 10);
    curl_free(number);
    curl_free(scheme);
    curl_url_cleanup(parts);
    return host;
}

/* The client of a script. */

static void client_ends(struct lt_opened *opened)
{
    struct client *client = lt_container_of(opened, struct client, opened);
    client->ended = true;
    if (client->names != NULL)
        close_names(client, client->names, client->names->lost > 0);
    lt_net_close(client->net);
    client->net = NULL;
}

static int client_collected(lua_State *L)
{
    struct client *client = luaL_checkudata(L, 1, CLIENT);
    if (client->net == NULL)
        return 0;
    LIST_REMOVE(&client->opened, link);
    if (client->names != NULL)
        close_names(client, client->names, client->names->lost > 0);
    lt_net_close(client->net);
    client->net = NULL;
    return 0;
}

LT_RAISES LT_RUNS_LUA static struct client *client_of(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "ltsh.http_client.one");
    struct client *client = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (client != NULL && client->ended)
        luaL_error(L, "ltsh.http.request: the script has ended");
    if (client != NULL)
        return client;
    client = lua_newuserdatauv(L, sizeof *client, 0);
    memset(client, 0, sizeof *client);
    luaL_setmetatable(L, CLIENT);
    lua_setfield(L, LUA_REGISTRYINDEX, "ltsh.http_client.one");
    client->net = lt_net_open(lt_script_of(L)->loop);
    if (client->net == NULL)
        luaL_error(L, "ltsh.http.request: libcurl cannot be used");
    client->opened.end = client_ends;
    LIST_INSERT_HEAD(&lt_script_of(L)->opened, &client->opened, link);
    return client;
}

/* The call. */

/* Nothing may raise between the making of the request and its wait, so what is read of the table is on the stack before. */
enum { URL = 3, METHOD, BODY, UNIX_SOCKET, FILE_PATH, CA_FILE, LINES, TIMEOUT, CONNECT_TIMEOUT, MAX_BODY, INSECURE };

static void set_lines(lua_State *L, struct lt_transfer *transfer)
{
    lua_Integer count = (lua_Integer)lua_rawlen(L, LINES);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, LINES, i);
        const char *line = lua_tostring(L, -1);
        if (line != NULL)
            lt_transfer_header(transfer, line);
        lua_pop(L, 1);
    }
    lt_transfer_header(transfer, "Expect:"); /* a server that does not answer it costs a second */
}

static void set_body(struct request *request, const char *method, CURL *easy)
{
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (request->body.data != NULL) {
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_READFUNCTION, give_body);
        curl_easy_setopt(easy, CURLOPT_READDATA, request);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body.len);
    } else if (strcmp(method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (!reads) {
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L); /* so that it is not sent twice */
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, strcmp(method, "HEAD") == 0 ? NULL : method);
}

static void set_transfer(lua_State *L, struct request *request)
{
    CURL *easy = request->transfer->easy;
    request->transfer->data = data_comes;
    request->transfer->done = transfer_done;
    curl_easy_setopt(easy, CURLOPT_URL, lua_tostring(L, URL));
    curl_easy_setopt(easy, CURLOPT_NOPROXY, NULL);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(lua_tonumber(L, CONNECT_TIMEOUT) * 1000));
    if (lua_toboolean(L, UNIX_SOCKET))
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, lua_tostring(L, UNIX_SOCKET));
    if (lua_toboolean(L, CA_FILE))
        curl_easy_setopt(easy, CURLOPT_CAINFO, lua_tostring(L, CA_FILE));
    if (lua_toboolean(L, INSECURE)) {
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    set_body(request, lua_tostring(L, METHOD), easy);
    set_lines(L, request->transfer);
}

static int push_failure(lua_State *L, const char *message, const char *code)
{
    lua_pushnil(L);
    lua_pushstring(L, message);
    lua_pushstring(L, code);
    return 3;
}

static int request_result(lua_State *L, int status, lua_KContext context)
{
    (void)status;
    (void)context;
    struct request *request = lt_container_of(lt_wait_over(L), struct request, wait);
    int count = 4;
    if (request->code != NULL) {
        count = push_failure(L, request->message, request->code);
    } else {
        lua_pushinteger(L, request->status);
        lua_newtable(L);
        lua_Integer n = 0;
        for (size_t at = 0; at < request->headers.len; at += strlen(request->headers.data + at) + 1) {
            lua_pushstring(L, request->headers.data + at);
            lua_rawseti(L, -2, ++n);
        }
        lua_pushlstring(L, request->answer.data != NULL ? request->answer.data : "", request->answer.len);
        lua_pushstring(L, request->leads_to);
    }
    lt_wait_done(L);
    free_request(request);
    return count;
}

static int core_http_request(lua_State *L)
{
    static const char *const names[] = {"url",     "method",          "body",     "unix",    "file", "ca_file", "lines",
                                        "timeout", "connect_timeout", "max_body", "insecure"};
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        lua_getfield(L, 1, names[i]);
    luaL_checktype(L, LINES, LUA_TTABLE);
    size_t body_len = 0;
    const char *body = luaL_optlstring(L, BODY, NULL, &body_len);
    const char *url = luaL_checkstring(L, URL), *path = luaL_optstring(L, FILE_PATH, NULL);
    luaL_checkstring(L, METHOD);
    luaL_checkstack(L, 16, "ltsh.http.request");
    struct client *client = client_of(L);
    struct lt_strand *strand = lt_wait_check(L, "ltsh.http.request");
    lt_memory_check(L, "ltsh.http.request", body_len);
    CURLUcode why;
    long port = 0;
    char *host = read_url(url, &port, &why);
    if (host == NULL)
        return push_failure(L, curl_url_strerror(why), "bad_url");
    struct request *request = lt_zalloc(sizeof *request);
    request->strand = strand;
    request->client = client;
    request->wait.cancel = cancel_request;
    request->timer = LT_TIMER_INIT;
    request->file = -1;
    request->port = port;
    request->most = (uint64_t)lua_tonumber(L, MAX_BODY);
    client->requests++;
    if (body != NULL) {
        lt_buffer_reserve(&request->body, body_len + 1);
        lt_buffer_append(&request->body, body, body_len);
    }
    request->transfer = lt_transfer_new(client->net, request);
    set_transfer(L, request);
    bool ready = path == NULL || open_part(request, path);
    if (!ready) {
        request_fails(request, "error", strerror(errno));
        lt_transfer_cancel(request->transfer);
        request->transfer = NULL;
        request_over(request);
    } else {
        double timeout = lua_tonumber(L, TIMEOUT);
        lt_timer_start(strand->script->loop, &request->timer, lt_loop_tick(strand->script->loop) + timeout, is_late);
        if (lua_toboolean(L, UNIX_SOCKET) || is_address(host))
            start_transfer(request);
        else
            begin_lookup(request, host);
    }
    curl_free(host);
    return lt_wait(L, strand, &request->wait, request_result);
}

void lt_bind_http_client(lua_State *L)
{
    luaL_newmetatable(L, CLIENT);
    lua_pushcfunction(L, client_collected);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    lua_pushcfunction(L, core_http_request);
    lua_setfield(L, -2, "http_request");
}
