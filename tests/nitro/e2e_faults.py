"""Processes that die: restarts in any order, and kill -9 at random while blocks are signed."""

import itertools
import os
import random
import signal
import threading
import time
from pathlib import Path

from e2e_node import Asker
from e2e_rig import Failure, sealed_rig

KILLS = int(os.environ.get("TMKMS_KILLS", "100"))
RESUME_SECONDS = 2.0  # the promise; a machine under load gets more before the test calls it hung
HUNG_SECONDS = 30.0
SUPERVISE_SECONDS = 0.005


class Supervisor(threading.Thread):
    """What `tmkms nitro run` does: starts again what died, and pushes to an enclave that is new. Nothing else."""

    def __init__(self, rig):
        super().__init__(daemon=True)
        self.rig, self.stopping, self.lock = rig, threading.Event(), threading.Lock()
        self.processes = [rig.enclave, rig.persist, rig.proxy, rig.kms_proxy]
        self.needs_push, self.last_start, self.starts, self.pushes = False, 0.0, 0, 0
        self.last_words, self.pushing = "", None
        self.start()

    def run(self):
        while not self.stopping.wait(SUPERVISE_SECONDS):
            for process in self.processes:
                if process.code() is not None:
                    process.kill_group()
                    process.start()
                    self.starts, self.last_start = self.starts + 1, time.monotonic()
                    self.needs_push |= process is self.rig.enclave
                    if process is self.rig.enclave and self.pushing is not None:
                        self.pushing.cancelled = True
            self.push_in_time()

    def push_in_time(self):
        """Beside the restarts: what a push waits for may be just what died."""
        if self.pushing is not None and not self.pushing.is_alive():
            pushed, self.pushing = self.pushing, None
            self.last_words = pushed.words
            self.needs_push &= pushed.code != 0 or pushed.cancelled
        if self.needs_push and self.pushing is None and self.rig.enclave_listens():
            self.pushing, self.pushes = Push(self.rig), self.pushes + 1

    def finish(self):
        self.stopping.set()
        self.join()
        if self.pushing is not None:
            self.pushing.join()


class Push(threading.Thread):
    """One push-config, to be asked for its end."""

    def __init__(self, rig):
        super().__init__(daemon=True)
        self.rig, self.code, self.words, self.cancelled = rig, 1, "", False
        self.start()

    def run(self):
        pushed = self.rig.push()
        self.code, self.words = pushed.code, pushed.text


def children(pid):
    """pid and everything below it."""
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        found.append(one)
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                queue += [int(c) for c in (task / "children").read_text().split()]
        except OSError:
            pass
    return found


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def name_of(pid):
    """Its role, or its command; nothing for a process that is dead already."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return ""
    return next((w for w in words if w.startswith("@")), words[2] if words[1:2] == ["nitro"] else Path(words[0]).name)


def victims(rig):
    """One process of all that run now: enclave monitor and children, the parent's commands."""
    return [pid for process in (rig.enclave, rig.persist, rig.proxy, rig.kms_proxy) if process.code() is None
            for pid in children(process.popen.pid) if name_of(pid)]


def kills_at_random(workspace):
    """One to three processes die each time, at random moments; the node itself is one of them."""
    rig, key = sealed_rig(workspace)
    rig.push().must_be_ready()
    node, supervisor = Asker(rig.socket, "test-enclave"), Supervisor(rig)
    seed = int(os.environ.get("TMKMS_KILL_SEED", random.SystemRandom().randrange(1 << 32)))
    chance, took, killed = random.Random(seed), [], {}
    node.wait_more(HUNG_SECONDS)
    try:
        for _ in range(KILLS):
            time.sleep(chance.random() * 0.03)
            for again in range(chance.choice((1, 1, 2, 3))):
                time.sleep(again * chance.random() * 0.1)  # the next one dies while the others come back
                pid = chance.choice([0, *victims(rig)])
                name = "node" if pid == 0 else name_of(pid)
                killed[name] = killed.get(name, 0) + 1
                node.die() if pid == 0 else kill(pid)
            began = time.monotonic()
            time.sleep(chance.random() * 0.02)
            node.revive()
            # Twice: the first signature may have been on its way when the process died.
            settle(rig, supervisor)
            node.wait_more(HUNG_SECONDS, 2)
            took.append(node.signatures.last - max(began, supervisor.last_start))
    except Failure as why:
        raise Failure(f"{why} (TMKMS_KILL_SEED={seed}; killed {killed}; last push: {supervisor.last_words.strip()})") from None
    finally:
        supervisor.finish()
    signatures = node.finish()
    took.sort()
    slow = [t for t in took if t > RESUME_SECONDS]
    killed.pop("", None)  # dead before we came
    words = (f"{sum(killed.values())} kills of {', '.join(f'{name} {n}' for name, n in sorted(killed.items()))}; {signatures.count} signatures to "
             f"height {node.height}, {signatures.refusals} conflicting requests refused; signing again after p50 "
             f"{took[len(took) // 2] * 1000:.0f} ms, max {took[-1] * 1000:.0f} ms; {supervisor.pushes} pushes")
    if slow:
        raise Failure(f"signing took {slow} s to resume, seed {seed}; {words}")
    return words


def settle(rig, supervisor):
    """Until everything runs again and the enclave has its config."""
    deadline = time.monotonic() + HUNG_SECONDS
    while any(p.code() is not None for p in supervisor.processes) or supervisor.needs_push:
        if rig.kms.code() is not None:
            raise Failure(f"the KMS of the test ended with {rig.kms.code()}, which no scenario asks for")
        if time.monotonic() > deadline:
            raise Failure("the processes did not come back")
        time.sleep(SUPERVISE_SECONDS)


def restarts(workspace):
    """Each process ends and comes back, in every order of two, one down while the other goes."""
    rig, key = sealed_rig(workspace)
    rig.push().must_be_ready()
    node, worst = Asker(rig.socket, "test-enclave"), {}
    node.wait_more(HUNG_SECONDS, 3)
    names = ["enclave", "persist", "proxy", "kms_proxy", "node"]
    for pair in itertools.permutations(names, 2):
        for name in pair:
            node.die() if name == "node" else getattr(rig, name).stop(signal.SIGTERM)
        for name in pair:
            node.revive() if name == "node" else getattr(rig, name).start()
        if "enclave" in pair:
            rig.wait_enclave()
            if "kms_proxy" in pair:
                rig.wait_port(8000, rig.kms_proxy)
            push_until_ready(rig)
        began = time.monotonic()
        node.wait_more(HUNG_SECONDS, 2)
        worst[pair] = time.monotonic() - began
    signatures = node.finish()
    pair = max(worst, key=worst.get)
    if worst[pair] > RESUME_SECONDS:
        raise Failure(f"after {' and '.join(pair)} ended and came back signing took {worst[pair]:.1f} s")
    return (f"{len(worst)} pairs ended and came back, {signatures.count} signatures; slowest {' and '.join(pair)}: "
            f"{worst[pair] * 1000:.0f} ms")


def push_until_ready(rig):
    """`nitro run` tries again as well: a command that was just started may not listen yet."""
    deadline = time.monotonic() + HUNG_SECONDS
    while (pushed := rig.push()).code != 0:
        if time.monotonic() > deadline:
            raise Failure(f"the enclave never became ready: {pushed.text}")
        time.sleep(0.05)


SCENARIOS = [("restarts", restarts), ("kills", kills_at_random)]
