/* Requests of wire line P2, as a validator's stream brings them. */
#include "fuzz_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_request(WIRE_P2, data, size);
}
