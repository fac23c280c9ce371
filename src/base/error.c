#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

const char *lt_code_name(int code)
{
    static const char *const names[] = {
        "ok",      "exists",  "full",  "closed", "unstorable", "refused",
        "unknown", "timeout", "stale", "error",  "cancelled",  "unsupported",
    };
    int index = -code;
    return index >= 0 && index < (int)(sizeof names / sizeof names[0]) ? names[index] : "error";
}

int lt_fail(struct lt_error *error, int code, const char *format, ...)
{
    if (error != NULL) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        error->code = code;
    }
    return code;
}
