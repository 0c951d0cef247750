"""The guide as an operator follows it: every block of doc/guide/enclave.md in its order, with the programs of AWS replaced by
stand-ins on the PATH. What is not run is marked in the page, and named in the line that the scenario prints.

EC2 and IAM are moto's server, KMS is our front with its key policy; nitro-cli and vsock-proxy are scripts.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

from e2e_chain import comet
from e2e_node import Asker, Recorder
from e2e_rig import ROOT, SIM, Failure, Rig, Skip, chains
from chain import Key, Node, wait_until

GUIDE = ROOT / "doc/guide/enclave.md"
CHAIN, REGION, VERSION = "testnet-croeseid-1", "ap-southeast-1", "v0.34.35"
ROLE = "arn:aws:iam::123456789012:role/tmkms-enclave"  # what step 4 makes
SOCKET_IN_GUIDE = "/run/chain-maind/validator.socket"
FOLDERS_IN_GUIDE = ("/etc/tmkms", "/var/lib/tmkms")
BLOCKS, BLOCK_SECONDS, READY_SECONDS, END_SECONDS, SHELL_SECONDS = 10, 60, 40, 10, 60

NITRO_CLI = """\
#!/bin/bash
# What the scripts use of AWS's program: one enclave, which is our process with the software security module.
set -eu
about='{"EnclaveName": "tmkms", "EnclaveID": "i-0123456789abcdef0-enc1", "ProcessID": 1, "EnclaveCID": 16,
  "NumberOfCPUs": 2, "CPUIDs": [1, 3], "MemoryMiB": 512, "State": "RUNNING", "Flags": "NONE"}'
case "$1" in
run-enclave)
    case " $* " in *"tmkms.eif "*) ;; *) echo "no image" >&2; exit 1 ;; esac
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
if [ "$1" = kms ]; then
    exec "$AWS_CLI" "$@" --endpoint-url "https://$KMS_PLACE"
fi
exec "$AWS_CLI" "$@" --endpoint-url "http://$MOTO_PLACE"
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
where, *files = [a for a in sys.argv[1:] if a != "-r"]
value = json.load(open(files[0]) if files else sys.stdin)
for name, index in re.findall(r"\\.(\\w+)|\\[(\\d+)\\]", where):
    value = value[name] if name else value[int(index)]
