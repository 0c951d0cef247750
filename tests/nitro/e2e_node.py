"""The node's side of privval for the end-to-end tests: one that asks on purpose for what must be refused, and one that
listens in between a real node and the proxy. Both keep every signature that came out, and say when two conflict."""

import os
import socket
import threading
import time
from pathlib import Path

from e2e_rig import Failure

PROPOSAL, PREVOTE, PRECOMMIT = 32, 1, 2
ASK_SECONDS = 5
FRAME_MAX = 1 << 20


# ---- protobuf, as much as privval needs ------------------------------------------------------

def varint(number):
    number &= (1 << 64) - 1
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def fields(data):
    """{field number: last value}; all that privval's replies need."""
    found, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            found[key >> 3], at = read_varint(data, at)
        elif key & 7 == 2:
            length, at = read_varint(data, at)
            found[key >> 3], at = data[at:at + length], at + length
        elif key & 7 == 1:
            found[key >> 3], at = data[at:at + 8], at + 8
        else:
            raise Failure(f"a reply holds the wire type {key & 7}")
    return found


class Frames:
    """Splits a stream into delimited messages."""

    def __init__(self):
        self.buffer = b""

    def feed(self, data):
        self.buffer += data
        while True:
            try:
                length, at = read_varint(self.buffer, 0)
            except IndexError:
                return
            if length > FRAME_MAX:
                raise Failure(f"a frame of {length} bytes")
            if len(self.buffer) < at + length:
                return
            message, self.buffer = self.buffer[at:at + length], self.buffer[at + length:]
            yield message


def request(kind, chain, height, round_, block):
    block_id = field(1, bytes([block]) * 32) + field(2, field(1, 1) + field(2, bytes([block]) * 32))
    now = time.time_ns()
    stamp = field(1, now // 10**9) + field(2, now % 10**9)
    if kind == PROPOSAL:
        body = field(1, kind) + field(2, height) + field(3, round_) + field(4, -1) + field(5, block_id) + field(6, stamp)
        message = field(5, field(1, body) + field(2, chain.encode()))
    else:
        body = (field(1, kind) + field(2, height) + field(3, round_) + field(4, block_id) + field(5, stamp)
                + field(6, bytes(20)))
        body += field(9, b"extension of %d" % height) if kind == PRECOMMIT else b""
        message = field(3, field(1, body) + field(2, chain.encode()))
    return varint(len(message)) + message


class Signatures:
    """Every signature that left the signer, by what it is for. Thread-safe."""

    def __init__(self):
        self.by_step, self.lock = {}, threading.Lock()
        self.count, self.refusals, self.last = 0, 0, 0.0
        self.refusal_words = {}

    def reply(self, message):
        """True for a signature, False for a refusal, None for anything else."""
        outer = fields(message)
        number = next(iter(outer), 0)
        if number not in (4, 6):
            return None
        inner = fields(outer[number])
        if inner.get(2):
            with self.lock:
                self.refusals += 1
                words = fields(inner[2]).get(2, b"").decode(errors="replace")
                self.refusal_words[words] = self.refusal_words.get(words, 0) + 1
            return False
        signed = fields(inner[1])
        signature = signed.get(8 if number == 4 else 7, b"")
        if len(signature) != 64:
            raise Failure(f"a reply holds a signature of {len(signature)} bytes")
        step = (signed[1], signed[2], signed.get(3, 0))
        with self.lock:
            self.by_step.setdefault(step, set()).add(signature)
            self.count += 1
            self.last = time.monotonic()
        return True

    def check(self):
        """What must hold: one signature, and so one message, for each type, height and round."""
        with self.lock:
            double = sorted(step for step, signatures in self.by_step.items() if len(signatures) > 1)
        if double:
            raise Failure(f"signed twice, differently: (type, height, round) {double[:5]}")


def listen(path):
    Path(path).unlink(missing_ok=True)
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(path))
    s.listen(16)
    s.settimeout(0.1)
    return s


