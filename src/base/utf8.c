#include "base/utf8.h"

size_t lt_utf8_decode(const char *s, size_t left, uint32_t *character)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)s[0];
    *character = first;
    if (first < 0x80)
        return 1;
    size_t len = first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf8 ? 4 : 0;
    if (len == 0 || len > left)
        return 0;
    uint32_t c = first & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        unsigned char next = (unsigned char)s[i];
        if ((next & 0xc0u) != 0x80)
            return 0;
        c = c << 6 | (next & 0x3fu);
    }
    bool surrogate = c >= 0xd800 && c <= 0xdfff;
    if (c < least[len] || c > 0x10ffff || surrogate)
        return 0;
    *character = c;
    return len;
}

bool lt_utf8_valid(const char *s, size_t len)
{
    uint32_t character;
    for (size_t i = 0, step; i < len; i += step) {
        step = (unsigned char)s[i] < 0x80 ? 1 : lt_utf8_decode(s + i, len - i, &character);
        if (step == 0)
            return false;
    }
    return true;
}
