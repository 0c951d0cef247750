#include "parent/run_config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "nitro/measure.h"
#include "parent/kms_proxy.h"
#include "parent/proxy.h"

const struct run_config RUN_CONFIG_NONE = {.text = -1};

/* ---- the text ---- */

void run_config_text_path(char out[RUN_TEXT_PATH_MAX], int fd)
{
    snprintf(out, RUN_TEXT_PATH_MAX, "/proc/self/fd/%d", fd);
}

void run_config_name_file(const struct run_config *c, int fd, char *words, size_t cap)
{
    char path[RUN_TEXT_PATH_MAX], rest[2048];
    run_config_text_path(path, fd);
    char *from = words;
    for (char *at; (at = strstr(from, path)) != NULL;) {
        size_t room = cap - (size_t)(at - words);
        snprintf(rest, sizeof rest, "%s", at + strlen(path));
        int n = snprintf(at, room, "%s%s", c->file, rest);
        if (n < 0 || (size_t)n >= room)
            return;
        from = at + strlen(c->file);
    }
}

static void name_file(const struct run_config *c, struct problems *problems)
{
    for (size_t i = 0; i < problems->n; i++)
        run_config_name_file(c, c->text, problems->list[i].text, sizeof problems->list[i].text);
}

/* The same right to read it as the file's, as others are warned of: but for its owner, who is another. */
static bool copy_text(int to, int from, struct err *err)
{
    struct stat st;
    char *text = malloc(CONFIG_FILE_MAX);
    size_t n = 0;
    bool ok =
        text != NULL && fstat(from, &st) == 0 && fd_read_all(from, text, CONFIG_FILE_MAX, &n, err);
    ok = ok && (fd_write_exact(to, text, n) && fchmod(to, (st.st_mode & 0777) | S_IRUSR) == 0 &&
                   fcntl(to, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    if (text != NULL)
        explicit_bzero(text, n);
    free(text);
    return ok;
}

static bool keep_text(struct run_config *c, struct problems *problems)
{
    struct err err;
    int file ATTR_CLEANUP(fd_close) = config_open(c->file, &err);
    if (file < 0) {
        problems_add(problems, false, "%s", err.text);
        return false;
    }
    c->text = memfd_create("tmkms.toml", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    err_set(&err, "cannot be kept in memory");
    if (c->text >= 0 && copy_text(c->text, file, &err))
        return true;
    problems_add(problems, false, "%s: %s", c->file, err.text);
    return false;
}

/* ---- the ports ---- */

static bool same_address(const struct link_address *a, const struct link_address *b)
{
    return a->kind == b->kind && strcmp(a->text, b->text) == 0;
}

/* Two chains may share a port where it leads to one place. */
static bool add_port(
    struct run_config *c, const struct run_port *port, const char *of, struct problems *problems)
{
    for (size_t i = 0; i < c->ports_n; i++) {
        if (c->ports[i].port != port->port)
            continue;
        if (c->ports[i].kind == port->kind && same_address(&c->ports[i].to, &port->to))
            return true;
        problems_add(problems, false, "%s: %s: vsock port %" PRIu32 " leads to %s already", c->file,
            of, port->port, c->ports[i].to.text[0] != '\0' ? c->ports[i].to.text : "another place");
        return false;
    }
    if (c->ports_n == RUN_PORTS_MAX) {
        problems_add(problems, false, "%s: more than %d vsock ports", c->file, RUN_PORTS_MAX);
        return false;
    }
    c->ports[c->ports_n++] = *port;
    return true;
}

static void add_kms(
    struct run_config *c, const struct config_chain *chain, struct problems *problems)
{
    struct run_port port = {.port = chain->kms.vsock_port, .kind = RUN_PORT_KMS};
    char named[KMS_HOST_MAX + 8];
    const char *target = NULL;
    struct err err;
    if (chain->kms.host[0] != '\0') {
        snprintf(named, sizeof named, "%s:%u", chain->kms.host, chain->kms.port);
        target = named;
    }
    if (kms_proxy_target(&port.to, chain->kms.region, target, &target, target != NULL, &err))
        add_port(c, &port, chain->id, problems);
    else
        problems_add(problems, false, "%s: [[chain]] \"%s\": %s", c->file, chain->id, err.text);
}

static void add_node(
    struct run_config *c, size_t i, const struct run_options *o, struct problems *problems)
{
    const struct config_validator *v = &c->config.validators[i];
    struct run_port port = {
        .port = v->address.vsock_port, .kind = RUN_PORT_NODE, .to = c->config.nodes[i]};
    struct err err;
    if (o->node_unix != NULL && !proxy_address_unix(&port.to, o->node_unix, &err))
        problems_add(problems, false, "-u: %s", err.text);
    else if (port.to.kind == 0)
        problems_add(problems, false,
            "%s: [[validator]] \"%s\": node: is missing; write where the node listens, node = "
            "\"unix:///path\" or \"tcp://host:port\"%s",
            c->file, v->address.text,
            c->config.validators_n == 1 ? ", or give its socket with -u" : "");
    else
        add_port(c, &port, v->address.text, problems);
}

static void check_flags(
    const struct run_config *c, const struct run_options *o, struct problems *problems)
{
    if (o->state_file != NULL && c->config.chains_n > 1)
        problems_add(problems, false,
            "-s names one state file, but %s has %zu chains; write state_file into each [[chain]]",
            c->file, c->config.chains_n);
    if (o->node_unix != NULL && c->config.validators_n > 1)
        problems_add(problems, false,
            "-u names one socket, but %s has %zu validators; write node into each [[validator]]",
            c->file, c->config.validators_n);
}

static void add_ports(struct run_config *c, const struct run_options *o, struct problems *problems)
{
    for (size_t i = 0; i < c->config.chains_n; i++) {
        const struct config_chain *chain = &c->config.chains[i];
        struct run_port state = {.port = chain->state_port, .kind = RUN_PORT_STATE};
        add_port(c, &state, chain->id, problems);
        add_kms(c, chain, problems);
    }
    for (size_t i = 0; i < c->config.validators_n; i++)
        add_node(c, i, o, problems);
    struct run_port log = {.port = c->config.enclave.log_port, .kind = RUN_PORT_LOG};
    if (log.port == 0)
        log.port = RUN_LOG_PORT;
    /* A port that is taken by the configuration itself is not ours to choose. */
    struct problems unsaid = {0};
    if (add_port(c, &log, "log_vsock_port", c->config.enclave.log_port != 0 ? problems : &unsaid))
        c->log_port = log.port;
    problems_free(&unsaid);
}

/* ---- all of it ---- */

/* As the enclave will measure it: from the tree that is pushed. */
static bool measure(char ret_hex[PCR_HEX_LEN + 1], const char *path, struct problems *problems)
{
    struct config pushed = {0};
    struct err err = {0};
    uint8_t hash[PCR_LEN];
    json_t *tree = NULL;
    bool ok =
        config_tree_read(&tree, path, problems) && config_from_tree(&pushed, tree, path, problems);
    json_decref(tree);
    if (ok && !measure_config(&pushed, hash, NULL, &err)) {
        problems_add(problems, false, "%s: %s", path, err.text);
        ok = false;
    }
    config_free(&pushed);
    if (ok)
        hex_lower(bytes_of(hash, sizeof hash), ret_hex);
    return ok;
}

static bool read_all(struct run_config *c, const struct run_options *o, struct problems *problems)
{
    char path[RUN_TEXT_PATH_MAX];
    if (!keep_text(c, problems))
        return false;
    run_config_text_path(path, c->text);
    bool ok = config_read(&c->config, path, problems) &&
              config_check_for(CONFIG_ENCLAVE, &c->config, path, problems);
    if (ok)
        check_flags(c, o, problems);
    if (ok && problems->errors_n == 0)
        add_ports(c, o, problems);
    return ok && problems->errors_n == 0 && measure(c->measured_hex, path, problems);
}

bool run_config_read(
    struct run_config *ret, const struct run_options *options, struct problems *problems)
{
    struct run_config c = RUN_CONFIG_NONE;
    c.file = options->config;
    bool ok = read_all(&c, options, problems);
    name_file(&c, problems);
    if (ok)
        *ret = c;
    else
        run_config_free(&c);
    return ok;
}

bool run_config_still_measures(const struct run_config *c, struct err *err)
{
    char hex[PCR_HEX_LEN + 1], path[RUN_TEXT_PATH_MAX];
    struct problems problems = {0};
    run_config_text_path(path, c->text);
    bool ok = measure(hex, path, &problems);
    name_file(c, &problems);
    if (!ok)
        err_set(err, "%s", problems.n > 0 ? problems.list[0].text : "it cannot be measured");
    else if (strcmp(hex, c->measured_hex) != 0)
        ok = err_set(err,
            "the kms_root_file that %s names has changed since this service was started, and the "
            "enclave measures it: restart the service",
            c->file);
    problems_free(&problems);
    return ok;
}

void run_config_free(struct run_config *c)
{
    config_free(&c->config);
    fd_close(&c->text);
    *c = RUN_CONFIG_NONE;
}

const char *run_config_state_file(
    const struct run_options *options, const struct config_chain *chain, char out[CONFIG_PATH_MAX])
{
    if (options->state_file != NULL)
        return options->state_file;
    if (chain->state_file[0] != '\0')
        return chain->state_file;
    snprintf(out, CONFIG_PATH_MAX, "%s_priv_validator_state.json", chain->id);
    return out;
}

static bool same_ports(const struct run_config *a, const struct run_config *b)
{
    for (size_t i = 0; i < a->ports_n && i < b->ports_n; i++)
        if (a->ports[i].port != b->ports[i].port || a->ports[i].kind != b->ports[i].kind ||
            !same_address(&a->ports[i].to, &b->ports[i].to))
            return false;
    return a->ports_n == b->ports_n;
}

/* Equal sections are equal bytes (config/flatten.c). */
static bool same_sections(const struct config *a, const struct config *b)
{
    return a->chains_n == b->chains_n && a->validators_n == b->validators_n &&
           memcmp(a->chains, b->chains, a->chains_n * sizeof *a->chains) == 0 &&
           memcmp(a->validators, b->validators, a->validators_n * sizeof *a->validators) == 0;
}

const char *run_config_difference(const struct run_config *now, const struct run_config *next)
{
    if (strcmp(now->measured_hex, next->measured_hex) != 0)
        return "the measured part of the configuration (`tmkms nitro measure-config` prints it)";
    if (!same_ports(now, next))
        return "ports, or where they lead (node, kms_endpoint, log_vsock_port)";
    if (!same_sections(&now->config, &next->config))
        return "chains, their keys and state files, or validators";
    if (memcmp(&now->config.enclave, &next->config.enclave, sizeof now->config.enclave) != 0)
        return "the [enclave] section";
    return NULL;
}
