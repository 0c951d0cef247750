/* SecretConnection, the bytes that a node sends. */
#include "fuzz_link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz_link f = {
        .address = "tcp://56210f9d1896401e54b398d1ac49585b989f3904@127.0.0.1:1",
        .seed = "68bfaf2ca04ec524077911a155be5ebae17dc3f56a6f6b6a2851027a3acc7d56",
    };
    if (f.identity == NULL)
        fuzz_link_load(&f, "bd795e84c5a217b9ec93309a346941254b78994a1af0a0a7490ade8b193724b9",
            "0000000000000000000000000000000000000000000000000000000000000000");
    fuzz_link_run(&f, data, size);
    return 0;
}
