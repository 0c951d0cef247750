/* program: `tmkms start` as a whole, run by a test in a folder of its own. */
#ifndef TMKMS_TESTS_PROGRAM_H
#define TMKMS_TESTS_PROGRAM_H

#include <stdbool.h>
#include <sys/types.h>

#include "crypto/key.h"

struct program {
    char folder[64];
    char config[4096]; /* the text of tmkms.toml, built up by program_chain and program_validator */
    uint8_t seed[ED25519_SEED_LEN];
    struct public_key key; /* of the seed */
    pid_t pid;
    unsigned long files_max; /* the limit of open files, 0: as it is */
    char log_path[96], error_path[96];
    int output; /* 0: the log goes to log_path; else to this descriptor */
};

/* A fresh folder with a key and an identity key; nothing configured yet. Fails the test on error. */
void program_init(struct program *p);
void program_free(struct program *p); /* ends what runs, removes the folder */

/* Adds a chain with the key and, unless it is there, a state file FOLDER/ID.json; extra: more lines of its section. */
void program_chain(struct program *p, const char *id, const char *extra);
void program_state_init(struct program *p, const char *id);
void program_validator(struct program *p, const char *chain_id, const char *address);
/* Adds the provider section for these chains: "a", "b". */
void program_provider(struct program *p, const char *quoted_ids);
void program_write_config(struct program *p);

void program_start(struct program *p);
/* Waits for the end: the exit code, 128 + signal, or -1 when it still runs after ms. */
int program_wait(struct program *p, int ms);
/* Waits until the log or the standard error holds the text. */
bool program_says(struct program *p, const char *text, int ms);
/* The process that runs as the given child ("@signer", "@session"), 0: none. */
pid_t program_child(struct program *p, const char *role);

#endif
