"""`tmkms nitro run` among strangers: other processes of the machine, who reach the config port as it does."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

from e2e_node import Asker
from e2e_rig import CHAIN, KMS_PORT, NODE_PORT, SIM, START_SECONDS, STATE_PORT, Failure, chains, wait_until
from run_rig import HEAL_SECONDS, SIGN_SECONDS, STOP_SECONDS, Gate, RunRig, listens

START_PAUSE = 0.6
CROWDED_SECONDS = 4


def other_config(rig):
    """As the operator's, but in what is measured."""
    other = rig.folder / "other.toml"
    other.write_text(rig.config.read_text().replace("[[chain]]", "[[chain]]\nmin_height = 1", 1))
    other.chmod(0o600)
    return other


def pushed_by_a_stranger(workspace, rig, name):
    argv = [chains.BINARY, "nitro", "push-config", "-c", other_config(rig), "--vsock-uds", rig.uds]
    return workspace.process(name, argv, rig.enclave_env()).start()


def slow_start(folder):
    """The simulated enclave behind a pause, in which its supervisor can be stopped."""
    program = folder / "slow-sim"
    program.write_text(f'#!/bin/sh\nsleep {START_PAUSE}\nexec {SIM} "$@"\n')
    program.chmod(0o755)
    return {"TMKMS_SIM": str(program)}


def pushed_first(workspace):
    """A stranger's push reaches a new enclave before ours: it is ended, and the next one is ours."""
    rig = RunRig(workspace).prepare()
    rig.run.env.update(slow_start(rig.folder))
    rig.start_run()
    node = Asker(rig.socket, CHAIN)
    rig.wait_ready()
    node.wait_more(SIGN_SECONDS, 3)
    first, keeper = rig.pid_of("start"), rig.pid_of("@keeper")
    os.kill(first, signal.SIGKILL)
    wait_until("the next keeper", 10, lambda: rig.processes().get("@keeper", keeper) != keeper)
    time.sleep(START_PAUSE / 3)
    rig.run.popen.send_signal(signal.SIGSTOP)
    if listens(rig.uds):
        raise Failure("the enclave was faster than its supervisor could be stopped")
    wait_until("its config port", 5, lambda: listens(rig.uds))
    pushed_by_a_stranger(workspace, rig, "stranger")
    time.sleep(0.7)
    rig.run.popen.send_signal(signal.SIGCONT)
    rig.wait_says("somebody else has pushed a configuration to the enclave")
    rig.wait_ready(2, HEAL_SECONDS)
    node.wait_more(SIGN_SECONDS, 3)
    rig.stop_run()
    return f"{node.finish().count} signatures, the stranger's enclave was ended"


def attached_to_anothers(workspace):
    """--cid, and the enclave has another's configuration: this service cannot end it, so it says so and ends."""
    rig = RunRig(workspace)
    rig.uds = rig.folder / "vsock"
    rig.prepare()
    rig.enclave.argv = [str(SIM), "nitro", "start", "--vsock-uds", str(rig.uds)]
    rig.start_enclave()
    pushed_by_a_stranger(workspace, rig, "stranger")
    time.sleep(0.7)
    rig.run = rig.make_run("--cid", 16, "--vsock-uds", rig.uds)
    rig.start_run()
    code = rig.run.popen.wait(4 * STOP_SECONDS)
    if code != 1:
        raise Failure(f"it ended with {code}: {rig.run.log_text()}")
    rig.must_say_once("the enclave runs under a configuration that this service did not push")
    return "exit code 1"


class Crowd:
    """The enclave's config port as a supervisor finds it among strangers: while it is full, each connection is accepted
    and closed to make room for the next."""

    def __init__(self, path, to):
        self.to, self.is_full, self.turned_away = str(to), False, 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self.to)
            except OSError:
                near.close()
                continue
            if self.is_full:
                self.turned_away += 1
                near.close()
                far.close()
                continue
            for pair in ((near, far), (far, near)):
                threading.Thread(target=Gate.carry, args=pair, daemon=True).start()


def crowded(workspace):
    """Questions find no room at the config port: the enclave signs, so it is left alone, and that is said once. One that
    does not sign any more is lost as ever."""
    rig = RunRig(workspace)
    rig.uds = rig.folder / "vsock"
    rig.prepare()
    enclave, inside = rig.enclave, rig.folder / "inside"
    for port in (STATE_PORT, NODE_PORT, KMS_PORT):
        Path(f"{inside}_{port}").symlink_to(f"{rig.uds}_{port}")
    enclave.argv = [str(SIM), "nitro", "start", "--vsock-uds", str(inside)]
    rig.uds.unlink(missing_ok=True)
    crowd = Crowd(rig.uds, inside)
    enclave.start()
    wait_until("the enclave", START_SECONDS, lambda: listens(inside), [enclave])
    rig.run = rig.make_run("--cid", 16, "--vsock-uds", rig.uds)
    node = Asker(rig.socket, CHAIN)
    rig.start_run().wait_ready()
    node.wait_more(SIGN_SECONDS, 3)
    crowd.is_full = True
    rig.wait_says("its config port is crowded")
    time.sleep(CROWDED_SECONDS)
    node.wait_more(SIGN_SECONDS, 3)
    if "the enclave is lost" in rig.run.log_text():
        raise Failure(f"a signing enclave was given up: {rig.run.log_tail()}")
    crowd.is_full = False
    rig.must_say_once("its config port is crowded")
    time.sleep(1)
    crowd.is_full = True
    enclave.kill_group()
    rig.wait_says("the enclave is lost")
    rig.run.stop(signal.SIGTERM, STOP_SECONDS)
    return f"{crowd.turned_away} questions without an answer, {node.finish().count} signatures"


SCENARIOS = [("crowded", crowded), ("pushed-first", pushed_first), ("attached-to-anothers", attached_to_anothers)]
