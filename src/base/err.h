/* err: what went wrong, in words for the person who has to mend it.
 *
 * A function that can fail returns bool and takes a `struct err *` last. On false the err holds one
 * sentence (or a few): what happened, to which file, chain or peer, why, and the command that
 * repairs it where there is one. On true it is untouched. A failed call leaves its other outputs as
 * they were.
 *
 * A refusal ("would double sign") is no error: it is a verdict, an enum of the module that decides.
 */
#ifndef TMKMS_BASE_ERR_H
#define TMKMS_BASE_ERR_H

#include <stdbool.h>

#include "base/attr.h"

struct err {
    char text[1024];
};

/* err_set writes the text (cut if too long) and returns false, so that `return err_set(e, ...)`
 * reads well. err may be NULL for a caller that only wants to know that it failed. */
bool err_set(struct err *err, const char *fmt, ...) ATTR_PRINTF(2, 3);

/* err_errno is err_set with ": " and the text of the current errno behind it. */
bool err_errno(struct err *err, const char *fmt, ...) ATTR_PRINTF(2, 3);

/* err_prefix puts text and ": " before what the err holds. Returns false. */
bool err_prefix(struct err *err, const char *fmt, ...) ATTR_PRINTF(2, 3);

#endif
