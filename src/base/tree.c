#include "base/tree.h"

#include <math.h>
#include <msgpack.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static json_t *tree_of(const msgpack_object *object);

static json_t *list_of(const msgpack_object_array *array)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < array->size; i++) {
        json_t *value = tree_of(&array->ptr[i]);
        if (value == NULL || json_array_append_new(list, value) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static int put_in_map(json_t *map, const msgpack_object *key, json_t *value)
{
    char number[32];
    switch (key->type) {
    case MSGPACK_OBJECT_STR:
        return json_object_setn_new_nocheck(map, key->via.str.ptr, key->via.str.size, value);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)key->via.i64);
        return json_object_set_new_nocheck(map, number, value);
    default:
        json_decref(value);
        return 0; /* nothing that is looked for */
    }
}

static json_t *map_of(const msgpack_object_map *pairs)
{
    json_t *map = json_object();
    for (uint32_t i = 0; i < pairs->size; i++) {
        json_t *value = tree_of(&pairs->ptr[i].val);
        if (value == NULL || put_in_map(map, &pairs->ptr[i].key, value) != 0) {
            json_decref(map);
            return NULL;
        }
    }
    return map;
}

static json_t *tree_of(const msgpack_object *object)
{
    switch (object->type) {
    case MSGPACK_OBJECT_NIL:
        return json_null();
    case MSGPACK_OBJECT_BOOLEAN:
        return json_boolean(object->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return json_integer(object->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return json_real(object->via.f64); /* NULL for what JSON has not: inf, NaN */
    case MSGPACK_OBJECT_STR:
        return json_stringn_nocheck(object->via.str.ptr, object->via.str.size);
    case MSGPACK_OBJECT_BIN:
        return json_stringn_nocheck(object->via.bin.ptr, object->via.bin.size);
    case MSGPACK_OBJECT_ARRAY:
        return list_of(&object->via.array);
    case MSGPACK_OBJECT_MAP:
        return map_of(&object->via.map);
    default:
        return NULL;
    }
}

static bool is_json(const msgpack_object *value);

static bool is_json_map(const msgpack_object_map *map)
{
    for (uint32_t i = 0; i < map->size; i++) {
        const msgpack_object *key = &map->ptr[i].key;
        if (key->type != MSGPACK_OBJECT_STR || memchr(key->via.str.ptr, '\0', key->via.str.size) != NULL ||
            !is_json(&map->ptr[i].val))
            return false;
    }
    return true;
}

/* Whether JSON holds it exactly; of text the encoder sees to that. */
static bool is_json(const msgpack_object *value)
{
    switch (value->type) {
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return value->via.u64 <= INT64_MAX;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return isfinite(value->via.f64);
    case MSGPACK_OBJECT_ARRAY:
        for (uint32_t i = 0; i < value->via.array.size; i++) {
            if (!is_json(&value->via.array.ptr[i]))
                return false;
        }
        return true;
    case MSGPACK_OBJECT_MAP:
        return is_json_map(&value->via.map);
    case MSGPACK_OBJECT_BIN:
    case MSGPACK_OBJECT_EXT:
        return false;
    default:
        return true;
    }
}

static json_t *read_tree(const char *data, size_t len, bool exact)
{
    msgpack_unpacked unpacked;
    size_t at = 0;
    json_t *tree = NULL;
    msgpack_unpacked_init(&unpacked);
    if (msgpack_unpack_next(&unpacked, data, len, &at) == MSGPACK_UNPACK_SUCCESS && at == len &&
        (!exact || is_json(&unpacked.data)))
        tree = tree_of(&unpacked.data);
    msgpack_unpacked_destroy(&unpacked);
    return tree;
}

json_t *lt_tree_read(const char *data, size_t len)
{
    return read_tree(data, len, false);
}

json_t *lt_tree_read_exact(const char *data, size_t len)
{
    return read_tree(data, len, true);
}

static void pack_tree(msgpack_packer *packer, const json_t *tree)
{
    const char *key;
    size_t i;
    json_t *value;
    switch (json_typeof(tree)) {
    case JSON_OBJECT:
        msgpack_pack_map(packer, json_object_size(tree));
        json_object_foreach((json_t *)(uintptr_t)tree, key, value) {
            msgpack_pack_str(packer, strlen(key));
            msgpack_pack_str_body(packer, key, strlen(key));
            pack_tree(packer, value);
        }
        break;
    case JSON_ARRAY:
        msgpack_pack_array(packer, json_array_size(tree));
        json_array_foreach(tree, i, value)
            pack_tree(packer, value);
        break;
    case JSON_STRING:
        msgpack_pack_str(packer, json_string_length(tree));
        msgpack_pack_str_body(packer, json_string_value(tree), json_string_length(tree));
        break;
    case JSON_INTEGER:
        msgpack_pack_int64(packer, json_integer_value(tree));
        break;
    case JSON_REAL:
        msgpack_pack_double(packer, json_real_value(tree));
        break;
    case JSON_TRUE:
        msgpack_pack_true(packer);
        break;
    case JSON_FALSE:
        msgpack_pack_false(packer);
        break;
    case JSON_NULL:
        msgpack_pack_nil(packer);
        break;
    }
}

struct lt_bytes *lt_tree_bytes(const json_t *tree)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    pack_tree(&packer, tree);
    struct lt_bytes *bytes = lt_bytes_new(buffer.data, buffer.size);
    msgpack_sbuffer_destroy(&buffer);
    return bytes;
}
