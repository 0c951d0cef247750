/* sanitizer: is this build made for AddressSanitizer? It makes mlock do nothing and keeps freed
 * memory. */
#ifndef TMKMS_TESTS_SANITIZER_H
#define TMKMS_TESTS_SANITIZER_H

#if defined(__SANITIZE_ADDRESS__)
#define RUNS_UNDER_ASAN true
#elif defined(__has_feature)
#define RUNS_UNDER_ASAN __has_feature(address_sanitizer)
#else
#define RUNS_UNDER_ASAN false
#endif

#endif
