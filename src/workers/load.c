#include "workers/load.h"

#include <string.h>

static char *put(char *to, const void *data, size_t len)
{
    memcpy(to, data, len);
    return to + len;
}

struct lt_message *lt_load_write(const struct lt_load *load)
{
    size_t path = strlen(load->path) + 1;
    size_t cpath = strlen(load->cpath) + 1;
    size_t module = strlen(load->module) + 1;
    struct lt_message *message =
        lt_message_new(LT_MESSAGE_LOAD, 0, NULL, sizeof load->memory + path + cpath + module + load->source_len);
    char *to = put(message->data, &load->memory, sizeof load->memory);
    to = put(to, load->path, path);
    to = put(to, load->cpath, cpath);
    to = put(to, load->module, module);
    put(to, load->source, load->source_len);
    return message;
}

void lt_load_read(const struct lt_message *message, struct lt_load *load)
{
    memcpy(&load->memory, message->data, sizeof load->memory);
    load->path = message->data + sizeof load->memory;
    load->cpath = load->path + strlen(load->path) + 1;
    load->module = load->cpath + strlen(load->cpath) + 1;
    load->source = load->module + strlen(load->module) + 1;
    load->source_len = (size_t)(message->data + message->head.len - load->source);
}