print(value)
"""


# ---- the page --------------------------------------------------------------------------------

class Page:
    """The fenced blocks of the guide. Each has a comment above it: `<!-- test: NAME -->`, and is run by that name, or
    `<!-- not run here: WHY -->`. A block that shows a file of another program says so with `<!-- shown: WHAT -->`."""

    FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^ *```$", re.S | re.M)

    def __init__(self, path):
        self.blocks, self.not_run, self.taken = {}, [], set()
        text = path.read_text()
        for fence in self.FENCE.finditer(text):
            line = text.count("\n", 0, fence.start()) + 1
            above = text[:fence.start()].rstrip("\n").rsplit("\n", 1)[-1].strip()
            body = re.sub(rf"^{fence['indent']}", "", fence["text"], flags=re.M)
            if named := re.fullmatch(r"<!-- test: ([\w.-]+) -->", above):
                if named[1] in self.blocks:
                    raise Failure(f"{path}:{line}: there are two blocks named {named[1]}")
                self.blocks[named[1]] = body
            elif why := re.fullmatch(r"<!-- not run here: (.+) -->", above):
                self.not_run.append((body.strip().splitlines()[0], why[1]))
            elif not re.fullmatch(r"<!-- shown: (.+) -->", above):
                raise Failure(f"{path}:{line}: a block without a comment that says whether it is run")

    def block(self, name):
        self.taken.add(name)
        if name not in self.blocks:
            raise Failure(f"{GUIDE} has no block named {name}")
        return self.blocks[name]

    def check_all_taken(self):
        left = set(self.blocks) - self.taken
        if left or not self.taken:
            raise Failure(f"blocks of {GUIDE} that no test has run: {sorted(left)}")

    def words(self):
        return f"{len(self.taken)} blocks; not run here: " + ", ".join(f"`{line}` ({why})" for line, why in self.not_run)


# ---- the machines ----------------------------------------------------------------------------

class Parent:
    """The parent instance of the guide, and the trusted machine: a folder, a PATH of stand-ins, one shell's variables."""

    def __init__(self, workspace):
        rig = Rig(workspace, ["--region", REGION, "--role", ROLE])
        rig.start()
        rig.kms_proxy.stop()
        rig.enclave.kill_group()  # it made the root of its security module, which the KMS has to know
        self.workspace, self.rig, self.home = workspace, rig, rig.folder / "opt"
        self.home.mkdir()
        self.bin = rig.folder / "bin"
        self.bin.mkdir()
        self.socket = rig.folder / "validator.socket"
        self.write_stand_ins()
        self.images = rig.folder / "images"
        self.write_image_parts()
        moto_port = self.start_moto()
        self.env = {
            **os.environ, **rig.enclave_env(), **rig.aws_env("enclave"), "PATH": f"{self.bin}:{os.environ['PATH']}",
            "AWS_DEFAULT_REGION": REGION, "TMKMS_VSOCK_UDS": str(rig.uds), "RIG": str(rig.folder), "SIM": str(SIM),
            "TMKMS_SIM": str(SIM), "TMKMS_IMAGE_DIR": str(self.images), "TMKMS_RUN_DIR": str(rig.folder / "run"), "KMS_PLACE": rig.endpoint(),
            "MOTO_PLACE": f"127.0.0.1:{moto_port}", "AWS_CLI": str(rig.aws), "PYTHON": sys.executable,
            "STAND_IN": str(self.bin / "forward.py"), "CID": "16"}

    def write_stand_ins(self):
        (self.bin / "tmkms").symlink_to(chains.BINARY)
        programs = {"nitro-cli": NITRO_CLI, "aws": AWS, "vsock-proxy": VSOCK_PROXY, "forward.py": FORWARD}
        if shutil.which("jq") is None:
            programs["jq"] = JQ
        for name, text in programs.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def write_image_parts(self):
        """Nothing here boots the image: without `make kernel` a header that looks like one is good enough."""
        self.images.mkdir()
        (self.images / "tmkms-enclave").symlink_to(chains.BUILD / "image/tmkms-enclave")
        kernel = chains.BUILD / "image/bzImage"
        if kernel.exists():
            (self.images / "bzImage").symlink_to(kernel)
        else:
            (self.images / "bzImage").write_bytes(bytes(0x202) + b"HdrS" + bytes(4096))

    def start_moto(self):
        port = self.workspace.port()
        moto = self.workspace.process("moto", [self.rig.aws.with_name("python"), "-m", "moto.server", "-H", "127.0.0.1",
                                               "-p", port])
        moto.start()
        wait_until("EC2 and IAM", READY_SECONDS, lambda: "Running on" in moto.log_text(), [moto])
        return port

    def located(self, text):
        """The same words with the folders of this machine."""
        for folder in FOLDERS_IN_GUIDE:
            text = text.replace(folder, str(self.home))
        return text.replace(SOCKET_IN_GUIDE, str(self.socket))

    def shell(self, text, who="enclave"):
        """What an operator types; who: whose credentials he has. The variables that it sets are there for what follows."""
        left = self.rig.folder / "variables"
        env = {**self.env, **self.rig.aws_env(who), "AWS_DEFAULT_REGION": REGION}
        if who == "admin":
            env.pop("AWS_SESSION_TOKEN", None)
        done = subprocess.run(["bash", "-euc", f"set -a\n{self.located(text)}\nenv -0 >'{left}'"], cwd=self.home, env=env,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SHELL_SECONDS)
        if done.returncode != 0:
            raise Failure(f"`{text.strip()}` ended with {done.returncode}: {done.stderr.strip()}")
        set_now = dict(pair.split("=", 1) for pair in left.read_text().split("\0") if "=" in pair)
        self.env.update({name: value for name, value in set_now.items() if env.get(name) != value and name.isupper()})
        return done.stdout

    def write_config(self, text):
        """Step 6 word for word, but for the places to fill in, and where the test's KMS is."""
        key = Key(self.home / "signing.key")
        sealed = (self.home / "signing.key.b64").read_text().strip()
        for place, value in (('"AQIC..."', f'"{sealed}"'), ('"..."', f'"{key.public.hex()}"')):
            if text.count(place) > 1:
                raise Failure(f"{place} stands in the configuration of the guide more than once")
            text = text.replace(place, value)
        kms = f'kms_endpoint = "{self.rig.endpoint()}"\nkms_root_file = "{self.rig.kms.about["root"]}"\n'
        text = self.located(text).replace("\n[[validator]]", f"{kms}\n[[validator]]")
        (self.home / "tmkms.toml").write_text(text)

    def process(self, name, text):
        process = self.workspace.process(name, ["bash", "-c", f"cd '{self.home}' && {self.located(text)}"], self.env)
        process.start()
        return process

    def run_script(self, name, text):
        script = self.home / name
        script.write_text(self.located(text))
        script.chmod(0o755)
        return self.process(name, f"exec ./{name}")

    def end(self, process):
        """What systemd does: the whole group gets SIGTERM. The enclave must be gone then. Returns the exit code."""
        os.killpg(process.popen.pid, signal.SIGTERM)
        try:
            code = process.popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"{process.name} did not end") from None
        if (self.rig.folder / "enclave.pid").exists():
            raise Failure(f"{process.name} left its enclave behind")
        return code


# ---- the node --------------------------------------------------------------------------------

