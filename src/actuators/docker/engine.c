#include "actuators/docker/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/log.h"

static const char *const NEWEST_VERSION = "1.44"; /* that what is sent here was written for */
static const char *const DEFAULT_HOST = "unix:///var/run/docker.sock";
static const double CONNECT_TIMEOUT = 10; /* seconds */
enum { MOST_ANSWER = 64 << 20 };          /* bytes */

TAILQ_HEAD(engine_calls, lt_engine_call);

struct lt_engine {
    struct lt_loop *loop;
    struct lt_net *net;
    char *host;
    char *socket; /* path of a unix socket; NULL: it is reached by `base` */
    char *base;   /* http://name:port, without a slash at the end */
    char *ca, *cert, *key;
    char *wanted;             /* version */
    char version[16];         /* "": not known */
    struct lt_transfer *ping; /* under way; NULL: none is */
    struct engine_calls waiting;
    bool away;      /* and that was logged */
    uint64_t pings; /* how often it was asked */
};

/* Places. */

static char *copy_or_env(const char *given, const char *variable)
{
    const char *text = given != NULL ? given : getenv(variable);
    return text != NULL && text[0] != '\0' ? lt_strdup(text) : NULL;
}

static char *cert_file(const char *given, const char *name)
{
    const char *folder = getenv("DOCKER_CERT_PATH");
    const char *verify = getenv("DOCKER_TLS_VERIFY");
    if (given != NULL)
        return lt_strdup(given);
    if (folder == NULL || verify == NULL || verify[0] == '\0')
        return NULL;
    return lt_format("%s/%s", folder, name);
}

static int read_host(struct lt_engine *engine, struct lt_error *error)
{
    const char *host = engine->host;
    const char *rest = strstr(host, "://");
    size_t scheme = rest != NULL ? (size_t)(rest - host) : 0;
    bool tls = engine->ca != NULL || engine->cert != NULL;
    if (scheme == 4 && strncmp(host, "unix", 4) == 0 && rest[3] == '/') {
        engine->socket = lt_strdup(rest + 3);
        engine->base = lt_strdup("http://docker");
    } else if (rest != NULL && rest[3] != '\0' && scheme == 3 && strncmp(host, "tcp", 3) == 0) {
        engine->base = lt_format("%s://%s", tls ? "https" : "http", rest + 3);
    } else if (rest != NULL && rest[3] != '\0' && (strncmp(host, "http:", 5) == 0 || strncmp(host, "https:", 6) == 0)) {
        engine->base = lt_strdup(host);
    } else {
        return lt_fail(error, LT_REFUSED,
                       "host must be unix:///path, tcp://name:port or https://name:port, got \"%.200s\"", host);
    }
    size_t len = strlen(engine->base);
    if (engine->base[len - 1] == '/')
        engine->base[len - 1] = '\0';
    return LT_OK;
}

static void free_engine(struct lt_engine *engine)
{
    if (engine->net != NULL)
        lt_net_close(engine->net);
    free(engine->host);
    free(engine->socket);
    free(engine->base);
    free(engine->ca);
    free(engine->cert);
    free(engine->key);
    free(engine->wanted);
    free(engine);
}

struct lt_engine *lt_engine_open(struct lt_loop *loop, const struct lt_engine_place *place, struct lt_error *error)
{
    struct lt_engine *engine = lt_zalloc(sizeof *engine);
    TAILQ_INIT(&engine->waiting);
    engine->loop = loop;
    engine->host = copy_or_env(place->host, "DOCKER_HOST");
    if (engine->host == NULL)
        engine->host = lt_strdup(DEFAULT_HOST);
    engine->ca = cert_file(place->ca, "ca.pem");
    engine->cert = cert_file(place->cert, "cert.pem");
    engine->key = cert_file(place->key, "key.pem");
    engine->wanted = copy_or_env(place->version, "DOCKER_API_VERSION");
    if (read_host(engine, error) != LT_OK) {
        free_engine(engine);
        return NULL;
    }
    engine->net = lt_net_open(loop);
    if (engine->net == NULL) {
        lt_fail(error, LT_ERROR, "libcurl cannot be used");
        free_engine(engine);
        return NULL;
    }
    return engine;
}

void lt_engine_close(struct lt_engine *engine)
{
    if (engine->ping != NULL)
        lt_transfer_cancel(engine->ping);
    free_engine(engine);
}

const char *lt_engine_host(const struct lt_engine *engine)
{
    return engine->host;
}

/* Transfers. */

