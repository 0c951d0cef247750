#include "bench/samples.h"

#include <stdio.h>
#include <stdlib.h>

void samples_init(struct samples *s)
{
    *s = (struct samples){.us = calloc(SAMPLES_MAX, sizeof *s->us)};
    if (s->us == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
}

void samples_free(struct samples *s)
{
    free(s->us);
    *s = (struct samples){0};
}

void samples_add(struct samples *s, uint64_t us)
{
    if (s->n < SAMPLES_MAX)
        s->us[s->n++] = us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t percentile(const struct samples *s, unsigned per_mille)
{
    return s->n == 0 ? 0 : s->us[(s->n - 1) * per_mille / 1000];
}

void samples_print(struct samples *s, const char *what, uint64_t elapsed_us)
{
    qsort(s->us, s->n, sizeof *s->us, compare);
    printf("{\"what\":\"%s\",\"n\":%zu,\"seconds\":%.3f,\"per_second\":%.1f,\"min_us\":%u,\"p50_"
           "us\":%u,"
           "\"p90_us\":%u,\"p99_us\":%u,\"max_us\":%u}\n",
        what, s->n, (double)elapsed_us / 1e6,
        elapsed_us > 0 ? (double)s->n * 1e6 / (double)elapsed_us : 0.0, percentile(s, 0),
        percentile(s, 500), percentile(s, 900), percentile(s, 990), percentile(s, 1000));
    fflush(stdout);
}
