"""Chains of real CometBFT nodes that ask tmkms for their signatures: processes, settings, questions over RPC.

Used by the interop tests (run.py) and by `make demo`. Standard library only. Everything listens on loopback, on
ports the kernel chose; every process has a session of its own and ends with the workspace that started it.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
BINARY = Path(os.environ.get("TMKMS_BINARY", BUILD / "src/cli/tmkms"))
LOG_TAIL_LINES = 25
POLL_SECONDS = 0.1

interrupted = threading.Event()


class Failure(Exception):
    """What a person should read: what went wrong."""


def wait_until(what, seconds, condition, processes=()):
    """Polls until condition() is true. Fails after the deadline, or at once when one of the processes ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        if interrupted.is_set():
            raise Failure("interrupted")
        for process in processes:
            if process.code() is not None:
                raise Failure(f"{process.name} ended with {process.code()} while waiting for {what}")
        if time.monotonic() > deadline:
            raise Failure(f"no {what} within {seconds} s")
        time.sleep(POLL_SECONDS)


class Process:
    """A child in a session of its own; its output goes to a log file, which a restart continues."""

    def __init__(self, name, argv, log, env=None):
        self.name, self.argv, self.log, self.popen = name, [str(a) for a in argv], Path(log), None
        self.env = {**os.environ, **(env or {})}

    def start(self):
        with open(self.log, "ab") as out:
            self.popen = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          start_new_session=True, env=self.env)

    def code(self):
        return self.popen.poll() if self.popen else None

    def stop(self, sig=signal.SIGTERM, seconds=10.0):
        """Sends the signal to the process and returns how many seconds it took to end."""
        began = time.monotonic()
        self.popen.send_signal(sig)
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill_group()
            raise Failure(f"{self.name} did not end within {seconds} s of signal {sig}") from None
        return time.monotonic() - began

    def kill_group(self):
        if self.popen is None:
            return
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self):
        lines = self.log_text().splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"  --- last lines of {self.name}"] + ["  | " + line[:400] for line in lines])


class Workspace:
    """A folder, the processes started in it, and ports. Leaving it ends the processes and removes the folder."""

    _ports_given = set()
    _ports_lock = threading.Lock()

    def __init__(self, keep=False, folder_in=None, logs_in=None):
        self.folder = Path(tempfile.mkdtemp(prefix="tmkms-chain-", dir=folder_in))
        self.logs = Path(tempfile.mkdtemp(prefix="tmkms-logs-", dir=logs_in)) if logs_in else self.folder
        self.processes = []
        self.keep = keep

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill_group()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.logs, ignore_errors=True)

    def process(self, name, argv, env=None):
        child = Process(name, argv, self.logs / f"{name}.log", env)
        self.processes.append(child)
        return child

    def port(self):
        """A free port that no workspace of this program was given before."""
        while True:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
            with self._ports_lock:
                if port not in self._ports_given:
                    self._ports_given.add(port)
                    return port

    def log_tails(self):
        return "\n".join(process.log_tail() for process in self.processes)


