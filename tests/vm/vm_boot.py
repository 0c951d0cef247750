"""What boots, what it proves of itself, and what happens when its parent is not as it should be."""

import datetime
import hashlib
import re
import socket
import threading
import time

from vm_rig import (BOOT_SECONDS, END_SECONDS, INSTANCE, MEMORY_MIB, PUSH_SECONDS, ROLE, SIGN_SECONDS, BareMachine, Failure,
                    VmRig, image, kernel, must_be_gone, ping, run, sealed_vm)
from chain import BINARY, wait_until
from e2e_node import Asker
from e2e_rig import CHAIN, CONFIG_PORT

HEARTBEAT_PORT, HEARTBEAT = 9000, b"\xb7"
OTHER_INSTANCE = "i-0fedcba9876543210"
EIF_BYTES_MAX, KERNEL_BYTES_MAX = 8_000_000, 2_000_000
PCR_LEN = 48
# The image gives up on a parent that is not there; then it ends, and systemd (or `nitro run`) sees it.
GIVE_UP_SECONDS = 30
MEMORY_SECONDS, FREE_MIB_MIN = 90, 8
CLOCK_SECONDS, YEAR_SECONDS = 60, 365 * 86400


def extended(data):
    return hashlib.sha384(bytes(PCR_LEN) + data).hexdigest()


def must_equal(what, got, want):
    if got != want:
        raise Failure(f"{what} is {got}, not {want}")


def check_registers(image_, document):
    """What the machine's loader measured is what build-enclave printed, and the parent is who it should be."""
    for index in ("0", "1", "2"):
        must_equal(f"PCR{index} in the document", document["pcrs"][index], image_.measured[f"PCR{index}"])
    for index, command, of in (("3", "pcr3", ROLE), ("4", "pcr4", INSTANCE)):
        printed = run([BINARY, "nitro", command, of]).split()[-1]
        must_equal(f"PCR{index} in the document", document["pcrs"][index], printed)
        must_equal(f"what {command} prints", printed, extended(of.encode()))


def boot(workspace):
    """run-enclave, describe-enclaves, the document's registers, terminate-enclave: in 64 MiB."""
    rig = VmRig(workspace)
    size, kernel_size = rig.image.path.stat().st_size, kernel().stat().st_size
    if size > EIF_BYTES_MAX or kernel_size > KERNEL_BYTES_MAX:
        raise Failure(f"the image has {size} bytes, its kernel {kernel_size}")
    began = time.monotonic()
    rig.enclave.start()
    heartbeat = time.monotonic() - began
    rig.wait_enclave()
    answers = time.monotonic() - began
    listed = rig.enclave.listed()
    must_equal("the number of enclaves", len(listed), 1)
    must_equal("its memory", listed[0]["MemoryMiB"], MEMORY_MIB)
    document, _ = rig.document()
    check_registers(rig.image, document)
    must_equal("its state", rig.enclave.listed()[0]["State"], "RUNNING")
    rig.enclave.stop()
    must_equal("what runs after terminate-enclave", rig.enclave.listed(), [])
    must_be_gone(workspace.folder)
    return (f"{size / 1e6:.2f} MB image, {kernel_size / 1e6:.2f} MB kernel, built in {rig.image.seconds:.1f} s; heartbeat after "
            f"{heartbeat:.1f} s, config port after {answers:.1f} s, with {MEMORY_MIB} MiB")


def signed_image(workspace):
    """PCR8 of a signed image is the certificate, in QEMU's loader as in our reader; an unsigned one has none."""
    key, certificate = workspace.folder / "key.pem", workspace.folder / "certificate.pem"
    run(["openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", key])
    run(["openssl", "req", "-new", "-x509", "-sha384", "-key", key, "-out", certificate, "-days", "2", "-subj", "/CN=vm test"])
    signed = image("signed", "--signing-certificate", certificate, "--private-key", key)
    der = workspace.folder / "certificate.der"
    run(["openssl", "x509", "-in", certificate, "-outform", "DER", "-out", der])
    must_equal("PCR8 that build-enclave prints", signed.measured["PCR8"], extended(hashlib.sha384(der.read_bytes()).digest()))
    rig = VmRig(workspace, signed)
    rig.start_enclave()
    document, _ = rig.document()
    check_registers(signed, document)
    must_equal("PCR8 in the document", document["pcrs"]["8"], signed.measured["PCR8"])
    must_equal("PCR0 of the signed image", signed.measured["PCR0"], image().measured["PCR0"])
    if "PCR8" in image().measured:
        raise Failure("an unsigned image has a PCR8")
    return "PCR8 in the document is that of the certificate; PCR0 is that of the unsigned image"


