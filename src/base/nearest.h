/* nearest: the name that somebody who mistyped one probably meant. */
#ifndef TMKMS_BASE_NEAREST_H
#define TMKMS_BASE_NEAREST_H

#include <stddef.h>

enum { NEAREST_NAME_MAX = 64 }; /* longer names are never suggested */

/* Start with {.asked = text}, consider every known name, then ask for the result. All borrowed. */
struct nearest {
    const char *asked;
    const char *best;
    size_t distance;
};

void nearest_consider(struct nearest *n, const char *name);
/* The closest name (fewest inserted, dropped, changed or swapped characters), or NULL when none is
 * close enough to be meant. */
const char *nearest_result(const struct nearest *n);

#endif