def run(argv, seconds=30, env=None):
    """Runs a command to its end and returns what it printed."""
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds,
                              env={**os.environ, **(env or {})})
    except subprocess.TimeoutExpired:
        raise Failure(f"`{' '.join(argv)}` did not end within {seconds} s") from None
    if done.returncode != 0:
        raise Failure(f"`{' '.join(argv)}` ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


# ---- keys and ids ----------------------------------------------------------------------------

def base58(data):
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = alphabet[digit] + text
    return alphabet[0] * (len(data) - len(data.lstrip(b"\0"))) + text


def peer_id(ed25519_public):
    """The libp2p peer id: an identity multihash of the protobuf-wrapped public key."""
    return base58(bytes.fromhex("002408011220") + ed25519_public)


class Key:
    """A private key file, made by tmkms when there is none, and its public half in the forms that a chain needs."""

    def __init__(self, path):
        self.path = path
        if not Path(path).exists():
            run([BINARY, "softsign", "keygen", path])
        self.comet_json = json.loads(run([BINARY, "pubkey", path, "--format", "comet-json"]))
        self.public = base64.b64decode(self.comet_json["value"])
        self.address = hashlib.sha256(self.public).hexdigest()[:40].upper()


# ---- the node --------------------------------------------------------------------------------

def set_toml_keys(text, values):
    """Replaces the values of existing keys. values: {("section" or "", "key"): "text of the value"}."""
    section, left, lines = "", dict(values), []
    for line in text.splitlines():
        if header := re.match(r"\[([^\[\]]+)\]\s*$", line):
            section = header[1]
        elif (key := re.match(r"([a-z0-9_]+) = ", line)) and (section, key[1]) in left:
            line = f"{key[1]} = {left.pop((section, key[1]))}"
        lines.append(line)
    if left:
        raise Failure(f"the node's config.toml has no keys {sorted(left)}")
    return "\n".join(lines) + "\n"


class Node:
    """One CometBFT node with the built-in kvstore application, whose validator key is ours."""

    def __init__(self, workspace, binary, version, chain_id, link, name="node"):
        self.workspace, self.version, self.chain_id, self.link = workspace, version, chain_id, link
        self.binary = binary
        self.name = name
        self.home = workspace.folder / name
        self.rpc_port, self.p2p_port = workspace.port(), workspace.port()
        self.privval_port = None if link == "unix" else workspace.port()
        run([binary, "init", "--home", self.home])
        self.process = workspace.process(name, [binary, "start", "--home", self.home])

    def line(self):
        """The protocol_version of tmkms.toml that fits: v0.38.25 -> v0.38."""
        return self.version.rsplit(".", 1)[0]

    def has_extensions(self):
        return self.line() not in ("v0.34", "v0.37")

    def extensions_group(self):
        """Where the consensus parameters keep vote_extensions_enable_height."""
        return "feature" if self.line() == "v1.0" else "abci"

    def privval_address(self):
        """Where tmkms dials, without the peer ids of noise."""
        return f"unix://{self.home}/privval.sock" if self.link == "unix" else f"127.0.0.1:{self.privval_port}"

    def signer_address(self):
        """addr of tmkms.toml."""
        if self.link != "noise":
            return self.privval_address() if self.link == "unix" else f"tcp://{self.privval_address()}"
        node_key = json.loads((self.home / "config/node_key.json").read_text())
        return f"noise://{peer_id(base64.b64decode(node_key['priv_key']['value'])[32:])}@{self.privval_address()}"

    def configure(self, key, identity=None, genesis_from=None, peers=(), pause="100ms"):
        """Writes config.toml and genesis.json: the one validator is key; identity is the signer's for noise; pause
        is the time between blocks."""
        laddr = {"unix": self.privval_address(), "tcp": f"tcp://{self.privval_address()}"}.get(self.link)
        if self.link == "noise":
            laddr = f"noise://{peer_id(identity.public)}@{self.privval_address()}"
        config = self.home / "config/config.toml"
        config.write_text(set_toml_keys(config.read_text(), {
            ("", "proxy_app"): '"kvstore"',
            ("", "priv_validator_laddr"): f'"{laddr}"',
            ("rpc", "laddr"): f'"tcp://127.0.0.1:{self.rpc_port}"',
            ("rpc", "pprof_laddr"): '""',
            ("p2p", "laddr"): f'"tcp://127.0.0.1:{self.p2p_port}"',
            ("p2p", "persistent_peers"): '"' + ",".join(peers) + '"',
            ("p2p", "addr_book_strict"): "false",
            ("p2p", "allow_duplicate_ip"): "true",
            ("p2p", "pex"): "false",
            ("consensus", "timeout_commit"): f'"{pause}"',
        }))
        genesis = self.home / "config/genesis.json"
        if genesis_from is not None:
            genesis.write_text((genesis_from.home / "config/genesis.json").read_text())
            return
        content = json.loads(genesis.read_text())
        content["chain_id"] = self.chain_id
        content["validators"] = [
            {"address": key.address, "pub_key": key.comet_json, "power": "10", "name": ""}]
        if self.has_extensions():
            content["consensus_params"][self.extensions_group()]["vote_extensions_enable_height"] = "1"
        genesis.write_text(json.dumps(content, indent=2))

    def peer_address(self):
        node_id = run([self.binary, "show-node-id", "--home", self.home]).strip()
        return f"{node_id}@127.0.0.1:{self.p2p_port}"

    def start(self):
        # Go removes the socket only on a clean close; what a killed node left would stop the next one.
        (self.home / "privval.sock").unlink(missing_ok=True)
        self.process.start()

    def rpc(self, path):
        # No proxy: the environment's would be asked for 127.0.0.1 too.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self.rpc_port}/{path}", timeout=5) as answer:
            return json.load(answer)["result"]

    def height(self):
        """The newest height, 0 while the node does not answer yet."""
        try:
            status = self.rpc("status")
        except (urllib.error.URLError, OSError, KeyError, ValueError):
            return 0
        network = status["node_info"]["network"]
        if network != self.chain_id:
            raise Failure(f"another node answers on our port: chain {network} instead of {self.chain_id}")
        return int(status["sync_info"]["latest_block_height"])

    def wait_height(self, height, seconds, signer=None):
        wait_until(f"block {height} of {self.name} (it has {self.height()})", seconds,
                   lambda: self.height() >= height, [p for p in (self.process, signer) if p])

    def check_blocks(self, last, address):
        """Every block from 1 to last is committed by exactly our key. Returns how many needed a second round."""
        later_rounds = 0
        for height in range(1, last + 1):
            header = self.rpc(f"commit?height={height}")["signed_header"]
            commit, chain_id = header["commit"], header["header"]["chain_id"]
            if chain_id != self.chain_id or int(commit["height"]) != height:
                raise Failure(f"asked for block {height} of {self.chain_id}, got {commit['height']} of {chain_id}")
            signers = [(s["block_id_flag"], s["validator_address"], bool(s["signature"]))
                       for s in commit["signatures"]]
            if signers != [(2, address, True)]:
                raise Failure(f"block {height} is signed by {signers}, not by our key {address}")
            later_rounds += int(commit["round"]) > 0
        return later_rounds

    def extensions_are_on(self):
        parameters = self.rpc("consensus_params?height=2")["consensus_params"]
        return parameters[self.extensions_group()]["vote_extensions_enable_height"] == "1"

    def block_hash(self, height):
        return self.rpc(f"commit?height={height}")["signed_header"]["commit"]["block_id"]["hash"]


# ---- the signer ------------------------------------------------------------------------------

class Signer:
    """One tmkms: its folder, its tmkms.toml, its process."""

    def __init__(self, workspace, name="tmkms"):
        self.folder = workspace.folder / name
        self.folder.mkdir()
        self.config = self.folder / "tmkms.toml"
        self.identity = Key(self.folder / "identity.key")
        self.keys = {}
        self.process = workspace.process(name, [BINARY, "start", "-c", self.config])

    def key(self, chain_id):
        if chain_id not in self.keys:
            self.keys[chain_id] = Key(self.folder / f"{chain_id}.key")
        return self.keys[chain_id]

    def configure(self, nodes):
        """Writes tmkms.toml for these nodes; nodes of one chain share the chain's key and state."""
        text = ""
        for chain_id in dict.fromkeys(node.chain_id for node in nodes):
            text += (f'[[chain]]\nid = "{chain_id}"\nkey_format = {{ type = "hex" }}\n'
                     f'state_file = "{self.folder}/{chain_id}.state"\n\n'
                     f'[[providers.softsign]]\nchain_ids = ["{chain_id}"]\npath = "{self.key(chain_id).path}"\n\n')
        for node in nodes:
            text += (f'[[validator]]\nchain_id = "{node.chain_id}"\naddr = "{node.signer_address()}"\n'
                     f'protocol_version = "{node.line()}"\n')
            if node.link != "unix":
                text += f'secret_key = "{self.identity.path}"\n'
            text += "\n"
        self.config.write_text(text)

    def init_state(self, chain_id):
        run([BINARY, "state", "init", "-c", self.config, "--chain", chain_id])

    def start(self):
        self.process.start()

    def connections(self, chain_id):
        """How often a connection to a validator of this chain came up."""
        return len(re.findall(rf"\[{re.escape(chain_id)}@\S+ connected to validator", self.process.log_text()))
