/* The inside of the Docker actuator: shared by docker.c (its life), container.c and the container_ files (the way of one),
 * watch.c (ends come from the engine's events), pull.c and leftover.c.
 *
 *     PULLING -> CREATING -> ATTACHING -> STARTING -> RUNNING -> INSPECTING -> DRAINING -> TOLD -> (stored) removed
 *        ^          |                                    |  die event, or seen in the list after a reconnect
 *        +- no image there                               +- stop: signal, grace, KILL; the end comes as any other
 *
 * A step has at most one call under way (container->call); the attached stream, and signals, go beside it. */
#ifndef LTSH_ACTUATORS_DOCKER_DOCKER_STATE_H
#define LTSH_ACTUATORS_DOCKER_DOCKER_STATE_H

#include <sys/queue.h>

#include "actuators/capture.h"
#include "actuators/docker/engine.h"
#include "actuators/docker/spec.h"
#include "base/map.h"
#include "scheduler/actuator.h"

enum { CONTAINER_ID = 64 };

enum container_state {
    CONTAINER_PULLING,
    CONTAINER_CREATING,
    CONTAINER_ATTACHING,
    CONTAINER_STARTING,
    CONTAINER_RUNNING,
    CONTAINER_INSPECTING,
    CONTAINER_DRAINING, /* dead: what it put out is read to the end */
    CONTAINER_DOUBTED,  /* dead and read: it was killed, and whether for its memory may be told yet */
    CONTAINER_TOLD,     /* its end was told; it is removed when that is stored */
};

/* Takes the frames of a stream apart: eight bytes that say which stream and how long, and the bytes. */
struct frames {
    bool raw; /* a terminal's: no frames */
    unsigned char head[8];
    uint32_t head_len;
    uint32_t left; /* of the frame's bytes */
};

struct docker;

/* One run; work->data points to it. */
struct container {
    struct docker *docker;
    struct lt_work *work;
    struct lt_docker_spec spec;
    enum container_state state;
    char id[CONTAINER_ID + 1]; /* "": not created yet */
    char *name;
    struct lt_engine_call *call;   /* of the present step; NULL: none */
    struct lt_engine_call *stream; /* its output; NULL: not attached */
    struct lt_engine_call *input;  /* its stdin; NULL: all of it is sent, or there is none */
    struct lt_engine_call *kill;
    struct lt_timer timer; /* of the step: before another try; the end of draining */
    struct lt_timer grace; /* of a stop */
    struct pull *pull;     /* that it waits for, and what is to be called then; a problem of NULL: it went well */
    void (*image_there)(struct container *container, const char *problem);
    struct frames frames;
    struct lt_capture out, err;
    uint64_t seen[2]; /* bytes of each stream that were taken */
    uint64_t skip[2]; /* of a stream that begins anew: what was taken before */
    uint32_t tries;   /* to be created */
    bool answered;    /* start was */
    bool stopping;    /* stop waits for its end */
    bool pulled;
    bool whole;      /* its output has come to its end, as it seems */
    uint32_t breaks; /* docker->breaks when its stream began: a connection that breaks ends like the output does */
    bool died;       /* an event said so, perhaps before start had answered */
    bool held_back;
    bool limited; /* in its memory */
    bool oom;
    int64_t code;
    TAILQ_ENTRY(container) link;
    TAILQ_ENTRY(container) pull_link;
};

TAILQ_HEAD(container_list, container);

/* An image that is being pulled, for all that wait for it. */
struct pull {
    struct docker *docker;
    char *image;
    struct lt_engine_call *call;
    struct lt_buffer line; /* of the answer, not ended yet */
    char problem[512];     /* that the engine told within its answer */
    struct lt_timer limit;
    struct container_list waiting;
    TAILQ_ENTRY(pull) link;
};

/* A container that is to go; nobody waits for that but close. */
struct removal {
    struct docker *docker;
    char id[CONTAINER_ID + 1];
    struct lt_engine_call *call;
    struct lt_timer again;
    uint32_t tries;
    TAILQ_ENTRY(removal) link;
};

/* A container of a durable task that is not ours, and whose host is dead or was this process: it is asked whether its run is
 * under way; if not, it is to go. */