def kms(workspace):
    """KMS opens the key for this image, instance and configuration, and says why it does not for others."""
    rig, key = sealed_vm(workspace)
    other = image("other", "--cmdline", f"{image_cmdline()} tmkms.port={CONFIG_PORT}")
    if other.measured["PCR0"] == rig.image.measured["PCR0"]:
        raise Failure("another command line gives the same PCR0")
    refusal = ("AccessDeniedException", "not authorized to perform: kms:Decrypt")
    must_be_refused_by_keygen(rig)
    began = time.monotonic()
    rig.set_policy("--eif", other.path, "--instance", INSTANCE, "--config", rig.config)
    rig.push().must_say(*refusal)
    refused = time.monotonic() - began
    rig.set_policy("--eif", rig.image.path, "--instance", OTHER_INSTANCE, "--config", rig.config)
    rig.push().must_say(*refusal)
    rig.set_policy("--debug")  # all zeros: nothing that was measured
    rig.push().must_say(*refusal)
    rig.set_policy("--eif", rig.image.path, "--instance", INSTANCE, "--config", rig.config)
    began = time.monotonic()
    pushed = rig.push().must_be_ready()
    ready = time.monotonic() - began

    measured = run([BINARY, "nitro", "measure-config", rig.config]).split("\n\n", 1)
    config_hash, pcr16 = (line.split()[-1] for line in measured[0].splitlines())
    must_equal("SHA-384 of what measure-config prints", hashlib.sha384(measured[1].encode()).hexdigest(), config_hash)
    if config_hash not in pushed.out or key.public.hex().upper() not in pushed.out:
        raise Failure(f"push-config prints neither the hash of the config nor the public key: {pushed.out}")
    document, path = rig.document()
    must_equal("PCR16 in the document", document["pcrs"].get("16"), pcr16)
    must_be_refused_by_verify(path)
    node = Asker(rig.socket, CHAIN)
    p50 = median_answer(node)
    return (f"3 policies refuse ({refused:.1f} s), the right one: ready after {ready:.1f} s; PCR16 is measure-config's; "
            f"{node.finish().count} signatures, remark: p50 {p50 * 1000:.1f} ms under emulation")


def image_cmdline():
    """The command line that build-enclave gives an image by itself, as it says."""
    return re.search(r"^ *Cmdline (.*)$", image().said, re.M)[1]


def must_be_refused_by_verify(path):
    """QEMU's document says the truth, and anybody else could have written it."""
    for more in ([], ["--at-document-time"]):
        try:
            run([BINARY, "nitro", "verify", *more, path])
        except Failure as why:
            if "QEMU" not in str(why) or "prove nothing" not in str(why):
                raise
        else:
            raise Failure("verify takes a document that nobody signed")


def must_be_refused_by_keygen(rig):
    """The enclave makes a key, and KMS seals it; but a document that proves nothing proves not where it was made."""
    output = rig.folder / "made.b64"
    argv = [BINARY, "nitro", "keygen", "--key-id", rig.kms.about["key_arn"], "--endpoint", rig.endpoint(), "--kms-root",
            rig.kms.about["root"], "--pcr0", rig.image.measured["PCR0"], "--vsock-uds", rig.uds, "-o", output]
    try:
        run(argv, PUSH_SECONDS, rig.aws_env("enclave"))
    except Failure as why:
        if "QEMU" not in str(why) or output.exists():
            raise
    else:
        raise Failure("keygen takes a document that nobody signed")


