/* secret: guarded, locked, dump-excluded memory (sodium_malloc + explicit mlock check). */
#ifndef TMKMS_CRYPTO_SECRET_H
#define TMKMS_CRYPTO_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"
#include "base/err.h"

/* secret_alloc: n bytes between guard pages, zeroed; NULL (and err) when it cannot be locked. */
void *secret_alloc(size_t n, struct err *err) ATTR_MUST_USE;
bool secret_make_readonly(void *p, struct err *err) ATTR_MUST_USE;
void secret_free(void *p);           /* wipes; NULL is fine */
void secret_wipe(void *p, size_t n); /* wipes ordinary memory */

#endif
