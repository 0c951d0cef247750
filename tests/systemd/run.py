#!/usr/bin/env python3
"""The systemd units under a real systemd. Usage: run.py [--only TEXT] [--keep] [--list]

One machine is booted in a folder (machine.py), with what `make install` installs. The scenarios start, break and stop the
services in it one after the other, while a validator on this side asks for signatures, and for conflicting ones.
Prints one line each: `ok NAME (...)`, `FAILED NAME why`, `skipped NAME why`. Needs root, systemd-nspawn and, the first time,
mmdebstrap with a Debian mirror.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import CONFIG, NODES, Failure, Machine, Skip, Unit, chains  # noqa: E402
import enclave  # noqa: E402
from e2e_node import Asker  # noqa: E402  (found through machine.py)

CHAIN = "test-systemd"
SIGN_SECONDS = 10
PATIENCE_SECONDS = 5  # HEALTH_PATIENCE_US of src/monitor/health.h
SIGNING_ONE = "Signing for 1 chain, 1 validator"

CONFIG_TEXT = """
[[chain]]
id = "{id}"
key_format = {{ type = "hex" }}
state_file = "/etc/tmkms/state/{id}.json"
{more}
[[validator]]
addr = "unix://{nodes}/{id}.sock"
chain_id = "{id}"

[[providers.softsign]]
chain_ids = ["{id}"]
path = "/etc/tmkms/secrets/{id}.key"
"""


class Bench:
    """A machine, the two services, and the validators that ask them."""

    def __init__(self, machine):
        self.machine, self.unit, self.nitro = machine, Unit(machine, "tmkms"), Unit(machine, "tmkms-nitro")
        self.parent = None  # enclave.Parent
        self.askers = []

    def configure(self, *chain_ids, more=""):
        """Keys and states are made as the README says, once; the validators' heights go on through all scenarios."""
        text = "".join(CONFIG_TEXT.format(id=i, nodes=NODES, more=more) for i in chain_ids)
        for folder in ("/etc/tmkms/secrets", "/etc/tmkms/state"):
            self.machine.path(folder).mkdir(parents=True, exist_ok=True)
        self.machine.path(CONFIG).write_text(text)
        for i in chain_ids:
            if not self.machine.path(f"/etc/tmkms/secrets/{i}.key").exists():
                self.machine.run("tmkms", "softsign", "keygen", f"/etc/tmkms/secrets/{i}.key")
            if not self.machine.path(f"/etc/tmkms/state/{i}.json").exists():
                self.machine.run("tmkms", "state", "init", "-c", CONFIG, "--chain", i)
        self.machine.run("chown", "-R", "tmkms:", "/etc/tmkms")

    def fresh(self, drop_in="", more=""):
        self.unit.fresh(drop_in)
        self.configure(CHAIN, more=more)
        return self.unit

    def node(self, chain_id=CHAIN):
        """A validator that asks for a height of its own: those before it may be signed, in an earlier scenario."""
        asker = Asker(self.machine.nodes / f"{chain_id}.sock", chain_id, height=int(time.time() * 1000), pause=0.01)
        self.askers.append(asker)
        return asker

    def sign(self, chain_id=CHAIN):
        node = self.node(chain_id)
        node.wait_more(SIGN_SECONDS, 6)
        return node

    def finish(self):
        for asker in self.askers:
            asker.finish()
        self.askers = []


# ---- the plain service -----------------------------------------------------------------------

def install(bench):
    machine = bench.machine
    machine.run("systemd-sysusers")
    passwd = machine.run("getent", "passwd", "tmkms").strip()
    if not passwd.endswith(":/var/lib/tmkms:/usr/sbin/nologin"):
        raise Failure(f"the user is {passwd}")
    done = machine.try_run("systemd-analyze", "verify", "--man=no", "tmkms.service", "tmkms-nitro.service")
    if done.returncode != 0 or done.stdout.strip():
        raise Failure(f"systemd-analyze verify: {done.stdout.strip()}")
    if machine.run("tmkms", "version").strip() == "":
        raise Failure("the installed program does not run")
    return "user made, units without fault"


def signs(bench):
    unit = bench.fresh()
    began = time.monotonic()
    unit.start()
    started = time.monotonic() - began
    unit.must_be("active/running")
    unit.must_tell(SIGNING_ONE)
    node = bench.sign()
    uid = bench.machine.run("id", "-u", "tmkms").strip()
    pids = unit.processes()
    if len(pids) != 3:
        raise Failure(f"{len(pids)} processes: {pids}")
    owners = {line.split()[1] for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()
              if line.startswith("Uid:")}
    if owners != {uid}:
        raise Failure(f"the processes belong to {owners}, not to {uid}")
    stopped = unit.stop()
    unit.must_be("inactive/dead")
    unit.must_have_logged("Shutdown completed successfully")
    if unit.processes():
        raise Failure(f"still there after the stop: {unit.processes()}")
    if stopped > 3:
        raise Failure(f"stopping took {stopped:.1f} s")
    node.no_more(0.3)
    return f"ready after {started:.2f} s, stopped after {stopped:.2f} s, {node.signatures.count} signatures"


