"""A parent whose root is hostile: what he can and cannot do with the state, the keys and the config port. SECURITY.md
lists each outcome that is tested here."""

import os
import re
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

from e2e_node import Asker, listen
from e2e_rig import CHAIN, NODE_PORT, STATE_PORT, Failure, Rig, Skip, chains, sealed_rig
from chain import Key

HELLO, RECORD, ACK, REFUSE = 1, 2, 3, 4
SIGN_SECONDS, QUIET_SECONDS = 20, 1.0
MIN_HEIGHT = 5
FLOOD_CONNECTIONS = 200


# ---- a liar between the enclave and the store -------------------------------------------------

def frame(kind, body):
    return struct.pack("<IB", len(body) + 1, kind) + body


class Honest:
    """What a liar does to a frame: a list of what goes on, None to end the connection."""

    def from_enclave(self, link, kind, body):
        return [frame(kind, body)]

    def from_store(self, link, kind, body):
        return [frame(kind, body)]


class DropAcks(Honest):
    def from_store(self, link, kind, body):
        return [] if kind == ACK else super().from_store(link, kind, body)


class AckWithoutStoring(Honest):
    def from_enclave(self, link, kind, body):
        if kind != RECORD:
            return super().from_enclave(link, kind, body)
        link.enclave.sendall(frame(ACK, body[:8]))
        return []


class ReorderAcks(Honest):
    """Each acknowledgement arrives when the next one is due."""

    def __init__(self):
        self.held = []

    def from_store(self, link, kind, body):
        if kind != ACK:
            return super().from_store(link, kind, body)
        self.held.append(frame(kind, body))
        return [self.held.pop(0)] if len(self.held) > 1 else []


class AckOfTheFuture(Honest):
    def from_store(self, link, kind, body):
        return [frame(ACK, struct.pack("<Q", struct.unpack("<Q", body)[0] + 1))] if kind == ACK else [frame(kind, body)]


class Truncate(Honest):
    def from_store(self, link, kind, body):
        if kind != ACK:
            return super().from_store(link, kind, body)
        link.enclave.sendall(frame(kind, body)[:-3])
        return None


class Silence(Honest):
    """A store that takes everything and says nothing."""

    def from_store(self, link, kind, body):
        return []


class Cripple(Honest):
    """A byte of each record that the store shows is another."""

    def __init__(self, at):
        self.at = at

    def from_store(self, link, kind, body):
        if kind == RECORD:
            body = body[:self.at] + bytes([body[self.at] ^ 1]) + body[self.at + 1:]
        return [frame(kind, body)]


class Replay(Honest):
    """Shows a record of the past to every new connection, and acknowledges whatever comes then."""

    def __init__(self, old):
        self.old, self.shown = old, set()

    def from_enclave(self, link, kind, body):
        if kind == HELLO:
            self.shown.add(link)
            link.enclave.sendall(frame(RECORD, self.old))
        elif link in self.shown:
            link.enclave.sendall(frame(ACK, body[:8]))
        else:
            return super().from_enclave(link, kind, body)
        return []


