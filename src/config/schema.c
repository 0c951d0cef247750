#include "config/schema.h"

#include <string.h>

#define AT(record, field)                                                                          \
    .at = offsetof(struct record, field), .size = sizeof(((struct record *)NULL)->field)
#define IN_CHAIN(field) AT(raw_chain, out.field)
#define IN_VALIDATOR(field) AT(raw_validator, out.field)
#define IN_SOFTSIGN(field) AT(raw_softsign, field)
#define IN_ENCLAVE(field) AT(config_enclave, field)

/* 2^32-1 stands for "any port" in the kernel. */
#define VSOCK_PORT .min = 1, .max = UINT32_MAX - 1

static const struct schema_choice display_choices[] = {
    {"bech32", DISPLAY_BECH32},
    {"cosmos-json", DISPLAY_COSMOS_JSON},
    {"hex", DISPLAY_HEX},
    {0},
};

#define AMINO_REFUSAL                                                                              \
    "it is the amino encoding that Tendermint gave up with v0.34, and this program does not "      \
    "speak it; "                                                                                   \
    "update the node, or keep tmkms 0.12 or older for this chain"

static const struct schema_choice protocol_choices[] = {
    {"v0.34", WIRE_P1},
    {"v0.37", WIRE_P1},
    {"v0.38", WIRE_P1},
    {"v0.39", WIRE_P1},
    {"v0.40", WIRE_P1},
    {"v1.0", WIRE_P2},
    {"legacy", 0, AMINO_REFUSAL},
    {"v0.33", 0, AMINO_REFUSAL},
    {0},
};

static const struct schema_choice key_type_choices[] = {
    {"consensus", KEY_ED25519},
    {"account", KEY_SECP256K1},
    {0},
};

static const struct schema_choice key_file_choices[] = {
    {"base64", KEY_FILE_BASE64},
    {"json", KEY_FILE_JSON},
    {"raw", KEY_FILE_RAW},
    {"expanded64", KEY_FILE_EXPANDED64},
    {"expanded96", KEY_FILE_EXPANDED96},
    {0},
};

static const struct schema_choice adapter_choices[] = {{"usb", 1}, {"http", 2}, {0}};

#define NO_BACK_END(what)                                                                          \
    "this program has no back end for " what "; give the chain a key file in a "                   \
    "[[providers.softsign]] section and remove this one, or keep the Rust tmkms for it"

