#include "actuators/docker/spec.h"

#include <ctype.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/nearest.h"

static const double PULL_TIMEOUT = 1800; /* seconds */
static const double STOP_GRACE = 5;
enum { MAX_OUTPUT = 1 << 20, PATH_SIZE = 160 };

/* What is being read, and where its error goes. */
struct reader {
    struct lt_docker_spec *spec;
    json_t *host; /* HostConfig */
    struct lt_error *error;
    bool failed;
    const char *field; /* that is being read, and where it is: item.limits.memory */
    char path[PATH_SIZE];
};

/* Goes into a field or an element; returns what leave() needs. */
__attribute__((format(printf, 2, 3))) static size_t enter(struct reader *r, const char *format, ...)
{
    size_t outer = strlen(r->path);
    va_list args;
    va_start(args, format);
    vsnprintf(r->path + outer, sizeof r->path - outer, format, args);
    va_end(args);
    return outer;
}

static void leave(struct reader *r, size_t outer)
{
    r->path[outer] = '\0';
}

static void refuse(struct reader *r, const char *expected, const json_t *got)
{
    char *text = got != NULL ? json_dumps(got, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (!r->failed)
        lt_fail(r->error, LT_REFUSED, "%s: must be %s, got %.120s", r->path, expected,
                text != NULL ? text : "text that is no UTF-8");
    r->failed = true;
    free(text);
}

/* Values. */

/* Text without NULs; NULL when it is refused. Numbers are written as Lua does. */
static json_t *read_text(struct reader *r, json_t *value)
{
    char number[40];
    if (json_is_integer(value)) {
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(value));
        return json_string(number);
    }
    if (json_is_real(value)) {
        snprintf(number, sizeof number, "%.14g", json_real_value(value));
        bool whole = strspn(number, "-0123456789") == strlen(number);
        return json_sprintf("%s%s", number, whole ? ".0" : "");
    }
    json_t *text = json_is_string(value) ? json_stringn(json_string_value(value), json_string_length(value)) : NULL;
    bool fits = text != NULL && strlen(json_string_value(text)) == json_string_length(text);
    if (!fits) {
        json_decref(text);
        refuse(r, "text without NULs", value);
        return NULL;
    }
    return text;
}

static bool is_empty_table(const json_t *value)
{
    return json_is_object(value) && json_object_size(value) == 0;
}

/* A list of texts, or one text. Never NULL. */
static json_t *read_texts(struct reader *r, json_t *value)
{
    json_t *list = json_array();
    size_t i;
    json_t *element;
    if (json_is_object(value) && !is_empty_table(value)) {
        refuse(r, "a text or a list of texts", value);
    } else if (!json_is_array(value) && !is_empty_table(value)) {
        json_t *text = read_text(r, value);
        if (text != NULL)
            json_array_append_new(list, text);
    }
    json_array_foreach(value, i, element) {
        size_t outer = enter(r, "[%zu]", i + 1);
        json_t *text = read_text(r, element);
        if (text != NULL)
            json_array_append_new(list, text);
        leave(r, outer);
    }
    return list;
}

static bool read_flag(struct reader *r, json_t *value)
{
    if (!json_is_boolean(value))
        refuse(r, "true or false", value);
    return json_is_true(value);
}

static double read_number(struct reader *r, json_t *value, const char *expected)
{
    double number = json_is_number(value) ? json_number_value(value) : -1;
    if (!(number >= 0))
        refuse(r, expected, value);
    return number;
}

static int64_t read_integer(struct reader *r, json_t *value, int64_t least)
{
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    if (!(number >= (double)least && number < 9e15 && number == floor(number))) {
        refuse(r, least > 0 ? "a positive integer" : "an integer that is not negative", value);
        return least;
    }
    return (int64_t)number;
}

