"""What the demo prints, and the nodes it shows: used by demo.py and its two halves."""

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/interop"), str(ROOT / "tests/nitro")]

from chain import BUILD, Failure, Node, wait_until  # noqa: E402

VERSION = "v0.38.25"
CHAIN_ID = "demo-1"
STEPS = ("proposal", "prevote", "precommit")
PRECOMMIT = 2
LINE = r"^(?:enclave: )?\S+ +(?:INFO|DEBUG) tmkms::session: \[\S+ "  # and no line that quotes one
SIGNED = re.compile(LINE + r"signed (?:Proposal|Prevote|Precommit):(\S+) at h/r/s (\d+)/(\d+)/([012])\b")
TOOK = re.compile(LINE + r"at h/r/s (\d+)/(\d+)/([012]) took (\d+) us")
SECONDS_MAX = 120
WIDTH = 12  # of the words on the left


def colour(code, text):
    wanted = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return f"\033[{code}m{text}\033[0m" if wanted else text


def bold(text):
    return colour("1", text)


def dim(text):
    return colour("2", text)


def green(text):
    return colour("1;32", text)


def title(text):
    print(f"\n  {text}\n", flush=True)


def step(word, text, number=""):
    """One line; number: of the step in the guide."""
    print(f"{dim(str(number).rjust(3))}{green(word.rjust(WIDTH - 3))} {text}", flush=True)


def more(text):
    """What belongs to the step above."""
    print(f"{' ' * WIDTH} {dim(text)}", flush=True)


# ---- the node --------------------------------------------------------------------------------

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

    def check(self, blocks, key):
        """It ends by itself, with 1 when it was not content with a signature."""
        wait_until("end of the test node", 10, lambda: self.process.code() is not None)
        if self.process.code() != 0:
            raise Failure(f"the test node ended with {self.process.code()}")
        step("Checked", "by the node: every signature is right")


class RealNode(Node):
    def check(self, blocks, key):
        self.wait_height(blocks, SECONDS_MAX)
        self.check_blocks(blocks, key.address)
        step("Checked", f"{blocks} blocks asked back from the node: every one carries our key's signature")


def cometbft():
    """The path of a CometBFT binary, or None; the script says why on standard error."""
    if os.environ.get("DEMO_NODE") == "test":
        return None
    done = subprocess.run([ROOT / "tools/get-cometbft.sh", VERSION], stdout=subprocess.PIPE, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def make_node(workspace, key, blocks):
    """A node that is not started yet, and what to say of it."""
    binary = cometbft()
    if binary is None:
        return TestNode(workspace, blocks), "the tests' own small node, which speaks the same protocol (a real one needs Go)"
    node = RealNode(workspace, binary, VERSION, CHAIN_ID, "unix")
    node.configure(key, pause="400ms")
    return node, f"CometBFT {VERSION}, one validator, over a unix socket, vote extensions on"


# ---- the blocks ------------------------------------------------------------------------------

class Watcher:
    """Follows a log and prints one line for each height and round that is signed."""

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

    def wait(self, blocks, process):
        def enough():
            self.poll()
            return len(self.finished) >= blocks
        wait_until(f"{blocks} blocks", SECONDS_MAX, enough, [process])
        self.flush()

    def watch(self, blocks, process, half_way=lambda: None):
        """Until so many blocks are signed, or Ctrl-C. Returns the seconds."""
        began = time.monotonic()
        self.header()
        try:
            self.wait(blocks // 2, process)
            half_way()
            self.wait(blocks, process)
        except KeyboardInterrupt:
            print()
        self.flush()
        print()
        return time.monotonic() - began

    def summary(self, seconds, durable):
        if not self.heights:  # interrupted before the first
            return
        step("Signed", f"{self.signatures} messages for {len(self.heights)} blocks in {seconds:.1f} s, {durable}")
        if self.latencies:
            step("Latency", f"median {statistics.median(self.latencies):.2f} ms, slowest {max(self.latencies):.2f} ms "
                 "(request in to reply out, disk flush included)")
