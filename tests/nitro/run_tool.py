"""`tmkms nitro run` with AWS's tool, which this stands in for: its enclaves live on by themselves, so each has to be
ended by who started it."""

import json
import os
import re
import signal
import time

from e2e_node import Asker
from e2e_rig import CHAIN, Failure, chains, run, wait_until
from run_rig import SIGN_SECONDS, RunRig, is_alive

EXIT_STATE = 3
END_SECONDS = 20

NITRO_CLI = """\
#!/usr/bin/env python3
# AWS's program as far as it is used: enclaves that live on by themselves, each a process with the software NSM.
import json, os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path(os.environ["RIG"])
listed, calls = folder / "enclaves.json", folder / "calls"
enclaves = json.loads(listed.read_text()) if listed.exists() else []
words = sys.argv[1:]
with open(calls, "a") as f:
    f.write(" ".join(words) + "\\n")
if words[0] == "run-enclave":
    if calls.read_text().count("run-enclave") <= int(os.environ["RIG_NO_ROOM"]):
        sys.exit("[ E27 ] Insufficient memory available. User provided `memory` is more than the available one.")
    with open(folder / "enclave.log", "ab") as log:
        process = subprocess.Popen([os.environ["TMKMS_SIM"], "nitro", "start"], stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, start_new_session=True, cwd="/")
    about = {"EnclaveName": words[words.index("--enclave-name") + 1], "EnclaveID": f"i-0-enc{process.pid}",
             "ProcessID": process.pid, "EnclaveCID": 16, "NumberOfCPUs": 2, "CPUIDs": [1, 3], "MemoryMiB": 64}
    enclaves.append({**about, "State": "RUNNING"})
    print(json.dumps(about))
elif words[0] == "describe-enclaves":
    print(json.dumps([e for e in enclaves if e["ProcessID"] == 1 or os.path.exists(f"/proc/{e['ProcessID']}")]))
elif words[0] == "terminate-enclave":
    time.sleep(float(os.environ["RIG_END_SECONDS"]))
    ended = [e for e in enclaves if e["EnclaveID"] == words[2]]
    for e in ended:
        os.kill(e["ProcessID"], signal.SIGKILL)
    enclaves = [e for e in enclaves if e not in ended]
    print("{}")
listed.write_text(json.dumps(enclaves))
"""
# Nobody may end this one: it is somebody else's.
OTHER = {"EnclaveName": "other", "EnclaveID": "i-0-enc1", "ProcessID": 1, "EnclaveCID": 20, "State": "RUNNING"}


def make_image(folder):
    """Of the right form; nothing boots it."""
    kernel = bytearray(8192)
    kernel[0x1FE:0x206] = b"\x55\xaa\0\0HdrS"
    (folder / "kernel").write_bytes(kernel)
    run([chains.BINARY, "nitro", "build-enclave", "--kernel", folder / "kernel", "--init",
         chains.BUILD / "image/tmkms-enclave", "--output-file", folder / "tmkms.eif"])


class ToolRig(RunRig):
    """`with` ends what the tool left behind."""

    def __init__(self, workspace, no_room=0, end_seconds=0.0):
        super().__init__(workspace)
        self.uds = self.folder / "vsock"
        self.prepare()
        make_image(self.folder)
        tool, self.listed = self.folder / "bin/nitro-cli", self.folder / "enclaves.json"
        tool.parent.mkdir()
        tool.write_text(NITRO_CLI)
        tool.chmod(0o755)
        self.listed.write_text(json.dumps([OTHER]))
        self.run = self.make_run("--eif", self.folder / "tmkms.eif", env={
            "PATH": f"{tool.parent}:{os.environ['PATH']}", "RIG": str(self.folder), "TMKMS_VSOCK_UDS": str(self.uds),
            "RIG_NO_ROOM": str(no_room), "RIG_END_SECONDS": str(end_seconds)})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in re.findall(r'"ProcessID": (\d+)', self.listed.read_text()):
            if int(pid) != 1 and is_alive(pid):
                os.killpg(int(pid), signal.SIGKILL)

    def enclave_pid(self):
        return [e["ProcessID"] for e in json.loads(self.listed.read_text()) if e["EnclaveName"] == "tmkms"][-1]

    def calls(self, word):
        return [call.split() for call in (self.folder / "calls").read_text().splitlines() if call.startswith(word)]


def life(workspace):
    """No room at first, which is waited for; an enclave that a killed supervisor and its killed keeper left behind is
    ended by the next one, and no other."""
    with ToolRig(workspace, no_room=2) as rig:
        node = Asker(rig.socket, CHAIN)
        rig.start_run().wait_ready()
        rig.must_say_once("E27")
        rig.must_say_once("tried again until there is room")
        node.wait_more(SIGN_SECONDS, 3)
        first = rig.enclave_pid()
        os.kill(first, signal.SIGKILL)
        rig.wait_ready(2)
        node.wait_more(SIGN_SECONDS, 3)
        second = rig.enclave_pid()
        keeper = rig.pid_of("@keeper")
        rig.run.popen.send_signal(signal.SIGSTOP)  # or it would start another keeper
        os.kill(keeper, signal.SIGKILL)
        rig.run.popen.kill()
        rig.run.popen.wait()
        if not is_alive(second):
            raise Failure("the enclave ended with its keeper: then this tests nothing")
        rig.start_run()
        rig.wait_says("which an earlier run left behind")
        rig.wait_ready(3)
        node.wait_more(SIGN_SECONDS, 3)
        third = rig.enclave_pid()
        if is_alive(second) or third in (first, second):
            raise Failure("the enclave of before lives on")
        rig.run.stop(signal.SIGTERM, END_SECONDS)
        ended = {call[2] for call in rig.calls("terminate")}
        if is_alive(third) or len(ended) != 2 or OTHER["EnclaveID"] in ended:
            raise Failure(f"ended were {ended}, listed are {rig.listed.read_text()}")
        return f"{node.finish().count} signatures by three enclaves"


def told_twice(workspace):
    """An impatient second SIGTERM, and a third: the enclave is ended all the same before this process is."""
    with ToolRig(workspace, end_seconds=2) as rig:
        rig.start_run().wait_ready()
        enclave = rig.enclave_pid()
        for _ in range(3):
            rig.run.popen.send_signal(signal.SIGTERM)
            time.sleep(0.3)
        code = rig.run.popen.wait(END_SECONDS)
        if code != 0 or is_alive(enclave):
            raise Failure(f"it ended with {code}, and the enclave {'lives' if is_alive(enclave) else 'is gone'}")
        return "three SIGTERMs, one end"


def state_fails(workspace):
    """The state can no more be written, again and again while the enclave is being ended: it is ended all the same, as
    nobody starts this process again."""
    with ToolRig(workspace, end_seconds=3) as rig:
        node = Asker(rig.socket, CHAIN)
        rig.start_run().wait_ready()
        node.wait_more(SIGN_SECONDS, 3)
        enclave = rig.enclave_pid()
        rig.state_file.unlink()
        code = rig.run.popen.wait(END_SECONDS)
        failed = rig.run.log_text().count("ERROR tmkms::persist")
        if code != EXIT_STATE or is_alive(enclave) or failed < 2:
            raise Failure(f"it ended with {code} after {failed} failed records, and the enclave "
                          f"{'lives' if is_alive(enclave) else 'is gone'}")
        return f"{node.finish().count} signatures, {failed} failed records"


SCENARIOS = [("nitro-cli", life), ("tool-state-fails", state_fails), ("tool-told-twice", told_twice)]