/* Bytes: a number, or a text such as "64M". */
static int64_t read_size(struct reader *r, json_t *value)
{
    static const char units[] = "KMGT";
    double size = json_is_number(value) ? json_number_value(value) : -1;
    if (json_is_string(value)) {
        char *end;
        size = strtod(json_string_value(value), &end);
        const char *unit = *end != '\0' ? strchr(units, toupper((unsigned char)*end)) : NULL;
        if (end == json_string_value(value) || (*end != '\0' && (unit == NULL || end[1] != '\0')))
            size = -1;
        for (long i = unit != NULL ? unit - units + 1 : 0; i > 0; i--)
            size *= 1024;
    }
    if (!(size >= 1 && size < 9e15)) {
        refuse(r, "a number of bytes or a text such as \"64M\"", value);
        return 0;
    }
    return (int64_t)size;
}

static json_t *read_table(struct reader *r, json_t *value)
{
    if (!json_is_object(value))
        refuse(r, "a table with names", value);
    return json_is_object(value) ? value : NULL;
}

static json_t *read_codes(struct reader *r, json_t *value)
{
    size_t i;
    json_t *code;
    if (!json_is_array(value)) {
        if (!is_empty_table(value))
            refuse(r, "a list of exit codes", value);
        return NULL;
    }
    json_array_foreach(value, i, code) {
        if (!json_is_integer(code) || json_integer_value(code) < 0 || json_integer_value(code) > 255)
            refuse(r, "a list of exit codes from 0 to 255", value);
    }
    return value;
}

/* Fields. */

typedef void (*read_field)(struct reader *r, json_t *value);

static void set(json_t *object, const char *name, json_t *value)
{
    if (value != NULL)
        json_object_set_new_nocheck(object, name, value);
}

static void field_image(struct reader *r, json_t *value)
{
    json_t *text = read_text(r, value);
    const char *image = json_string_value(text);
    if (image == NULL || image[0] == '\0') {
        refuse(r, "the name of an image", value);
        json_decref(text);
        return;
    }
    const char *last = strrchr(image, '/');
    bool exact = strchr(image, '@') != NULL || strchr(last != NULL ? last : image, ':') != NULL;
    r->spec->image = lt_format("%s%s", image, exact ? "" : ":latest"); /* a pull without a tag is one of all tags */
    set(r->spec->create, "Image", json_string(r->spec->image));
    json_decref(text);
}

static void field_cmd(struct reader *r, json_t *value)
{
    json_t *list = read_texts(r, value);
    json_t *known = json_object_get(r->spec->create, "Cmd");
    if (known == NULL) {
        set(r->spec->create, "Cmd", list);
        return;
    }
    json_array_extend(known, list); /* args come after cmd */
    json_decref(list);
}

static void field_shell(struct reader *r, json_t *value)
{
    if (!json_is_string(value))
        refuse(r, "the command line for the shell, as shell = \"a | b\"", value);
    else if (json_object_get(r->spec->create, "Cmd") != NULL)
        refuse(r, "given instead of cmd, and not beside it", value);
    else
        set(r->spec->create, "Cmd", json_pack("[s,s,o]", "/bin/sh", "-c", read_text(r, value)));
}

static void field_entrypoint(struct reader *r, json_t *value)
{
    set(r->spec->create, "Entrypoint", read_texts(r, value));
}

static void field_name(struct reader *r, json_t *value)
{
    const char *name = json_string_value(value);
    static const char legal[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    if (name == NULL || strlen(name) < 2 || strspn(name, legal) != json_string_length(value) ||
        strchr("_.-", name[0]) != NULL)
        refuse(r, "a container's name of letters, digits, '_', '.' and '-'", value);
    else
        r->spec->name = name;
}

static void field_env(struct reader *r, json_t *value)
{
    json_t *list = json_array();
    const char *key;
    json_t *given;
    if (read_table(r, value) == NULL)
        value = NULL;
    json_object_foreach(value, key, given) {
        size_t outer = enter(r, ".%s", key);
        json_t *text = read_text(r, given);
        if (key[0] == '\0' || strchr(key, '=') != NULL)
            refuse(r, "named without '='", given);
        if (text != NULL)
            json_array_append_new(list, json_sprintf("%s=%s", key, json_string_value(text)));
        json_decref(text);
        leave(r, outer);
    }
    set(r->spec->create, "Env", list);
}

/* Texts and flags that are only passed on: field -> name in the body, and whether that is in HostConfig. */
static const struct {
    const char *field, *name;
    bool host;
} passed[] = {
    {"cwd", "WorkingDir", false},
    {"working_dir", "WorkingDir", false},
    {"user", "User", false},
    {"hostname", "Hostname", false},
    {"network_mode", "NetworkMode", true},
    {"network_disabled", "NetworkDisabled", false},
    {"privileged", "Privileged", true},
    {"read_only", "ReadonlyRootfs", true},
    {"init", "Init", true},
    {"cap_add", "CapAdd", true},
    {"cap_drop", "CapDrop", true},
};

static void pass_on(struct reader *r, json_t *value)
{
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++)
        if (strcmp(passed[i].field, r->field) == 0) {
            set(passed[i].host ? r->host : r->spec->create, passed[i].name, value);
            return;
        }
}

