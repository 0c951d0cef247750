#!/usr/bin/env python3
"""Real CometBFT nodes signed by tmkms. Usage: run.py [--only TEXT] [--keep] [--list]

Each scenario prints one line: `ok NAME (...)`, `FAILED NAME why` with the ends of the logs, or `skipped NAME why`.
The exit code is 0 when none failed. --only runs the scenarios whose name contains TEXT; --keep leaves the folders.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from chain import ROOT, Failure, Node, Signer, Workspace, interrupted, wait_until

VERSIONS = ["v0.34.35", "v0.37.18", "v0.38.25", "v0.40.0", "v1.0.1"]
BLOCKS = 50
CHAIN_SECONDS = 120  # for BLOCKS blocks; a quiet machine needs about 12
AT_A_TIME = 2


# ---- scenarios: each gets a workspace and the path of the node's binary, and returns words for the `ok` line ------

def start_chain(workspace, binary, version, link):
    """A signer and a node, both running."""
    chain_id = f"test-{version.replace('.', '-')}-{link}"
    signer = Signer(workspace)
    node = Node(workspace, binary, version, chain_id, link)
    node.configure(signer.key(chain_id), signer.identity)
    signer.configure([node])
    signer.init_state(chain_id)
    signer.start()
    node.start()
    return signer, node


def finish(signer, node):
    """The chain reaches BLOCKS blocks, all by our key, and the signer ends in time."""
    node.wait_height(BLOCKS, CHAIN_SECONDS, signer.process)
    later_rounds = node.check_blocks(BLOCKS, signer.key(node.chain_id).address)
    if node.has_extensions():
        if not node.extensions_are_on():
            raise Failure("the chain runs without vote extensions")
        if "signed vote extension" not in signer.process.log_text():
            raise Failure("vote extensions are on, but the log shows none signed")
    node.process.kill_group()
    stop_in_time(signer)
    words = f"{BLOCKS} blocks" + (" with vote extensions" if node.has_extensions() else "")
    return words + (f", {later_rounds} in a later round" if later_rounds else "")


def stop_in_time(signer):
    seconds = signer.process.stop(signal.SIGTERM)
    if seconds > 1.0:
        raise Failure(f"the signer took {seconds:.2f} s to end after SIGTERM")
    if signer.process.code() != 0:
        raise Failure(f"the signer ended with {signer.process.code()} after SIGTERM")


def plain(workspace, binary, version, link):
    return finish(*start_chain(workspace, binary, version, link))


def node_restart(workspace, binary, version, link):
    signer, node = start_chain(workspace, binary, version, link)
    for height, how in ((10, signal.SIGTERM), (20, signal.SIGKILL)):
        node.wait_height(height, CHAIN_SECONDS, signer.process)
        node.process.stop(how, 20)
        node.start()
    return finish(signer, node) + ", node ended twice"


def signer_restart(workspace, binary, version, link):
    signer, node = start_chain(workspace, binary, version, link)
    for height in (10, 20):
        node.wait_height(height, CHAIN_SECONDS, signer.process)
        stop_in_time(signer)
        signer.start()
    return finish(signer, node) + ", signer ended twice"


def signer_killed(workspace, binary, version, link):
    """kill -9 of the first process alone, whose children must not outlive it, and of all at once."""
    signer, node = start_chain(workspace, binary, version, link)
    for height, kill in ((10, lambda: signer.process.stop(signal.SIGKILL)), (20, signer.process.kill_group)):
        node.wait_height(height, CHAIN_SECONDS, signer.process)
        kill()
        # The lock of the state file is free as soon as the last child is gone.
        time.sleep(0.2)
        signer.start()
    return finish(signer, node) + ", signer killed twice"


def two_nodes(workspace, binary, version, link):
    """Two nodes with one validator key ask one signer: one chain grows, and no block has two versions."""
    chain_id = f"test-two-{link}"
    signer = Signer(workspace)
    nodes = [Node(workspace, binary, version, chain_id, link, f"node{i}") for i in (1, 2)]
    nodes[0].configure(signer.key(chain_id))
    nodes[1].configure(signer.key(chain_id), genesis_from=nodes[0], peers=[nodes[0].peer_address()])
    signer.configure(nodes)
    signer.init_state(chain_id)
    signer.start()
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_height(BLOCKS, CHAIN_SECONDS, signer.process)
    for height in range(1, BLOCKS + 1):
        hashes = {node.block_hash(height) for node in nodes}
        if len(hashes) != 1:
            raise Failure(f"block {height} exists twice: {hashes}")
    nodes[1].process.kill_group()
    return finish(signer, nodes[0]) + " on both nodes"


def reload(workspace, binary, version, link):
    """SIGHUP adds a second chain, then drops it; the first chain's connection never breaks."""
    signer, first = start_chain(workspace, binary, version, link)
    first.wait_height(5, CHAIN_SECONDS, signer.process)
    second = Node(workspace, binary, version, "test-added", link, "node2")
    second.configure(signer.key("test-added"))
    signer.configure([first, second])
    signer.init_state("test-added")
    signer.process.popen.send_signal(signal.SIGHUP)
    second.start()
    second.wait_height(10, CHAIN_SECONDS, signer.process)
    second.check_blocks(10, signer.key("test-added").address)

    signer.configure([first])
    signer.process.popen.send_signal(signal.SIGHUP)
    heights = []

    def second_stands_still():
        heights.append(second.height())
        return len(heights) > 10 and len(set(heights[-10:])) == 1
    wait_until("standstill of the dropped chain", 20, second_stands_still, [signer.process])
    second.process.kill_group()
    words = finish(signer, first)
    if signer.connections(first.chain_id) != 1:
        raise Failure(f"the first chain connected {signer.connections(first.chain_id)} times, not once")
    return words + ", a second chain added and dropped"