class Watched:
    """A real node of the line that the config names, or the tests' own without Go; and every signature it gets."""

    def __init__(self, parent):
        try:
            self.node = Node(parent.workspace, comet(VERSION), VERSION, CHAIN, "unix")
            self.node.configure(Key(parent.home / "signing.key"))
            self.signatures = Recorder(parent.socket, f"{self.node.home}/privval.sock")
        except Skip:
            self.node, self.signatures = None, Asker(parent.socket, CHAIN)
        self.is_started = False

    def more_blocks(self, process, blocks=BLOCKS):
        """Waits for more blocks than there are; without a real node, for as many signatures."""
        if self.node is None:
            self.signatures.wait_more(BLOCK_SECONDS, blocks)
            return
        if not self.is_started:  # not before: it waits 3 s for its signer, and what would start it again is no part of this
            self.node.start()
            self.is_started = True
        self.node.wait_height(self.node.height() + blocks, BLOCK_SECONDS, process)

    def finish(self):
        return f"{VERSION if self.node else 'no real node without Go'}, {self.signatures.finish().count} signatures"


def wait_ready(process):
    wait_until("`ready`", READY_SECONDS, lambda: re.search(r"\bready\b", process.log_text()), [process])


# ---- the scenario ----------------------------------------------------------------------------

def steps_1_to_7(parent, page):
    for name in ("words", "instance", "image", "rebuild", "pcr4", "role", "kms-key", "policy", "key", "encrypt"):
        parent.shell(page.block(name), "admin")
    if parent.env["ROLE_ARN"] != ROLE:
        raise Failure(f"step 4 made the role {parent.env['ROLE_ARN']}, not {ROLE}")
    # The machine that the enclave will find itself on.
    measured = json.loads((parent.home / "tmkms.eif.json").read_text())["Measurements"]
    parent.env |= {f"TMKMS_SIM_{name}": value for name, value in measured.items() if name.startswith("PCR")}
    parent.env |= {"TMKMS_SIM_INSTANCE": parent.env["INSTANCE_ID"], "TMKMS_SIM_ROLE": ROLE}
    parent.shell(page.block("pubkey"))
    parent.write_config(page.block("config"))
    parent.shell(page.block("measure"), "admin")
    parent.shell(page.block("state"))


def check_step_9(parent, page, log):
    """The keys for create-validator are the enclave's; the document is of this image; the state moves."""
    sdk, bech32 = parent.shell(page.block("validator")).split("\n")[:2]
    public = Key(parent.home / "signing.key").comet_json["value"]
    if json.loads(sdk) != {"@type": "/cosmos.crypto.ed25519.PubKey", "key": public}:
        raise Failure(f"step 9 prints {sdk} for the key {public}")
    if not bech32.startswith("tcrocnclconspub1zcjduepq") or bech32 not in log:
        raise Failure(f"the consensus key of step 9 is not what the enclave has: {bech32}")
    shown = parent.shell(page.block("verify").replace("nitro verify", f"nitro verify --root {parent.rig.nsm_dir}/root.pem"))
    if CHAIN not in shown:
        raise Failure(f"step 9 shows no state of the chain: {shown}")


def exchange_image(parent, page):
    """The first step of another image: the policy names both."""
    (parent.home / "new.eif").write_bytes((parent.home / "tmkms.eif").read_bytes())
    parent.shell(page.block("both"), "admin")


def guide(workspace):
    """Every block of doc/guide/enclave.md: the service, the script and the simulation sign one chain one after the other."""
    page, parent = Page(GUIDE), Parent(workspace)
    steps_1_to_7(parent, page)
    watched = None
    for name in ("run", "run.sh", "simulate"):
        process = parent.run_script(name, page.block(name)) if name == "run.sh" else parent.process(name, f"exec {page.block(name)}")
        wait_ready(process)
        watched = watched or Watched(parent)
        watched.more_blocks(process)
        if name == "run.sh":
            check_step_9(parent, page, process.log_text())
            exchange_image(parent, page)
        code = parent.end(process)
        if code != 0 and name != "run.sh":
            raise Failure(f"`{page.block(name).strip()}` ended with {code} after SIGTERM")
    page.check_all_taken()
    return f"{watched.finish()}, {page.words()}"


DEMO_SECONDS = 400


def demo(_):
    """`make demo` to its end; where the image cannot be booted, it says so."""
    done = subprocess.run([sys.executable, ROOT / "tools/demo.py"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=DEMO_SECONDS, env={**os.environ, "DEMO_BLOCKS": "6"})
    shown = done.stdout + done.stderr
    steps = re.findall(r"^  ([1-9]) +[A-Z]", shown, re.M)
    if done.returncode != 0 or steps != list("1345678") + ["9"] or "kill -9" not in shown or "Checked" not in shown:
        raise Failure(f"the demo ended with {done.returncode} and showed:\n{shown}")
    return re.search(r"Signed (.*),", shown)[1]


SCENARIOS = [("guide", guide), ("demo", demo)]
