/* attr: the compiler extensions we allow, in one place. */
#ifndef TMKMS_BASE_ATTR_H
#define TMKMS_BASE_ATTR_H

#define ATTR_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define ATTR_MUST_USE __attribute__((warn_unused_result))
#define ATTR_NORETURN __attribute__((noreturn))

/* Runs fn(&variable) when the variable goes out of scope. */
#define ATTR_CLEANUP(fn) __attribute__((cleanup(fn)))

#endif