class Link:
    """One connection of the enclave, and ours to the store."""

    def __init__(self, liar, enclave):
        self.liar, self.enclave, self.store = liar, enclave, socket.socket(socket.AF_UNIX)
        self.enclave.settimeout(None)
        self.store.connect(liar.behind)
        threading.Thread(target=self.carry, args=(self.enclave, self.store, True), daemon=True).start()
        threading.Thread(target=self.carry, args=(self.store, self.enclave, False), daemon=True).start()

    def carry(self, source, sink, is_enclave):
        try:
            while True:
                length, = struct.unpack("<I", self.exactly(source, 4))
                rest = self.exactly(source, length)
                onward = self.liar.treat(self, is_enclave, rest[0], rest[1:])
                if onward is None:
                    break
                for one in onward:
                    sink.sendall(one)
        except (OSError, EOFError):
            pass
        self.close()

    @staticmethod
    def exactly(source, n):
        data = b""
        while len(data) < n:
            more = source.recv(n - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def close(self):
        for s in (self.enclave, self.store):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Liar(threading.Thread):
    """Listens where the store should, and leads to the real one behind it."""

    def __init__(self, path, behind):
        super().__init__(daemon=True)
        self.behind, self.trick, self.links, self.records = str(behind), Honest(), [], []
        self.listener, self.frames = listen(path), 0
        self.start()

    def run(self):
        while True:
            try:
                enclave, _ = self.listener.accept()
            except TimeoutError:
                continue
            try:
                self.links.append(Link(self, enclave))
            except OSError:
                enclave.close()

    def treat(self, link, is_enclave, kind, body):
        if is_enclave and kind == RECORD:
            self.records.append(body)
        if not isinstance(self.trick, Honest) or type(self.trick) is not Honest:
            self.frames += 1
        return (self.trick.from_enclave if is_enclave else self.trick.from_store)(link, kind, body)

    def become(self, trick, reconnect=False):
        self.trick, self.frames = trick, 0
        if reconnect:
            for link in self.links:
                link.close()

    def must_have_lied(self):
        if self.frames == 0:
            raise Failure(f"{type(self.trick).__name__} saw no frame: this tested nothing")


def lying_rig(workspace, make=Rig, **more):
    """A rig with a liar before its store, its key and the liar."""
    rig = make(workspace).start()
    key = Key(rig.folder / "signing.key")
    rig.write_config(rig.seal(key.path), key.public.hex(), **more)
    rig.init_state(key)
    behind = rig.folder / "behind"
    rig.persist.argv[rig.persist.argv.index("--vsock-uds") + 1] = str(behind)
    rig.persist.start()
    chains.wait_until("store", 20, Path(f"{behind}_{STATE_PORT}").exists, [rig.persist])
    liar = Liar(f"{rig.uds}_{STATE_PORT}", f"{behind}_{STATE_PORT}")
    rig.proxy.start()
    rig.wait_port(NODE_PORT, rig.proxy)
    rig.push().must_be_ready()
    return rig, key, liar


def replies(node):
    return node.signatures.count + node.signatures.refusals


def must_be_stored(rig, node, trick):
    signed = max(node.signatures.by_step, key=lambda step: step[1])[1]
    shown = chains.run([chains.BINARY, "state", "show", "--state-file", rig.state_file, "--json"])
    if int(re.search(r'"height": ?"?(\d+)', shown)[1]) < signed:
        raise Failure(f"{type(trick).__name__}: height {signed} is signed, but the store holds {shown}")


def lie(rig, node, liar, trick, nothing_signed, reconnect):
    """While the parent lies nothing is signed, or nothing but what the store holds; the node gets an answer to each
    question; and signing goes on as soon as he stops."""
    lost, before = node.lost, replies(node)
    liar.become(trick, reconnect)
    if nothing_signed:
        time.sleep(0.3)
        node.no_more(QUIET_SECONDS)
    deadline = time.monotonic() + SIGN_SECONDS
    while replies(node) < before + 3:
        if time.monotonic() > deadline or node.failure is not None:
            raise Failure(f"{type(trick).__name__}: the node got no answer")
        time.sleep(0.01)
    liar.must_have_lied()
    must_be_stored(rig, node, trick)
    if node.lost != lost:
        raise Failure(f"{type(trick).__name__}: the connection to the node broke")
    liar.become(Honest(), reconnect)
    node.wait_more(SIGN_SECONDS, 3)


def lies_about_the_state(workspace, make=Rig):
    """Without a proof that the store has the record nothing is signed, and the enclave goes on when there is one."""
    rig, key, liar = lying_rig(workspace, make)
    node = Asker(rig.socket, CHAIN)
    node.wait_more(SIGN_SECONDS, 6)
    early = liar.records[1]
    tricks = [(DropAcks(), False, False), (ReorderAcks(), False, False), (AckOfTheFuture(), False, False),
              (Truncate(), False, False), (Silence(), True, False), (Cripple(0), True, True), (Cripple(20), True, True),
              (Cripple(60), True, True), (Replay(early), True, True)]
    for trick in tricks:
        lie(rig, node, liar, *trick)
    signatures = node.finish()
    return f"{len(tricks)} kinds of lies, {signatures.count} signatures, {signatures.refusals} refusals"


def acknowledged_without_storing(workspace):
    """The running enclave cannot see it, and still signs nothing twice; it does when the record it is shown is old."""
    rig, key, liar = lying_rig(workspace)
    node = Asker(rig.socket, CHAIN)
    node.wait_more(SIGN_SECONDS, 3)
    liar.become(AckWithoutStoring())
    node.wait_more(SIGN_SECONDS, 9)
    liar.must_have_lied()
    liar.become(Honest(), reconnect=True)
    time.sleep(0.3)
    node.no_more(QUIET_SECONDS)
    if not any("older" in words for words in node.signatures.refusal_words):
        raise Failure(f"the refusal does not say what is wrong: {list(node.signatures.refusal_words)}")
    return f"{node.finish().count} signatures; refused once the old record is shown"


def rolled_back_across_a_restart(workspace):
    """The one thing that root can do without a shared store, and the floor that he cannot get below."""
    rig, key, liar = lying_rig(workspace, chain_lines=[f"min_height = {MIN_HEIGHT}"])
    node = Asker(rig.socket, CHAIN, height=MIN_HEIGHT)
    node.wait_more(SIGN_SECONDS, 6)
    old = liar.records[1]
    node.finish()
    liar.become(Replay(old))
    rig.restart_enclave()
    rig.push().must_be_ready()
    liar.must_have_lied()
    below, above = Asker(rig.socket, CHAIN, height=MIN_HEIGHT - 1), None
    deadline = time.monotonic() + SIGN_SECONDS
    while below.signatures.refusals < 3:
        if time.monotonic() > deadline:
            raise Failure("no answer below min_height")
        time.sleep(0.01)
    below.wait_more(SIGN_SECONDS, 3)
    if min(step[1] for step in below.finish().by_step) < MIN_HEIGHT:
        raise Failure("signed below min_height")
    again = set(node.signatures.by_step) & set(below.signatures.by_step)
    if not again:
        raise Failure("an old record was refused across a restart: then SECURITY.md says too little")
    return f"signed again from the old record on, never below min_height {MIN_HEIGHT}"


# ---- keys, a second enclave, the config port ---------------------------------------------------

def two_chains(rig, sealed, keys, with_keys):
    """One config of two chains, each with one of the ciphertexts."""
    text = ""
    for i, chain in enumerate(("chain-a", "chain-b")):
        part = rig.folder / f"{chain}.toml"
        rig.write_config(sealed[i], keys[i].public.hex() if with_keys else None, chain=chain, path=part)
        text += part.read_text() if i == 0 else part.read_text().split("\n\n", 1)[1]
    rig.config.write_text(text)


def swapped_ciphertexts(workspace):
    """Each chain gets the other one's key: found by the public key in the config, else by the state's."""
    rig = Rig(workspace).start()
    keys = [Key(rig.folder / f"{name}.key") for name in "ab"]
    states = [rig.folder / f"{name}.state" for name in "ab"]
    sealed = [rig.seal(key.path) for key in keys]
    for chain, key, state in zip(("chain-a", "chain-b"), keys, states):
        rig.init_state(key, chain, state)
    rig.persist = rig.parent("persist", ["-p", STATE_PORT, "-s", states[0], "-s", states[1]])
    rig.start_parent()
    two_chains(rig, sealed, keys, True)
    rig.push().must_be_ready()
    for with_keys, words in ((True, "public_key in the configuration"), (False, "another public key")):
        rig.restart_enclave()
        two_chains(rig, sealed[::-1], keys, with_keys)
        rig.push().must_say("chain-a", words)
    return "refused with public_key in the config; without it by the store, whose state is of another key"


def second_enclave(workspace):
    """Two enclaves with one key on one parent: the second gets no state, the first goes on."""
    rig, key = sealed_rig(workspace)
    rig.push().must_be_ready()
    node = Asker(rig.socket, CHAIN)
    node.wait_more(SIGN_SECONDS, 3)
    first, second = rig.uds, rig.folder / "second"
    for port in (8000, STATE_PORT, NODE_PORT):
        os.symlink(f"{first}_{port}", f"{second}_{port}")
    rig.uds = second
    # A network namespace of its own: on one machine a name in the kernel keeps the second from going even this far.
    apart = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode != 0:
        raise Skip(f"`{' '.join(apart)}` is not allowed here")
    argv = [str(second) if a == str(first) else a for a in rig.enclave.argv]
    other = workspace.process("second-enclave", [*apart, *argv], rig.enclave_env())
    other.start()
    rig.enclave, one = other, rig.enclave
    rig.wait_enclave()
    rig.push().must_say("another enclave")
    node.wait_more(SIGN_SECONDS, 3)
    one.kill_group()
    rig.push().must_be_ready()
    node.wait_more(SIGN_SECONDS, 3)
    return f"{node.finish().count} signatures; the second starts once the first is gone"


def connect_config(rig):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(2)
    s.connect(str(rig.uds))
    s.sendall(b"CONNECT 5050\n")
    return s


def flood(rig, stopping, counts):
    """Silent, slow, oversized and senseless clients, as many as there is room for."""
    kinds = [b"", b"{", b"{\"chain\":[", os.urandom(4096), b"[" * 200000, b"GET / HTTP/1.1\r\n\r\n", b"\0" * (1 << 21)]
    held = []
    while not stopping.is_set():
        try:
            s = connect_config(rig)
            s.sendall(kinds[counts["clients"] % len(kinds)])
            held.append(s)
        except OSError:
            counts["turned away"] += 1
        counts["clients"] += 1
        if len(held) > 64:
            held.pop(0).close()
        time.sleep(0.005)


def flooded_config_port(workspace):
    """Strangers fill the config port: signing goes on, and a push gets through."""
    rig, key = sealed_rig(workspace)
    stopping, counts = threading.Event(), {"clients": 0, "turned away": 0}
    thread = threading.Thread(target=flood, args=(rig, stopping, counts), daemon=True)
    thread.start()
    try:
        began = time.monotonic()
        while (pushed := rig.push()).code != 0:
            if time.monotonic() - began > 60:
                raise Failure(f"no push gets through: {pushed.text}")
        took = time.monotonic() - began
        node = Asker(rig.socket, CHAIN)
        while counts["clients"] < FLOOD_CONNECTIONS:
            node.wait_more(SIGN_SECONDS)
    finally:
        stopping.set()
        thread.join()
    rig.push().must_be_ready()
    return (f"{counts['clients']} clients, {counts['turned away']} turned away; ready after {took:.1f} s among them, "
            f"{node.finish().count} signatures meanwhile")


SCENARIOS = [("parent-lies", lies_about_the_state), ("parent-stores-nothing", acknowledged_without_storing),
             ("parent-rolls-back", rolled_back_across_a_restart), ("parent-swaps-keys", swapped_ciphertexts),
             ("parent-second-enclave", second_enclave), ("parent-floods", flooded_config_port)]
