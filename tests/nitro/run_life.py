"""`tmkms nitro run`: how it begins, what it refuses, reloads, and how it ends."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from e2e_chain import node_for
from e2e_node import Asker
from e2e_rig import ACCOUNT, CHAIN, INSTANCE, NODE_PORT, PCR0, ROLE, Failure, wait_until
from chain import Key
from run_rig import SIGN_SECONDS, STOP_SECONDS, RunRig, running_rig

BLOCKS, CHAIN_SECONDS = 15, 60
EXIT_STATE = 3
OTHER_INSTANCE = "i-0fedcba9876543210"


def one_command(workspace):
    """Config, ready, signatures, the public key and the warning in the log; SIGTERM leaves nothing."""
    rig, node = running_rig(workspace)
    rig.must_say_once("SIMULATED: the enclave is a process of this machine")
    rig.must_say_once("[keyring:softsign] added consensus Ed25519 key: " + rig.key.public.hex().upper())
    rig.wait_says("enclave: ")
    took = rig.stop_run()
    return f"{node.finish().count} signatures, SIGTERM took {took * 1000:.0f} ms"


def real_chain(workspace):
    """A CometBFT node signs through it, and goes on when the enclave dies."""
    rig = RunRig(workspace).prepare()
    node, recorder = node_for(rig, rig.key)
    rig.start_run().wait_ready()
    node.start()
    node.wait_height(5, CHAIN_SECONDS)
    os.kill(rig.pid_of("start"), signal.SIGKILL)
    node.wait_height(node.height() + BLOCKS, CHAIN_SECONDS)
    node.check_blocks(node.height() - 1, rig.key.address)
    signatures = recorder.finish()
    rig.stop_run()
    return f"{node.height()} blocks, one kill, {signatures.count} signatures"


def seed_config(workspace):
    """The configuration of 2020, which knows nothing of this command, with -s and -u."""
    rig = RunRig(workspace).prepare()
    text = re.sub(r"^(state_file|node) = .*\n", "", rig.config.read_text(), flags=re.M)
    rig.config.write_text(text)
    run = rig.run = rig.make_run("--simulate", "-s", rig.state_file, "-u", rig.socket)
    node = Asker(rig.socket, CHAIN)
    run.start()
    rig.wait_ready()
    node.wait_more(SIGN_SECONDS, 3)
    rig.stop_run()
    return f"{node.finish().count} signatures"


def parent_named(workspace):
    """--role and --instance are what the key's policy sees; without them the enclave is of another instance."""
    rig = RunRig(workspace).prepare()
    rig.set_policy("--pcr0", PCR0, "--instance", OTHER_INSTANCE, "--config", rig.config)
    rig.run = rig.make_run("--simulate", "--role", ROLE, "--instance", OTHER_INSTANCE)
    rig.start_run().wait_ready()
    rig.stop_run()
    rig.run = rig.make_run("--simulate", name="without")
    rig.start_run()
    rig.wait_says("AccessDenied")
    rig.run.stop(signal.SIGTERM, STOP_SECONDS)
    return "one instance of two"


def killed(workspace):
    """SIGKILL of the supervisor: nothing of it lives on, and the next start is as any other."""
    rig, node = running_rig(workspace)
    pids = rig.processes()
    if not {"@keeper", "start", "@signer", "@session"} <= set(pids):
        raise Failure(f"not all processes are seen: {pids}")
    rig.run.popen.kill()
    rig.run.popen.wait()
    began = time.monotonic()
    rig.wait_nothing_left(pids)
    took = time.monotonic() - began
    rig.run.start()
    rig.wait_ready(2)
    node.wait_more(SIGN_SECONDS, 3)
    rig.stop_run()
    return f"{len(pids)} processes gone after {took * 1000:.0f} ms, {node.finish().count} signatures"


def second_run(workspace):
    """Another one is refused before it touches the enclave of the first, by the state or by the name; the first is named."""
    rig, node = running_rig(workspace)
    other = rig.make_run("--simulate", name="second")
    other.start()
    code = other.popen.wait(STOP_SECONDS)
    said = other.log_text()
    words = f"the state file {rig.state_file} is in use by process {rig.run.popen.pid} "
    if code != 1 or words not in said:
        raise Failure(f"the second ended with {code} and does not say {words!r}: {said}")
    # With the name of the first, and another state.
    rig.state_file = rig.folder / "another.json"
    rig.init_state(rig.key)
    third = rig.make_run("--simulate", "-s", rig.state_file, "--vsock-uds", rig.folder / "third", name="third")
    third.start()
    words = f"the enclave tmkms runs already, kept by `tmkms nitro run` (process {rig.run.popen.pid})"
    wait_until(f"the words {words!r}", STOP_SECONDS, lambda: words in third.log_text(), [third])
    if "terminate-enclave" in third.log_text():
        raise Failure(f"it would only be started again: {third.log_text()}")
    third.stop(signal.SIGTERM, STOP_SECONDS)
    node.wait_more(SIGN_SECONDS, 3)
    rig.stop_run()
    return f"{node.finish().count} signatures by the first"


