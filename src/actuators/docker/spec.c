#include "actuators/docker/spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actuators/item.h"
#include "base/alloc.h"

static const double PULL_TIMEOUT = 1800; /* seconds */
static const double STOP_GRACE = 5;
enum { MAX_OUTPUT = 1 << 20 };

/* What is made while an item is read; the reader's user. */
struct making {
    struct lt_docker_spec *spec;
    json_t *host; /* HostConfig */
};

static struct lt_docker_spec *spec_of(const struct lt_item_reader *r)
{
    return ((struct making *)r->user)->spec;
}

static json_t *host_of(const struct lt_item_reader *r)
{
    return ((struct making *)r->user)->host;
}

/* Fields. */

static void set(json_t *object, const char *name, json_t *value)
{
    if (value != NULL)
        json_object_set_new_nocheck(object, name, value);
}

static void field_image(struct lt_item_reader *r, json_t *value)
{
    json_t *text = lt_item_text(r, value);
    const char *image = json_string_value(text);
    if (image == NULL || image[0] == '\0') {
        lt_item_refuse(r, "the name of an image", value);
        json_decref(text);
        return;
    }
    const char *last = strrchr(image, '/');
    bool exact = strchr(image, '@') != NULL || strchr(last != NULL ? last : image, ':') != NULL;
    spec_of(r)->image = lt_format("%s%s", image, exact ? "" : ":latest"); /* a pull without a tag is one of all tags */
    set(spec_of(r)->create, "Image", json_string(spec_of(r)->image));
    json_decref(text);
}

static void field_cmd(struct lt_item_reader *r, json_t *value)
{
    json_t *list = lt_item_texts(r, value);
    json_t *known = json_object_get(spec_of(r)->create, "Cmd");
    if (known == NULL) {
        set(spec_of(r)->create, "Cmd", list);
        return;
    }
    json_array_extend(known, list); /* args come after cmd */
    json_decref(list);
}

static void field_shell(struct lt_item_reader *r, json_t *value)
{
    if (!json_is_string(value))
        lt_item_refuse(r, "the command line for the shell, as shell = \"a | b\"", value);
    else if (json_object_get(spec_of(r)->create, "Cmd") != NULL)
        lt_item_refuse(r, "given instead of cmd, and not beside it", value);
    else
        set(spec_of(r)->create, "Cmd", json_pack("[s,s,o]", "/bin/sh", "-c", lt_item_text(r, value)));
}

static void field_entrypoint(struct lt_item_reader *r, json_t *value)
{
    set(spec_of(r)->create, "Entrypoint", lt_item_texts(r, value));
}

