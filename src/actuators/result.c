#include "actuators/result.h"

#include <stdlib.h>

#include "base/tree.h"

void lt_result_add(json_t *output, const char *name, const struct lt_capture *capture)
{
    size_t len;
    char *text = lt_capture_text(capture, &len);
    json_object_set_new_nocheck(output, name, json_stringn_nocheck(text, len));
    free(text);
}

struct lt_bytes *lt_result_reason(const char *what, const struct lt_capture *last)
{
    char *line = lt_capture_last_line(last);
    struct lt_bytes *reason = lt_bytes_printf("%s%s%s", what, line[0] != '\0' ? ": " : "", line);
    free(line);
    return reason;
}

static bool has_code(const json_t *codes, int64_t code)
{
    size_t i;
    json_t *known;
    json_array_foreach(codes, i, known) {
        if (json_integer_value(known) == code)
            return true;
    }
    return false;
}

struct lt_report lt_result_report(const struct lt_result_codes *codes, bool signalled, int64_t code, json_t *output,
                                  struct lt_bytes *reason)
{
    bool success = !signalled && (codes->success != NULL ? has_code(codes->success, code) : code == 0);
    struct lt_report report = LT_REPORT(success ? LT_SUCCESS : LT_FAILED);
    report.output = lt_tree_bytes(output);
    json_decref(output);
    report.no_retry = !success && !signalled && has_code(codes->no_retry, code);
    if (success)
        lt_bytes_unref(reason);
    else
        report.reason = reason;
    return report;
}
