"""A parent instance under `tmkms nitro run --simulate`: one process of ours, and what it starts."""

import os
import re
import signal
import socket
import threading
import time
from pathlib import Path

from e2e_faults import children, name_of
from e2e_node import Asker
from e2e_rig import CHAIN, NODE_PORT, SIM, START_SECONDS, Failure, Rig, chains, wait_until
from chain import Key

READY_SECONDS, STOP_SECONDS, HEAL_SECONDS, SIGN_SECONDS = 30, 10, 40, 20
READY = re.compile(r"tmkms::run: ready: the enclave signs")


class RunRig(Rig):
    """Key, KMS front, config and state are made; `run` is not started."""

    def __init__(self, workspace, kms_options=(), credentials_in_config=True):
        super().__init__(workspace, kms_options)
        self.gate = None
        self.run_dir = self.folder / "run"
        self.uds = self.run_dir / "tmkms.vsock"
        self.make_root()
        self.key = Key(self.folder / "signing.key")
        self.run = self.make_run("--simulate")
        self.credentials_in_config = credentials_in_config

    def make_root(self):
        """The root of the software security module, by an enclave that has nothing else to do."""
        enclave = self.enclave
        enclave.argv = [str(SIM), "nitro", "start", "--vsock-uds", str(self.folder / "root")]
        enclave.start()
        wait_until("root of the software NSM", START_SECONDS, (self.nsm_dir / "root.pem").exists, [enclave])
        enclave.stop()

    def make_run(self, *arguments, name="run", env=None):
        argv = [chains.BINARY, "nitro", "run", "-c", self.config, *arguments]
        return self.workspace.process(name, argv, {**self.enclave_env(), "TMKMS_SIM": str(SIM), "HOME": str(self.folder),
                                                   "TMKMS_RUN_DIR": str(self.run_dir), **(env or {})})

    def prepare(self, chain_lines=(), key_lines=(), node=None, sealed=None):
        """All that a start needs."""
        if self.kms is None:
            self.start_front()
        self.write_config(sealed or self.seal(self.key.path), self.key.public.hex(),
                          [f'state_file = "{self.state_file}"', *chain_lines], key_lines)
        text = self.config.read_text() + f'node = "{node or f"unix://{self.socket}"}"\n'
        if not self.credentials_in_config:
            text = re.sub(r"^credentials = .*\n", "", text, flags=re.M)
        self.config.write_text(text)
        self.config.chmod(0o600)
        self.init_state(self.key)
        return self

    def prepare_with_gate(self):
        """KMS is behind a gate, which is closed."""
        self.start_front()
        sealed = self.seal(self.key.path)
        self.gate = Gate(self.workspace.port(), self.kms.about["port"])
        return self.prepare(sealed=sealed)

    def start_run(self):
        self.run.start()
        return self

    def endpoint(self):
        return f"localhost:{self.gate.port}" if self.gate else super().endpoint()

    # ---- what the log says ----

    def ready_count(self):
        return len(READY.findall(self.run.log_text()))

    def wait_ready(self, n=1, seconds=READY_SECONDS):
        wait_until(f"`ready` number {n}", seconds, lambda: self.ready_count() >= n, [self.run])

    def wait_says(self, words, seconds=READY_SECONDS):
        wait_until(f"the words {words!r}", seconds, lambda: words in self.run.log_text(), [self.run])

    def must_say_once(self, words):
        n = self.run.log_text().count(words)
        if n != 1:
            raise Failure(f"{words!r} is said {n} times")

    # ---- processes ----

    def processes(self):
        """{name: pid} of everything below `run`: keeper, enclave and its parts."""
        found = {}
        for pid in children(self.run.popen.pid)[1:]:
            found.setdefault(name_of(pid), pid)
        return found

    def open_files(self):
        return len(list(Path(f"/proc/{self.run.popen.pid}/fd").iterdir()))

    def pid_of(self, name):
        pid = self.processes().get(name)
        if pid is None:
            raise Failure(f"no process {name} runs: {self.processes()}")
        return pid

    def wait_nothing_left(self, pids, seconds=STOP_SECONDS):
        """None of the processes lives, and no socket is left that somebody listens on."""
        wait_until(f"end of {pids}", seconds, lambda: not any(is_alive(pid) for pid in pids.values()))
        for path in self.run_dir.glob("**/*"):
            if path.is_socket() and listens(path):
                raise Failure(f"{path} is still listened on")

    def files_left(self):
        return sorted(str(p.relative_to(self.run_dir)) for p in self.run_dir.glob("**/*"))

    def stop_run(self):
        """SIGTERM: everything ends within a few seconds, exit code 0, nothing is left."""
        pids = self.processes()
        took = self.run.stop(signal.SIGTERM, STOP_SECONDS)
        if self.run.code() != 0:
            raise Failure(f"`nitro run` ended with {self.run.code()} after SIGTERM")
        self.wait_nothing_left(pids, 1)
        if self.files_left():
            raise Failure(f"left behind: {self.files_left()}")
        return took


class Gate:
    """A port that leads to another one, while it is open; nothing listens there while it is closed."""

    def __init__(self, port, to):
        self.port, self.to, self.listener, self.links = port, to, None, []

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), reuse_port=False)
        threading.Thread(target=self.serve, args=(self.listener,), daemon=True).start()

    def serve(self, listener):
        while True:
            try:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.carry, args=pair, daemon=True).start()

    @staticmethod
    def carry(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def is_alive(pid):
    """A zombie is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def listens(path):
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(str(path))
            return True
        except OSError:
            return False


def running_rig(workspace, **more):
    """A supervisor that signs, and a node that asks it."""
    rig = RunRig(workspace, **more).prepare().start_run()
    node = Asker(rig.socket, CHAIN)
    rig.wait_ready()
    node.wait_more(SIGN_SECONDS, 3)
    return rig, node
