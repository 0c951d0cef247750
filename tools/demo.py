#!/usr/bin/env python3
"""`make demo`: a fresh key, a fresh chain, and tmkms signing its blocks before your eyes. Leaves nothing behind.

DEMO_BLOCKS sets how many blocks (20). The chain is a real CometBFT node where Go can be found to build it, otherwise
the small node of the tests, which speaks the same protocol.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/interop"))

from chain import BINARY, Failure, Key, Node, Signer, Workspace, run, wait_until  # noqa: E402

VERSION = "v0.38.25"
CHAIN_ID = "demo-1"
STEPS = ("proposal", "prevote", "precommit")
SIGNED = re.compile(r"signed (?:Proposal|Prevote|Precommit):(\S+) at h/r/s (\d+)/(\d+)/([012])\b")
TOOK = re.compile(r"at h/r/s (\d+)/(\d+)/([012]) took (\d+) us")
SECONDS_MAX = 120


def colour(code, text):
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{code}m{text}\033[0m" if wanted else text


def bold(text):
    return colour("1", text)


def dim(text):
    return colour("2", text)


def green(text):
    return colour("1;32", text)


def step(word, text):
    print(f"{green(word.rjust(12))} {text}", flush=True)


class TestNode:
    """The tests' own node behind the same few names as Node."""

    def __init__(self, workspace, blocks):
        self.name, self.chain_id, self.link = "test node", CHAIN_ID, "unix"
        self.socket = workspace.folder / "privval.sock"
        self.process = workspace.process("node", [
            BINARY.parents[2] / "tests/node/tmkms-test-node", "--listen", self.signer_address(), "--chain-id", CHAIN_ID,
            "--blocks", str(blocks), "--interval-ms", "150"])

    def line(self):
        return "v0.38"

    def signer_address(self):
        return f"unix://{self.socket}"

    def start(self):
        self.process.start()


class Watcher:
    """Follows the signer's log and prints one line for each height and round."""

    def __init__(self, log):
        self.log, self.at, self.rest = log, 0, ""
        self.row, self.row_key = {}, None
        self.signatures, self.latencies, self.heights = 0, [], set()

    def poll(self):
        with open(self.log, errors="replace") as f:
            f.seek(self.at)
            self.rest += f.read()
            self.at = f.tell()
        *lines, self.rest = self.rest.split("\n")
        for line in lines:
            if match := SIGNED.search(line):
                self.saw_signature(match[1], int(match[2]), int(match[3]), int(match[4]))
            elif match := TOOK.search(line):
                self.saw_latency((int(match[1]), int(match[2])), int(match[3]), int(match[4]) / 1000)

    def saw_signature(self, block, height, round_, step_number):
        if (height, round_) != self.row_key:
            self.flush()
            self.row_key, self.row = (height, round_), {"block": block, "steps": {}}
        self.signatures += 1
        self.heights.add(height)
        self.row["block"] = block
        self.row["steps"][step_number] = None

    def saw_latency(self, key, step_number, ms):
        self.latencies.append(ms)
        if key == self.row_key:
            self.row["steps"][step_number] = ms

    def header(self):
        steps = "  ".join(name.rjust(12) for name in STEPS)
        print("\n  " + dim(f"{'height':>6}  {'round':>5}  {'block':<10}  {steps}  {'signatures':>10}"))

    def flush(self):
        """Prints the row that is complete."""
        if self.row_key is None:
            return
        height, round_ = self.row_key
        cells = []
        for number in range(len(STEPS)):
            ms = self.row["steps"].get(number)
            text = f"{ms:.2f} ms" if ms is not None else "signed" if number in self.row["steps"] else "-"
            cells.append(text.rjust(12))
        print(f"  {bold(f'{height:>6}')}  {round_:>5}  {colour('36', self.row['block'].ljust(10))}  {'  '.join(cells)}"
              f"  {self.signatures:>10}", flush=True)
        self.row_key = None


def cometbft():
    """The path of a CometBFT binary, or None and why not."""
    done = subprocess.run([ROOT / "tools/get-cometbft.sh", VERSION], stdout=subprocess.PIPE, stderr=subprocess.PIPE
                          if os.environ.get("DEMO_QUIET") else None, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def demo(workspace, blocks):
    binary = cometbft()
    signer = Signer(workspace)
    key = signer.key(CHAIN_ID)
    if binary is not None:
        node = Node(workspace, binary, VERSION, CHAIN_ID, "unix")
        node.configure(key)
    else:
        node = TestNode(workspace, blocks)
    signer.configure([node])
    signer.init_state(CHAIN_ID)
    step("Key", f"made, public half {key.public.hex()[:16]}…, address {key.address}")
    step("State", "made, empty: height 0; from now on it only grows")
    step("Signer", f"{run([BINARY, '--version']).strip()}, {dim(str(BINARY.relative_to(ROOT) if BINARY.is_relative_to(ROOT) else BINARY))}")
    step("Chain", f"CometBFT {VERSION}, one validator, over a unix socket, vote extensions on" if binary else
         "the tests' own small node: no Go here that could build CometBFT")
    signer.process.argv.append("-v")
    signer.start()
    node.start()
    began = time.monotonic()
    watcher = Watcher(signer.process.log)
    watcher.header()

    def enough():
        watcher.poll()
        return len(watcher.heights) > blocks if binary else node.process.code() is not None
    try:
        wait_until(f"{blocks} blocks", SECONDS_MAX, enough, [signer.process] + ([node.process] if binary else []))
    except KeyboardInterrupt:
        print()
    seconds = time.monotonic() - began
    summary(watcher, node, key, seconds, binary)
    node.process.kill_group()
    took = signer.process.stop()
    step("Stopped", f"on SIGTERM within {took * 1000:.0f} ms; key, state and chain are removed again")


def summary(watcher, node, key, seconds, binary):
    done = len(watcher.heights) - 1 if binary else len(watcher.heights)
    print()
    step("Signed", f"{watcher.signatures} messages for {len(watcher.heights)} heights in {seconds:.1f} s, "
         "each on disk before its signature left")
    if watcher.latencies:
        ordered = sorted(watcher.latencies)
        step("Latency", f"median {statistics.median(ordered):.2f} ms, slowest {ordered[-1]:.2f} ms "
             "(request in to reply out, disk flush included)")
    if binary and done > 0:
        node.check_blocks(done, key.address)
        step("Checked", f"{done} blocks asked back from the node: every one carries our key's signature")


def main():
    blocks = int(os.environ.get("DEMO_BLOCKS", "20"))
    print(f"\n  {bold('tmkms')} signs the blocks of a real chain\n")
    with Workspace() as workspace:
        try:
            demo(workspace, blocks)
        except Failure as why:
            print(f"\nerror: the demo failed: {why}\n{workspace.log_tails()}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print()
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
