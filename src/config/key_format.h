/* key_format: the forms of private key files, by the names the configuration uses. */
#ifndef TMKMS_CONFIG_KEY_FORMAT_H
#define TMKMS_CONFIG_KEY_FORMAT_H

enum key_file_format {
    KEY_FILE_BASE64 =
        1, /* base64 of 32 bytes, or of seed||public (recognised by recomputing the public key) */
    KEY_FILE_JSON,       /* CometBFT's priv_validator_key.json */
    KEY_FILE_RAW,        /* 32 bytes */
    KEY_FILE_EXPANDED64, /* base64 of scalar||prefix: only when asked for by name */
    KEY_FILE_EXPANDED96, /* base64 of a YubiHSM export: only when asked for by name */
};

#endif
