/* persist: `tmkms nitro persist`, the store of enclaves on their parent. Each state file is opened with the
 * journal's own code and belongs to one chain and key; a record is acknowledged after the flush, and
 * only if it follows the one before. It cannot make a record that an enclave takes for its own: the
 * MAC's key is in the enclave. Protocol: state/link_frame.h, doc/state-link.md. */
#ifndef TMKMS_PARENT_PERSIST_H
#define TMKMS_PARENT_PERSIST_H

#include "base/attr.h"
#include "base/err.h"
#include "config/config.h"
#include "parent/server.h"

enum { PERSIST_CHAINS_MAX = 256 };
#define PERSIST_NOBODY UINT32_MAX /* VMADDR_CID_ANY, which is no peer's */

struct persist;

/* cid: the only enclave that may connect, 0: any, PERSIST_NOBODY: none yet. */
struct persist *persist_new(struct server *s, uint32_t cid, struct err *err);
/* Another enclave took the place of the one before, and has not asked yet. */
void persist_set_cid(struct persist *p, uint32_t cid);

enum persist_opened {
    PERSIST_OPEN = 1,
    PERSIST_HELD,  /* another process has it, which passes */
    PERSIST_WRONG, /* it is missing, of another, or cannot be trusted: a person has to look */
};
/* persist_open adds a state file; err is set unless it is open. chain_id: the one that it must be of, NULL: any. */
enum persist_opened persist_open(
    struct persist *p, const char *path, const char *chain_id, struct err *err) ATTR_MUST_USE;
/* The same for a chain of the configuration config_file, whose public key it must be of. */
enum persist_opened persist_open_chain(struct persist *p, const char *path, const char *config_file,
    const struct config_chain *chain, struct err *err) ATTR_MUST_USE;
/* Every chain is served on every listener; persist takes it over. */
bool persist_listen(struct persist *p, int listener, struct err *err) ATTR_MUST_USE;
/* persist_probe asks every enclave that holds a state whether it is there; persist_alive_us is when one answered last
 * (monotonic, 0: never). It is the signer that answers, over a connection that no stranger can crowd. */
void persist_probe(struct persist *p);
uint64_t persist_alive_us(const struct persist *p);
/* Has an enclave asked for a state since then, in vain or not? */
bool persist_was_asked(const struct persist *p);
void persist_free(struct persist *p); /* before the server stops */

#endif
