"""A machine of its own for the units: Debian with a real systemd, booted in a folder by systemd-nspawn.

The folder is tools/get-systemd-root.sh's with an overlay for what is written, so that booting costs a second. Into it goes
what `make install` installs. Loopback is this machine's, where the tests' KMS is. /srv/nodes of the machine is a folder of this one: there the validators' sockets are.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/interop"), str(ROOT / "tests/nitro")]

import chain as chains  # noqa: E402
from chain import Failure, wait_until  # noqa: E402
from e2e_rig import Skip  # noqa: E402

BOOT_SECONDS, OFF_SECONDS, COMMAND_SECONDS = 30, 15, 60
JOURNAL_LINES = 15
NODES = "/srv/nodes"
CONFIG = "/etc/tmkms/tmkms.toml"
SIGRTMIN_POWEROFF = signal.SIGRTMIN + 4  # systemd(1): "Powers off the machine"


def root_folder():
    if os.geteuid() != 0:
        raise Skip("only root can boot a machine in a folder")
    if not shutil.which("systemd-nspawn"):
        raise Skip("no systemd-nspawn here (Debian: systemd-container)")
    done = subprocess.run([ROOT / "tools/get-systemd-root.sh"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode == 77:
        raise Skip((done.stderr.strip().splitlines() or ["?"])[-1])
    if done.returncode != 0:
        raise Failure(done.stderr.strip())
    return Path(done.stdout.strip())


class Machine:
    """Boots when it is entered, and is gone with all that was written into it when it is left."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.nodes, self.root = workspace.folder / "nodes", workspace.folder / "root"
        self.nspawn = self.leader = None

    def __enter__(self):
        try:
            self.make_root()
            self.install()
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.nspawn is not None and self.nspawn.code() is None:
            self.power_off()
        if os.path.ismount(self.root):
            subprocess.run(["umount", self.root], check=False)

    # ---- the machine ----

    def make_root(self):
        lower = root_folder()
        layers = [self.workspace.folder / name for name in ("written", "work")]
        for folder in (self.root, self.nodes, *layers):
            folder.mkdir()
        self.workspace.folder.chmod(0o755)  # the machine's user goes through it to the nodes
        done = subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                               f"lowerdir={lower},upperdir={layers[0]},workdir={layers[1]}", self.root],
                              capture_output=True, text=True)
        if done.returncode != 0:  # no overlay of an overlay, for one: a copy is as good, and slower
            subprocess.run(["cp", "-a", "--reflink=auto", f"{lower}/.", self.root], check=True)
        self.root.chmod(0o755)  # `/` of the machine, which strangers may not write to

    def install(self):
        chains.run(["meson", "install", "-C", chains.BUILD, "--no-rebuild", "--destdir", self.root], 60)
        installed = [p for p in self.root.glob("usr/**/bin/tmkms") if p.is_file()]
        if len(installed) != 1:
            raise Failure(f"`make install` put tmkms at {installed}")
        self.bin = installed[0].parent
        shutil.copy(chains.BINARY.with_name("tmkms-sim"), self.bin)
        (self.root / NODES.lstrip("/")).mkdir(parents=True)
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n")

    def boot(self):
        self.nspawn = self.workspace.process("machine", [
            "systemd-nspawn", "-D", self.root, "--register=no", "--keep-unit", "--console=pipe",
            "--machine=tmkms-test", "--system-call-filter=@memlock", f"--bind={self.nodes}:{NODES}", "-b"])
        self.nspawn.start()
        try:
            self.wait_booted()
        except Failure:
            if self.nspawn.code() is not None and "not permitted" in self.nspawn.log_text():
                raise Skip("this user may not boot a machine: " + self.nspawn.log_text().strip().splitlines()[-1]) from None
            raise

    def find_leader(self):
        pid = self.nspawn.popen.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return children[0] if children else None

    def wait_booted(self):
        def is_up():
            self.leader = self.find_leader()
            return self.leader and self.try_run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")
        wait_until("systemd that runs", BOOT_SECONDS, is_up, [self.nspawn])

    def power_off(self):
        leader = self.find_leader()
        if leader:
            os.kill(int(leader), SIGRTMIN_POWEROFF)
        try:
            self.nspawn.popen.wait(OFF_SECONDS)
        except subprocess.TimeoutExpired:
            if leader:
                os.kill(int(leader), signal.SIGKILL)
            self.nspawn.popen.wait(OFF_SECONDS)

    # ---- in the machine ----

    def try_run(self, *argv, user=None):
        as_user = [] if user is None else ["runuser", "-u", user, "--"]
        try:
            return subprocess.run(["nsenter", "-t", self.leader, "-a", "env", "-i", f"PATH=/{self.bin.relative_to(self.root)}"
                                   ":/usr/sbin:/usr/bin", *as_user, *map(str, argv)], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                  timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"`{' '.join(map(str, argv))}` did not end within {COMMAND_SECONDS} s") from None

    def run(self, *argv, user=None):
        done = self.try_run(*argv, user=user)
        if done.returncode != 0:
            raise Failure(f"`{' '.join(map(str, argv))}` ended with {done.returncode}: {done.stdout.strip()}")
        return done.stdout

    def path(self, path):
        """The same file, seen from outside. Not below /run, /tmp and /proc, which the machine mounts itself."""
        return self.root / str(path).lstrip("/")


