"""The demo without an enclave: a key in a file, `tmkms start`, and a chain."""

import os

from demo_show import CHAIN_ID, Watcher, dim, make_node, step
from chain import BINARY, Signer, run


def show(workspace, blocks):
    signer = Signer(workspace)
    key = signer.key(CHAIN_ID)
    node, node_words = make_node(workspace, key, blocks)
    signer.configure([node])
    signer.init_state(CHAIN_ID)
    step("Key", f"made, public half {key.public.hex()[:16]}…, address {key.address}")
    step("State", "made, empty: height 0; from now on it only grows")
    step("Signer", f"tmkms {run([BINARY, '--version']).strip()}, {dim(os.path.relpath(BINARY))}")
    step("Chain", node_words)
    signer.process.argv.append("-v")
    signer.start()
    node.start()
    watcher = Watcher(signer.process.log)
    seconds = watcher.watch(blocks, signer.process)
    watcher.summary(seconds, "each on disk before its signature left")
    if watcher.finished:
        node.check(len(watcher.finished), key)
    node.process.kill_group()
    took = signer.process.stop()
    step("Stopped", f"on SIGTERM within {took * 1000:.0f} ms; key, state and chain are removed again")
