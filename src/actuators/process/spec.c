#include "actuators/process/spec.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "actuators/item.h"
#include "base/nearest.h"

static const double STOP_GRACE = 5;   /* seconds */
static const double LEAST_CPU = 0.01; /* cores: the kernel's */
enum { MAX_OUTPUT = 1 << 20 };

static struct lt_process_spec *spec_of(const struct lt_item_reader *r)
{
    return r->user;
}

/* A text that stays with the spec. */
static const char *keep_text(struct lt_item_reader *r, json_t *value)
{
    json_t *text = lt_item_text(r, value);
    if (text == NULL)
        return NULL;
    json_array_append_new(spec_of(r)->made, text);
    return json_string_value(text);
}

static void take_command(struct lt_item_reader *r, json_t *list)
{
    json_array_extend(spec_of(r)->argv, list);
    json_decref(list);
}

static void field_cmd(struct lt_item_reader *r, json_t *value)
{
    if (json_array_size(spec_of(r)->argv) > 0)
        lt_item_refuse(r, "given once: by cmd, by shell, or as a list", value);
    take_command(r, lt_item_texts(r, value));
}

static void field_args(struct lt_item_reader *r, json_t *value)
{
    take_command(r, lt_item_texts(r, value));
}

static void field_shell(struct lt_item_reader *r, json_t *value)
{
    if (!json_is_string(value)) {
        lt_item_refuse(r, "the command line for the shell, as shell = \"a | b\"", value);
        return;
    }
    if (json_array_size(spec_of(r)->argv) > 0)
        lt_item_refuse(r, "given instead of cmd, and not beside it", value);
    json_t *text = lt_item_text(r, value);
    if (text != NULL)
        take_command(r, json_pack("[s,s,o]", "/bin/sh", "-c", text));
}

static void add_variable(struct lt_item_reader *r, const char *name, json_t *text)
{
    json_array_append_new(spec_of(r)->env, lt_item_variable(r, name, text));
}

static void field_env(struct lt_item_reader *r, json_t *value)
{
    lt_item_each_text(r, value, add_variable);
}

static void field_clear_env(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->clear_env = lt_item_flag(r, value);
}

static void field_cwd(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->cwd = keep_text(r, value);
}

/* { file = path } */
static const char *file_of(struct lt_item_reader *r, json_t *value)
{
    json_t *file = json_object_get(value, "file");
    if (!json_is_object(value) || json_object_size(value) != 1 || file == NULL)
        return NULL;
    return keep_text(r, file);
}

static void field_stdin(struct lt_item_reader *r, json_t *value)
{
    struct lt_process_spec *spec = spec_of(r);
    if (json_is_string(value)) {
        spec->in_bytes = json_string_value(value);
        spec->in_len = json_string_length(value);
        return;
    }
    spec->in_file = file_of(r, value);
    if (spec->in_file == NULL)
        lt_item_refuse(r, "the bytes that it reads, or { file = path }", value);
}

static void field_output(struct lt_item_reader *r, json_t *value)
{
    static const char *const names[] = {"capture", "inherit", "discard"};
    struct lt_process_spec *spec = spec_of(r);
    bool err = strcmp(r->field, "stderr") == 0;
    enum lt_stream_kind *kind = err ? &spec->err : &spec->out;
    const char *word = json_string_value(value);
    for (int i = 0; i < 3; i++)
        if (word != NULL && strcmp(word, names[i]) == 0) {
            *kind = (enum lt_stream_kind)i;
            return;
        }
    if (err && word != NULL && strcmp(word, "stdout") == 0) {
        *kind = LT_STREAM_STDOUT;
        return;
    }
    struct lt_nearest nearest = {.name = word, .len = word != NULL ? strlen(word) : 0};
    for (int i = 0; word != NULL && strchr(word, '/') == NULL && i < 3; i++)
        lt_nearest_look(&nearest, names[i]);
    if (nearest.meant != NULL) {
        lt_item_refuse(r, "spelled as \"capture\", \"inherit\" or \"discard\"; a file of such a name is ./NAME", value);
        return;
    }
    const char *file = word != NULL ? keep_text(r, value) : file_of(r, value);
    *(err ? &spec->err_file : &spec->out_file) = file;
    *kind = LT_STREAM_FILE;
    if (file == NULL || file[0] == '\0')
        lt_item_refuse(r, "\"capture\", \"inherit\", \"discard\", or the path of a file", value);
}

