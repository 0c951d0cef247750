"""The demo of the enclave path: image, KMS, sealed key, `tmkms nitro run`, and a chain that is signed through the enclave.

The enclave is a machine of QEMU where QEMU is at hand, otherwise a process of this machine. The KMS is that of the
tests: it checks signature, attestation and key policy, and lets moto do the cryptography. The steps are the guide's.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from demo_show import BUILD, CHAIN_ID, ROOT, Watcher, bold, dim, make_node, more, step, title
from chain import BINARY, Key, run, wait_until
from e2e_rig import INSTANCE, ROLE, SIM, START_SECONDS, Rig

READY_SECONDS = 150  # QEMU emulates every instruction of the boot
READY = "ready: the enclave signs"


def cached(script, *arguments):
    """What a script of the project has built before; None, and nothing is built, where it has not."""
    done = subprocess.run([ROOT / script, *arguments], capture_output=True, text=True,
                          env={**os.environ, "TMKMS_CACHED_ONLY": "1"})
    return done.stdout.strip() if done.returncode == 0 else None


class Machine:
    """What plays the enclave here, and whether it boots the image."""

    def __init__(self):
        self.kernel = self.find_kernel()
        self.qemu, self.vhost = self.find_qemu(), shutil.which("vhost-device-vsock") or cached("tools/get-vhost-vsock.sh")
        self.is_qemu = os.environ.get("DEMO_MACHINE") != "simulate" and bool(self.qemu and self.vhost and self.kernel)
        self.env = {"TMKMS_QEMU": self.qemu, "TMKMS_VHOST_VSOCK": self.vhost} if self.is_qemu else {"TMKMS_SIM": str(SIM)}

    @staticmethod
    def find_kernel():
        kernel = BUILD / "image/bzImage"
        if not kernel.exists():
            cached("image/build-kernel.sh", kernel.parent)
        return kernel if kernel.exists() else None

    @staticmethod
    def find_qemu():
        program = shutil.which("qemu-system-x86_64")
        if program is not None:
            known = subprocess.run([program, "-machine", "help"], capture_output=True, text=True).stdout
            if "nitro-enclave" in known:
                return program
        return cached("tools/get-qemu.sh")

    def show(self):
        if self.is_qemu:
            step("Machine", "QEMU's nitro-enclave: loader, security module and vsock as on AWS, emulated", 1)
            return
        step("Machine", "none: the enclave's side is a process of this machine, with a security module in software", 1)
        missing = [command for command, is_there in (
            ("make kernel", self.kernel), ("tools/get-qemu.sh", self.qemu), ("tools/get-vhost-vsock.sh", self.vhost)) if not is_there]
        if missing:
            more(f"to boot the image in QEMU, once: {' && '.join(missing)}")


class Parent(Rig):
    """The parent instance: its one process is `tmkms nitro run`, which stands where the rig has the enclave."""

    def __init__(self, workspace, machine):
        self.machine, self.image = machine, None
        super().__init__(workspace)

    def make_enclave(self, _):
        how = "--qemu" if self.machine.is_qemu else "--simulate"
        return self.workspace.process("nitro-run", [BINARY, "nitro", "run", "-c", self.folder / "tmkms.toml", "-v", how,
                                                    "--vsock-uds", self.folder / "vsock"], self.run_env())

    def run_env(self):
        return {**self.enclave_env(), **self.machine.env, "TMKMS_RUN_DIR": str(self.folder / "run")}

    def kms_trust(self):
        if self.machine.is_qemu:
            return ["--accept-unsigned"]  # nobody has signed QEMU's attestation documents
        made = self.workspace.process("software NSM", [SIM, "nitro", "start", "--vsock-uds", self.folder / "made"],
                                      self.enclave_env())
        made.start()
        root = self.nsm_dir / "root.pem"
        wait_until("root of the software NSM", START_SECONDS, root.exists, [made])
        made.stop()
        return ["--nsm-root", root]

    def image_in_policy(self):
        arguments = ["--eif", self.image] if self.image else super().image_in_policy()
        return arguments if self.machine.is_qemu else [*arguments, "--instance", INSTANCE]

    def nitro(self, *arguments):
        return run([BINARY, "nitro", *arguments], 60, self.run_env())


# ---- the steps, numbered as in the guide -------------------------------------------------------

def build_image(parent, machine):
    if machine.kernel is None:
        step("Image", "not built: there is no kernel yet (`make kernel`); the simulation needs none", 3)
        return
    image = parent.folder / "tmkms.eif"
    began = time.monotonic()
    measured = json.loads(parent.nitro("build-enclave", "--kernel", machine.kernel, "--output-file", image))["Measurements"]
    took = time.monotonic() - began
    kernel, whole = machine.kernel.stat().st_size, image.stat().st_size
    step("Image", f"{bold(f'{whole / 1e6:.1f} MB')} in {took * 1000:.0f} ms: kernel {kernel / 1e6:.1f} MB, and the one program in it; "
         "the same bytes every time", 3)
    more(f"PCR0 {measured['PCR0'][:32]}…, which names the image")
    parent.image = image
    parent.enclave.env.update({f"TMKMS_SIM_{name}": value for name, value in measured.items() if name.startswith("PCR")})


def make_kms_key(parent):
    parent.start_front()
    where = "" if parent.machine.is_qemu else f" on instance {INSTANCE}"
    step("KMS", "a local one, which checks signature, attestation and key policy; its key decrypts for", 4)
    more(f"this image{where} in role {ROLE.rsplit('/', 1)[-1]}, and for nobody in clear")


def seal_key(parent):
    key = Key(parent.folder / "signing.key")
    sealed = parent.seal(key.path)
    key.path.unlink()
    step("Key", f"made, sealed into {len(sealed)} characters, the clear file removed", 5)
    more(f"public half {key.public.hex()[:16]}…, address {key.address}")
    return key, sealed


def write_config(parent, key, sealed, node):
    parent.write_config(sealed, key.public.hex(), chain=CHAIN_ID, chain_lines=[f'state_file = "{parent.state_file}"'])
    text = parent.config.read_text().replace(f"[enclave]\n", f'[enclave]\neif = "{parent.image}"\n' if parent.image else "[enclave]\n")
    parent.config.write_text(text + f'node = "{node.signer_address()}"\n')
    run([BINARY, "check", "-c", parent.config])
    measured = parent.nitro("measure-config", parent.config).split()[1]
    parent.set_policy(*parent.image_in_policy(), "--config", parent.config)
    step("Config", f"checked and measured: {measured[:16]}…; the key policy demands it from now on", 6)


def make_state(parent, key):
    parent.init_state(key, chain=CHAIN_ID)
    step("State", "made, empty: height 0; from now on it only grows", 7)


def wait_ready(parent, times):
    wait_until("`ready` of the enclave", READY_SECONDS, lambda: parent.enclave.log_text().count(READY) >= times,
               [parent.enclave])


def descendants(pid):
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                for child in (task / "children").read_text().split()]
    return children + [further for child in children for further in descendants(child)]


def kill_enclave(parent):
    """The machine, or the process that plays it, without a word to anybody."""
    name = b"qemu" if parent.machine.is_qemu else b"tmkms-sim"
    began = time.monotonic()
    machine = next(pid for pid in descendants(parent.enclave.popen.pid)
                   if name in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0])
    os.kill(machine, signal.SIGKILL)
    wait_ready(parent, 2)
    print(f"  {dim('kill -9: the enclave is gone; `nitro run` starts another, which is ready after')}"
          f" {bold(f'{time.monotonic() - began:.1f} s')}", flush=True)


def start(parent):
    how = "boots" if parent.machine.is_qemu else "starts"
    began = time.monotonic()
    parent.enclave.start()
    wait_ready(parent, 1)
    step("Run", f"tmkms nitro run: the enclave {how}, KMS opens the key for it, {bold(f'ready in {time.monotonic() - began:.1f} s')}", 8)
    registers = ["PCR0"] + ["PCR1", "PCR2"] * bool(parent.image) + ["PCR4"] * (not parent.machine.is_qemu)
    more(f"{', '.join(registers)} and PCR16 of its attestation document are what the policy demands")


def show(workspace, blocks):
    machine = Machine()
    title(f"{bold('tmkms')} signs the blocks of a real chain, from inside an enclave {dim('(steps: doc/guide/enclave.md)')}")
    machine.show()
    parent = Parent(workspace, machine)
    build_image(parent, machine)
    make_kms_key(parent)
    key, sealed = seal_key(parent)
    node, node_words = make_node(workspace, key, blocks)
    write_config(parent, key, sealed, node)
    make_state(parent, key)
    start(parent)
    step("Node", node_words, 9)
    node.start()
    watcher = Watcher(parent.enclave.log)
    seconds = watcher.watch(blocks, parent.enclave, lambda: kill_enclave(parent))
    watcher.summary(seconds, "each on the parent's disk before its signature left")
    if watcher.finished:
        node.check(len(watcher.finished), key)
    node.process.kill_group()
    took = parent.enclave.stop()
    step("Stopped", f"on SIGTERM within {took * 1000:.0f} ms, the enclave too; keys, state and chain are removed again")