static void field_name(struct lt_item_reader *r, json_t *value)
{
    const char *name = json_string_value(value);
    static const char legal[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    if (name == NULL || strlen(name) < 2 || strspn(name, legal) != json_string_length(value) ||
        strchr("_.-", name[0]) != NULL)
        lt_item_refuse(r, "a container's name of letters, digits, '_', '.' and '-'", value);
    else
        spec_of(r)->name = name;
}

static void add_variable(struct lt_item_reader *r, const char *name, json_t *text)
{
    json_array_append_new(json_object_get(spec_of(r)->create, "Env"), lt_item_variable(r, name, text));
}

static void field_env(struct lt_item_reader *r, json_t *value)
{
    set(spec_of(r)->create, "Env", json_array());
    lt_item_each_text(r, value, add_variable);
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

static void pass_on(struct lt_item_reader *r, json_t *value)
{
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++)
        if (strcmp(passed[i].field, r->field) == 0) {
            set(passed[i].host ? host_of(r) : spec_of(r)->create, passed[i].name, value);
            return;
        }
}

static void field_text(struct lt_item_reader *r, json_t *value)
{
    pass_on(r, lt_item_text(r, value));
}

static void field_flag(struct lt_item_reader *r, json_t *value)
{
    pass_on(r, json_boolean(lt_item_flag(r, value)));
}

static void field_list(struct lt_item_reader *r, json_t *value)
{
    pass_on(r, lt_item_texts(r, value));
}

static char *port_name(const char *text)
{
    return strchr(text, '/') != NULL ? lt_strdup(text) : lt_format("%s/tcp", text);
}

static json_t *exposed(struct lt_item_reader *r)
{
    json_t *ports = json_object_get(spec_of(r)->create, "ExposedPorts");
    if (ports == NULL) {
        ports = json_object();
        set(spec_of(r)->create, "ExposedPorts", ports);
    }
    return ports;
}

static void field_exposed_ports(struct lt_item_reader *r, json_t *value)
{
    json_t *list = lt_item_texts(r, value);
    size_t i;
    json_t *text;
    json_array_foreach(list, i, text) {
        char *name = port_name(json_string_value(text));
        set(exposed(r), name, json_object());
        free(name);
    }
    json_decref(list);
}

static void add_port(struct lt_item_reader *r, const char *key, json_t *text)
{
    char *name = port_name(key);
    const char *all = json_string_value(text);
    const char *colon = strrchr(all, ':');
    set(json_object_get(host_of(r), "PortBindings"), name,
        json_pack("[{s:o,s:s}]", "HostIp", json_stringn(all, colon != NULL ? (size_t)(colon - all) : 0), "HostPort",
                  colon != NULL ? colon + 1 : all));
    set(exposed(r), name, json_object());
    free(name);
}

/* ports = { ["80"] = 8080, ["53/udp"] = "127.0.0.1:5353" }: of the container = of the host */
static void field_ports(struct lt_item_reader *r, json_t *value)
{
    set(host_of(r), "PortBindings", json_object());
    lt_item_each_text(r, value, add_port);
}

static void add_mount(struct lt_item_reader *r, const char *source, json_t *text)
{
    const char *inside = json_string_value(text);
    const char *mode = strchr(inside, ':');
    bool read_only = mode != NULL && strcmp(mode, ":ro") == 0;
    if (inside[0] != '/' || (mode != NULL && !read_only && strcmp(mode, ":rw") != 0)) {
        lt_item_refuse(r, "a path in the container, maybe with :ro", text);
        return;
    }
    size_t len = mode != NULL ? (size_t)(mode - inside) : strlen(inside);
    const char *type = strchr(source, '/') != NULL ? "bind" : "volume";
    json_array_append_new(json_object_get(host_of(r), "Mounts"),
                          json_pack("{s:s,s:s,s:o,s:b}", "Type", type, "Source", source, "Target",
                                    json_stringn(inside, len), "ReadOnly", read_only));
}

/* volumes = { ["/host/folder"] = "/inside:ro", cache = "/var/cache" }: a folder of the host must exist; a name without a
 * slash is a volume of Docker's. */
static void field_volumes(struct lt_item_reader *r, json_t *value)
{
    set(host_of(r), "Mounts", json_array());
    lt_item_each_text(r, value, add_mount);
}

static void field_memory(struct lt_item_reader *r, json_t *value)
{
    int64_t size = lt_item_size(r, value);
    set(host_of(r), "Memory", json_integer(size));
    set(host_of(r), "MemorySwap", json_integer(size)); /* else as much again of swap is allowed */
}

static void field_cpu_percent(struct lt_item_reader *r, json_t *value)
{
    double percent = lt_item_number(r, value, "a number of percents of one core");
    set(host_of(r), "NanoCpus", json_integer((json_int_t)(percent * 1e7)));
}

static void field_cpu(struct lt_item_reader *r, json_t *value)
{
    double cores = lt_item_number(r, value, "a number of cores, such as 1.5");
    set(host_of(r), "NanoCpus", json_integer((json_int_t)(cores * 1e9)));
}

static void field_pids(struct lt_item_reader *r, json_t *value)
{
    set(host_of(r), "PidsLimit", json_integer(lt_item_integer(r, value, 1)));
}

static void add_ulimit(struct lt_item_reader *r, const char *name, int64_t soft, int64_t hard)
{
    json_t *ulimits = json_object_get(host_of(r), "Ulimits");
    if (ulimits == NULL) {
        ulimits = json_array();
        set(host_of(r), "Ulimits", ulimits);
    }
    json_array_append_new(ulimits,
                          json_pack("{s:s,s:I,s:I}", "Name", name, "Soft", (json_int_t)soft, "Hard", (json_int_t)hard));
}

static void field_open_files(struct lt_item_reader *r, json_t *value)
{
    int64_t count = lt_item_integer(r, value, 1);
    add_ulimit(r, "nofile", count, count);
}

/* ulimits = { nofile = 1024, nproc = { 100, 200 } }: soft and hard */
static void field_ulimits(struct lt_item_reader *r, json_t *value)
{
    const char *key;
    json_t *given;
    if (lt_item_table(r, value) == NULL)
        value = NULL;
    json_object_foreach(value, key, given) {
        size_t outer = lt_item_enter(r, ".%s", key);
        bool both = json_is_array(given) && json_array_size(given) == 2;
        int64_t soft = lt_item_integer(r, both ? json_array_get(given, 0) : given, 0);
        int64_t hard = both ? lt_item_integer(r, json_array_get(given, 1), 0) : soft;
        add_ulimit(r, key, soft, hard);
        lt_item_leave(r, outer);
    }
}

static void add_label(struct lt_item_reader *r, const char *key, json_t *text)
{
    if (strncmp(key, "ltsh.", 5) == 0)
        lt_item_refuse(r, "named otherwise: labels that begin with \"ltsh.\" are the host's own", text);
    set(json_object_get(spec_of(r)->create, "Labels"), key, json_incref(text));
}

static void field_labels(struct lt_item_reader *r, json_t *value)
{
    set(spec_of(r)->create, "Labels", json_object());
    lt_item_each_text(r, value, add_label);
}

static void field_pull(struct lt_item_reader *r, json_t *value)
{
    static const char *const names[] = {"missing", "always", "never"};
    for (int i = 0; i < 3; i++)
        if (json_is_string(value) && strcmp(json_string_value(value), names[i]) == 0) {
            spec_of(r)->pull = (enum lt_pull)i;
            return;
        }
    lt_item_refuse(r, "\"missing\", \"always\" or \"never\"", value);
}

static void field_auth(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->auth = lt_item_table(r, value);
}

static void field_pull_timeout(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->pull_timeout = lt_item_number(r, value, "a number of seconds");
}

static void field_stop_signal(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->stop_signal = lt_item_signal(r, value);
}

static void field_stop_grace(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->stop_grace = lt_item_number(r, value, "a number of seconds");
}

static void field_max_output(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->max_output = (uint64_t)lt_item_size(r, value);
}

static void field_success_codes(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->codes.success = lt_item_codes(r, value);
}

static void field_no_retry_codes(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->codes.no_retry = lt_item_codes(r, value);
}

static void field_stdin(struct lt_item_reader *r, json_t *value)
{
    if (!json_is_string(value)) {
        lt_item_refuse(r, "the bytes that it reads", value);
        return;
    }
    spec_of(r)->stdin_bytes = json_string_value(value);
    spec_of(r)->stdin_len = json_string_length(value);
    set(spec_of(r)->create, "OpenStdin", json_true());
    set(spec_of(r)->create, "StdinOnce", json_true());
    set(spec_of(r)->create, "AttachStdin", json_true());
}

static void field_stdout(struct lt_item_reader *r, json_t *value)
{
    const char *where = json_string_value(value);
    bool err = strcmp(r->field, "stderr") == 0;
    if (where != NULL && strcmp(where, "discard") == 0)
        *(err ? &spec_of(r)->discard_err : &spec_of(r)->discard_out) = true;
    else if (err && where != NULL && strcmp(where, "stdout") == 0)
        spec_of(r)->one_stream = true;
    else if (where == NULL || strcmp(where, "capture") != 0)
        lt_item_refuse(r, err ? "\"capture\", \"discard\" or \"stdout\"" : "\"capture\" or \"discard\"", value);
}

static void field_pty(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->tty = lt_item_flag(r, value);
    set(spec_of(r)->create, "Tty", json_boolean(spec_of(r)->tty));
}

static void field_keep(struct lt_item_reader *r, json_t *value)
{
    spec_of(r)->keep = lt_item_flag(r, value);
}

static void field_host_config(struct lt_item_reader *r, json_t *value)
{
    if (lt_item_table(r, value) != NULL)
        json_object_update(host_of(r), value);
}

static const struct lt_item_field limit_fields[] = {
    {"memory", field_memory},         {"cpu", field_cpu}, {"processes", field_pids},
    {"open_files", field_open_files}, {NULL, NULL},
};

static void field_limits(struct lt_item_reader *r, json_t *value)
{
    if (lt_item_table(r, value) != NULL)
        lt_item_fields(r, limit_fields, value);
}

/* In the order in which they are read: args after cmd, and host_config last. */
static const struct lt_item_field fields[] = {
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

static int read_item(struct lt_docker_spec *spec, const char *root, bool whole, struct lt_error *error)
{
    struct making making = {spec, json_object()};
    struct lt_item_reader r = {.error = error, .user = &making};
    lt_item_enter(&r, "%s", root);
    spec->create = json_object();
    set(making.host, "LogConfig", json_pack("{s:s}", "Type", "local")); /* readable again, and byte for byte */
    set(spec->create, "AttachStdout", json_true());
    set(spec->create, "AttachStderr", json_true());
    lt_item_fields(&r, fields, spec->item);
    set(spec->create, "HostConfig", making.host);
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
    spec->item = lt_item_with_defaults(item, defaults);
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