def median_answer(node, wanted=30):
    node.wait_more(SIGN_SECONDS, 3)
    return sorted(node.wait_more(SIGN_SECONDS) for _ in range(wanted))[wanted // 2]


def debug_image(workspace):
    """It says that it is one, is another image to a policy, and is refused where the release's is demanded. Every minute
    it tells how much memory is free: while it signs, there must be some."""
    debug = image("debug", "--debug")
    if "debug" not in debug.said:
        raise Failure(f"build-enclave --debug does not say what it did: {debug.said!r}")
    if debug.measured["PCR0"] == image().measured["PCR0"]:
        raise Failure("a debug image has the PCR0 of the release")
    rig, _ = sealed_vm(workspace, image_=debug)
    rig.set_policy("--eif", image().path)
    rig.push().must_say("AccessDeniedException")
    rig.set_policy("--eif", debug.path)
    rig.push().must_be_ready()
    node = Asker(rig.socket, CHAIN)
    node.wait_more(SIGN_SECONDS, 30)
    before = len(free_memory(rig))
    wait_until("word of its memory while it signs", MEMORY_SECONDS, lambda: len(free_memory(rig)) > before, [rig.enclave])
    free = free_memory(rig)
    if free[-1] < FREE_MIB_MIN:
        raise Failure(f"of {MEMORY_MIB} MiB these were free: {free}")
    return (f"refused under the release's policy, ready under its own; of {MEMORY_MIB} MiB {free[0]} are free at boot, {free[-1]} "
            f"after {node.finish().count} signatures")


def free_memory(rig):
    return [int(mib) for mib in re.findall(r"(\d+) of \d+ MiB of memory are free", rig.enclave.console_text())]


# ---- hostile parents ---------------------------------------------------------------------------

class Pulse(threading.Thread):
    """Listens for the heartbeat, and answers what it was told to; None: with silence."""

    def __init__(self, uds, answer):
        super().__init__(daemon=True)
        self.answer, self.heard, self.held = answer, [], []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{uds}_{HEARTBEAT_PORT}")
        self.listener.listen(8)
        self.start()

    def run(self):
        while True:
            try:
                guest, _ = self.listener.accept()
                guest.settimeout(END_SECONDS)
                self.heard.append(guest.recv(1))
                if self.answer is None:
                    self.held.append(guest)
                else:
                    guest.sendall(self.answer)
                    guest.close()
            except OSError:
                continue


def hostile_boot(answer, words):
    """The parent answers the heartbeat wrongly, or not at all, or does not listen: the image ends, and says why."""
    def scenario(workspace):
        machine = BareMachine(workspace, image())
        pulse = Pulse(machine.uds, answer) if answer is not NOBODY else None
        machine.start()
        took = machine.must_end(BOOT_SECONDS + GIVE_UP_SECONDS, "the enclave ends: the heartbeat", words)
        if pulse is not None and HEARTBEAT not in pulse.heard:
            raise Failure(f"the heartbeat was {pulse.heard}")
        return f"ended after {took:.1f} s: {last_words(machine)}"
    return scenario


NOBODY = object()


def last_words(machine):
    lines = [line.strip() for line in machine.console_text().splitlines() if "heartbeat" in line.lower()]
    return lines[-1].split("ERROR")[-1].strip() if lines else "?"


def bad_cmdline(workspace):
    """A key of ours that is misspelt: the image does not start with half of what was meant."""
    machine = BareMachine(workspace, image(), "tmkms.parent_cdi=7")
    Pulse(machine.uds, HEARTBEAT)
    machine.start()
    took = machine.must_end(BOOT_SECONDS, "tmkms.parent_cdi")
    return f"ended after {took:.1f} s"


def bare(workspace):
    """QEMU and its back end started by the test: what our commands add to them is nothing that the image needs."""
    machine = BareMachine(workspace, image())
    pulse = Pulse(machine.uds, HEARTBEAT)
    began = time.monotonic()
    machine.start()
    heartbeat = machine.await_pulse(pulse) - began
    wait_until("config port", BOOT_SECONDS, lambda: ping(machine.uds), [machine.qemu, machine.vhost])
    return f"heartbeat after {heartbeat:.1f} s, config port after {time.monotonic() - began:.1f} s"


def wrong_clock(workspace):
    """The machine starts in another year: the enclave takes the time of its security module, which TLS and the requests
    to KMS depend on."""
    steps = {}
    for name, base in (("past", "2001-02-03T04:05:06"), ("future", "2037-02-03T04:05:06")):
        folder = workspace.folder / name
        folder.mkdir()
        machine = BareMachine(workspace, image(), options=["-rtc", f"base={base}"], folder=folder)
        pulse = Pulse(machine.uds, HEARTBEAT)
        machine.start()
        machine.await_pulse(pulse)
        wait_until("config port", BOOT_SECONDS, lambda: ping(machine.uds), [machine.qemu, machine.vhost])
        stepped = re.search(r"the clock was stepped by ([+-][0-9.]+) s", machine.console_text())
        told = re.search(r"^(\S+) +INFO tmkms::nitro: waiting", machine.console_text(), re.M)
        if not stepped or not told:
            raise Failure(f"the console does not tell of a step: {machine.console_text()[-600:]}")
        steps[name] = float(stepped[1])
        guest = datetime.datetime.fromisoformat(told[1].replace("Z", "+00:00")).timestamp()
        if abs(guest - time.time()) > CLOCK_SECONDS:
            raise Failure(f"the enclave's clock says {told[1]}")
        machine.qemu.kill_group()
    if steps["past"] < YEAR_SECONDS or steps["future"] > -YEAR_SECONDS:
        raise Failure(f"the steps were {steps}: this tested nothing")
    return ", ".join(f"from the {name}: {step:+.0f} s" for name, step in steps.items())


SCENARIOS = [("boot", boot), ("kms", kms), ("signed-image", signed_image), ("debug-image", debug_image),
             ("boot-bare", bare), ("boot-wrong-clock", wrong_clock), ("boot-wrong-heartbeat", hostile_boot(b"\xb6", "answers 0xB6")),
             ("boot-silent-parent", hostile_boot(None, "does not answer")), ("boot-no-parent", hostile_boot(NOBODY, "cannot connect to vsock port 9000")),
             ("boot-bad-cmdline", bad_cmdline)]