static void field_user(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->user = keep_text(r, value);
}

static void field_group(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->group = keep_text(r, value);
}

/* 18, or "022" */
static void field_umask(struct lt_item_reader *r, json_t *value)
{
    char *end = NULL;
    const char *text = json_string_value(value);
    long mask = text != NULL ? strtol(text, &end, 8) : json_is_integer(value) ? (long)json_integer_value(value) : -1;
    if (mask < 0 || mask > 0777 || (text != NULL && (end == text || *end != '\0')))
        lt_item_refuse(r, "a mask, in octal as \"022\"", value);
    spec_of(r)->umask = (mode_t)mask;
    spec_of(r)->has_umask = true;
}

static void field_nice(struct lt_item_reader *r, json_t *value)
{
    if (!json_is_integer(value) || json_integer_value(value) < -20 || json_integer_value(value) > 19)
        lt_item_refuse(r, "an integer from -20 to 19", value);
    spec_of(r)->nice = (int)json_integer_value(value);
}

static void set_limit(struct lt_item_reader *r, int resource, int64_t value)
{
    struct lt_process_spec *spec = spec_of(r);
    for (int i = 0; i < spec->limit_count; i++)
        if (spec->limits[i].resource == resource)
            return; /* two names for one thing: the first counts */
    spec->limits[spec->limit_count++] = (struct spawn_limit){resource, (rlim_t)value};
}

/* RLIMIT_AS would keep whole runtimes from starting, which reserve much and use little. */
static void limit_memory(struct lt_item_reader *r, json_t *value)
{
    int64_t size = lt_item_size(r, value);
    if (cgroup_can_limit(CGROUP_MEMORY))
        spec_of(r)->cgroup.memory = (uint64_t)size;
    else
        set_limit(r, RLIMIT_DATA, size);
}

static void limit_cpu_seconds(struct lt_item_reader *r, json_t *value)
{
    set_limit(r, RLIMIT_CPU, lt_item_integer(r, value, 1));
}

static void limit_open_files(struct lt_item_reader *r, json_t *value)
{
    set_limit(r, RLIMIT_NOFILE, lt_item_integer(r, value, 3));
}

static void limit_file_size(struct lt_item_reader *r, json_t *value)
{
    set_limit(r, RLIMIT_FSIZE, lt_item_size(r, value));
}

static void limit_processes(struct lt_item_reader *r, json_t *value)
{
    int64_t count = lt_item_integer(r, value, 1);
    if (cgroup_can_limit(CGROUP_PIDS)) {
        spec_of(r)->cgroup.processes = (uint64_t)count;
        return;
    }
    json_t *user = json_object_get(spec_of(r)->item, "user");
    const char *name = json_string_value(user);
    if (geteuid() == 0 && (name == NULL || strcmp(name, "root") == 0 || strncmp(name, "0:", 2) == 0))
        lt_item_refuse(r, "left out: without a cgroup it counts all processes of the user, and none of root's", value);
    set_limit(r, RLIMIT_NPROC, count);
}

static void limit_cpu(struct lt_item_reader *r, json_t *value)
{
    double cores = lt_item_number(r, value, "a number of cores, as 1.5");
    if (!cgroup_can_limit(CGROUP_CPU))
        lt_item_refuse(r, "left out: it needs a cgroup; cpu_seconds limits the time that is used", value);
    else if (cores < LEAST_CPU && !r->failed)
        lt_item_refuse(r, "0.01 cores at least", value);
    spec_of(r)->cgroup.cpu = cores;
}

static const struct lt_item_field limit_fields[] = {
    {"memory", limit_memory},
    {"cpu_seconds", limit_cpu_seconds},
    {"open_files", limit_open_files},
    {"files", limit_open_files},
    {"file_size", limit_file_size},
    {"processes", limit_processes},
    {"cpu", limit_cpu},
    {NULL, NULL},
};

static void field_limits(struct lt_item_reader *r, json_t *value)
{
    if (lt_item_table(r, value) != NULL)
        lt_item_fields(r, limit_fields, value);
}

static void field_max_output(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->max_output = (uint64_t)lt_item_size(r, value);
}

static void field_stop_signal(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->stop_signal = lt_item_signal(r, value);
}

static void field_stop_grace(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->stop_grace = lt_item_number(r, value, "a number of seconds");
}

