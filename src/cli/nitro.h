/* nitro: the sub-commands of `tmkms nitro`; each has a file of its own, nitro.c holds the table. */
#ifndef TMKMS_CLI_NITRO_H
#define TMKMS_CLI_NITRO_H

#include "cli/command.h"

int nitro_verify(const struct command *self, int argc, char **argv);
int nitro_attest(const struct command *self, int argc, char **argv);
int nitro_kms_policy(const struct command *self, int argc, char **argv);
int nitro_measure_config(const struct command *self, int argc, char **argv);
int nitro_build_enclave(const struct command *self, int argc, char **argv);
int nitro_describe_eif(const struct command *self, int argc, char **argv);
int nitro_sign_eif(const struct command *self, int argc, char **argv);
int nitro_verify_build(const struct command *self, int argc, char **argv);
int nitro_pcr(const struct command *self, int argc, char **argv);
int nitro_pcr3(const struct command *self, int argc, char **argv);
int nitro_pcr4(const struct command *self, int argc, char **argv);
int nitro_keygen(const struct command *self, int argc, char **argv);
int nitro_push_config(const struct command *self, int argc, char **argv);
int nitro_seal(const struct command *self, int argc, char **argv);
int nitro_persist(const struct command *self, int argc, char **argv);
int nitro_proxy(const struct command *self, int argc, char **argv);
int nitro_kms_proxy(const struct command *self, int argc, char **argv);
int nitro_logs(const struct command *self, int argc, char **argv);
int nitro_run(const struct command *self, int argc, char **argv);
int nitro_run_enclave(const struct command *self, int argc, char **argv);
int nitro_describe_enclaves(const struct command *self, int argc, char **argv);
int nitro_terminate_enclave(const struct command *self, int argc, char **argv);
int nitro_start(const struct command *self, int argc, char **argv);

extern const char nitro_keygen_help[];
extern const char nitro_attest_help[];
extern const char nitro_kms_policy_help[];
extern const char nitro_measure_config_help[];
extern const char nitro_build_enclave_help[];
extern const char nitro_describe_eif_help[];
extern const char nitro_sign_eif_help[];
extern const char nitro_verify_build_help[];
extern const char nitro_pcr_help[];
extern const char nitro_pcr3_help[];
extern const char nitro_pcr4_help[];
extern const char nitro_push_config_help[];
extern const char nitro_seal_help[];
extern const char nitro_run_help[];
extern const char nitro_start_help[];
extern const char nitro_verify_help[];
extern const char nitro_persist_help[];
extern const char nitro_proxy_help[];
extern const char nitro_kms_proxy_help[];
extern const char nitro_logs_help[];
extern const char nitro_run_enclave_help[];
extern const char nitro_describe_enclaves_help[];
extern const char nitro_terminate_enclave_help[];

#endif