static void field_text(struct reader *r, json_t *value)
{
    pass_on(r, read_text(r, value));
}

static void field_flag(struct reader *r, json_t *value)
{
    pass_on(r, json_boolean(read_flag(r, value)));
}

static void field_list(struct reader *r, json_t *value)
{
    pass_on(r, read_texts(r, value));
}

static char *port_name(const char *text)
{
    return strchr(text, '/') != NULL ? lt_strdup(text) : lt_format("%s/tcp", text);
}

static json_t *exposed(struct reader *r)
{
    json_t *ports = json_object_get(r->spec->create, "ExposedPorts");
    if (ports == NULL) {
        ports = json_object();
        set(r->spec->create, "ExposedPorts", ports);
    }
    return ports;
}

static void field_exposed_ports(struct reader *r, json_t *value)
{
    json_t *list = read_texts(r, value);
    size_t i;
    json_t *text;
    json_array_foreach(list, i, text) {
        char *name = port_name(json_string_value(text));
        set(exposed(r), name, json_object());
        free(name);
    }
    json_decref(list);
}

/* ports = { ["80"] = 8080, ["53/udp"] = "127.0.0.1:5353" }: of the container = of the host */
static void field_ports(struct reader *r, json_t *value)
{
    const char *key;
    json_t *given, *bindings = json_object();
    if (read_table(r, value) == NULL)
        value = NULL;
    json_object_foreach(value, key, given) {
        size_t outer = enter(r, ".%s", key);
        json_t *text = read_text(r, given);
        char *name = port_name(key);
        if (text != NULL) {
            const char *all = json_string_value(text);
            const char *colon = strrchr(all, ':');
            set(bindings, name,
                json_pack("[{s:o,s:s}]", "HostIp", json_stringn(all, colon != NULL ? (size_t)(colon - all) : 0),
                          "HostPort", colon != NULL ? colon + 1 : all));
            set(exposed(r), name, json_object());
        }
        json_decref(text);
        free(name);
        leave(r, outer);
    }
    set(r->host, "PortBindings", bindings);
}

static json_t *read_mount(struct reader *r, const char *source, const json_t *text)
{
    const char *inside = json_string_value(text);
    const char *mode = strchr(inside, ':');
    bool read_only = mode != NULL && strcmp(mode, ":ro") == 0;
    if (inside[0] != '/' || (mode != NULL && !read_only && strcmp(mode, ":rw") != 0)) {
        refuse(r, "a path in the container, maybe with :ro", text);
        return NULL;
    }
    size_t len = mode != NULL ? (size_t)(mode - inside) : strlen(inside);
    const char *type = strchr(source, '/') != NULL ? "bind" : "volume";
    return json_pack("{s:s,s:s,s:o,s:b}", "Type", type, "Source", source, "Target", json_stringn(inside, len),
                     "ReadOnly", read_only);
}

/* volumes = { ["/host/folder"] = "/inside:ro", cache = "/var/cache" }: a folder of the host must exist; a name without a
 * slash is a volume of Docker's. */
static void field_volumes(struct reader *r, json_t *value)
{
    const char *key;
    json_t *given, *mounts = json_array();
    if (read_table(r, value) == NULL)
        value = NULL;
    json_object_foreach(value, key, given) {
        size_t outer = enter(r, "[\"%s\"]", key);
        json_t *text = read_text(r, given);
        json_t *mount = text != NULL ? read_mount(r, key, text) : NULL;
        if (mount != NULL)
            json_array_append_new(mounts, mount);
        json_decref(text);
        leave(r, outer);
    }
    set(r->host, "Mounts", mounts);
}

