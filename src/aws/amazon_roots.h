/* amazon_roots: the roots that AWS endpoints chain to (Amazon Trust Services): Amazon Root CA 1 to 4 and Starfield
 * Services Root CA G2, valid until 2037 to 2040. Public data. */
#ifndef TMKMS_AWS_AMAZON_ROOTS_H
#define TMKMS_AWS_AMAZON_ROOTS_H

enum { AMAZON_ROOTS_COUNT = 5 };

extern const char *const amazon_roots_pem[AMAZON_ROOTS_COUNT]; /* PEM */

#endif
