#!/usr/bin/env python3
"""Enclave images against AWS's own writer, eif_build. Usage: eif_reference.py [--only TEXT] [--list]

Prints one line a scenario: `ok NAME (...)`, `FAILED NAME why`, `skipped NAME why`. Without eif_build (it is built from the
Rust registry) only what needs no reference runs.
"""

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")
TMKMS = BUILD / "src/cli/tmkms"
EIF_COPY = BUILD / "tests/image/eif_copy"
INIT = BUILD / "image/tmkms-enclave"
KERNEL_VERSION = "6.12.57"
CUSTOM = {"commit": "0123abcd", "numbers": [1, 2, 3], "text": "with \"quotes\" and ü"}
SIGNATURE = 4  # the type of a section


class Failure(Exception):
    """What a person should read."""


class Skip(Exception):
    """What is missing here."""


def run(*argv, **options):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise Failure(f"{Path(argv[0]).name} {argv[1]} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def must(ok, words):
    if not ok:
        raise Failure(words)


def must_be_same(one, other, words):
    a, b = Path(one).read_bytes(), Path(other).read_bytes()
    if a != b:
        first = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        raise Failure(f"{words}: {len(a)} and {len(b)} bytes, the first difference is at {first}")


# ---- parts -----------------------------------------------------------------------------------

def x86_kernel():
    kernel = bytearray(b"\x90" * 70000)
    kernel[0x202:0x206] = b"HdrS"
    kernel[0x20e:0x210] = struct.pack("<H", 0x800)
    kernel[0xa00:0xa40] = f"{KERNEL_VERSION} (builder@host) #1".encode().ljust(64, b"\0")
    return bytes(kernel)


def arm_kernel(text_offset):
    kernel = bytearray(b"\x1f" * 70000)
    kernel[8:16] = struct.pack("<Q", text_offset)
    kernel[56:60] = b"ARM\x64"
    kernel[4000:4040] = f"Linux version {KERNEL_VERSION} (b@h)".encode().ljust(40, b"\0")
    return bytes(kernel)


def make_signer(folder):
    """A P-384 key and certificate, by the openssl command."""
    if not shutil.which("openssl"):
        raise Skip("no openssl command here")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    run("openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out", key)
    run("openssl", "req", "-new", "-x509", "-key", key, "-sha384", "-days", "2", "-subj", "/C=CH/O=tests/CN=image",
        "-out", certificate)
    return ["--signing-certificate", certificate, "--private-key", key]


def sections(path):
    """[(type, data)] by the table of the header."""
    image = Path(path).read_bytes()
    count = struct.unpack(">H", image[26:28])[0]
    offsets, sizes = struct.unpack(">32Q", image[28:284]), struct.unpack(">32Q", image[284:540])
    return [(struct.unpack(">H", image[at:at + 2])[0], image[at + 12:at + 12 + size])
            for at, size in list(zip(offsets, sizes))[:count]]


# ---- both writers ----------------------------------------------------------------------------

class Reference:
    def __init__(self):
        self.program = None

    def build(self, output, kernel, cmdline, ramdisks, *more):
        """Returns the registers that it prints."""
        if self.program is None:
            done = subprocess.run([ROOT / "tools/get-eif-build.sh"], capture_output=True, text=True, check=False)
            if done.returncode == 77:
                raise Skip((done.stderr.strip().splitlines() or ["?"])[-1])
            must(done.returncode == 0, f"get-eif-build.sh: {done.stderr.strip()}")
            self.program = done.stdout.strip()
        disks = [word for path in ramdisks for word in ("--ramdisk", path)]
        said = run(self.program, "--kernel", kernel, "--cmdline", cmdline, *disks, "--output", output, *more)
        return json.loads(said[said.index("{"):])


REFERENCE = Reference()


def as_ours(name):
    """The metadata that build-enclave writes, as options of eif_build; its --version takes the value of --name."""
    return ["--name", name, "--version", name, "--build-time", "1970-01-01T00:00:00Z", "--build-tool", "tmkms",
            "--build-tool-version", run(TMKMS, "version").split()[-1], "--img-os", "Linux", "--img-kernel", KERNEL_VERSION]


def build_ours(output, kernel, *more, init=INIT):
    said = run(TMKMS, "nitro", "build-enclave", "--kernel", kernel, "--init", init, "--output-file", output, *more)
    return json.loads(said)["Measurements"]


def cmdline_and_ramdisk(folder, image):
    """What eif_build needs to make the same image."""
    by_type = dict(sections(image))
    (folder / "ramdisk").write_bytes(by_type[3])
    return by_type[2].decode(), folder / "ramdisk"


# ---- scenarios -------------------------------------------------------------------------------

def same_image(folder):
    """build-enclave and eif_build, given the same: the same file."""
    (folder / "kernel").write_bytes(x86_kernel())
    (folder / "custom").write_text(json.dumps(CUSTOM, ensure_ascii=False))
    ours = build_ours(folder / "ours", folder / "kernel", "--name", "a", "--version", "a", "--metadata", folder / "custom")
    cmdline, ramdisk = cmdline_and_ramdisk(folder, folder / "ours")
    theirs = REFERENCE.build(folder / "theirs", folder / "kernel", cmdline, [ramdisk], *as_ours("a"),
                             "--metadata", folder / "custom")
    must(ours == theirs, f"registers: {ours} and {theirs}")
    must_be_same(folder / "ours", folder / "theirs", "the images differ")
    return f"{(folder / 'ours').stat().st_size:,} bytes"


def arm_image(folder):
    """The same for aarch64. eif_build puts the kernel in as it is; ours has its text_offset set before."""
    (folder / "kernel").write_bytes(arm_kernel(0))
    (folder / "patched").write_bytes(arm_kernel(0x200000))
    program = bytearray(INIT.read_bytes())
    program[18:20] = struct.pack("<H", 183)  # so it says; nobody runs it
    (folder / "init").write_bytes(program)
    ours = build_ours(folder / "ours", folder / "kernel", "--name", "a", "--version", "a", init=folder / "init")
    cmdline, ramdisk = cmdline_and_ramdisk(folder, folder / "ours")
    theirs = REFERENCE.build(folder / "theirs", folder / "patched", cmdline, [ramdisk], *as_ours("a"), "--arch", "aarch64")
    must(ours == theirs, f"registers: {ours} and {theirs}")
    must_be_same(folder / "ours", folder / "theirs", "the images differ")
    return "text_offset 0x200000"


def read_and_written(folder, ramdisks, signing):
    """An image of eif_build: read, measured, checked, and written again."""
    (folder / "kernel").write_bytes(x86_kernel())
    for i in range(ramdisks):
        (folder / f"ramdisk{i}").write_bytes(bytes([i + 1]) * (100001 + i))
    theirs = REFERENCE.build(folder / "theirs", folder / "kernel", "console=ttyS0 panic=30",
                             [folder / f"ramdisk{i}" for i in range(ramdisks)], *signing)
    told = json.loads(run(TMKMS, "nitro", "describe-eif", "--eif-path", folder / "theirs"))
    must(told["Measurements"] == theirs, f"registers: {told['Measurements']} and {theirs}")
    must(told["IsSigned"] == bool(signing) and told["CheckCRC"], f"described as {told}")
    must(told.get("SignatureCheck") == (True if signing else None), f"described as {told}")
    must(told["Metadata"]["BuildTool"] == "eif_build", f"described as {told}")
    run(EIF_COPY, folder / "theirs", folder / "copy")
    must_be_same(folder / "theirs", folder / "copy", "written again it differs")
    return f"{len(theirs) - 1} registers"


def one_ramdisk(folder):
    return read_and_written(folder, 1, [])


def two_ramdisks(folder):
    return read_and_written(folder, 2, [])


def one_ramdisk_signed(folder):
    return read_and_written(folder, 1, make_signer(folder))


def two_ramdisks_signed(folder):
    return read_and_written(folder, 2, make_signer(folder))


def numbers_of(section, at):
    """A CBOR list of small numbers, as bytes, and where it ends."""
    kind, count = section[at] >> 5, section[at] & 31
    at += 1
    if count >= 24:
        width = 1 << (count - 24)
        count = int.from_bytes(section[at:at + width], "big")
        at += width
    must(kind == 4, f"no list at {at}")
    out = bytearray()
    for _ in range(count):
        if section[at] == 0x18:
            at += 1
        out.append(section[at])
        at += 1
    return bytes(out), at


def signature_parts(path):
    """(certificate, COSE_Sign1) of the section that serde makes of [{signing_certificate, signature}]."""
    section = dict(sections(path))[SIGNATURE]
    head, middle = b"\x81\xa2\x73signing_certificate", b"\x69signature"
    must(section.startswith(head), f"the section begins with {section[:24].hex()}")
    certificate, at = numbers_of(section, len(head))
    must(section[at:].startswith(middle), "there is no signature behind the certificate")
    cose, at = numbers_of(section, at + len(middle))
    must(at == len(section), "something follows the signature")
    return certificate, cose


def same_signature(folder):
    """Signed by both, at once and later: the same but for the 96 bytes of the signature itself, which is random."""
    signing = make_signer(folder)
    (folder / "kernel").write_bytes(x86_kernel())
    ours = build_ours(folder / "ours", folder / "kernel", "--name", "a", "--version", "a", *signing)
    build_ours(folder / "later", folder / "kernel", "--name", "a", "--version", "a")
    run(TMKMS, "nitro", "sign-eif", "--eif-path", folder / "later", *signing)
    cmdline, ramdisk = cmdline_and_ramdisk(folder, folder / "ours")
    theirs = REFERENCE.build(folder / "theirs", folder / "kernel", cmdline, [ramdisk], *as_ours("a"), *signing)
    must(ours == theirs and "PCR8" in ours, f"registers: {ours} and {theirs}")
    want = signature_parts(folder / "theirs")
    for name in ("ours", "later"):
        got = signature_parts(folder / name)
        must(got[0] == want[0], f"{name}: the certificates differ")
        must(got[1][:-96] == want[1][:-96] and len(got[1]) == len(want[1]), f"{name}: what is signed differs")
        must(sections(folder / name)[:-1] == sections(folder / "theirs")[:-1], f"{name}: other sections differ")
        told = json.loads(run(TMKMS, "nitro", "describe-eif", "--eif-path", folder / name))
        must(told["SignatureCheck"] is True, f"{name}: described as {told}")
    return "PCR8 and 3 signatures"


def unpacked_by_cpio(folder):
    """The ramdisk, as GNU cpio understands it."""
    if not shutil.which("cpio"):
        raise Skip("no cpio command here")
    (folder / "kernel").write_bytes(x86_kernel())
    build_ours(folder / "ours", folder / "kernel")
    _, ramdisk = cmdline_and_ramdisk(folder, folder / "ours")
    (folder / "root").mkdir()
    with open(ramdisk, "rb") as archive:
        listing = run("cpio", "-tv", "--quiet", "--numeric-uid-gid", stdin=archive)
    names = [line.split()[-1] for line in listing.splitlines()]
    must(names == ["dev", "dev/console", "init", "proc", "sys"], f"it lists {names}")
    must("crw-------" in listing and "5,   1" in listing, f"no console: {listing}")
    with open(ramdisk, "rb") as archive:
        run("cpio", "-id", "--quiet", "init", stdin=archive, cwd=folder / "root")
    must_be_same(INIT, folder / "root/init", "init differs")
    return f"{len(names)} files"


def two_folders(folder):
    """The same parts in folders, at times and under settings that are not the same: the same image."""
    settings = [{"TZ": "UTC", "LC_ALL": "C"}, {"TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "USER": "somebody"}]
    for i, (place, more) in enumerate(zip((folder / "a", folder / "a/longer name/of_a_folder"), settings)):
        place.mkdir(parents=True)
        (place / "bzImage").write_bytes(x86_kernel())
        shutil.copy(INIT, place / "tmkms-enclave")
        for part in ("bzImage", "tmkms-enclave"):
            os.utime(place / part, (10**9 * i, 10**9 * i))
            (place / part).chmod(0o600 if i else 0o755)
        run(TMKMS, "nitro", "build-enclave", "--output-file", folder / f"{i}.eif",
            env={**os.environ, **more, "SOURCE_DATE_EPOCH": "", "TMKMS_IMAGE_DIR": str(place)}, umask=0o77 * i)
    must_be_same(folder / "0.eif", folder / "1.eif", "the images differ")
    return f"{(folder / '0.eif').stat().st_size:,} bytes"


SCENARIOS = {
    "same-image": same_image,
    "arm-image": arm_image,
    "one-ramdisk": one_ramdisk,
    "two-ramdisks": two_ramdisks,
    "one-ramdisk-signed": one_ramdisk_signed,
    "two-ramdisks-signed": two_ramdisks_signed,
    "same-signature": same_signature,
    "unpacked-by-cpio": unpacked_by_cpio,
    "two-folders": two_folders,
}


def run_scenario(name):
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tmkms-image-") as folder:
        try:
            words = SCENARIOS[name](Path(folder))
            return True, f"ok {name} ({time.monotonic() - began:.1f} s, {words})"
        except Skip as why:
            return True, f"skipped {name} {why}"
        except Exception as why:  # also a mistake in a scenario must end as one FAILED line
            reason = why if isinstance(why, Failure) else f"{type(why).__name__}: {why}"
            return False, f"FAILED {name} {reason}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [name for name in SCENARIOS if options.only in name]
    if options.list:
        print("\n".join(chosen))
        return 0
    if not chosen:
        print(f"no scenario's name contains {options.only!r}", file=sys.stderr)
        return 2
    all_ok = True
    for name in chosen:
        ok, text = run_scenario(name)
        all_ok = all_ok and ok
        print(text, flush=True)
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())
