/* What all parts of the link's thread use: the calls under way, and what goes to the loop's thread. */
#include "containers/redis/link_state.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"

double lt_redis_link_now(void)
{
    return (double)uv_hrtime() * 1e-9;
}

void lt_redis_tell_event(struct lt_redis_link *link, enum lt_redis_event event, const char *text)
{
    struct lt_redis_letter *letter = lt_zalloc(sizeof *letter);
    letter->event = (int)event + 1;
    letter->text = lt_strdup(text);
    STAILQ_INSERT_TAIL(&link->answered, &letter->mail, link);
}

void lt_redis_answer(struct lt_redis_link *link, struct lt_redis_request *request, int code, const char *message)
{
    request->code = code;
    request->message = message != NULL ? lt_strdup(message) : NULL;
    STAILQ_INSERT_TAIL(&link->answered, &request->mail, link);
}

void lt_redis_fail_all(struct lt_redis_link *link, struct lt_mails *requests, int code, const char *message)
{
    struct lt_mail *mail;
    while ((mail = STAILQ_FIRST(requests)) != NULL) {
        STAILQ_REMOVE_HEAD(requests, link);
        lt_redis_answer(link, lt_redis_request_of(mail), code, message);
    }
}

struct lt_redis_call *lt_redis_new_call(struct lt_redis_link *link, enum lt_redis_call_kind kind)
{
    struct lt_redis_call *call = lt_zalloc(sizeof *call);
    call->kind = kind;
    call->sent_at = lt_redis_link_now();
    STAILQ_INIT(&call->requests);
    STAILQ_INSERT_TAIL(&link->calls, call, link);
    link->call_count++;
    return call;
}

void lt_redis_drop_call(struct lt_redis_link *link, struct lt_redis_call *call)
{
    STAILQ_REMOVE_HEAD(&link->calls, link);
    link->call_count--;
    free(call);
}

double lt_redis_patience(const struct lt_redis_link *link)
{
    static const double ANSWERS = 3, ANSWERS_OF_LEASE = 1.0 / 4;
    return fmin(ANSWERS, link->options.lease * ANSWERS_OF_LEASE);
}