static void field_memory(struct reader *r, json_t *value)
{
    int64_t size = read_size(r, value);
    set(r->host, "Memory", json_integer(size));
    set(r->host, "MemorySwap", json_integer(size)); /* else as much again of swap is allowed */
}

static void field_cpu_percent(struct reader *r, json_t *value)
{
    double percent = read_number(r, value, "a number of percents of one core");
    set(r->host, "NanoCpus", json_integer((json_int_t)(percent * 1e7)));
}

static void field_cpu(struct reader *r, json_t *value)
{
    double cores = read_number(r, value, "a number of cores, such as 1.5");
    set(r->host, "NanoCpus", json_integer((json_int_t)(cores * 1e9)));
}

static void field_pids(struct reader *r, json_t *value)
{
    set(r->host, "PidsLimit", json_integer(read_integer(r, value, 1)));
}

static void add_ulimit(struct reader *r, const char *name, int64_t soft, int64_t hard)
{
    json_t *ulimits = json_object_get(r->host, "Ulimits");
    if (ulimits == NULL) {
        ulimits = json_array();
        set(r->host, "Ulimits", ulimits);
    }
    json_array_append_new(ulimits,
                          json_pack("{s:s,s:I,s:I}", "Name", name, "Soft", (json_int_t)soft, "Hard", (json_int_t)hard));
}

static void field_open_files(struct reader *r, json_t *value)
{
    int64_t count = read_integer(r, value, 1);
    add_ulimit(r, "nofile", count, count);
}

/* ulimits = { nofile = 1024, nproc = { 100, 200 } }: soft and hard */
static void field_ulimits(struct reader *r, json_t *value)
{
    const char *key;
    json_t *given;
    if (read_table(r, value) == NULL)
        value = NULL;
    json_object_foreach(value, key, given) {
        size_t outer = enter(r, ".%s", key);
        bool both = json_is_array(given) && json_array_size(given) == 2;
        int64_t soft = read_integer(r, both ? json_array_get(given, 0) : given, 0);
        int64_t hard = both ? read_integer(r, json_array_get(given, 1), 0) : soft;
        add_ulimit(r, key, soft, hard);
        leave(r, outer);
    }
}

static void field_labels(struct reader *r, json_t *value)
{
    const char *key;
    json_t *given, *labels = json_object();
    if (read_table(r, value) == NULL)
        value = NULL;
    json_object_foreach(value, key, given) {
        size_t outer = enter(r, ".%s", key);
        if (strncmp(key, "ltsh.", 5) == 0)
            refuse(r, "named otherwise: labels that begin with \"ltsh.\" are the host's own", given);
        set(labels, key, read_text(r, given));
        leave(r, outer);
    }
    set(r->spec->create, "Labels", labels);
}

static void field_pull(struct reader *r, json_t *value)
{
    static const char *const names[] = {"missing", "always", "never"};
    for (int i = 0; i < 3; i++)
        if (json_is_string(value) && strcmp(json_string_value(value), names[i]) == 0) {
            r->spec->pull = (enum lt_pull)i;
            return;
        }
    refuse(r, "\"missing\", \"always\" or \"never\"", value);
}

static void field_auth(struct reader *r, json_t *value)
{
    r->spec->auth = read_table(r, value);
}

static void field_pull_timeout(struct reader *r, json_t *value)
{
    r->spec->pull_timeout = read_number(r, value, "a number of seconds");
}

