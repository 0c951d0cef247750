/* printable: words of others on their way to a terminal. Whoever wrote an image, a reply or a name may have put
 * characters in that move the cursor, colour or hide what follows, or turn the order of a line around. */
#ifndef TMKMS_BASE_PRINTABLE_H
#define TMKMS_BASE_PRINTABLE_H

#include <stddef.h>

/* How many bytes the character has that text begins with, if it may be shown: ASCII from space to '~', and beyond that
 * well-formed UTF-8 but for controls and for what is invisible or sets a direction. 0: it may not, or text is empty. */
size_t printable_length(const char *text);

/* printable_make puts a '?' in place of each byte that may not be shown. Line ends and tabs stay. */
void printable_make(char *text);

#endif