static void set_place(const struct lt_engine *engine, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(CONNECT_TIMEOUT * 1e3));
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    if (engine->socket != NULL) {
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, engine->socket);
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
    }
    if (engine->ca != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, engine->ca);
    if (engine->cert != NULL)
        curl_easy_setopt(easy, CURLOPT_SSLCERT, engine->cert);
    if (engine->key != NULL)
        curl_easy_setopt(easy, CURLOPT_SSLKEY, engine->key);
}

/* What happened to a transfer without an answer, in words for people. */
static void describe_failure(const struct lt_engine *engine, const struct lt_transfer *transfer, char *text,
                             size_t size)
{
    long code = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &code);
    if (transfer->result == CURLE_COULDNT_CONNECT && (code == EACCES || code == EPERM))
        snprintf(text, size, "permission denied: %s (is this user in the group of the socket?)", engine->host);
    else if (transfer->result == CURLE_COULDNT_CONNECT && code != 0)
        snprintf(text, size, "Docker is not reachable at %s: %s", engine->host, strerror((int)code));
    else
        snprintf(text, size, "Docker is not reachable at %s: %s", engine->host,
                 transfer->problem[0] != '\0' ? transfer->problem : curl_easy_strerror(transfer->result));
}

static void engine_is_away(struct lt_engine *engine, const char *problem)
{
    engine->version[0] = '\0';
    if (engine->away)
        return;
    engine->away = true;
    lt_log(LT_LOG_WARN, "Docker does not answer, tasks wait for it", LT_S("host", engine->host),
           LT_S("error", problem));
}

static void engine_is_there(struct lt_engine *engine)
{
    if (engine->away)
        lt_log(LT_LOG_INFO, "Docker answers again", LT_S("host", engine->host), LT_S("version", engine->version));
    engine->away = false;
}

/* The version. */

static bool is_older(const char *version, const char *other)
{
    unsigned major = 0, minor = 0, other_major = 0, other_minor = 0;
    if (sscanf(version, "%u.%u", &major, &minor) != 2 || sscanf(other, "%u.%u", &other_major, &other_minor) != 2)
        return false;
    return major != other_major ? major < other_major : minor < other_minor;
}

static void begin_call(struct lt_engine_call *call);

static void fail_call(struct lt_engine_call *call, const char *problem);

static void ping_done(struct lt_transfer *transfer)
{
    struct lt_engine *engine = transfer->user;
    struct lt_engine_call *call;
    struct curl_header *header;
    char problem[512] = "";
    engine->ping = NULL;
    if (transfer->result != CURLE_OK) {
        describe_failure(engine, transfer, problem, sizeof problem);
        engine_is_away(engine, problem);
    } else {
        const char *theirs = NEWEST_VERSION;
        if (curl_easy_header(transfer->easy, "Api-Version", 0, CURLH_HEADER, -1, &header) == CURLHE_OK)
            theirs = header->value;
        const char *used = engine->wanted != NULL             ? engine->wanted
                           : is_older(theirs, NEWEST_VERSION) ? theirs
                                                              : NEWEST_VERSION;
        snprintf(engine->version, sizeof engine->version, "%s", used);
        engine_is_there(engine);
    }
    uint64_t answered = engine->pings; /* those that come meanwhile wait for the next */
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it does not see that a call which is over is off the list */
    while ((call = TAILQ_FIRST(&engine->waiting)) != NULL && call->ping == answered) {
        TAILQ_REMOVE(&engine->waiting, call, link);
        if (problem[0] != '\0')
            fail_call(call, problem);
        else
            begin_call(call);
    }
}

static void ask_version(struct lt_engine *engine)
{
    if (engine->ping != NULL)
        return;
    struct lt_transfer *ping = lt_transfer_new(engine->net, engine);
    char *url = lt_format("%s/_ping", engine->base);
    ping->done = ping_done;
    ping->body_limit = 1 << 16;
    set_place(engine, ping->easy);
    curl_easy_setopt(ping->easy, CURLOPT_URL, url);
    curl_easy_setopt(ping->easy, CURLOPT_TIMEOUT_MS, (long)(CONNECT_TIMEOUT * 2e3));
    free(url);
    engine->ping = ping;
    engine->pings++;
    lt_transfer_start(ping);
}

void lt_engine_ask_again(struct lt_engine *engine)
{
    engine->version[0] = '\0';
}

/* Calls. */

static void free_call(struct lt_engine_call *call)
{
    json_decref(call->answer);
    lt_buffer_free(&call->error_body);
    free(call->method);
    free(call->path);
    free(call->body);
    free(call->auth);
    free(call);
}

static void fail_call(struct lt_engine_call *call, const char *problem)
{
    call->status = 0;
    snprintf(call->problem, sizeof call->problem, "%s", problem);
    call->done(call);
    free_call(call);
}