static void field_stop_signal(struct reader *r, json_t *value)
{
    const char *name = json_string_value(value);
    if (json_is_integer(value) && json_integer_value(value) > 0 && json_integer_value(value) <= SIGRTMAX) {
        snprintf(r->spec->stop_signal, sizeof r->spec->stop_signal, "%d", (int)json_integer_value(value));
        return;
    }
    if (name != NULL && strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (int signal = 1; name != NULL && signal < SIGRTMIN; signal++)
        if (sigabbrev_np(signal) != NULL && strcmp(sigabbrev_np(signal), name) == 0) {
            snprintf(r->spec->stop_signal, sizeof r->spec->stop_signal, "SIG%s", name);
            return;
        }
    refuse(r, "a signal, such as \"TERM\", \"SIGTERM\" or 15", value);
}

static void field_stop_grace(struct reader *r, json_t *value)
{
    r->spec->stop_grace = read_number(r, value, "a number of seconds");
}

static void field_max_output(struct reader *r, json_t *value)
{
    r->spec->max_output = (uint64_t)read_size(r, value);
}

static void field_success_codes(struct reader *r, json_t *value)
{
    r->spec->success_codes = read_codes(r, value);
}

static void field_no_retry_codes(struct reader *r, json_t *value)
{
    r->spec->no_retry_codes = read_codes(r, value);
}

static void field_stdin(struct reader *r, json_t *value)
{
    if (!json_is_string(value)) {
        refuse(r, "the bytes that it reads", value);
        return;
    }
    r->spec->stdin_bytes = json_string_value(value);
    r->spec->stdin_len = json_string_length(value);
    set(r->spec->create, "OpenStdin", json_true());
    set(r->spec->create, "StdinOnce", json_true());
    set(r->spec->create, "AttachStdin", json_true());
}

static void field_stdout(struct reader *r, json_t *value)
{
    const char *where = json_string_value(value);
    bool err = strcmp(r->field, "stderr") == 0;
    if (where != NULL && strcmp(where, "discard") == 0)
        *(err ? &r->spec->discard_err : &r->spec->discard_out) = true;
    else if (err && where != NULL && strcmp(where, "stdout") == 0)
        r->spec->one_stream = true;
    else if (where == NULL || strcmp(where, "capture") != 0)
        refuse(r, err ? "\"capture\", \"discard\" or \"stdout\"" : "\"capture\" or \"discard\"", value);
}

static void field_pty(struct reader *r, json_t *value)
{
    r->spec->tty = read_flag(r, value);
    set(r->spec->create, "Tty", json_boolean(r->spec->tty));
}

static void field_keep(struct reader *r, json_t *value)
{
    r->spec->keep = read_flag(r, value);
}

static void field_host_config(struct reader *r, json_t *value)
{
    if (read_table(r, value) != NULL)
        json_object_update(r->host, value);
}

struct field {
    const char *name;
    read_field read;
};

static const struct field limit_fields[] = {
    {"memory", field_memory},         {"cpu", field_cpu}, {"processes", field_pids},
    {"open_files", field_open_files}, {NULL, NULL},
};

static void read_fields(struct reader *r, const struct field *known, json_t *table);

static void field_limits(struct reader *r, json_t *value)
{
    if (read_table(r, value) != NULL)
        read_fields(r, limit_fields, value);
}

/* In the order in which they are read: args after cmd, and host_config last. */
static const struct field fields[] = {
    {"image", field_image},
    {"cmd", field_cmd},
    {"args", field_cmd},
    {"shell", field_shell},
    {"entrypoint", field_entrypoint},
    {"name", field_name},
    {"env", field_env},
    {"cwd", field_text},
    {"working_dir", field_text},
    {"user", field_text},
    {"hostname", field_text},
    {"exposed_ports", field_exposed_ports},
    {"ports", field_ports},
    {"network_disabled", field_flag},
    {"network_mode", field_text},
    {"privileged", field_flag},
    {"volumes", field_volumes},
    {"memory", field_memory},
    {"cpu_percent", field_cpu_percent},
    {"pids", field_pids},
    {"limits", field_limits},
    {"ulimits", field_ulimits},
    {"cap_add", field_list},
    {"cap_drop", field_list},
    {"read_only", field_flag},
    {"labels", field_labels},
    {"init", field_flag},
    {"pull", field_pull},
    {"auth", field_auth},
    {"pull_timeout", field_pull_timeout},
    {"stop_signal", field_stop_signal},
    {"stop_grace", field_stop_grace},
    {"success_codes", field_success_codes},
    {"no_retry_codes", field_no_retry_codes},
    {"max_output", field_max_output},
    {"stdin", field_stdin},
    {"stdout", field_stdout},
    {"stderr", field_stdout},
    {"pty", field_pty},
    {"keep", field_keep},
    {"host_config", field_host_config},
    {NULL, NULL},
};

static void check_names(struct reader *r, const struct field *known, json_t *table)
{
    const char *key;
    json_t *value;
    json_object_foreach(table, key, value) {
        struct lt_nearest nearest = {.name = key, .len = strlen(key)};
        const struct field *field = known;
        while (field->name != NULL && strcmp(field->name, key) != 0)
            lt_nearest_look(&nearest, (field++)->name);
        if (field->name != NULL || r->failed)
            continue;
        r->failed = true;
        if (nearest.meant != NULL)
            lt_fail(r->error, LT_REFUSED, "%s.%.60s: unknown, did you mean %s?", r->path, key, nearest.meant);
        else
            lt_fail(r->error, LT_REFUSED, "%s.%.60s: unknown", r->path, key);
    }
}

static void read_fields(struct reader *r, const struct field *known, json_t *table)
{
    check_names(r, known, table);
    for (const struct field *field = known; field->name != NULL; field++) {
        json_t *value = json_object_get(table, field->name);
        if (value == NULL || json_is_null(value))
            continue;
        size_t outer = enter(r, ".%s", field->name);
        r->field = field->name;
        field->read(r, value);
        leave(r, outer);
    }
}

/* The item's fields over the defaults; env and labels are added to each other. */
static json_t *with_defaults(json_t *item, json_t *defaults)
{
    static const char *const merged[] = {"env", "labels", "limits"};
    json_t *whole = json_copy(item);
    json_object_update_missing(whole, defaults);
    for (size_t i = 0; i < sizeof merged / sizeof merged[0]; i++) {
        json_t *own = json_object_get(item, merged[i]);
        json_t *other = json_object_get(defaults, merged[i]);
        if (json_is_object(own) && json_is_object(other)) {
            json_t *both = json_copy(own);
            json_object_update_missing(both, other);
            json_object_set_new(whole, merged[i], both);
        }
    }
    return whole;
}

static int read_item(struct lt_docker_spec *spec, const char *root, bool whole, struct lt_error *error)
{
    struct reader r = {.spec = spec, .host = json_object(), .error = error};
    enter(&r, "%s", root);
    spec->create = json_object();
    set(r.host, "LogConfig", json_pack("{s:s}", "Type", "local")); /* readable again, and byte for byte */
    set(spec->create, "AttachStdout", json_true());
    set(spec->create, "AttachStderr", json_true());
    read_fields(&r, fields, spec->item);
    set(spec->create, "HostConfig", r.host);
    if (r.failed)
        return LT_REFUSED;
    if (whole && spec->image == NULL)
        return lt_fail(error, LT_REFUSED, "%s.image: is missing: the name of an image", root);
    char *sent = json_dumps(spec->create, JSON_COMPACT);
    free(sent);
    if (sent == NULL)
        return lt_fail(error, LT_REFUSED, "%s: has text that is no UTF-8, which Docker does not take", root);
    return LT_OK;
}

int lt_docker_spec_read(struct lt_docker_spec *spec, json_t *item, json_t *defaults, struct lt_error *error)
{
    *spec = (struct lt_docker_spec){.pull_timeout = PULL_TIMEOUT, .stop_grace = STOP_GRACE, .max_output = MAX_OUTPUT};
    if (!json_is_object(item))
        return lt_fail(error, LT_REFUSED, "item: must be a table such as { image = \"busybox\", cmd = { \"true\" } }");
    spec->item = with_defaults(item, defaults);
    int code = read_item(spec, "item", true, error);
    if (code != LT_OK)
        lt_docker_spec_clear(spec);
    return code;
}

int lt_docker_defaults_check(json_t *defaults, const char *where, struct lt_error *error)
{
    struct lt_docker_spec spec = {.item = json_incref(defaults)};
    int code = read_item(&spec, where, false, error);
    lt_docker_spec_clear(&spec);
    return code;
}

void lt_docker_spec_clear(struct lt_docker_spec *spec)
{
    json_decref(spec->create);
    json_decref(spec->item);
    free(spec->image);
    *spec = (struct lt_docker_spec){0};
}
