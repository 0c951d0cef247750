/* Reads an enclave image and writes it again from its parts. Usage: eif_copy IN OUT */
#include <stdio.h>

#include "nitro/eif_write.h"

static bool copy(const char *from, const char *to, struct err *err)
{
    struct eif_file file = {0};
    struct eif eif;
    uint8_t *again = NULL;
    size_t n = 0;
    if (!eif_file_open(&file, from, err) || !eif_parse(&eif, file.content, err) ||
        !eif_write(&eif, &again, &n, err))
        return false;
    FILE *out = fopen(to, "w");
    if (out == NULL || fwrite(again, 1, n, out) != n || fclose(out) != 0)
        return err_errno(err, "cannot write %s", to);
    return true;
}

int main(int argc, char **argv)
{
    struct err err;
    if (argc != 3)
        return 2;
    if (copy(argv[1], argv[2], &err))
        return 0;
    fprintf(stderr, "%s\n", err.text);
    return 1;
}
