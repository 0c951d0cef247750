/* Prints doc/config.md from the schema; a program of its own, used when the documents are made. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/schema.h"

static const char intro[] =
    "# tmkms.toml\n"
    "\n"
    "<!-- Printed from the table in src/config/schema.c by `ninja -C build config-reference`. -->\n"
    "\n"
    "The file is [TOML](https://toml.io). It is named with `-c PATH`, else with the variable\n"
    "`TMKMS_CONFIG_FILE`, else it is `tmkms.toml` in the current folder. `tmkms init DIR` writes "
    "one to\n"
    "begin with; `tmkms check` lists everything in it that `tmkms start` would refuse, all at "
    "once.\n"
    "\n"
    "- Unknown keys are errors.\n"
    "- Paths are taken as they stand: `~` and variables are not expanded, and a path without a "
    "leading\n"
    "  `/` begins in the folder in which tmkms is started.\n"
    "- A file of the Rust tmkms (v0.15) is understood as it is. What this program adds:\n"
    "  `sign_raw_bytes`, `one_block_per_round`, `max_height_jump`, `min_height`, `public_key`,\n"
    "  several softsign keys, integers for `max_height`, and everything for an enclave. A file of\n"
    "  the Rust program's enclave branch is understood too.\n"
    "\n"
    "A whole file:\n"
    "\n"
    "```toml\n"
    "[[chain]]\n"
    "id = \"cosmoshub-4\"\n"
    "key_format = { type = \"bech32\", account_key_prefix = \"cosmospub\", consensus_key_prefix = "
    "\"cosmosvalconspub\" }\n"
    "state_file = \"/etc/tmkms/state/cosmoshub-4-consensus.json\"\n"
    "\n"
    "[[providers.softsign]]\n"
    "chain_ids = [\"cosmoshub-4\"]\n"
    "path = \"/etc/tmkms/secrets/cosmoshub-4-consensus.key\"\n"
    "\n"
    "[[validator]]\n"
    "chain_id = \"cosmoshub-4\"\n"
    "addr = \"tcp://10.0.0.1:26658\"\n"
    "secret_key = \"/etc/tmkms/secrets/kms-identity.key\"\n"
    "protocol_version = \"v0.38\"\n"
    "```\n";

static void print_type(FILE *out, const struct schema_key *k)
{
    switch (k->type) {
    case SCHEMA_TEXT:
    case SCHEMA_CHAIN_ID:
    case SCHEMA_PREFIX:
    case SCHEMA_PUBLIC_KEY:
    case SCHEMA_BASE64:
    case SCHEMA_PEM:
        fputs("string", out);
        return;
    case SCHEMA_ADDRESS:
        fputs("string or table", out);
        return;
    case SCHEMA_PAIRS:
        fputs("table of strings", out);
        return;
    case SCHEMA_PATH:
        fputs("path", out);
        return;
    case SCHEMA_BOOL:
        fputs("bool", out);
        return;
    case SCHEMA_INTEGER:
    case SCHEMA_INTEGER_OR_TEXT:
        fputs(k->type == SCHEMA_INTEGER ? "integer" : "integer or string", out);
        if (k->max == INT64_MAX)
            fprintf(out, ", %" PRId64 " or more", k->min);
        else
            fprintf(out, ", %" PRId64 " to %" PRId64, k->min, k->max);
        return;
    case SCHEMA_CHOICE:
        for (const struct schema_choice *x = k->choices; x->name != NULL; x++)
            if (x->refusal == NULL)
                fprintf(out, "%s`\"%s\"`", x == k->choices ? "" : ", ", x->name);
        return;
    case SCHEMA_TEXTS:
        fputs("list of strings", out);
        return;
    case SCHEMA_TABLE:
        fputs("table", out);
        return;
    case SCHEMA_TABLES:
        fprintf(out, "list of tables, at most %" PRId64, k->max);
        return;
    }
}

static void print_default(FILE *out, const struct schema_key *k)
{
    if (k->required)
        fputs("**required**", out);
    else if (k->preset != NULL)
        fprintf(out, "`%s`", k->preset);
    else if (k->preset_doc != NULL)
        fputs(k->preset_doc, out);
    else
        fputs("none", out);
}

/* One table of the file: [x], [[x]], or what stands between the braces of x = {...}. */
static void print_table(FILE *out, const struct schema_key *table, const char *path)
{
    const char *open = "", *close = "";
    if (table->table[0] == '\0' || strcmp(table->table, "providers") == 0) {
        open = table->type == SCHEMA_TABLES ? "[[" : "[";
        close = table->type == SCHEMA_TABLES ? "]]" : "]";
    }
    fprintf(out, "\n## `%s%s%s`\n\n%s\n", open, path, close,
        table->type == SCHEMA_ADDRESS ? "The table that an enclave needs in place of a string."
                                      : table->doc);
    if (table->unsupported != NULL)
        fprintf(out, "\nIts keys are checked and then refused: %s.\n", table->unsupported);
    fputs("\n| key | type | default | |\n|---|---|---|---|\n", out);
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        if (strcmp(k->table, path) != 0)
            continue;
        fprintf(out, "| `%s` | ", k->name);
        print_type(out, k);
        fputs(" | ", out);
        print_default(out, k);
        fprintf(out, " | %s |\n", k->doc);
    }
}

/* Goes down as far as the schema does. */
static void print_tables_in(FILE *out, const char *parent)
{
    for (const struct schema_key *k = schema_keys; k->name != NULL; k++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s%s", parent, parent[0] != '\0' ? "." : "", k->name);
        if (strcmp(k->table, parent) != 0 || !schema_has_keys(path))
            continue;
        print_table(out, k, path);
        print_tables_in(out, path);
    }
}

int main(void)
{
    fputs(intro, stdout);
    print_tables_in(stdout, "");
    return ferror(stdout) ? 1 : 0;
}
