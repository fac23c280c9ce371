/* UTF-8: no surrogates, nothing overlong, nothing beyond U+10FFFF. */
#ifndef LTSH_BASE_UTF8_H
#define LTSH_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the sequence at `s`, where `left` > 0 bytes are, and its character; 0: there is none, and *character is
 * the first byte. */
size_t lt_utf8_decode(const char *s, size_t left, uint32_t *character);

/* Whether the whole text is valid. */
bool lt_utf8_valid(const char *s, size_t len);

#endif