const struct schema_key schema_keys[] = {
    /* the file */
    {"", "chain", SCHEMA_TABLES, .required = true, .max = CONFIG_CHAINS_MAX, .record = RECORD_CHAIN,
        .label = "id", .doc = "A chain to sign for. One section a chain."},
    {"", "validator", SCHEMA_TABLES, .max = CONFIG_VALIDATORS_MAX, .record = RECORD_VALIDATOR,
        .label = "addr",
        .doc =
            "A node to sign for: the signer dials it. Any number of nodes may share a chain; they "
            "share its key and its state, so that no two of them get conflicting signatures."},
    {"", "providers", SCHEMA_TABLE, .doc = "Where the keys are."},
    {"", "enclave", SCHEMA_TABLE, .record = RECORD_ENCLAVE,
        .doc = "Settings of the enclave as a whole (`tmkms nitro`)."},

    /* [[chain]] */
    {"chain", "id", SCHEMA_CHAIN_ID, .required = true, IN_CHAIN(id),
        .doc =
            "The chain id of the genesis file. 1 to 50 of the characters `A-Z a-z 0-9 - _ .`; each "
            "id once in the file."},
    {"chain", "key_format", SCHEMA_TABLE, .required = true,
        .doc = "How public keys of this chain are printed. It changes nothing else."},
    {"chain", "state_file", SCHEMA_PATH,
        .preset_doc = "`<id>_priv_validator_state.json` in the current folder",
        IN_CHAIN(state_file),
        .doc = "The file that remembers what was signed last. It must exist (`tmkms state init`), "
               "belongs to one chain only, and must never be copied back from a backup. Beside "
               "`state_vsock_port` it is the file in which the parent (`tmkms nitro run`, `tmkms "
               "nitro "
               "persist -c`) keeps the state; the enclave does not see it."},
    {"chain", "state_vsock_port", SCHEMA_INTEGER, VSOCK_PORT, IN_CHAIN(state_port),
        .preset_doc = "required in an enclave",
        .doc = "In an enclave: the port of the parent on which `tmkms nitro run` or `tmkms nitro "
               "persist` keeps the state. Several chains may share it."},
    {"chain", "public_key", SCHEMA_PUBLIC_KEY, IN_CHAIN(expected_key),
        .doc = "The key that must come out: hex, base64, or bech32 (`cosmosvalconspub1...`), as "
               "`tmkms pubkey` prints it. What KMS decrypts has no sender: without this line the "
               "parent of an enclave can put another ciphertext in the place of yours, and the "
               "enclave signs with a key that is not yours."},
    {"chain", "min_height", SCHEMA_INTEGER, .preset = "0", .min = 0, .max = INT64_MAX,
        IN_CHAIN(min_height),
        .doc = "Refuse every height below this one, whatever the state says; 0 allows any. In an "
               "enclave it is part of the measured configuration: a floor that the parent cannot "
               "lower."},
    {"chain", "state_hook", SCHEMA_TABLE,
        .doc =
            "A command that is asked once at start how high the chain is: it prints "
            "`{\"latest_block_height\": \"347290\"}`. Nothing at or below that height is signed. "
            "A height that is 9000 or more above what was signed last is not believed. The "
            "command runs as the user who started tmkms, without most capabilities, and cannot "
            "trace, mount or gain privileges (no `sudo`)."},
    {"chain", "sign_extensions", SCHEMA_BOOL,
        .doc = "Of the Rust program; accepted and ignored. Vote extensions are signed whenever the "
               "node "
               "needs it.",
        .note =
            "is ignored: vote extensions are signed whenever the node needs it; remove the line"},
    {"chain", "sign_raw_bytes", SCHEMA_BOOL, .preset = "false", IN_CHAIN(sign_raw_bytes),
        .doc =
            "Sign application bytes with the consensus key when the node asks for it (CometBFT "
            "v1.0 "
            "`SignBytes`, Celestia `SignRawBytes`). Bytes that could be a vote, a proposal, a vote "
            "extension or a connection handshake are refused in any case."},
    {"chain", "one_block_per_round", SCHEMA_BOOL, .preset = "false", IN_CHAIN(one_block_per_round),
        .doc =
            "Refuse a different block in a later step of the same round, as the Rust program does. "
            "CometBFT allows it, and refusing it costs blocks now and then."},
    {"chain", "max_height_jump", SCHEMA_INTEGER, .preset = "0", .min = 0, .max = INT64_MAX,
        IN_CHAIN(max_height_jump),
        .doc =
            "Refuse a height that is more than this above the last signed one; 0 allows any. A net "
            "for mistakes (the wrong chain behind an address), no defence."},

    /* [[chain]] key_format */
    {"chain.key_format", "type", SCHEMA_CHOICE, .required = true, .choices = display_choices,
        IN_CHAIN(display),
        .doc = "`bech32` is `cosmosvalconspub1...`, `cosmos-json` is what the Cosmos SDK prints, "
               "`hex` "
               "is the bare key in upper case."},
    {"chain.key_format", "account_key_prefix", SCHEMA_PREFIX, IN_CHAIN(account_prefix),
        .preset_doc = "required for `bech32`",
        .doc = "The human-readable part for account keys, for example `cosmospub`."},
    {"chain.key_format", "consensus_key_prefix", SCHEMA_PREFIX, IN_CHAIN(consensus_prefix),
        .preset_doc = "required for `bech32`",
        .doc = "The human-readable part for consensus keys, for example `cosmosvalconspub`."},

    /* [[chain]] state_hook */
    {"chain.state_hook", "cmd", SCHEMA_TEXTS, .required = true, AT(raw_chain, hook_cmd),
        .doc = "The program and its arguments; no shell is involved."},
    {"chain.state_hook", "timeout_secs", SCHEMA_INTEGER, .preset = "1", .min = 1, .max = 3600,
        IN_CHAIN(hook_timeout_secs), .doc = "Seconds after which the command has failed."},
    {"chain.state_hook", "fail_closed", SCHEMA_BOOL, .preset = "true", IN_CHAIN(hook_fail_closed),
        .doc = "Do not start when the command fails. (Required by the Rust program.)"},

    /* [[validator]] */
    {"validator", "addr", SCHEMA_ADDRESS, .required = true, IN_VALIDATOR(address),
        .doc =
            "Where the node listens (its `priv_validator_laddr`): `unix:///path`, "
            "`tcp://[PEERID@]host:port` (without a scheme it is tcp) or `noise://PEERID@ip:port` "
            "(CometBFT v0.40). With a peer id, a node of any other identity is refused. In an "
            "enclave a table instead: `{ port = 5555 }` (see `validator.addr`)."},
    {"validator", "chain_id", SCHEMA_CHAIN_ID, .required = true, IN_VALIDATOR(chain_id),
        .doc = "The `id` of one of the `[[chain]]` sections."},
    {"validator", "secret_key", SCHEMA_PATH,
        .preset_doc = "required for tcp, noise and secret_connection", IN_VALIDATOR(secret_key),
        .doc =
            "The file of this end's identity key, which is no consensus key: make one with `tmkms "
            "softsign keygen -t consensus PATH`. Not used for unix sockets. In an enclave: a file "
            "of "
            "its image, measured by PCR0."},
    {"validator", "encrypted_secret_key_b64", SCHEMA_BASE64, AT(raw_validator, sealed),
        .doc =
            "In an enclave, instead of `secret_key`: the identity key as KMS encrypted it, in "
            "base64. It is opened with the region, key and context of the chain's key and the pair "
            "`tmkms = \"identity\"` besides, so that no consensus key can stand in its place: "
            "seal it with `tmkms nitro seal --context tmkms=identity`."},
    {"validator", "timeout", SCHEMA_INTEGER, .preset = "10", .min = 1, .max = 65535,
        IN_VALIDATOR(timeout_secs),
        .doc = "Seconds of silence after which the connection counts as dead and is dialled anew. "
               "Nodes ping every 3.3 seconds."},
    {"validator", "protocol_version", SCHEMA_CHOICE, .preset = "\"v0.38\"",
        .choices = protocol_choices, IN_VALIDATOR(line),
        .doc = "The version of the node. All of v0.34 to v0.40 mean the same; v1.0 speaks another "
               "encoding."},
    {"validator", "max_height", SCHEMA_INTEGER_OR_TEXT, .preset_doc = "no limit", .min = 1,
        .max = INT64_MAX, IN_VALIDATOR(max_height),
        .doc =
            "Refuse every height above this one. The Rust program wants a string; an integer is as "
            "good here."},
    {"validator", "node", SCHEMA_TEXT, .is_for_parent = true, AT(raw_validator, node_text),
        .preset_doc = "required for `tmkms nitro run`, unless its `-u` says it",
        .doc =
            "Beside `addr = { port = NUMBER }`: where the parent leads that port, `unix:///path` "
            "or "
            "`tcp://host:port`, which is the node's `priv_validator_laddr`. For `tmkms nitro run` "
            "alone: neither pushed to the enclave nor measured."},
    {"validator", "reconnect", SCHEMA_BOOL, .preset = "true", IN_VALIDATOR(reconnect),
        .doc = "Dial again when the connection ends. With `false` for every node the program ends "
               "when "
               "all connections have ended."},

    /* [[validator]] addr = {...} */
    {"validator.addr", "port", SCHEMA_INTEGER, .required = true, VSOCK_PORT,
        IN_VALIDATOR(address.vsock_port),
        .doc = "The port of the parent (CID 3) on which `tmkms nitro run` or `tmkms nitro proxy` "
               "listens."},
    {"validator.addr", "secret_connection", SCHEMA_BOOL, .preset = "false",
        IN_VALIDATOR(address.is_secret_connection),
        .doc = "The node listens on tcp: encrypt and authenticate, as with `tcp://`. Needs "
               "`secret_key` or `encrypted_secret_key_b64`."},
    {"validator.addr", "peer_id", SCHEMA_TEXT, AT(raw_validator, peer_id),
        .doc = "With `secret_connection`: 40 hex digits; a node of any other identity is refused."},

    /* [enclave] */
    {"enclave", "log_vsock_port", SCHEMA_INTEGER, .preset = "0", .min = 0, .max = UINT32_MAX - 1,
        IN_ENCLAVE(log_port),
        .doc = "The port of the parent that takes log lines (`tmkms nitro logs` prints them); 0 "
               "sends none. Where the key is missing, `tmkms nitro run` takes 6050."},
    {"enclave", "eif", SCHEMA_PATH, .is_for_parent = true, IN_ENCLAVE(eif),
        .preset_doc = "required for `tmkms nitro run`, unless its `--eif` says it",
        .doc = "The image to start. This key and those below are for `tmkms nitro run` alone: "
               "neither pushed to the enclave nor measured."},
    {"enclave", "cpus", SCHEMA_INTEGER, .is_for_parent = true, .min = 1, .max = CONFIG_CPUS_MAX,
        IN_ENCLAVE(cpus), .preset_doc = "2, or 1 under QEMU", .doc = "Processors of the enclave."},
    {"enclave", "memory_mib", SCHEMA_INTEGER, .is_for_parent = true, .preset = "0", .min = 0,
        .max = 1048576, IN_ENCLAVE(memory_mib),
        .doc =
            "Memory of the enclave in MiB; 0: four times the size of the image, and 64 at least."},
    {"enclave", "cid", SCHEMA_INTEGER, .is_for_parent = true, .preset = "0", .min = 0,
        .max = UINT32_MAX - 1, IN_ENCLAVE(cid),
        .doc = "The CID of the enclave, 4 or more; 0: chosen when it starts."},
    {"enclave", "name", SCHEMA_CHAIN_ID, .is_for_parent = true, .preset_doc = "`\"tmkms\"`",
        IN_ENCLAVE(name),
        .doc =
            "The enclave's name among those of this instance. A running one of this name is ended "
            "when another is started."},

    /* [providers] */
    {"providers", "softsign", SCHEMA_TABLES, .max = CONFIG_CHAINS_MAX, .record = RECORD_SOFTSIGN,
        .label = "path",
        .doc = "A private key in a file or, for an enclave, sealed by AWS KMS. Any number of them; "
               "each chain has exactly one."},
    {"providers", "yubihsm", SCHEMA_TABLES, .max = 1, .label = "serial_number",
        .unsupported = NO_BACK_END("YubiHSM2"), .doc = "A YubiHSM2. Known, but not supported."},
    {"providers", "ledgertm", SCHEMA_TABLES, .max = 1,
        .unsupported = NO_BACK_END("the Ledger Tendermint app"),
        .doc = "A Ledger with the Tendermint app. Known, but not supported."},
    {"providers", "fortanixdsm", SCHEMA_TABLES, .max = CONFIG_CHAINS_MAX, .label = "api_endpoint",
        .unsupported = NO_BACK_END("Fortanix DSM"),
        .doc = "A Fortanix DSM. Known, but not supported."},

    /* [[providers.softsign]] */
    {"providers.softsign", "chain_ids", SCHEMA_TEXTS, .required = true, IN_SOFTSIGN(chain_ids),
        .doc = "The chains that this key signs for."},
    {"providers.softsign", "path", SCHEMA_PATH, IN_SOFTSIGN(path),
        .preset_doc = "this or `encrypted_key_b64` is required",
        .doc = "The key file. Mode 0600; a file that others can write is refused."},
    {"providers.softsign", "encrypted_key_b64", SCHEMA_BASE64, IN_SOFTSIGN(sealed),
        .preset_doc = "for an enclave, instead of `path`",
        .doc = "The key as KMS encrypted it: what `tmkms nitro keygen`, `tmkms nitro seal` or `aws "
               "kms encrypt --query CiphertextBlob --output text` prints. Only an enclave that the "
               "key policy names can open it. The plaintext may be in any of the forms `base64`, "
               "`json` and `raw`."},
    {"providers.softsign", "aws_region", SCHEMA_TEXT, IN_SOFTSIGN(kms.region),
        .preset_doc = "required with `encrypted_key_b64`",
        .doc = "The region of the KMS key, for example `ap-southeast-1`."},
    {"providers.softsign", "credentials", SCHEMA_TABLE,
        .doc = "AWS credentials for the one Decrypt call. Better left out: then they come from the "
               "environment, the credentials file or the role of the instance when the "
               "configuration is pushed."},
    {"providers.softsign", "kms_key_id", SCHEMA_TEXT, IN_SOFTSIGN(kms.key_id),
        .doc = "The KMS key (its ARN) that must have encrypted it; another one is refused by KMS."},
    {"providers.softsign", "encryption_context", SCHEMA_PAIRS, IN_SOFTSIGN(context),
        .doc = "The pairs that were given when it was encrypted, `{ chain = \"mine\" }`. The value "
               "`\"@measured_config\"` stands for the hash of the measured configuration: then "
               "the key opens under this configuration only."},
    {"providers.softsign", "kms_endpoint", SCHEMA_TEXT, IN_SOFTSIGN(endpoint),
        .preset_doc = "`kms.REGION.amazonaws.com`",
        .doc = "`host` or `host:port` of another endpoint (FIPS, VPC); its certificate must be for "
               "this host."},
    {"providers.softsign", "kms_vsock_port", SCHEMA_INTEGER, .preset = "8000", VSOCK_PORT,
        IN_SOFTSIGN(kms.vsock_port),
        .doc = "The port of the parent on which `tmkms nitro kms-proxy` (or AWS's `vsock-proxy`) "
               "listens."},
    {"providers.softsign", "kms_root_file", SCHEMA_PATH,
        .preset_doc = "Amazon's roots, which are built in",
        .doc = "Certificates (PEM, at most 4095 characters) to trust instead, for an endpoint that "
               "is not Amazon's. The file is read where the configuration is pushed."},
    {"providers.softsign", "kms_root_pem", SCHEMA_PEM, IN_SOFTSIGN(kms.root_pem),
        .doc = "The same as text; what `kms_root_file` becomes on its way to the enclave."},
    {"providers.softsign", "key_type", SCHEMA_CHOICE, .preset = "\"consensus\"",
        .choices = key_type_choices, IN_SOFTSIGN(key_type),
        .doc = "`consensus` is Ed25519, `account` is secp256k1. A chain that has only an `account` "
               "key "
               "uses it as its consensus key."},
    {"providers.softsign", "key_format", SCHEMA_CHOICE, .preset = "\"base64\"",
        .choices = key_file_choices, IN_SOFTSIGN(key_format),
        .doc =
            "`base64` is the 32-byte seed as `tmkms softsign keygen` writes it, or 64 bytes of "
            "seed "
            "and public key; `json` is CometBFT's `priv_validator_key.json`; `raw` is 32 bytes; "
            "`expanded64` and `expanded96` (Ed25519 only) are base64 of expanded keys, which are "
            "never guessed, since a wrong guess gives the key away."},

    /* [[providers.softsign]] credentials */
    {"providers.softsign.credentials", "aws_key_id", SCHEMA_TEXT, .required = true,
        .is_secret = true, .doc = "The access key id."},
    {"providers.softsign.credentials", "aws_secret_key", SCHEMA_TEXT, .required = true,
        .is_secret = true, .doc = "The secret access key."},
    {"providers.softsign.credentials", "aws_session_token", SCHEMA_TEXT, .is_secret = true,
        .preset_doc = "none; keys of a role have one", .doc = "The session token."},

    /* [[providers.yubihsm]] */
    {"providers.yubihsm", "adapter", SCHEMA_TABLE, .required = true, .doc = "How it is reached."},
    {"providers.yubihsm", "auth", SCHEMA_TABLE, .required = true, .doc = "How to log in."},
    {"providers.yubihsm", "keys", SCHEMA_TABLES, .max = CONFIG_CHAINS_MAX,
        .doc = "The keys in it."},
    {"providers.yubihsm", "serial_number", SCHEMA_TEXT, .doc = "Which device."},
    {"providers.yubihsm", "connector_server", SCHEMA_TABLE,
        .doc = "A connector for other programs."},
    {"providers.yubihsm.adapter", "type", SCHEMA_CHOICE, .required = true,
        .choices = adapter_choices, .doc = "USB or a connector."},
    {"providers.yubihsm.adapter", "timeout_ms", SCHEMA_INTEGER, .preset = "1000", .min = 0,
        .max = INT64_MAX, .doc = "For `usb`."},
    {"providers.yubihsm.adapter", "addr", SCHEMA_TEXT, .doc = "For `http`."},
    {"providers.yubihsm.auth", "key", SCHEMA_INTEGER, .required = true, .min = 1, .max = 65535,
        .doc = "The number of the authentication key."},
    {"providers.yubihsm.auth", "password", SCHEMA_TEXT, .is_secret = true, .doc = "Its password."},
    {"providers.yubihsm.auth", "password_file", SCHEMA_PATH, .doc = "A file that holds it."},
    {"providers.yubihsm.keys", "chain_ids", SCHEMA_TEXTS, .required = true, .doc = "The chains."},
    {"providers.yubihsm.keys", "key", SCHEMA_INTEGER, .required = true, .min = 1, .max = 65535,
        .doc = "The number of the key."},
    {"providers.yubihsm.keys", "type", SCHEMA_CHOICE, .preset = "\"consensus\"",
        .choices = key_type_choices, .doc = "As for softsign."},
    {"providers.yubihsm.connector_server", "laddr", SCHEMA_TEXT, .required = true,
        .doc = "Where it listens."},
    {"providers.yubihsm.connector_server", "cli", SCHEMA_TABLE,
        .doc = "For the `yubihsm` commands."},
    {"providers.yubihsm.connector_server.cli", "auth_key", SCHEMA_INTEGER, .min = 1, .max = 65535,
        .doc = "The authentication key they use."},

    /* [[providers.ledgertm]] */
    {"providers.ledgertm", "chain_ids", SCHEMA_TEXTS, .required = true, .doc = "The chains."},

    /* [[providers.fortanixdsm]] */
    {"providers.fortanixdsm", "api_endpoint", SCHEMA_TEXT, .required = true,
        .doc = "An https address."},
    {"providers.fortanixdsm", "api_key", SCHEMA_TEXT, .required = true, .is_secret = true,
        .doc = "The password."},
    {"providers.fortanixdsm", "signing_keys", SCHEMA_TABLES, .max = CONFIG_CHAINS_MAX,
        .doc = "The keys in it."},
    {"providers.fortanixdsm.signing_keys", "chain_ids", SCHEMA_TEXTS, .required = true,
        .doc = "The chains."},
    {"providers.fortanixdsm.signing_keys", "key_id", SCHEMA_TEXT, .doc = "The key's UUID, or"},
    {"providers.fortanixdsm.signing_keys", "key_name", SCHEMA_TEXT, .doc = "its name."},
    {"providers.fortanixdsm.signing_keys", "type", SCHEMA_CHOICE, .required = true,
        .choices = key_type_choices, .doc = "As for softsign."},
    {0},
};

const struct schema_key *schema_find(const char *table, const char *name)
{
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++)
        if (strcmp(k->table, table) == 0 && strcmp(k->name, name) == 0)
            return k;
    return NULL;
}

bool schema_has_keys(const char *table)
{
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++)
        if (strcmp(k->table, table) == 0)
            return true;
    return false;
}
