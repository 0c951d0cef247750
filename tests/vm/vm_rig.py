"""The enclave image in a machine: QEMU's `nitro-enclave`, which has the loader, the security module and vsock of the real
one (no KVM is needed: everything is emulated, so times are long). The parent is that of tests/nitro/e2e_rig.py."""

import atexit
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/nitro"))

from e2e_rig import INSTANCE, ROLE, Failure, Rig, Skip, chains, python_tools  # noqa: E402
from chain import BINARY, BUILD, Key, run, wait_until  # noqa: E402

BOOT_SECONDS, PUSH_SECONDS, END_SECONDS, SIGN_SECONDS = 90, 120, 30, 60
MEMORY_MIB = 64
ENCLAVE_NAME = "vm-test"
TOO_SLOW = "the signer process does not answer"
CANNOT = 77  # of tools/get-*.sh: not on this machine


# ---- tools, each found or built once -----------------------------------------------------------

_made, _made_lock, _folder = {}, threading.RLock(), []


def made_once(name, make):
    """make() once in this run, however many scenarios ask for it."""
    with _made_lock:
        if name not in _made:
            _made[name] = make()
        return _made[name]


def script(name, *arguments):
    """What a script of the project prints; Skip, in its words, where it says that it cannot here."""
    done = subprocess.run([ROOT / name, *arguments], capture_output=True, text=True)
    words = "; ".join(done.stderr.strip().splitlines()[-2:]) or "it said nothing"
    if done.returncode == CANNOT:
        raise Skip(words)
    if done.returncode != 0:
        raise Failure(f"{name} ended with {done.returncode}: {words}")
    return done.stdout.strip()


def tool(name):
    """The path of a program."""
    return made_once(name, lambda: script(name))


def images_folder():
    """Of this run: images and their kernel."""
    with _made_lock:
        if not _folder:
            _folder.append(Path(tempfile.mkdtemp(prefix="tmkms-images-")))
            atexit.register(shutil.rmtree, _folder[0], ignore_errors=True)
        return _folder[0]


def kernel():
    made_once("kernel", lambda: script("image/build-kernel.sh", images_folder()))
    return images_folder() / "bzImage"


def needs():
    """Skip where no machine can be had. Each of these says what it builds."""
    tool("tools/get-qemu.sh")
    tool("tools/get-vhost-vsock.sh")
    kernel()
    python_tools()


def tools_env():
    return {"TMKMS_QEMU": tool("tools/get-qemu.sh"), "TMKMS_VHOST_VSOCK": tool("tools/get-vhost-vsock.sh")}


# ---- images ------------------------------------------------------------------------------------

class Image:
    """What `tmkms nitro build-enclave` made and printed."""

    def __init__(self, path, *arguments):
        self.path = path
        began = time.monotonic()
        argv = [BINARY, "nitro", "build-enclave", "--kernel", kernel(), "--init", BUILD / "image/tmkms-enclave",
                "--output-file", path, *arguments]
        done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failure(f"build-enclave ended with {done.returncode}: {done.stderr.strip()}")
        self.seconds, self.said = time.monotonic() - began, done.stderr
        self.measured = json.loads(done.stdout)["Measurements"]


def image(name="tmkms", *arguments):
    """An image by name, built once a run."""
    return made_once(name, lambda: Image(images_folder() / f"{name}.eif", *arguments))


# ---- processes of a workspace --------------------------------------------------------------------

