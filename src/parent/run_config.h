/* run_config: what the supervisor works by: the configuration as it was when it was read last, with what the command
 * line says instead, and the ports that follow from it. The text is kept in memory: a push must not send what an editor
 * has half written, and an enclave that starts again gets what the one before had. */
#ifndef TMKMS_PARENT_RUN_CONFIG_H
#define TMKMS_PARENT_RUN_CONFIG_H

#include "base/attr.h"
#include "base/err.h"
#include "config/config.h"
#include "nitro/pcr.h"
#include "parent/run.h"

enum { RUN_PORTS_MAX = 256, RUN_LOG_PORT = 6050 };

/* A port of the parent, and where it leads. */
struct run_port {
    uint32_t port;
    enum run_port_kind { RUN_PORT_STATE = 1, RUN_PORT_NODE, RUN_PORT_KMS, RUN_PORT_LOG } kind;
    struct link_address to; /* RUN_PORT_NODE and RUN_PORT_KMS */
};

struct run_config {
    struct config config;
    const char *file; /* borrowed */
    int text;         /* memfd; -1: none */
    struct run_port ports[RUN_PORTS_MAX];
    size_t ports_n;
    uint32_t log_port;
    char measured_hex[PCR_HEX_LEN + 1];
};

extern const struct run_config RUN_CONFIG_NONE;

/* run_config_read reads and checks everything. false when problems has errors; *ret is then as it was. */
bool run_config_read(struct run_config *ret, const struct run_options *options,
    struct problems *problems) ATTR_MUST_USE;
/* The files that the text names are read for each push: would it still measure the same? An enclave that has begun with
 * one measured configuration takes no other. */
bool run_config_still_measures(const struct run_config *c, struct err *err) ATTR_MUST_USE;
void run_config_free(struct run_config *c);

/* The file that keeps the state of a chain. */
const char *run_config_state_file(
    const struct run_options *options, const struct config_chain *chain, char out[CONFIG_PATH_MAX]);

/* Where the text is, as a path for a child that has it as descriptor fd. */
enum { RUN_TEXT_PATH_MAX = 32 };
void run_config_text_path(char out[RUN_TEXT_PATH_MAX], int fd);
/* Puts the file's name where words name such a path. */
void run_config_name_file(const struct run_config *c, int fd, char *words, size_t cap);

/* What differs in a way that only a new start can bring about, in words; NULL: nothing does. */
const char *run_config_difference(const struct run_config *now, const struct run_config *next);

#endif
