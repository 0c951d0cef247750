#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"

/* Nobody reads more, and a hostile file must not fill the memory with words about itself. */
enum { PROBLEMS_MAX = 200 };

/* Words from the file stand in the text: nothing in it may steer a terminal. */
static void clean(char *text)
{
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

void problems_add(struct problems *p, bool is_warning, const char *fmt, ...)
{
    if (!is_warning)
        p->errors_n++;
    if (p->n >= PROBLEMS_MAX)
        return;
    struct problem *bigger = reallocarray(p->list, p->n + 1, sizeof *p->list);
    if (bigger == NULL)
        abort();
    p->list = bigger;
    struct problem *last = &p->list[p->n++];
    last->is_warning = is_warning;
    va_list args;
    va_start(args, fmt);
    vsnprintf(last->text, sizeof last->text, fmt, args);
    va_end(args);
    if (p->n == PROBLEMS_MAX) {
        last->is_warning = false;
        snprintf(last->text, sizeof last->text, "and more: the rest is left out");
    }
    clean(last->text);
}

void problems_free(struct problems *p)
{
    free(p->list);
    *p = (struct problems){0};
}