static void read_answer(struct lt_engine_call *call, const struct lt_buffer *body)
{
    if (body->len > 0)
        call->answer = json_loadb(body->data, body->len, JSON_DISABLE_EOF_CHECK, NULL);
    if (call->status < 400)
        return;
    const char *said = json_string_value(json_object_get(call->answer, "message"));
    if (said != NULL)
        snprintf(call->problem, sizeof call->problem, "%s", said);
    else
        snprintf(call->problem, sizeof call->problem, "Docker answered with status %ld: %.*s", call->status,
                 (int)(body->len < 200 ? body->len : 200), body->len > 0 ? body->data : "");
}

static void call_done(struct lt_transfer *transfer)
{
    struct lt_engine_call *call = transfer->user;
    struct lt_engine *engine = call->engine;
    call->transfer = NULL;
    call->status = transfer->status;
    bool began = call->data != NULL && transfer->has_begun && transfer->status < 400;
    if (transfer->result != CURLE_OK && !began) {
        call->status = 0;
        describe_failure(engine, transfer, call->problem, sizeof call->problem);
        engine_is_away(engine, call->problem);
    } else {
        if (transfer->result != CURLE_OK) /* a stream that broke */
            snprintf(call->problem, sizeof call->problem, "%s", curl_easy_strerror(transfer->result));
        read_answer(call, call->data != NULL ? &call->error_body : &transfer->body);
    }
    call->done(call);
    free_call(call);
}

static void call_begun(struct lt_transfer *transfer)
{
    struct lt_engine_call *call = transfer->user;
    call->status = transfer->status;
    if (call->begun != NULL)
        call->begun(call);
}

static void call_sent(struct lt_transfer *transfer)
{
    struct lt_engine_call *call = transfer->user;
    call->sent(call);
}

static void call_data(struct lt_transfer *transfer, const char *bytes, size_t len)
{
    struct lt_engine_call *call = transfer->user;
    if (transfer->status < 400)
        call->data(call, bytes, len);
    else if (call->error_body.len + len < 1 << 16)
        lt_buffer_append(&call->error_body, bytes, len);
}

static void begin_call(struct lt_engine_call *call)
{
    struct lt_engine *engine = call->engine;
    struct lt_transfer *transfer = lt_transfer_new(engine->net, call);
    char *url = lt_format("%s/v%s%s", engine->base, engine->version, call->path);
    call->transfer = transfer;
    transfer->begun = call_begun;
    transfer->data = call->data != NULL ? call_data : NULL;
    transfer->sent = call->sent != NULL ? call_sent : NULL;
    transfer->done = call_done;
    transfer->body_limit = MOST_ANSWER;
    transfer->unheld = call->unheld;
    set_place(engine, transfer->easy);
    curl_easy_setopt(transfer->easy, CURLOPT_URL, url);
    curl_easy_setopt(transfer->easy, CURLOPT_CUSTOMREQUEST, call->method);
    if (call->timeout > 0)
        curl_easy_setopt(transfer->easy, CURLOPT_TIMEOUT_MS, (long)(call->timeout * 1e3));
    if (strcmp(call->method, "POST") == 0) {
        const char *body = call->body != NULL ? call->body : "";
        lt_transfer_header(transfer, "Content-Type: application/json");
        if (call->upload != NULL)
            lt_transfer_upload(transfer, call->upload, call->upload_len);
        else
            lt_transfer_post(transfer, body, strlen(body));
    }
    if (call->auth != NULL)
        lt_transfer_header(transfer, call->auth);
    free(url);
    lt_transfer_start(transfer);
}

struct lt_engine_call *lt_engine_call_new(struct lt_engine *engine, const char *method, const char *path, json_t *body)
{
    struct lt_engine_call *call = lt_zalloc(sizeof *call);
    call->engine = engine;
    call->method = lt_strdup(method);
    call->path = lt_strdup(path);
    if (body != NULL) {
        call->body = json_dumps(body, JSON_COMPACT);
        json_decref(body);
    }
    return call;
}

void lt_engine_call_start(struct lt_engine_call *call)
{
    struct lt_engine *engine = call->engine;
    if (engine->version[0] != '\0') {
        begin_call(call);
        return;
    }
    ask_version(engine);
    call->ping = engine->pings;
    TAILQ_INSERT_TAIL(&engine->waiting, call, link);
}

void lt_engine_call_cancel(struct lt_engine_call *call)
{
    if (call->transfer != NULL)
        lt_transfer_cancel(call->transfer);
    else
        TAILQ_REMOVE(&call->engine->waiting, call, link);
    free_call(call);
}

void lt_engine_call_hold_back(struct lt_engine_call *call, bool hold)
{
    if (call->transfer != NULL)
        lt_transfer_hold_back(call->transfer, hold);
}
