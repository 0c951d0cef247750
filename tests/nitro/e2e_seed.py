"""The guide as an operator follows it: the commands of doc/guide/enclave.md in their order, with the programs of AWS replaced
by stand-ins on the PATH; and the run script of the prototype's guide, which our commands must serve as well."""

import os
import re
import shutil
import signal
import subprocess
import sys

from e2e_chain import comet
from e2e_node import Asker, Recorder
from e2e_rig import ACCOUNT, INSTANCE, PCR0, ROLE, ROOT, SIM, Failure, Rig, Skip, chains
from chain import Key, Node, wait_until

GUIDE = ROOT / "doc/guide/enclave.md"
CHAIN, REGION, VERSION = "testnet-croeseid-1", "ap-southeast-1", "v0.34.35"
SOCKET_IN_GUIDE = "/run/tmkms/validator.socket"
BLOCKS, BLOCK_SECONDS, READY_SECONDS = 10, 60, 40

# Step 8.1 of the guide of December 2020, written again from its description (its text is not ours to keep): enclave,
# vsock-proxy and persist first, the trap after them, sleeps between them, and the proxy in the foreground.
SEED_SCRIPT = """\
#!/bin/bash
set -e

nitro-cli run-enclave --cpu-count 2 --memory 512 --eif-path tmkms.eif
sleep 1
CID=$(nitro-cli describe-enclaves | jq -r .[0].EnclaveCID)

vsock-proxy 8000 kms.ap-southeast-1.amazonaws.com 443 &
VSOCK_PROXY=$!
tmkms nitro persist -p 6666 -s state.json &
PERSIST=$!

cleanup() {
    kill $VSOCK_PROXY $PERSIST
    nitro-cli terminate-enclave --enclave-id $(nitro-cli describe-enclaves | jq -r .[0].EnclaveID)
}
trap cleanup EXIT SIGINT SIGTERM

sleep 1
tmkms nitro push-config --config tmkms.toml --config_push_port 5050 --config_push_cid $CID
sleep 1
tmkms nitro proxy --port 5555 --uds /run/tmkms/validator.socket
"""

NITRO_CLI = """\
#!/bin/bash
# What the scripts use of AWS's program: one enclave, which is our process with the software security module.
set -eu
about='{"EnclaveName": "tmkms", "EnclaveID": "i-0123456789abcdef0-enc1", "ProcessID": 1, "EnclaveCID": 16, "State": "RUNNING"}'
case "$1" in
run-enclave)
    case " $* " in *" --eif-path tmkms.eif "*) ;; *) echo "no image" >&2; exit 1 ;; esac
    [ ! -e "$RIG/enclave.pid" ] || { echo "[ E39 ] an enclave runs already" >&2; exit 1; }
    "$SIM" nitro start -v </dev/null >>"$RIG/enclave.log" 2>&1 &
    echo $! >"$RIG/enclave.pid"
    echo "$about" ;;
describe-enclaves) [ -e "$RIG/enclave.pid" ] && echo "[$about]" || echo "[]" ;;
terminate-enclave) kill -9 "$(cat "$RIG/enclave.pid")" && rm "$RIG/enclave.pid" && echo "{}" ;;
*) exit 1 ;;
esac
"""

AWS = """\
#!/bin/bash
set -eu
if [ "$2" = put-key-policy ]; then  # the test's KMS reads its policy from a file
    for argument; do case "$argument" in file://*) cp "${argument#file://}" "$RIG/policy.json" ;; esac; done
    exit
fi
exec "$AWS_CLI" "$@" --endpoint-url "https://$KMS_PLACE"
"""

VSOCK_PROXY = """\
#!/bin/bash
# AWS's program by its arguments: port of the parent, host, port. The host is the test's KMS.
set -eu
[ "$1 $2 $3" = "8000 kms.ap-southeast-1.amazonaws.com 443" ] || exit 1
exec "$PYTHON" "$STAND_IN" "$TMKMS_VSOCK_UDS"_8000 "$KMS_PLACE"
"""

FORWARD = """\
import os, socket, sys, threading
path, place = sys.argv[1:]
if os.path.exists(path):
    os.unlink(path)
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(16)
def carry(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
while True:
    guest, _ = listener.accept()
    kms = socket.create_connection(place.split(":"))
    for pair in ((guest, kms), (kms, guest)):
        threading.Thread(target=carry, args=pair, daemon=True).start()
"""

JQ = """\
#!/usr/bin/env python3
import json, re, sys
value = json.load(sys.stdin)
for name, index in re.findall(r"\\.(\\w+)|\\[(\\d+)\\]", sys.argv[-1]):
    value = value[name] if name else value[int(index)]
print(value)
"""


def guide_block(name):
    """The fenced block behind `<!-- test: NAME -->`."""
    found = re.findall(rf"<!-- test: {re.escape(name)} -->\n```\n(.*?)```", GUIDE.read_text(), re.S)
    if len(found) != 1:
        raise Failure(f"{GUIDE} has {len(found)} blocks named {name}, not one")
    return found[0]


