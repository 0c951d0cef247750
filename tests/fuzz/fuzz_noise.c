/* noise, the bytes that a node sends. */
#include "fuzz_link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz_link f = {
        .address = "noise://12D3KooWPm7dpDnewrwxxjHvTbQjS3fj7vU56Fz3TChyEfUJYFxZ@127.0.0.1:1",
        .seed = "f77173b50f54cee154d17db643e80639019343db3a6f00eaafab23752d78306e",
    };
    if (f.identity == NULL)
        fuzz_link_load(&f, "637825755e0a26667b0964b994f3c188b8947776d9c9269e0a8c92a43749b364",
            "13babd1312577bfe98ba8a394c37f35a79414ef093043463fe5e287d770bd941");
    fuzz_link_run(&f, data, size);
    return 0;
}