def refused(rig, code, words, *arguments, env=None):
    run = rig.make_run(*arguments, name="refused", env=env)
    run.log.unlink(missing_ok=True)
    run.start()
    try:
        got = run.popen.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise Failure(f"it goes on where it had to say {words!r}: {run.log_text()}") from None
    if got != code or words not in run.log_text():
        raise Failure(f"it ended with {got}, not {code}, and does not say {words!r}: {run.log_text()}")


def wrong(workspace):
    """Every mistake ends at once, in words, with the exit code that says whether another start can help."""
    rig = RunRig(workspace).prepare()
    good = rig.config.read_text()
    state = rig.state_file.read_bytes()
    cases = 0

    def case(code, words, *arguments, config=good, env=None):
        nonlocal cases
        rig.config.write_text(config)
        refused(rig, code, words, *(arguments or ["--simulate"]), env=env)
        rig.config.write_text(good)
        cases += 1

    case(1, "unknown key", config=good + "nonsense = 1\n")
    case(1, "node: is missing", config=re.sub(r"^node = .*\n", "", good, flags=re.M))
    case(1, "which image?", "-v")
    case(1, "which image?", "--qemu")
    case(2, "--qemu and --simulate", "--qemu", "--simulate")
    case(2, "--simulate boots no image", "--simulate", "--eif", "x")
    case(2, "--cid names an enclave", "--cid", "16", "--simulate")
    case(2, "--role and --instance are for", "--eif", "x", "--instance", INSTANCE)
    case(1, "instance", "--simulate", "--instance", "not-an-instance")
    case(1, "longer than", "--simulate", "--role", f"arn:aws:iam::{ACCOUNT}:role/" + "x" * 200)
    case(2, "is not a CID", "--cid", "x")
    for cid in (0, 3, 0xffffffff):
        case(2, f"CID {cid} is taken by the system; an enclave has one from 4 on", "--cid", cid)
    case(2, "unexpected argument", "--simulate", "x")
    case(1, "is too long for a socket", env={"TMKMS_RUN_DIR": str(rig.folder / ("x" * 80))})
    case(1, "/nowhere.eif cannot be opened", "--qemu", "--eif", "/nowhere.eif")
    (rig.folder / "file").touch()
    empty = {"PATH": str(rig.folder)}
    case(1, "there is no nitro-cli here, and /dev/nitro_enclaves cannot be opened", "--eif", rig.folder / "file", env=empty)
    case(1, "is no folder", env={"TMKMS_RUN_DIR": str(rig.folder / "file")})
    rig.state_file.unlink()
    named = f"-c {rig.config} --chain {CHAIN}"
    case(EXIT_STATE, f"`tmkms state init {named}`")
    rig.state_file.touch()
    case(EXIT_STATE, f"is empty: what was signed is not known; `tmkms state repair {named} --height H`")
    rig.state_file.write_bytes(b"x" * len(state))
    case(EXIT_STATE, f"`tmkms state repair {named} --height H`")
    rig.state_file.unlink()
    rig.init_state(rig.key, "other-chain")
    case(EXIT_STATE, "other-chain")
    rig.state_file.unlink()
    rig.init_state(Key(rig.folder / "other.key"))
    case(EXIT_STATE, "belongs to the public key")
    rig.state_file.write_bytes(state)
    rig.config.unlink()
    refused(rig, 1, "tmkms.toml", "--simulate")
    return f"{cases + 1} mistakes"


def no_start(workspace):
    """An enclave that cannot start: said, tried again with longer waits, and at last left to the service manager."""
    rig = RunRig(workspace).prepare()
    rig.run.env["TMKMS_SIM"] = shutil.which("false")
    began = time.monotonic()
    rig.start_run()
    code = rig.run.popen.wait(60)
    took = time.monotonic() - began
    rig.must_say_once("starts in a row have failed")
    if code != 1 or took < 14:
        raise Failure(f"it ended with {code} after {took:.1f} s: {rig.run.log_text()}")
    if rig.files_left():
        raise Failure(f"left behind: {rig.files_left()}")
    return f"5 starts in {took:.1f} s"