class Parent:
    """The parent instance of the guide: a folder, a PATH of stand-ins, an environment."""

    def __init__(self, workspace):
        rig = Rig(workspace, ["--region", REGION])
        rig.start()
        rig.kms_proxy.stop()
        rig.enclave.kill_group()  # it made the root of its security module, which the KMS has to know
        self.workspace, self.rig, self.home = workspace, rig, rig.folder / "opt"
        self.home.mkdir()
        (self.home / "tmkms.eif").touch()
        self.bin = rig.folder / "bin"
        self.bin.mkdir()
        self.socket = rig.folder / "validator.socket"
        self.write_stand_ins()
        self.env = {
            **os.environ, **rig.enclave_env(), **rig.aws_env("enclave"), "PATH": f"{self.bin}:{os.environ['PATH']}",
            "AWS_DEFAULT_REGION": REGION, "TMKMS_VSOCK_UDS": str(rig.uds), "RIG": str(rig.folder), "SIM": str(SIM),
            "KMS_PLACE": rig.endpoint(), "AWS_CLI": str(rig.aws), "PYTHON": sys.executable,
            "STAND_IN": str(self.bin / "forward.py"), "ACCOUNT": ACCOUNT, "INSTANCE_ID": INSTANCE, "ROLE_ARN": ROLE,
            "KEY_ID": rig.kms.about["key_arn"], "PCR0": PCR0, "CID": "16"}

    def write_stand_ins(self):
        (self.bin / "tmkms").symlink_to(chains.BINARY)
        programs = {"nitro-cli": NITRO_CLI, "aws": AWS, "vsock-proxy": VSOCK_PROXY, "forward.py": FORWARD}
        if shutil.which("jq") is None:
            programs["jq"] = JQ
        for name, text in programs.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def shell(self, text, who="enclave"):
        """What an operator types; who: whose credentials he has."""
        env = {**self.env, **self.rig.aws_env(who), "AWS_DEFAULT_REGION": REGION}
        if who == "admin":
            env.pop("AWS_SESSION_TOKEN", None)
        done = subprocess.run(["bash", "-euc", text], cwd=self.home, env=env, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=60)
        if done.returncode != 0:
            raise Failure(f"`{text.strip()}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def write_config(self):
        """Step 6 word for word, but for its two places to fill in, and one line: the root that the test's KMS has."""
        sealed = (self.home / "signing.key.b64").read_text().strip()
        text = guide_block("config").replace('"AQIC..."', f'"{sealed}"')
        root = f'kms_root_file = "{self.rig.kms.about["root"]}"\n'
        (self.home / "tmkms.toml").write_text(text.replace("\n[[validator]]", f"{root}\n[[validator]]"))

    def run_script(self, name, text):
        script = self.home / name
        script.write_text(text.replace(SOCKET_IN_GUIDE, str(self.socket)))
        script.chmod(0o755)
        process = self.workspace.process(name, ["bash", "-c", f"cd '{self.home}' && exec ./{name}"], self.env)
        process.start()
        return process

    def end_script(self, process):
        """What systemd does: the whole group gets SIGTERM. The script's trap ends the enclave."""
        os.killpg(process.popen.pid, signal.SIGTERM)
        try:
            process.popen.wait(10)
        except subprocess.TimeoutExpired:
            raise Failure(f"{process.name} did not end") from None
        if (self.rig.folder / "enclave.pid").exists():
            raise Failure(f"{process.name} left its enclave behind")


def steps_3_to_6(parent):
    parent.shell(guide_block("key"))
    parent.shell(guide_block("encrypt"), "admin")
    parent.shell(guide_block("policy"))
    parent.write_config()
    parent.shell(guide_block("state"))


def make_node(parent):
    """Step 7: a real node of the line that the config names, or the tests' own without Go."""
    try:
        binary = comet(VERSION)
    except Skip:
        return None, Asker(parent.socket, CHAIN)
    node = Node(parent.workspace, binary, VERSION, CHAIN, "unix")
    node.configure(Key(parent.home / "signing.key"))
    return node, Recorder(parent.socket, f"{node.home}/privval.sock")


def wait_blocks(node, asker, script, blocks):
    """More blocks than there are; without a real node, as many signatures."""
    if node is None:
        asker.wait_more(BLOCK_SECONDS, blocks)
    else:
        node.wait_height(node.height() + blocks, BLOCK_SECONDS, script)


def follow(workspace, script_name, script_text):
    parent = Parent(workspace)
    steps_3_to_6(parent)
    node, asker = make_node(parent)
    script = parent.run_script(script_name, script_text)
    wait_until("`ready` of push-config", READY_SECONDS, lambda: re.search(r"^ready", script.log_text(), re.M), [script])
    if node is not None:
        node.start()  # not before: it waits 3 s for its signer, and what would start it again is no part of this
    wait_blocks(node, asker, script, BLOCKS)
    return parent, node, asker, script


def guide(workspace):
    """Steps 3 to 9 of doc/guide/enclave.md, run.sh started twice."""
    parent, node, asker, script = follow(workspace, "run.sh", guide_block("run.sh"))
    shown = parent.shell(guide_block("verify").replace("nitro verify", f"nitro verify --root {parent.rig.nsm_dir}/root.pem"))
    if "tcrocnclconspub1zcjduepq" not in shown or shown.split()[0] not in script.log_text():
        raise Failure(f"the consensus key of step 9 is not what push-config printed: {shown}")
    parent.end_script(script)
    script = parent.run_script("run.sh", guide_block("run.sh"))
    wait_blocks(node, asker, script, BLOCKS)
    parent.end_script(script)
    return f"steps 3 to 9, run.sh twice, {VERSION if node else 'no real node without Go'}, {asker.finish().count} signatures"


def seed(workspace):
    """The prototype's own run script, its flags with underscores, its config. Its trap kills what is dead already, fails,
    and leaves the enclave behind: that it ends well is not asked."""
    _, _, asker, script = follow(workspace, "seed.sh", SEED_SCRIPT)
    script.kill_group()
    return f"the prototype's script and config, {asker.finish().count} signatures"


SCENARIOS = [("guide", guide), ("guide-of-2020", seed)]