class Asker(threading.Thread):
    """A validator that goes up height by height and tries at each step to get a second, conflicting signature: by
    asking for another block, also when the answer to the first question was lost with the connection."""

    def __init__(self, path, chain, height=1, pause=0.0):
        super().__init__(daemon=True)
        self.path, self.chain, self.height, self.pause = path, chain, height, pause
        self.signatures = Signatures()
        self.stopping, self.failure = threading.Event(), None
        self.down = threading.Event()  # set: as if the node's process were dead
        self.connections = self.lost = 0
        self.socket = None
        self.start()

    def run(self):
        try:
            while not self.stopping.is_set():
                if self.down.is_set():
                    time.sleep(0.01)
                    continue
                self.listener = listen(self.path)
                while not self.stopping.is_set() and not self.down.is_set():
                    self.serve_one()
                self.listener.close()
        except Exception as why:  # the main thread tells
            self.failure = why

    def serve_one(self):
        try:
            self.socket, _ = self.listener.accept()
        except TimeoutError:
            return
        self.connections += 1
        with self.socket:
            self.socket.settimeout(ASK_SECONDS)
            try:
                while not self.stopping.is_set() and not self.down.is_set():
                    self.play_height()
            except OSError:
                self.lost += 1

    def ask(self, kind, block):
        """True: signed, False: refused. OSError: the connection is lost, and whether it was signed is unknown."""
        self.socket.sendall(request(kind, self.chain, self.height, 0, block))
        frames = Frames()
        while True:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionResetError("closed")
            for message in frames.feed(data):
                return self.signatures.reply(message)

    def play_height(self):
        """Block 1 first on odd attempts, block 2 on even ones, so that a lost question is followed by a conflicting one."""
        first = 1 + self.connections % 2
        for kind in (PROPOSAL, PREVOTE, PRECOMMIT):
            signed = self.ask(kind, first)
            if signed and self.ask(kind, 3 - first):
                raise Failure(f"both blocks of height {self.height} were signed")
        if self.pause:
            time.sleep(self.pause)
        self.height += 1

    def die(self):
        self.down.set()
        if self.socket is not None:
            try:
                self.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def revive(self):
        self.down.clear()

    def wait_more(self, seconds, n=1):
        """Waits until n more signatures came; returns the seconds it took."""
        began, target = time.monotonic(), self.signatures.count + n
        while self.signatures.count < target:
            if self.failure is not None:
                raise Failure(f"the node: {self.failure}")
            if time.monotonic() - began > seconds:
                raise Failure(f"no {n} signatures within {seconds} s; refusals: {self.signatures.refusal_words}")
            time.sleep(0.002)
        return time.monotonic() - began

    def no_more(self, seconds):
        """Nothing may be signed for that long, once what is under way has ended."""
        time.sleep(0.05)
        before = self.signatures.count
        time.sleep(seconds)
        if self.signatures.count != before:
            raise Failure(f"{self.signatures.count - before} signatures came where there must be none")

    def finish(self):
        self.stopping.set()
        self.join(ASK_SECONDS + 1)
        if self.failure is not None:
            raise Failure(f"the node: {self.failure}")
        self.signatures.check()
        return self.signatures


class Recorder(threading.Thread):
    """Listens at path for the proxy, carries each connection to the node's socket, and reads the replies on their way."""

    def __init__(self, path, node_socket):
        super().__init__(daemon=True)
        self.node_socket, self.signatures = str(node_socket), Signatures()
        self.listener, self.stopping, self.failure = listen(path), threading.Event(), None
        self.start()

    def run(self):
        while not self.stopping.is_set():
            try:
                signer, _ = self.listener.accept()
            except TimeoutError:
                continue
            node = socket.socket(socket.AF_UNIX)
            try:
                node.connect(self.node_socket)
            except OSError:
                signer.close()
                continue
            signer.settimeout(None)
            for pair in ((signer, node, True), (node, signer, False)):
                threading.Thread(target=self.carry, args=pair, daemon=True).start()

    def carry(self, source, sink, is_signer):
        frames = Frames()
        try:
            while data := source.recv(65536):
                if is_signer:
                    for message in frames.feed(data):
                        self.signatures.reply(message)
                sink.sendall(data)
        except OSError:
            pass
        except Exception as why:
            self.failure = why
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def finish(self):
        self.stopping.set()
        if self.failure is not None:
            raise Failure(f"the recorder: {self.failure}")
        self.signatures.check()
        if not self.signatures.count:
            raise Failure("the recorder saw no signature")
        return self.signatures
