/* A Docker Engine as a client sees it: where it is, which version of its API is spoken, whether it is there.
 *
 *     call --> version known? --no--> GET /_ping, one for all that wait --> the lower of both newest versions
 *                  |                        not there: all that wait fail, with status 0
 *                  v
 *          /v1.41/containers/... over a transfer of its own; connections are kept
 *
 * That an engine goes away and comes back is logged once each. After it was away its version is asked anew: it may have
 * been replaced by another. No call is repeated here. One thread: the loop's. */
#ifndef LTSH_ACTUATORS_DOCKER_ENGINE_H
#define LTSH_ACTUATORS_DOCKER_ENGINE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "net/transfer.h"

/* Where it is. All strings are copied by lt_engine_open; NULL: as the environment says (DOCKER_HOST, DOCKER_TLS_VERIFY,
 * DOCKER_CERT_PATH, DOCKER_API_VERSION), else the default. */
struct lt_engine_place {
    const char *host; /* unix:///var/run/docker.sock, tcp://name:2375, https://name:2376 */
    const char *ca;   /* files in PEM: TLS is spoken when one of these is given */
    const char *cert;
    const char *key;
    const char *version; /* of the API, as "1.41": that one and no other */
};

struct lt_engine;

/* NULL, with an error, when the place makes no sense; an engine that is not there is no error. */
struct lt_engine *lt_engine_open(struct lt_loop *loop, const struct lt_engine_place *place, struct lt_error *error);

/* All calls must be over or cancelled. */
void lt_engine_close(struct lt_engine *engine);

/* A connection that was to stay has ended: it may be another engine, of another version, that answers the next call. */
void lt_engine_ask_again(struct lt_engine *engine);

/* The place in words: unix:///var/run/docker.sock. */
const char *lt_engine_host(const struct lt_engine *engine);

/* One call. From lt_engine_call_new until `done` has returned, or a cancel, it is its caller's. */
struct lt_engine_call {
    void *user; /* the caller's own */
    /* The response has begun; `status` is known. (optional) */
    void (*begun)(struct lt_engine_call *call);
    /* Bytes of an endless or long answer, as they come; NULL: the answer is JSON, and read whole. An answer with an error
     * does not come here. */
    void (*data)(struct lt_engine_call *call, const char *bytes, size_t len);
    /* `upload` was written to the connection. (optional) */
    void (*sent)(struct lt_engine_call *call);
    /* Over. status 0: the engine did not answer, and nobody knows what became of it. */
    void (*done)(struct lt_engine_call *call);
    const char *upload; /* bytes to send once the response has begun, which stay until it is over; NULL: none */
    size_t upload_len;
    double timeout; /* seconds; 0: none, for streams */
    bool unheld;    /* the loop may end while it is under way */

    long status;
    json_t *answer;    /* NULL: there was none, or it is no JSON */
    char problem[512]; /* status 0, or 400 and more: what the engine said, or what happened. Never empty then */

    /* Its own. */
    struct lt_engine *engine;
    struct lt_transfer *transfer; /* NULL: it waits for the version */
    char *method, *path, *body;
    char *auth;
    struct lt_buffer error_body;
    uint64_t ping; /* the one that it waits for */
    TAILQ_ENTRY(lt_engine_call) link;
};

/* A call that can be made now. `path` begins with a slash and has no version; `body` is let go of (NULL: none). */
struct lt_engine_call *lt_engine_call_new(struct lt_engine *engine, const char *method, const char *path, json_t *body);

/* Makes it. `done` is never called from within. */
void lt_engine_call_start(struct lt_engine_call *call);

/* Gives it up, in whatever state: it is gone. Not from within its own `done`. */
void lt_engine_call_cancel(struct lt_engine_call *call);

/* While held back, `data` is not called, and the engine is not read from when some has gathered. */
void lt_engine_call_hold_back(struct lt_engine_call *call, bool hold);

#endif