static void field_success_codes(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->codes.success = lt_item_codes(r, value);
}

static void field_no_retry_codes(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->codes.no_retry = lt_item_codes(r, value);
}

static void field_pty(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->pty = lt_item_flag(r, value);
}

/* In the order in which they are read. */
static const struct lt_item_field fields[] = {
    {"cmd", field_cmd},
    {"args", field_args},
    {"shell", field_shell},
    {"env", field_env},
    {"clear_env", field_clear_env},
    {"cwd", field_cwd},
    {"working_dir", field_cwd},
    {"stdin", field_stdin},
    {"stdout", field_output},
    {"stderr", field_output},
    {"user", field_user},
    {"group", field_group},
    {"umask", field_umask},
    {"nice", field_nice},
    {"limits", field_limits},
    {"max_output", field_max_output},
    {"stop_signal", field_stop_signal},
    {"stop_grace", field_stop_grace},
    {"success_codes", field_success_codes},
    {"no_retry_codes", field_no_retry_codes},
    {"pty", field_pty},
    {NULL, NULL},
};

/* { "ls", "-l", cwd = "/" } has its command under numbers, and { "ls", "-l" } is a list: both become `cmd`. */
static json_t *with_cmd(json_t *item)
{
    char number[24];
    if (json_is_array(item))
        return json_pack("{s:O}", "cmd", item);
    if (json_object_get(item, "1") == NULL)
        return json_incref(item);
    json_t *named = json_copy(item), *list = json_array(), *word;
    for (int i = 1; snprintf(number, sizeof number, "%d", i), (word = json_object_get(item, number)) != NULL; i++) {
        json_array_append(list, word);
        json_object_del(named, number);
    }
    if (json_object_get(named, "cmd") != NULL)
        json_object_set_new(named, "1", list); /* twice: it is refused as unknown */
    else
        json_object_set_new(named, "cmd", list);
    return named;
}

static int read_item(struct lt_process_spec *spec, const char *root, bool whole, struct lt_error *error)
{
    struct lt_item_reader r = {.error = error, .any_bytes = true, .user = spec};
    spec->made = json_array();
    spec->argv = json_array();
    spec->env = json_array();
    spec->max_output = MAX_OUTPUT;
    spec->stop_signal = SIGTERM;
    spec->stop_grace = STOP_GRACE;
    lt_item_enter(&r, "%s", root);
    lt_item_fields(&r, fields, spec->item);
    if (r.failed)
        return LT_REFUSED;
    const char *first = json_string_value(json_array_get(spec->argv, 0));
    if (whole && (first == NULL || first[0] == '\0'))
        return lt_fail(error, LT_REFUSED, "%s.cmd: is missing: the program, as { cmd = \"ls\", args = { \"-l\" } }",
                       root);
    if (spec->pty && (spec->out != LT_STREAM_CAPTURE || spec->err != LT_STREAM_CAPTURE || spec->in_file != NULL))
        return lt_fail(error, LT_REFUSED, "%s.pty: a terminal is all three streams: leave out those", root);
    return LT_OK;
}

int lt_process_spec_read(struct lt_process_spec *spec, json_t *item, json_t *defaults, const char *root,
                         struct lt_error *error)
{
    *spec = (struct lt_process_spec){0};
    if (!json_is_object(item) && !json_is_array(item))
        return lt_fail(error, LT_REFUSED, "%s: must be a table such as { cmd = \"ls\", args = { \"-l\" } }", root);
    json_t *named = with_cmd(item), *others = defaults != NULL ? with_cmd(defaults) : NULL;
    spec->item = lt_item_with_defaults(named, others);
    json_decref(named);
    json_decref(others);
    int code = read_item(spec, root, true, error);
    if (code != LT_OK)
        lt_process_spec_clear(spec);
    return code;
}

int lt_process_defaults_check(json_t *defaults, const char *where, struct lt_error *error)
{
    struct lt_process_spec spec = {.item = with_cmd(defaults)};
    int code = read_item(&spec, where, false, error);
    lt_process_spec_clear(&spec);
    return code;
}

void lt_process_spec_clear(struct lt_process_spec *spec)
{
    json_decref(spec->item);
    json_decref(spec->made);
    json_decref(spec->argv);
    json_decref(spec->env);
    *spec = (struct lt_process_spec){0};
}
