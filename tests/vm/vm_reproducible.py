"""The same bytes from two clones."""

import os
import subprocess
import time

from vm_rig import ROOT, Failure, Skip, kernel, run

BUILD_SECONDS = 900


def build_clone(folder):
    """What `make image` does, without the parts of the tree that no image is made of. Returns the image's path."""
    run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, folder], 120)
    build, eif = folder / "build", folder / "build/tmkms.eif"
    environment = {name: value for name, value in os.environ.items() if name not in ("BUILD", "SOURCE_DATE_EPOCH")}
    for argv in (["meson", "setup", build, folder], ["ninja", "-j2", "-C", build, "src/cli/tmkms", "image/tmkms-enclave"],
                 [folder / "image/build-kernel.sh", build / "image"],
                 [build / "src/cli/tmkms", "nitro", "build-enclave", "--output-file", eif]):
        done = subprocess.run([str(a) for a in argv], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=BUILD_SECONDS)
        if done.returncode != 0:
            raise Failure(f"`{' '.join(map(str, argv))}` in a clone ended with {done.returncode}: {(done.stdout + done.stderr)[-600:]}")
    return eif


def two_clones(workspace):
    """Folders of different depth, another clock: byte for byte the same image."""
    if not (ROOT / ".git").exists():
        raise Skip("this is no clone of the repository")
    began = time.monotonic()
    first = build_clone(workspace.folder / "one")
    second = build_clone(workspace.folder / "a folder/that is/deeper")
    if first.read_bytes() != second.read_bytes():
        raise Failure(f"{first} and {second} differ: {where_they_differ(first, second)}")
    if (second.parent / "image/bzImage").read_bytes() != kernel().read_bytes():
        raise Failure("the kernel's script made another kernel than for the other tests")
    return f"{first.stat().st_size} bytes, the same from two clones built within {time.monotonic() - began:.0f} s"


def where_they_differ(first, second):
    one, two = first.read_bytes(), second.read_bytes()
    at = next((i for i, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))
    return f"{len(one)} and {len(two)} bytes, from {at} on"


SCENARIOS = [("reproducible", two_clones)]