def scenarios():
    """(name, function, version, link) of everything there is to run."""
    every = []
    for version in VERSIONS:
        for link in ("unix", "tcp") + (("noise",) if version.startswith("v0.40") else ()):
            every.append((f"{version}-{link}", plain, version, link))
    every += [
        ("node-restart-v0.34.35-tcp", node_restart, "v0.34.35", "tcp"),
        ("node-restart-v0.38.25-unix", node_restart, "v0.38.25", "unix"),
        ("node-restart-v0.40.0-noise", node_restart, "v0.40.0", "noise"),
        ("signer-restart-v0.37.18-unix", signer_restart, "v0.37.18", "unix"),
        ("signer-restart-v1.0.1-tcp", signer_restart, "v1.0.1", "tcp"),
        ("signer-killed-v0.38.25-tcp", signer_killed, "v0.38.25", "tcp"),
        ("signer-killed-v1.0.1-unix", signer_killed, "v1.0.1", "unix"),
        ("two-nodes-v0.38.25-unix", two_nodes, "v0.38.25", "unix"),
        ("reload-v0.38.25-tcp", reload, "v0.38.25", "tcp"),
    ]
    return every


# ---- the runner ------------------------------------------------------------------------------

def get_binaries(versions):
    """{version: (path or None, why not, whether that is a failure)}; a build that fails is one only in CI."""
    found = {}
    for version in versions:
        done = subprocess.run([ROOT / "tools/get-cometbft.sh", version], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        why = done.stderr.strip().splitlines()[-1:] or ["?"]
        if done.returncode == 0:
            found[version] = (done.stdout.strip(), "", False)
        else:
            found[version] = (None, why[0], done.returncode != 77 and "CI" in os.environ)
    return found


def run_scenario(name, function, version, link, binary, keep):
    began = time.monotonic()
    with Workspace(keep) as workspace:
        try:
            words = function(workspace, binary, version, link)
            return True, f"ok {name} ({time.monotonic() - began:.1f} s, {words})"
        except Exception as why:  # also a mistake in a scenario must end as one FAILED line
            where = f"\n  kept: {workspace.folder}" if keep else ""
            reason = why if isinstance(why, Failure) else f"{type(why).__name__}: {why}"
            return False, f"FAILED {name} {reason}\n{workspace.log_tails()}{where}"


def main():
    parser = argparse.ArgumentParser(description="Real CometBFT nodes signed by tmkms.")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()

    chosen = [s for s in scenarios() if options.only in s[0]]
    if options.list:
        print("\n".join(s[0] for s in chosen))
        return 0
    if not chosen:
        print(f"no scenario's name contains {options.only!r}", file=sys.stderr)
        return 2
    binaries = get_binaries(dict.fromkeys(s[2] for s in chosen))
    all_ok = True
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        futures = []
        for name, function, version, link in chosen:
            binary, why, is_failure = binaries[version]
            if binary is None:
                print(f"{'FAILED' if is_failure else 'skipped'} {name} {why}", flush=True)
                all_ok = all_ok and not is_failure
            else:
                futures.append(pool.submit(run_scenario, name, function, version, link, binary, options.keep))
        try:
            for future in as_completed(futures):
                ok, text = future.result()
                all_ok = all_ok and ok
                print(text, flush=True)
        except KeyboardInterrupt:
            interrupted.set()
            pool.shutdown(cancel_futures=True)
            return 130
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())
