#!/usr/bin/env python3
"""`make demo`: a fresh key, a fresh chain, and tmkms signing its blocks before your eyes. Leaves nothing behind.

The chain is a real CometBFT node where Go can be found to build it, otherwise the small node of the tests, which speaks
the same protocol. DEMO_BLOCKS sets how many blocks (20); DEMO_NODE=test takes the small node in any case.
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

from chain import BINARY, BUILD, Failure, Node, Signer, Workspace, run, wait_until  # noqa: E402

VERSION = "v0.38.25"
CHAIN_ID = "demo-1"
STEPS = ("proposal", "prevote", "precommit")
PRECOMMIT = 2
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
            BUILD / "tests/node/tmkms-test-node", "--listen", self.signer_address(), "--chain-id", CHAIN_ID,
            "--blocks", str(blocks), "--interval-ms", "400"])

    def line(self):
        return "v0.38"

    def signer_address(self):
        return f"unix://{self.socket}"

    def start(self):
        self.process.start()

    def check_end(self):
        """It ends by itself, with 1 when it was not content with a signature."""
        wait_until("end of the test node", 10, lambda: self.process.code() is not None)
        if self.process.code() != 0:
            raise Failure(f"the test node ended with {self.process.code()}")


class Watcher:
    """Follows the signer's log and prints one line for each height and round."""

    def __init__(self, log):
        self.log, self.at, self.rest = log, 0, ""
        self.row, self.row_key = {}, None
        self.signatures, self.latencies, self.heights = 0, [], set()
        self.finished = set()  # heights with a precommit

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
        if step_number == PRECOMMIT:
            self.finished.add(key[0])

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
    """The path of a CometBFT binary, or None; the script says why on standard error."""
    if os.environ.get("DEMO_NODE") == "test":
        return None
    done = subprocess.run([ROOT / "tools/get-cometbft.sh", VERSION], stdout=subprocess.PIPE, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def demo(workspace, blocks):
    binary = cometbft()
    signer = Signer(workspace)
    key = signer.key(CHAIN_ID)
    if binary is not None:
        node = Node(workspace, binary, VERSION, CHAIN_ID, "unix")
        node.configure(key, pause="400ms")
    else:
        node = TestNode(workspace, blocks)
    signer.configure([node])
    signer.init_state(CHAIN_ID)
    step("Key", f"made, public half {key.public.hex()[:16]}…, address {key.address}")
    step("State", "made, empty: height 0; from now on it only grows")
    step("Signer", f"tmkms {run([BINARY, '--version']).strip()}, {dim(os.path.relpath(BINARY))}")
    step("Chain", f"CometBFT {VERSION}, one validator, over a unix socket, vote extensions on" if binary else
         "the tests' own small node, which speaks the same protocol (a real one needs Go)")
    signer.process.argv.append("-v")
    signer.start()
    node.start()
    began = time.monotonic()
    watcher = Watcher(signer.process.log)
    watcher.header()

    def enough():
        watcher.poll()
        return len(watcher.finished) >= blocks
    try:
        wait_until(f"{blocks} blocks", SECONDS_MAX, enough, [signer.process])
    except KeyboardInterrupt:
        print()
    watcher.flush()
    summary(watcher, time.monotonic() - began)
    if binary is not None and watcher.finished:
        node.wait_height(len(watcher.finished), SECONDS_MAX)
        node.check_blocks(len(watcher.finished), key.address)
        step("Checked", f"{len(watcher.finished)} blocks asked back from the node: every one carries our key's signature")
    elif watcher.finished:
        node.check_end()
        step("Checked", "by the node: every signature is right")
    node.process.kill_group()
    took = signer.process.stop()
    step("Stopped", f"on SIGTERM within {took * 1000:.0f} ms; key, state and chain are removed again")


def summary(watcher, seconds):
    print()
    step("Signed", f"{watcher.signatures} messages for {len(watcher.heights)} blocks in {seconds:.1f} s, "
         "each on disk before its signature left")
    if watcher.latencies:
        step("Latency", f"median {statistics.median(watcher.latencies):.2f} ms, slowest {max(watcher.latencies):.2f} ms "
             "(request in to reply out, disk flush included)")


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
