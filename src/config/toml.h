/* toml: TOML text to a jansson tree. The only room that C++ enters. */
#ifndef TMKMS_CONFIG_TOML_H
#define TMKMS_CONFIG_TOML_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/bytes.h"
#include "base/err.h"

/* How deep tables and lists may be nested; deeper is an error. The schema needs half of it. */
enum { TOML_DEPTH_MAX = 12 };

/* toml_parse fills *ret_tree (the caller's; json_decref). Dates and times become JSON null, as no
 * key wants one. *ret_lines (the caller's) says on which line each value begins: an object whose
 * names are paths such as "chain[0].key_format". Opens nothing, reads nothing but text. On failure
 * *ret_line is the line, or 0. */
bool toml_parse(
    json_t **ret_tree, json_t **ret_lines, struct bytes text, uint32_t *ret_line, struct err *err);

#ifdef __cplusplus
}
#endif

#endif
