"""tmkms-nitro.service, with the enclave as a process of the machine (--simulate) and the tests' own KMS on this side."""

import os
import signal
import time
from pathlib import Path

from machine import CONFIG, NODES, Failure, chains  # first: it says where the others are
from e2e_node import Asker
from e2e_rig import CHAIN, python_tools
from run_rig import RunRig

READY_SECONDS, SIGN_SECONDS, STOP_SECONDS = 60, 20, 10
STATE, NSM, ROOT_FILE = "/var/lib/tmkms/state.json", "/var/lib/tmkms/nsm", "/etc/tmkms/kms-root.pem"

DROP_IN = """[Service]
ExecStart=
ExecStart={bin}/tmkms nitro run -c {config} --simulate
Environment={environment}
{more}
"""


class Parent:
    """What the parent instance needs, made once: key, KMS, configuration. The rig's own `nitro run` is never started."""

    def __init__(self, machine):
        python_tools()
        self.machine = machine
        workspace = chains.Workspace(folder_in=machine.workspace.folder)
        workspace.processes = machine.workspace.processes  # they end with the machine's
        self.rig = RunRig(workspace)
        self.rig.prepare(node=f"unix://{NODES}/{CHAIN}.sock")

    def copy(self, source, place, mode=0o600):
        path = self.machine.path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(source).read_bytes())
        path.chmod(mode)

    def configure(self):
        """The same configuration for every scenario. The state goes on from one to the next."""
        rig = self.rig
        self.copy(rig.kms.about["root"], ROOT_FILE, 0o644)
        for file in rig.nsm_dir.iterdir():
            self.copy(file, f"{NSM}/{file.name}")
        if not self.machine.path(STATE).exists():
            self.copy(rig.state_file, STATE)
        text = rig.config.read_text().replace(rig.kms.about["root"], ROOT_FILE).replace(str(rig.state_file), STATE)
        self.machine.path(CONFIG).write_text(text)
        self.machine.path(CONFIG).chmod(0o600)
        self.machine.run("chown", "-R", "tmkms:", "/etc/tmkms", "/var/lib/tmkms")

    def drop_in(self, more=""):
        environment = {k: v for k, v in self.rig.enclave_env().items() if k != "TMKMS_SIM_DIR"} | {"TMKMS_SIM_DIR": NSM}
        return DROP_IN.format(bin=f"/{self.machine.bin.relative_to(self.machine.root)}", config=CONFIG, more=more,
                              environment=" ".join(f'"{k}={v}"' for k, v in environment.items()))


def started(bench, more=""):
    """The service, ready, and a validator that gets signatures through it."""
    if bench.parent is None:
        bench.parent = Parent(bench.machine)
    unit = bench.nitro
    unit.fresh(bench.parent.drop_in(more))
    bench.parent.configure()
    node = Asker(bench.machine.nodes / f"{CHAIN}.sock", CHAIN, height=int(time.time() * 1000), pause=0.01)
    bench.askers.append(node)
    unit.begin()
    unit.becomes("active/running", READY_SECONDS)
    node.wait_more(SIGN_SECONDS, 3)
    return unit, node


def nothing_left(bench, unit):
    unit.must_be("inactive/dead")
    if unit.processes():
        raise Failure(f"still there after the stop: {unit.processes()}")
    if bench.machine.try_run("test", "-e", "/run/tmkms").returncode == 0:
        raise Failure("/run/tmkms is still there after the stop")


def enclave_signs(bench):
    """Also: the plain service makes way."""
    bench.fresh().start()
    began = time.monotonic()
    unit, node = started(bench)
    ready = time.monotonic() - began
    bench.unit.must_be("inactive/dead")
    if not unit.show("StatusText").lower().startswith("signing"):
        raise Failure(f"the status is {unit.show('StatusText')!r}")
    stopped = unit.stop()
    if stopped > STOP_SECONDS:
        raise Failure(f"stopping took {stopped:.1f} s")
    nothing_left(bench, unit)
    node.no_more(0.3)
    return f"ready and signing after {ready:.1f} s, stopped after {stopped:.1f} s with nothing left"


def enclave_killed(bench):
    """The supervisor heals it; systemd has nothing to do."""
    unit, node = started(bench)
    pid = unit.main_pid()
    began = time.monotonic()
    os.kill(unit.process("start", b"tmkms-sim"), signal.SIGKILL)
    time.sleep(0.2)
    node.wait_more(READY_SECONDS, 3)
    took = time.monotonic() - began
    unit.must_be("active/running")
    if (unit.main_pid(), unit.restarts()) != (pid, 0):
        raise Failure("systemd started the service again")
    return f"signing again after {took:.1f} s"


def supervisor_killed(bench):
    unit, node = started(bench)
    before = set(unit.processes())
    began = time.monotonic()
    os.kill(unit.process("run"), signal.SIGKILL)
    while unit.restarts() == 0:
        if time.monotonic() - began > READY_SECONDS:
            raise Failure(f"not started again: {unit.state()}\n{unit.last_words()}")
        time.sleep(0.05)
    unit.becomes("active/running", READY_SECONDS)
    node.wait_more(SIGN_SECONDS, 3)
    took = time.monotonic() - began
    if before & set(unit.processes()):
        raise Failure(f"processes of the first life are still there: {before & set(unit.processes())}")
    return f"signing again after {took:.1f} s, with nothing of the first life left"


def supervisor_hangs(bench):
    unit, node = started(bench, "WatchdogSec=2s")
    time.sleep(2.5)
    if unit.restarts():
        raise Failure(f"the watchdog ended what was well\n{unit.last_words()}")
    began = time.monotonic()
    os.kill(unit.process("run"), signal.SIGSTOP)
    while unit.restarts() == 0:
        if time.monotonic() - began > READY_SECONDS:
            raise Failure(f"the watchdog does not see it: {unit.state()}\n{unit.last_words()}")
        time.sleep(0.05)
    unit.becomes("active/running", READY_SECONDS)
    node.wait_more(SIGN_SECONDS, 3)
    unit.must_have_logged("Watchdog timeout")
    return f"signing again after {time.monotonic() - began:.1f} s, with a watchdog of 2 s"


def enclave_reload(bench):
    unit, node = started(bench)
    connections = node.connections
    bench.machine.run("systemctl", "reload", "tmkms-nitro")
    unit.becomes("active/running", READY_SECONDS)
    node.wait_more(SIGN_SECONDS, 3)
    if node.connections != connections:
        raise Failure("a reload cost a connection")
    stopped = unit.stop()
    nothing_left(bench, unit)
    return f"connections kept; stopped after {stopped:.1f} s"


SCENARIOS = [enclave_signs, enclave_reload, enclave_killed, supervisor_killed, supervisor_hangs]