class Unit:
    """A service of the machine."""

    def __init__(self, machine, name):
        self.machine, self.name = machine, name
        self.since = None

    def show(self, name):
        return self.machine.run("systemctl", "show", "--value", "-p", name, self.name).strip()

    def state(self):
        lines = self.machine.run("systemctl", "show", "-p", "ActiveState,SubState", self.name).splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return f"{found['ActiveState']}/{found['SubState']}"

    def main_pid(self):
        return int(self.show("MainPID"))

    def restarts(self):
        return int(self.show("NRestarts"))

    def journal(self):
        self.machine.run("journalctl", "--sync")
        return self.machine.run("journalctl", "--no-pager", "-o", "cat", "-u", self.name, f"--after-cursor={self.since}")

    def last_words(self):
        return "\n".join(f"  | {line[:300]}" for line in self.journal().splitlines()[-JOURNAL_LINES:])

    def fresh(self, drop_in=""):
        """Stopped, with nothing remembered of what was before."""
        self.machine.try_run("systemctl", "stop", self.name)
        folder = self.machine.path(f"/etc/systemd/system/{self.name}.service.d")
        shutil.rmtree(folder, ignore_errors=True)
        if drop_in:
            folder.mkdir(parents=True)
            (folder / "test.conf").write_text(drop_in)
        self.machine.run("systemctl", "daemon-reload")
        self.machine.try_run("systemctl", "reset-failed", self.name)
        self.since = self.machine.run("journalctl", "-n", "1", "--show-cursor", "-o", "cat").split("-- cursor: ")[1].strip()

    def start(self):
        done = self.machine.try_run("systemctl", "start", self.name)
        if done.returncode != 0:
            raise Failure(f"systemctl start {self.name}: {done.stdout.strip()}\n{self.last_words()}")

    def begin(self):
        self.machine.run("systemctl", "start", "--no-block", self.name)

    def must_not_start(self):
        if self.machine.try_run("systemctl", "start", self.name).returncode == 0:
            raise Failure(f"{self.name} started where it must not: {self.show('StatusText')}")

    def stop(self):
        began = time.monotonic()
        self.machine.run("systemctl", "stop", self.name)
        return time.monotonic() - began

    def must_be(self, state):
        if self.state() != state:
            raise Failure(f"{self.name} is {self.state()}, not {state}\n{self.last_words()}")

    def becomes(self, state, seconds):
        began = time.monotonic()
        while self.state() != state:
            if time.monotonic() - began > seconds:
                raise Failure(f"{self.name} is {self.state()}, not {state}, after {seconds} s\n{self.last_words()}")
            time.sleep(0.05)
        return time.monotonic() - began

    def must_have_logged(self, *words):
        text = self.journal()
        for word in words:
            if word not in text:
                raise Failure(f"the journal of {self.name} does not say {word!r}\n{self.last_words()}")

    def must_tell(self, status):
        if self.show("StatusText") != status:
            raise Failure(f"the status of {self.name} is {self.show('StatusText')!r}, not {status!r}")

    def process(self, role, program=b"tmkms"):
        """The pid, in this machine's numbers, of the unit's process that runs in the given role ("@signer", "start")."""
        for pid in self.processes():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if Path(words[0].decode()).name.encode() == program and role.encode() in words:
                return pid
        raise Failure(f"no process {role} in {self.name}")

    def processes(self):
        """All of the unit, as this machine numbers them: those whose control group is the unit's."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and f"/{self.name}.service" in (folder / "cgroup").read_text():
                    found.append(int(folder.name))
            except OSError:
                continue  # ended meanwhile
        return found