def state_lost(workspace):
    """A state file that is deleted under it: no signature more, exit code 3."""
    rig, node = running_rig(workspace)
    pids = rig.processes()
    rig.state_file.unlink()
    code = rig.run.popen.wait(STOP_SECONDS)
    if code != EXIT_STATE or str(rig.state_file) not in rig.run.log_text():
        raise Failure(f"it ended with {code}: {rig.run.log_tail()}")
    rig.wait_nothing_left(pids)
    return f"{node.finish().count} signatures before it"


def reload(workspace):
    """SIGHUP: what may change is pushed, what needs a restart is said, and a broken file changes nothing."""
    rig, node = running_rig(workspace)
    good = rig.config.read_text()
    for text, words in ((good + "# and so on\n", "is pushed again"),
                        (good + "nonsense = 1\n", "is not taken: all goes on as before"),
                        (good.replace("[[chain]]", "[[chain]]\nmin_height = 1", 1), "needs a restart of this service: the measured part"),
                        (good.replace(f"port = {NODE_PORT} ", "port = 5556 "), "needs a restart of this service: ports")):
        rig.config.write_text(text)
        os.kill(rig.run.popen.pid, signal.SIGHUP)
        rig.wait_says(words)
        node.wait_more(SIGN_SECONDS, 3)
    # What was refused is not what the next enclave gets.
    os.kill(rig.pid_of("start"), signal.SIGKILL)
    rig.wait_ready(2)
    node.wait_more(SIGN_SECONDS, 3)
    rig.stop_run()
    return f"4 reloads, {node.finish().count} signatures"


class Manager:
    """The service manager's end of sd_notify."""

    def __init__(self, path):
        self.socket, self.lines = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), []
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def read(self):
        try:
            while True:
                self.lines += [(time.monotonic(), line) for line in self.socket.recv(4096).decode().splitlines()]
        except BlockingIOError:
            return self.lines

    def count(self, line):
        return sum(one == line for _, one in self.read())


def notified(workspace):
    """READY only when it signs, WATCHDOG while it is well, RELOADING, STOPPING."""
    rig = RunRig(workspace)
    manager = Manager(rig.folder / "notify")
    rig.prepare_with_gate()
    rig.run.env.update(NOTIFY_SOCKET=str(rig.folder / "notify"), WATCHDOG_USEC="600000")
    rig.start_run()
    rig.wait_says("it waits for KMS")
    if manager.count("READY=1"):
        raise Failure("READY=1 came without KMS")
    rig.gate.open()
    rig.wait_ready()
    wait_until("READY=1", 5, lambda: manager.count("READY=1") > 0)
    before = manager.count("WATCHDOG=1")
    time.sleep(3)
    pings = manager.count("WATCHDOG=1") - before
    os.kill(rig.run.popen.pid, signal.SIGHUP)
    wait_until("RELOADING=1", 5, lambda: manager.count("RELOADING=1") == 1)
    wait_until("READY=1", 10, lambda: manager.count("READY=1") == 2)
    # Not before the push is over, which waits for the enclave.
    enclave = rig.pid_of("start")
    os.kill(enclave, signal.SIGSTOP)
    os.kill(rig.run.popen.pid, signal.SIGHUP)
    wait_until("RELOADING=1", 5, lambda: manager.count("RELOADING=1") == 2)
    time.sleep(1)
    early = manager.count("READY=1") - 2
    os.kill(enclave, signal.SIGCONT)
    wait_until("READY=1", 10, lambda: manager.count("READY=1") == 3)
    rig.stop_run()
    if early:
        raise Failure("READY=1 came before the configuration was pushed")
    if manager.count("STOPPING=1") != 1 or pings < 5:
        raise Failure(f"{pings} pings in 3 s; {manager.lines}")
    if "NOTIFY_SOCKET" in Path(f"/proc/{os.getpid()}/environ").read_text():
        raise Failure("this test's own manager would be told")
    return f"{pings} pings in 3 s, {len(manager.lines)} lines"


SCENARIOS = [("no-start", no_start), ("chain", real_chain), ("run", one_command), ("seed-config", seed_config), ("parent-named", parent_named),
             ("run-killed", killed), ("second-run", second_run), ("wrong", wrong), ("state-lost", state_lost),
             ("reload", reload), ("notify", notified)]
