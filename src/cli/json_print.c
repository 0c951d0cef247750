#include "cli/json_print.h"

#include <stdio.h>

/* DEL is the one control that JSON_ENSURE_ASCII leaves. */
static int put(const char *part, size_t n, void *ctx)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++)
        if ((part[i] == 0x7f ? fputs("\\u007F", stdout) : putchar(part[i])) < 0)
            return -1;
    return 0;
}

bool json_print(const json_t *json, size_t layout)
{
    return json != NULL && json_dump_callback(json, put, NULL, layout | JSON_ENSURE_ASCII) == 0 &&
           putchar('\n') >= 0 && fflush(stdout) == 0;
}