def ready_when_it_can_sign(bench):
    """A hook that takes its time: until it has answered, nothing can be signed."""
    go = bench.machine.nodes / "go"
    go.unlink(missing_ok=True)
    hook = f'while [ ! -e {NODES}/go ]; do sleep 0.05; done; echo \'{{\\"latest_block_height\\": \\"0\\"}}\''
    unit = bench.fresh(more=f'state_hook = {{ cmd = ["sh", "-c", "{hook}"], timeout_secs = 60 }}\n')
    unit.begin()
    unit.becomes("activating/start", 5)
    node = bench.node()
    node.no_more(1)
    unit.must_be("activating/start")
    go.touch()
    unit.becomes("active/running", 5)
    node.wait_more(SIGN_SECONDS, 3)
    return "activating until the last thing it needs is there"


def wrong_configuration(bench):
    unit = bench.fresh("[Unit]\nStartLimitBurst=2\n")
    bench.machine.path(CONFIG).write_text("[[chain]]\nid = 7\n")
    unit.must_not_start()
    unit.becomes("failed/failed", 10)
    unit.must_have_logged("id: is an integer; write a string", "Start request repeated too quickly")
    if unit.show("StatusText").find("Cannot start: ") != 0:
        raise Failure(f"the status is {unit.show('StatusText')!r}")
    return "failed, with the reason in journal and status"


def missing_state(bench):
    unit = bench.fresh("[Unit]\nStartLimitBurst=2\n")
    state = bench.machine.path(f"/etc/tmkms/state/{CHAIN}.json")
    state.rename(state.with_suffix(".away"))
    try:
        unit.must_not_start()
        unit.becomes("failed/failed", 10)
        unit.must_have_logged("tmkms state init")
    finally:
        state.with_suffix(".away").rename(state)
    return "failed, with the command that repairs it"


def lost_state(bench):
    """Exit code 3: not started again by itself, not even when the file is back."""
    unit = bench.fresh()
    unit.start()
    node = bench.sign()
    state = bench.machine.path(f"/etc/tmkms/state/{CHAIN}.json")
    state.rename(state.with_suffix(".away"))
    unit.becomes("failed/failed", 10)
    state.with_suffix(".away").rename(state)
    if (unit.show("ExecMainStatus"), unit.restarts()) != ("3", 0):
        raise Failure(f"ended with {unit.show('ExecMainStatus')}, started again {unit.restarts()} times")
    node.no_more(2.5)
    unit.must_be("failed/failed")
    unit.must_have_logged(f"{CHAIN}.json")
    return "ended with 3 and stayed down"


def reload(bench):
    unit = bench.fresh()
    unit.start()
    first = bench.sign()
    pid, connections = unit.main_pid(), first.connections
    bench.configure(CHAIN, "test-second")
    bench.machine.run("systemctl", "reload", "tmkms")
    unit.becomes("active/running", 5)
    bench.sign("test-second")
    unit.must_tell("Signing for 2 chains, 2 validators")
    bench.machine.path(CONFIG).write_text("nonsense")
    bench.machine.run("systemctl", "reload", "tmkms")
    wait_for_status(unit, "Signing for 2 chains, 2 validators; the last reload was refused, the log says why")
    first.wait_more(SIGN_SECONDS, 3)
    if (unit.main_pid(), first.connections) != (pid, connections):
        raise Failure("a reload cost a process or a connection")
    return "a chain added, a mistake refused, connections kept"


def wait_for_status(unit, status, seconds=5):
    end = time.monotonic() + seconds
    while unit.show("StatusText") != status and time.monotonic() < end:
        time.sleep(0.05)
    unit.must_tell(status)


def killed(bench):
    unit = bench.fresh()
    unit.start()
    node = bench.sign()
    seconds = []
    for role in (None, "@signer"):
        before = unit.restarts()
        os.kill(unit.process("start" if role is None else role), signal.SIGKILL)
        began = time.monotonic()
        while unit.restarts() == before:
            if time.monotonic() - began > 10:
                raise Failure(f"not started again: {unit.state()}\n{unit.last_words()}")
            time.sleep(0.02)
        unit.becomes("active/running", 10)
        node.wait_more(SIGN_SECONDS, 3)
        seconds.append(time.monotonic() - began)
    return f"signing again {seconds[0]:.1f} s after a kill of the program, {seconds[1]:.1f} s after one of the signer"


def hangs(bench, role):
    unit = bench.fresh("[Service]\nWatchdogSec=2s\n")
    unit.start()
    node = bench.sign()
    time.sleep(2.2)
    if unit.restarts():
        raise Failure(f"the watchdog ended what was well\n{unit.last_words()}")
    began = time.monotonic()
    os.kill(unit.process(role), signal.SIGSTOP)
    while unit.restarts() == 0:
        if time.monotonic() - began > 3 * PATIENCE_SECONDS:
            raise Failure(f"the watchdog does not see it: {unit.state()}\n{unit.last_words()}")
        time.sleep(0.05)
    unit.becomes("active/running", 10)
    node.wait_more(SIGN_SECONDS, 3)
    unit.must_have_logged("Watchdog timeout")
    return f"signing again after {time.monotonic() - began:.1f} s, with a watchdog of 2 s"


