/* json_print: how commands print JSON. */
#ifndef TMKMS_CLI_JSON_PRINT_H
#define TMKMS_CLI_JSON_PRINT_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

#include "base/attr.h"

/* Prints it to standard output with a line end, in ASCII from space to '~' alone, whatever is in its texts. layout:
 * JSON_INDENT(n) or JSON_COMPACT. NULL is false. */
bool json_print(const json_t *json, size_t layout) ATTR_MUST_USE;

#endif
