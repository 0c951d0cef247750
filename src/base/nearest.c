#include "base/nearest.h"

#include <string.h>

static size_t min_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The Damerau-Levenshtein distance with adjacent swaps. Both texts have at most NEAREST_NAME_MAX
 * characters. */
static size_t distance_of(const char *a, size_t a_n, const char *b, size_t b_n)
{
    size_t rows[3][NEAREST_NAME_MAX + 1] = {0};
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_n; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_n; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_n; j++) {
            size_t changed = above[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = min_of(changed, min_of(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = min_of(row[j], before[j - 2] + 1);
        }
        size_t *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[b_n];
}

void nearest_consider(struct nearest *n, const char *name)
{
    size_t asked_n = strnlen(n->asked, NEAREST_NAME_MAX + 1);
    size_t name_n = strnlen(name, NEAREST_NAME_MAX + 1);
    if (asked_n > NEAREST_NAME_MAX || name_n > NEAREST_NAME_MAX)
        return;
    size_t distance = distance_of(n->asked, asked_n, name, name_n);
    if (n->best == NULL || distance < n->distance) {
        n->best = name;
        n->distance = distance;
    }
}

const char *nearest_result(const struct nearest *n)
{
    /* Up to a third of the name may be mistyped, in a short name one character. */
    if (n->best == NULL || n->distance > 1 + strlen(n->best) / 4)
        return NULL;
    return n->distance < strlen(n->best) ? n->best : NULL;
}