def signer_hangs(bench):
    return hangs(bench, "@signer")


def session_hangs(bench):
    return hangs(bench, "@session")


def socket_of_a_group(bench):
    """A node's socket for a group, as doc/migrating.md sets it up: it counts whether tmkms is a member."""
    machine = bench.machine
    machine.run("groupadd", "-f", "nodes")
    machine.run("usermod", "-aG", "nodes", "tmkms")
    unit, node = bench.fresh(), bench.node()
    path = machine.nodes / f"{CHAIN}.sock"
    chains.wait_until("socket of the node", 5, path.is_socket)
    os.chown(path, 0, int(machine.run("getent", "group", "nodes").split(":")[2]))
    path.chmod(0o660)
    unit.start()
    node.wait_more(SIGN_SECONDS, 3)
    machine.run("gpasswd", "-d", "tmkms", "nodes")
    unit.stop()
    unit.start()
    node.no_more(1)
    unit.must_have_logged("Permission denied")
    return "reached as a member of the group, not otherwise"


VIEW = f"""#!/bin/sh
# What a program sees that runs inside the service.
try() {{ name=$1; shift; "$@" >/dev/null 2>&1 && echo "$name yes" || echo "$name no"; }}
exec 3>/var/lib/tmkms/view
{{
    try state touch /var/lib/tmkms/x
    try state-file sh -c ': >>/etc/tmkms/state/{CHAIN}.json'
    try config sh -c ': >>{CONFIG}'
    try system touch /usr/x
    try home ls /home/somebody
    try tmp test -e /tmp/outside
    try others test -e /proc/1
    try cpuinfo test -e /proc/cpuinfo
    try disk test -e /dev/kmsg
    try shadow cat /etc/shadow
    try namespace unshare -U true
    try setuid runuser -u nobody true
    try hostname hostname x
}} >&3
echo '{{"latest_block_height": "0"}}'
"""
SEES = {"state", "state-file"}


def confined(bench):
    machine = bench.machine
    hook = machine.path("/usr/local/bin/view")
    hook.write_text(VIEW)
    hook.chmod(0o755)
    machine.path("/home/somebody").mkdir(exist_ok=True)
    machine.run("touch", "/tmp/outside")
    unit = bench.fresh(more='state_hook = { cmd = ["/usr/local/bin/view"], timeout_secs = 20 }\n')
    unit.start()
    view = dict(line.split() for line in machine.path("/var/lib/tmkms/view").read_text().splitlines())
    if len(view) != VIEW.count("    try "):
        raise Failure(f"the view is incomplete: {view}")
    sees = {name for name, answer in view.items() if answer == "yes"}
    if sees != SEES:
        raise Failure(f"from inside one reaches {sorted(sees)}, which must be {sorted(SEES)}")
    return f"{len(view) - len(SEES)} ways out are closed"


SCENARIOS = [install, signs, ready_when_it_can_sign, wrong_configuration, missing_state, lost_state, reload, killed,
             signer_hangs, session_hangs, socket_of_a_group, confined, *enclave.SCENARIOS]


# ---- running them ----------------------------------------------------------------------------

def name_of(scenario):
    return scenario.__name__.replace("_", "-")


def run_scenario(bench, scenario):
    began = time.monotonic()
    try:
        words = scenario(bench)
        bench.finish()
        return True, f"ok {name_of(scenario)} ({time.monotonic() - began:.1f} s, {words})"
    except Skip as why:
        return True, f"skipped {name_of(scenario)} {why}"
    except Exception as why:  # also a mistake in a scenario must end as one FAILED line
        for asker in bench.askers:
            asker.stopping.set()
        bench.askers = []
        reason = why if isinstance(why, Failure) else f"{type(why).__name__}: {why}"
        return False, f"FAILED {name_of(scenario)} {reason}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--keep", action="store_true", help="leave the machine's folder")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    # Without the first there is no user.
    chosen = [s for s in SCENARIOS if s is install or options.only in name_of(s)]
    if options.list:
        print("\n".join(map(name_of, chosen)))
        return 0
    os.umask(0)  # a validator's socket is writable for the user of the service
    all_ok = True
    with chains.Workspace(options.keep) as workspace:
        try:
            with Machine(workspace) as machine:
                bench = Bench(machine)
                for scenario in chosen:
                    ok, text = run_scenario(bench, scenario)
                    all_ok = all_ok and ok
                    print(text, flush=True)
        except Skip as why:
            print("\n".join(f"skipped {name_of(s)} {why}" for s in chosen))
        except Failure as why:
            print(f"FAILED machine {why}\n{workspace.log_tails()}")
            all_ok = False
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())