def processes_of(folder):
    """{pid: name} of whatever runs with the folder in its arguments or environment, ourselves left out."""
    mark, found = str(folder).encode(), {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            if mark in words or mark in (entry / "environ").read_bytes():
                found[int(entry.name)] = Path(words.split(b"\0")[0].decode()).name
        except OSError:
            pass
    return found


def pid_of(folder, name):
    """The one process of that program; Failure when there is none, or more."""
    pids = [pid for pid, program in processes_of(folder).items() if name in program]
    if len(pids) != 1:
        raise Failure(f"{len(pids)} processes of {name}, not one: {processes_of(folder)}")
    return pids[0]


def must_be_gone(folder, kept=()):
    """No process, socket or folder of a run is left; kept: paths in the folder that may hold sockets of the test."""
    wait_until("end of every process", END_SECONDS, lambda: not processes_of(folder))
    left = [path for path in Path(folder).rglob("*") if path.is_socket() and path not in kept]
    if left:
        raise Failure(f"these sockets are left behind: {[str(p) for p in left]}")


# ---- a machine that the commands keep -----------------------------------------------------------

class VmEnclave:
    """`tmkms nitro run-enclave --qemu`, in the place of a process of the rig."""

    def __init__(self, rig, image_):
        self.rig, self.image, self.about, self.name = rig, image_, None, "enclave"
        self.env = {**tools_env(), "TMKMS_RUN_DIR": str(rig.folder / "run")}
        self.console = None

    def command(self, *arguments, seconds=30):
        return run([BINARY, "nitro", *arguments], seconds, self.env)

    def start(self):
        """Until the heartbeat."""
        words = self.command("run-enclave", "--qemu", "--eif-path", self.image.path, "--memory", MEMORY_MIB,
                             "--enclave-name", ENCLAVE_NAME, "--role", ROLE, "--instance", INSTANCE,
                             "--vsock-uds", self.rig.uds, seconds=BOOT_SECONDS)
        self.about = json.loads(words)

    def listed(self):
        """What describe-enclaves says of those that run."""
        return [one for one in json.loads(self.command("describe-enclaves")) if one["State"] != "ENDED"]

    def code(self):
        return None if self.about is None or self.listed() else 1

    def stop(self):
        return self.command("terminate-enclave", "--enclave-name", ENCLAVE_NAME, seconds=END_SECONDS)

    def kill_group(self):
        """As if the machine lost its power."""
        if self.about is None:
            return
        for pid, program in processes_of(self.rig.folder).items():
            if "qemu" in program:
                os.kill(pid, signal.SIGKILL)
        wait_until("end of the enclave", END_SECONDS, lambda: not self.listed())
        self.about = None

    def console_text(self):
        consoles = sorted(self.rig.folder.rglob("console*"))
        return "\n".join(path.read_text(errors="replace") for path in consoles)

    def log_tail(self):
        lines = self.console_text().splitlines()[-chains.LOG_TAIL_LINES:]
        return "\n".join(["  --- last lines of the console"] + ["  | " + line[:400] for line in lines])


class VmRig(Rig):
    """A parent whose enclave is a machine; the KMS takes its documents, which nobody signed, and checks the rest."""

    def __init__(self, workspace, image_=None, kms_options=()):
        self.image = image_ or image()
        super().__init__(workspace, ["--accept-unsigned", *kms_options])

    def make_enclave(self, _):
        enclave = VmEnclave(self, self.image)
        self.workspace.processes.append(enclave)
        return enclave

    def kms_trust(self):
        return []

    def image_in_policy(self):
        return ["--eif", self.image.path]

    def wait_enclave(self):
        wait_until("config port of the enclave", BOOT_SECONDS, self.enclave_listens, [self.enclave])

    def enclave_listens(self):
        return ping(self.uds) is not None

    def push(self, config=None, verbose=False, seconds=PUSH_SECONDS):
        """Again while the enclave says that it is too slow: an RSA key takes its signer 20 s on a busy emulated processor,
        and a tenth of one on a real one. `nitro run` tries again as well."""
        deadline = time.monotonic() + seconds
        while True:
            pushed = super().push(config, verbose, seconds)
            if TOO_SLOW not in pushed.text or time.monotonic() > deadline:
                return pushed

    def document(self):
        """What the enclave's attestation document says, and the file it is in."""
        path = self.folder / "document"
        run([BINARY, "nitro", "attest", "--vsock-uds", self.uds, "-o", path], PUSH_SECONDS)
        return json.loads(run([python_tools(), ROOT / "tests/kms/attestation.py", path])), path


def ping(uds):
    """What the enclave says of itself, "waiting" or "ready" (src/nitro/push.h); None while it does not answer. Never
    hangs up before vhost-device-vsock has answered, which would deafen that for good."""
    request = b'{"op":"ping"}'
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(BOOT_SECONDS)
        try:
            s.connect(str(uds))
            s.sendall(b"CONNECT 5050\n")
            if not s.recv(64).startswith(b"OK"):
                return None
            s.sendall(b"TMKMSv1\n" + struct.pack(">I", len(request)) + request)
            with s.makefile("rb") as answer:
                head = answer.read(12)
                return json.loads(answer.read(struct.unpack(">I", head[8:])[0]))["state"]
        except (OSError, struct.error):
            return None


def sealed_vm(workspace, **more):
    """A machine that is ready to sign but for the push, and its key."""
    rig = VmRig(workspace, **more).start()
    key = Key(rig.folder / "signing.key")
    rig.write_config(rig.seal(key.path), key.public.hex())
    rig.init_state(key)
    rig.start_parent()
    return rig, key


# ---- a machine without a parent -------------------------------------------------------------------

class BareMachine:
    """QEMU and its vsock back end, started by the test: for parents that our commands would never be."""

    def __init__(self, workspace, image_, more="", options=(), folder=None):
        folder = folder or workspace.folder
        self.uds, self.console = folder / "vm.vsock", folder / "console"
        vhost = folder / "vhost.sock"
        self.vhost_socket = vhost
        self.vhost = workspace.process("vhost-device-vsock", [
            tool("tools/get-vhost-vsock.sh"), "--vm", f"guest-cid=16,socket={vhost},uds-path={self.uds}"])
        self.qemu = workspace.process("qemu", [
            tool("tools/get-qemu.sh"), "-M", f"nitro-enclave,vsock=c,id=i-bare,parent-role={ROLE},parent-id={INSTANCE}",
            "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", f"{MEMORY_MIB}M", "-kernel", image_.path, "-chardev",
            f"socket,id=c,path={vhost}", "-display", "none", "-serial", f"file:{self.console}", "-monitor", "none",
            "-no-reboot", "-append", f"tmkms.parent_cid=2 tsc=reliable tsc_early_khz={host_khz()} reboot=t {more}", *options])

    def start(self):
        self.vhost.start()
        wait_until("vhost-device-vsock", 10, self.vhost_socket.exists, [self.vhost])
        self.qemu.start()

    def await_pulse(self, pulse):
        """The moment of the heartbeat."""
        wait_until("heartbeat", BOOT_SECONDS, lambda: pulse.heard, [self.qemu, self.vhost])
        return time.monotonic()

    def console_text(self):
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def must_end(self, seconds, *words):
        """It ends by itself and says why on the console. Returns the seconds it took."""
        began = time.monotonic()
        try:
            self.qemu.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"the machine runs after {seconds} s; its console: {self.console_text()[-600:]}") from None
        for word in words:
            if word.lower() not in self.console_text().lower():
                raise Failure(f"the console does not say {word!r}: {self.console_text()[-600:]}")
        return time.monotonic() - began


def host_khz():
    """Of the processor's counter: the guest cannot find it out while the host is busy."""
    line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("cpu MHz"))
    return round(float(line.split(":")[1]) * 1000)
