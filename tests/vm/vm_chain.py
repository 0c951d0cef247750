"""A real chain that is signed in the machine, and `tmkms nitro run`, which keeps it so."""

import os
import re
import signal
import time

from vm_rig import (BOOT_SECONDS, END_SECONDS, MEMORY_MIB, PUSH_SECONDS, SIGN_SECONDS, Failure, VmRig,
                    pid_of, processes_of, run, sealed_vm)
import e2e_parent
from chain import BINARY, Key, wait_until
from e2e_chain import node_for
from e2e_node import Asker
from e2e_rig import CHAIN, LOG_PORT
from run_rig import READY

BLOCKS, BLOCKS_SECONDS = 50, 300
RECOVERY_SECONDS, HANG_SECONDS = 120, 180
STOP_SECONDS = 15


def state_height(rig):
    shown = run([BINARY, "state", "show", "--state-file", rig.state_file, "--json"])
    return int(re.search(r'"height": ?"?(\d+)', shown)[1])


def sign_blocks(rig, key, node, recorder, process=None):
    """Fifty blocks; the state on the parent grows with them. Returns words."""
    node.wait_height(3, PUSH_SECONDS + BOOT_SECONDS, process)
    heights, began, first = [state_height(rig)], time.monotonic(), node.height()
    for until in (BLOCKS // 2, BLOCKS):
        node.wait_height(until, BLOCKS_SECONDS, process)
        heights.append(state_height(rig))
        if heights[-1] < until:
            raise Failure(f"block {until} is signed, but the state holds height {heights[-1]}")
    if sorted(set(heights)) != heights:
        raise Failure(f"the heights in the state are {heights}")
    pace = (node.height() - first) / (time.monotonic() - began)
    node.check_blocks(BLOCKS - 1, key.address)
    if not node.extensions_are_on():
        raise Failure("vote extensions are off")
    signatures = recorder.finish()
    return f"{BLOCKS} blocks with vote extensions, {signatures.count} signatures, {pace:.1f} blocks/s, state at {heights}"


def chain(workspace):
    """The separate commands: run-enclave, kms-proxy, persist, proxy, push-config."""
    rig, key = sealed_vm(workspace)
    node, recorder = node_for(rig, key)
    rig.push().must_be_ready()
    node.start()  # not before: it waits 3 s for its signer
    words = sign_blocks(rig, key, node, recorder)
    rig.enclave.stop()
    return words


# ---- nitro run ----------------------------------------------------------------------------------

class VmRun(VmRig):
    """A parent on which `tmkms nitro run --qemu` is all that runs, the KMS and the node aside."""

    def __init__(self, workspace):
        super().__init__(workspace)
        self.supervisor = workspace.process("run", [
            BINARY, "nitro", "run", "--qemu", "-c", self.config, "--vsock-uds", self.uds, "-v"], self.enclave.env)

    def prepare(self):
        """KMS, key, state and configuration; nothing of ours runs yet. Returns the key."""
        self.start_front()
        key = Key(self.folder / "signing.key")
        self.write_config(self.seal(key.path), key.public.hex(), chain_lines=[f'state_file = "{self.state_file}"'])
        text = self.config.read_text().replace("[enclave]\n", f'[enclave]\neif = "{self.image.path}"\nmemory_mib = {MEMORY_MIB}\n')
        self.config.write_text(text + f'node = "unix://{self.socket}"\n')
        self.config.chmod(0o600)
        self.init_state(key)
        return key

    def wait_ready(self, times=1, seconds=BOOT_SECONDS + PUSH_SECONDS):
        """Until it said so that many times. Returns the seconds it took."""
        began = time.monotonic()
        wait_until(f"`ready` number {times} of nitro run", seconds,
                   lambda: len(READY.findall(self.supervisor.log_text())) >= times, [self.supervisor])
        return time.monotonic() - began

    def start_run(self):
        self.supervisor.start()
        return self.wait_ready()


def stop_run(rig, workspace):
    """SIGTERM: everything of it is gone within seconds. Returns words."""
    theirs = processes_of(rig.folder)
    for process in workspace.processes:
        if process is not rig.supervisor and getattr(process, "popen", None) is not None:
            theirs.pop(process.popen.pid, None)
    if len(theirs) < 3:
        raise Failure(f"only {theirs} runs: this tests nothing")
    took = rig.supervisor.stop(signal.SIGTERM, STOP_SECONDS)
    if rig.supervisor.code() != 0:
        raise Failure(f"after SIGTERM nitro run ended with {rig.supervisor.code()}")
    left = {pid: name for pid, name in processes_of(rig.folder).items() if pid in theirs}
    if left:
        raise Failure(f"nitro run left {left} behind")
    sockets = [path for path in rig.folder.rglob("*") if path.is_socket() and path.parent.name not in ("node",)
               and path != rig.socket]
    if sockets or list((rig.folder / "run").glob("*")):
        raise Failure(f"nitro run left {sockets or list((rig.folder / 'run').glob('*'))} behind")
    return f"SIGTERM: {len(theirs)} processes and their sockets gone after {took:.1f} s"


def run_chain(workspace):
    """One command for all of it, and the end of it."""
    rig = VmRun(workspace)
    key = rig.prepare()
    node, recorder = node_for(rig, key)
    ready = rig.start_run()
    node.start()  # not before: it waits 3 s for its signer
    words = sign_blocks(rig, key, node, recorder, rig.supervisor)
    return f"ready after {ready:.1f} s; {words}; {stop_run(rig, workspace)}"


def killed_under_run(workspace):
    """QEMU and the vsock back end are killed while blocks are signed: a new machine gets the config and signs on from the
    state, without a human. The node asks on purpose for what was signed already."""
    rig = VmRun(workspace)
    rig.prepare()
    node, took = Asker(rig.socket, CHAIN), {}
    first = rig.start_run()
    node.wait_more(SIGN_SECONDS, 6)
    for number, (name, program) in enumerate((("QEMU", "qemu"), ("QEMU again", "qemu"), ("vhost-device-vsock", "vhost")), 2):
        height = node.height
        os.kill(pid_of(rig.folder, program), signal.SIGKILL)
        began = time.monotonic()
        rig.wait_ready(number, RECOVERY_SECONDS)
        node.wait_more(RECOVERY_SECONDS, 6)
        took[name] = node.signatures.last - began
        if state_height(rig) < height:
            raise Failure(f"after {name} was killed the state holds {state_height(rig)}, and height {height} was signed")
    words = stop_run(rig, workspace)
    signatures = node.finish()
    return (f"first ready after {first:.1f} s; signing again after " + ", ".join(f"{name} {t:.1f} s" for name, t in took.items())
            + f"; {signatures.count} signatures to height {node.height}, {signatures.refusals} conflicting requests refused; "
            + words)


def hung_under_run(workspace):
    """A machine that stands still is no enclave: it is seen, ended, and another one started."""
    rig = VmRun(workspace)
    rig.prepare()
    node = Asker(rig.socket, CHAIN)
    rig.start_run()
    node.wait_more(SIGN_SECONDS, 3)
    hung = pid_of(rig.folder, "qemu")
    os.kill(hung, signal.SIGSTOP)
    began = time.monotonic()
    rig.wait_ready(2, HANG_SECONDS)
    node.wait_more(SIGN_SECONDS, 3)
    took = time.monotonic() - began
    if hung in processes_of(rig.folder):
        raise Failure("the machine that hung is still there")
    stop_run(rig, workspace)
    return f"signing again {took:.1f} s after the machine stood still, {node.finish().count} signatures"


def supervisor_killed(workspace):
    """kill -9 of nitro run itself: it takes the enclave along, and the next start finds nothing in its way."""
    rig = VmRun(workspace)
    rig.prepare()
    node = Asker(rig.socket, CHAIN)
    rig.start_run()
    node.wait_more(SIGN_SECONDS, 3)
    os.kill(rig.supervisor.popen.pid, signal.SIGKILL)
    rig.supervisor.popen.wait()
    began = time.monotonic()
    wait_until("end of what nitro run had started", END_SECONDS,
               lambda: not any("qemu" in name or "vhost" in name or "tmkms" in name for name in processes_of(rig.folder).values()))
    gone = time.monotonic() - began
    rig.supervisor.start()
    rig.wait_ready(2)
    node.wait_more(SIGN_SECONDS, 3)
    words = stop_run(rig, workspace)
    return f"the enclave ended {gone:.1f} s after its supervisor; started again; {node.finish().count} signatures; {words}"


# ---- an end from inside ---------------------------------------------------------------------------

def ends_from_inside(workspace):
    """`reconnect = false`: the node hangs up, the program in the enclave ends, and with it the machine. Its last words
    reach the parent."""
    rig, _ = sealed_vm(workspace)
    rig.config.write_text(rig.config.read_text() + "reconnect = false\n")
    logs = rig.parent("logs", ["-p", LOG_PORT])
    logs.start()
    rig.wait_port(LOG_PORT, logs)
    node = Asker(rig.socket, CHAIN)
    rig.push().must_be_ready()
    node.wait_more(SIGN_SECONDS, 3)
    node.finish()
    began = time.monotonic()
    wait_until("end of the machine", END_SECONDS, lambda: not rig.enclave.listed())
    took = time.monotonic() - began
    last = re.search(r"the enclave ends: .*", logs.log_text())
    if last is None or "closed the connection" not in last[0]:
        raise Failure(f"why it ended did not reach the parent: {logs.log_text()[-600:]}")
    return f"the machine ended {took:.1f} s after the node; the parent read: {last[0]}"


def lies(workspace):
    """What tests/nitro tries with the store of an enclave in software, over the machine's own vsock."""
    return e2e_parent.lies_about_the_state(workspace, VmRig)


SCENARIOS = [("run-killed", killed_under_run), ("run-chain", run_chain), ("chain", chain), ("run-hung", hung_under_run),
             ("run-supervisor-killed", supervisor_killed), ("parent-lies", lies), ("ends-from-inside", ends_from_inside)]