struct doubt {
    struct docker *docker;
    char id[CONTAINER_ID + 1];
    char *task;
    struct lt_run_query_op query;
    TAILQ_ENTRY(doubt) link;
};

/* A question of the scheduler's what became of tasks. */
struct recovery {
    struct docker *docker;
    struct lt_recover_work_op *op;
    struct lt_engine_call *call;
    LIST_ENTRY(recovery) link;
};

struct docker {
    struct lt_actuator base;
    struct lt_engine_place place; /* strings of its own */
    json_t *defaults;
    struct lt_actuator_env env;
    struct lt_engine *engine;
    struct container_list containers;
    struct lt_map by_id;
    /* What files below signal to those above, which set it. */
    void (*want_look)(struct docker *docker); /* an answer was lost: all of ours are to be looked at */
    void (*removed)(struct docker *docker);   /* a removal is over, or a doubt */
    TAILQ_HEAD(, pull) pulls;
    TAILQ_HEAD(, removal) removals;
    TAILQ_HEAD(, doubt) doubts;

    /* watch.c */
    struct lt_engine_call *events; /* under way; NULL: not */
    struct lt_engine_call *look;   /* the list of all of ours; NULL: not under way */
    struct lt_timer again;         /* before the next try */
    double pause;
    uint32_t breaks;       /* how often the events' connection ended */
    struct lt_buffer line; /* of an event that is not whole */
    int64_t since;         /* nanoseconds, by the engine's clock: of the latest event; 0: none came */
    bool look_again;       /* when the one under way is over */

    struct lt_timer look_later; /* after one that was not answered */
    LIST_HEAD(, recovery) recoveries;
    struct lt_reply *closing;
    struct lt_timer patience; /* of close, for removals */
    bool open, released;
};

/* Each file calls only those before it in this list. */

/* pull.c */
void pull_image(struct container *container, void (*there)(struct container *container, const char *problem));
void pull_leave(struct container *container);

/* container.c */
__attribute__((format(printf, 4, 5))) struct lt_engine_call *
container_call(struct container *container, const char *method, json_t *body, const char *format, ...);
void container_cancel(struct lt_engine_call **call);
void container_answer_start(struct container *container); /* if it was not */
/* Tells its end, or that it did not begin; takes over the report's bytes. The work is not touched after that until `stored`. */
void container_tell_end(struct container *container, struct lt_report *report);
__attribute__((format(printf, 2, 3))) void container_fail(struct container *container, const char *format, ...);
void container_snooze(struct container *container, const char *problem);
void container_end_unbegun(struct container *container); /* it was stopped before it began */
void container_free(struct container *container);
struct container *container_find(const struct docker *docker, const char *id);
struct container *container_of_task(const struct docker *docker, const char *task, uint64_t run);

/* leftover.c */
void remove_container(struct docker *docker, const char *id);
void remove_leftovers(struct docker *docker, const json_t *list); /* of the engine's list, what is nobody's */
bool removals_are_over(const struct docker *docker);
void removals_cancel(struct docker *docker);

/* container_output.c */
void container_stream_data(struct lt_engine_call *call, const char *bytes, size_t len);
void container_stream_done(struct lt_engine_call *call);
void container_follow_log(struct container *container);
void container_more(struct container *container); /* output may come again */
void container_runs(struct container *container); /* it does, after a reconnect */
void container_drain(struct container *container);

/* container_run.c */
void container_begin(struct container *container);
void container_inspect(struct container *container);
void container_is_dead(struct container *container); /* the engine said so */
void container_out_of_memory(struct container *container);
void container_vanished(struct container *container); /* the engine does not know it */
void container_stop(struct container *container);

/* container_create.c */
void container_start(struct docker *docker, struct lt_work *work);
void container_resume(struct docker *docker, struct lt_work *work, const char *id); /* it runs, or has ended, already */

/* watch.c */
void watch_begin(struct docker *docker); /* if it is not under way */
void watch_look(struct docker *docker);  /* at all of ours, soon */
void watch_end(struct docker *docker);
char *watch_query(const char *prefix, const char *filters); /* prefix and the filters, escaped; to be freed */

#endif
