/* tmkms nitro: everything about Nitro enclaves, on both sides. */
#include <stddef.h>

#include "cli/nitro.h"

static const struct command sub[] = {
    {"start", "The enclave's side: wait for the config, unseal, sign", nitro_start_help, NULL,
        nitro_start},
    {"run", "Run an enclave and everything it needs here, and keep it running", nitro_run_help,
        NULL, nitro_run},
    {"run-enclave", "Start an enclave, and leave it running", nitro_run_enclave_help, NULL,
        nitro_run_enclave},
    {"describe-enclaves", "Print what runs", nitro_describe_enclaves_help, NULL,
        nitro_describe_enclaves},
    {"terminate-enclave", "End an enclave", nitro_terminate_enclave_help, NULL,
        nitro_terminate_enclave},
    {"push-config", "Bring the configuration into the enclave", nitro_push_config_help, NULL,
        nitro_push_config},
    {"persist", "Keep the state of enclaves in files", nitro_persist_help, NULL, nitro_persist},
    {"proxy", "Carry an enclave's connections to a validator", nitro_proxy_help, NULL, nitro_proxy},
    {"kms-proxy", "Carry an enclave's connections to KMS", nitro_kms_proxy_help, NULL,
        nitro_kms_proxy},
    {"logs", "Print the log of an enclave", nitro_logs_help, NULL, nitro_logs},
    {"seal", "Encrypt a private key with KMS", nitro_seal_help, NULL, nitro_seal},
    {"keygen", "Have the enclave make a key that leaves it only sealed", nitro_keygen_help, NULL,
        nitro_keygen},
    {"attest", "Ask an enclave for an attestation document", nitro_attest_help, NULL, nitro_attest},
    {"verify", "Check an attestation document", nitro_verify_help, NULL, nitro_verify},
    {"measure-config", "Print what of a configuration an enclave measures",
        nitro_measure_config_help, NULL, nitro_measure_config},
    {"kms-policy", "Print the policy of the KMS key", nitro_kms_policy_help, NULL,
        nitro_kms_policy},
    {"build-enclave", "Build the enclave image (EIF)", nitro_build_enclave_help, NULL,
        nitro_build_enclave},
    {"describe-eif", "Print what an enclave image is", nitro_describe_eif_help, NULL,
        nitro_describe_eif},
    {"verify-build", "Build the image again and compare", nitro_verify_build_help, NULL,
        nitro_verify_build},
    {"sign-eif", "Sign an enclave image", nitro_sign_eif_help, NULL, nitro_sign_eif},
    {"pcr", "Compute a register from a file or a signing certificate", nitro_pcr_help, NULL,
        nitro_pcr},
    {"pcr3", "Compute PCR3 from the ARN of a role", nitro_pcr3_help, NULL, nitro_pcr3},
    {"pcr4", "Compute PCR4 from the id of an instance", nitro_pcr4_help, NULL, nitro_pcr4},
    {0},
};

const struct command command_nitro = {
    .name = "nitro",
    .summary = "Run in an AWS Nitro enclave: both sides of it, and what proves which image runs",
    .sub = sub,
};
