/* samples: latencies of one measurement, kept whole so that percentiles are exact. */
#ifndef TMKMS_TESTS_BENCH_SAMPLES_H
#define TMKMS_TESTS_BENCH_SAMPLES_H

#include <stddef.h>
#include <stdint.h>

enum { SAMPLES_MAX = 4 * 1024 * 1024 };

struct samples {
    uint32_t *us; /* SAMPLES_MAX of them */
    size_t n;
};

void samples_init(struct samples *s); /* ends the program when there is no memory */
void samples_free(struct samples *s);
void samples_add(struct samples *s, uint64_t us); /* more than SAMPLES_MAX are left out */

/* Prints one line of JSON: what, how many, in which time, and the percentiles. Sorts the samples.
 */
void samples_print(struct samples *s, const char *what, uint64_t elapsed_us);

#endif
