/* Addresses of validators: what parses, parses again from the text that is printed for it. */
#include <stdlib.h>
#include <string.h>

#include "config/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct link_address a, again;
    struct err err = {""};
    char *text = malloc(size + 1);
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    if (!link_address_parse(&a, text, &err)) {
        if (err.text[0] == '\0')
            abort();
    } else if (memchr(a.text, '\0', sizeof a.text) == NULL ||
               (a.kind == LINK_UNIX) != (a.path[0] != '\0') ||
               (a.kind == LINK_UNIX) != (a.port == 0)) {
        abort();
    } else if (a.kind != LINK_UNIX &&
               (!link_address_parse(&again, a.text, NULL) || memcmp(&a, &again, sizeof a) != 0)) {
        abort(); /* a path with '%' prints decoded, so only these go round */
    }
    free(text);
    return 0;
}
