#!/usr/bin/env python3
"""`make demo`: an enclave image, a sealed key, and a real chain that is signed from inside the enclave, before your eyes.
Leaves nothing behind.

The enclave runs in QEMU where `make kernel`, tools/get-qemu.sh and tools/get-vhost-vsock.sh have built what that takes;
otherwise as a process of this machine (`--simulate`), which it says. Without PyPI, from which the local KMS is made, it
shows plain `tmkms start`. The chain is a real CometBFT node where Go can be found to build it, otherwise the small node
of the tests.

DEMO_BLOCKS   how many blocks (20)
DEMO_NODE     test: the small node in any case
DEMO_MACHINE  simulate: no QEMU in any case; none: no enclave, plain `tmkms start`
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import demo_enclave  # noqa: E402
import demo_host  # noqa: E402
from demo_show import ROOT, Failure, bold, title  # noqa: E402
from chain import Workspace  # noqa: E402


def has_kms():
    """The local KMS needs packages of PyPI; the script says on standard error that it installs them, or why it cannot."""
    return subprocess.run([ROOT / "tools/get-python-tools.sh"], stdout=subprocess.DEVNULL).returncode == 0


def show(workspace, blocks):
    if os.environ.get("DEMO_MACHINE") != "none":
        if has_kms():
            demo_enclave.show(workspace, blocks)
            return
        print("Without a KMS there is no enclave in this demo: the key is in a file.", file=sys.stderr)
    title(f"{bold('tmkms')} signs the blocks of a real chain")
    demo_host.show(workspace, blocks)


def main():
    blocks = int(os.environ.get("DEMO_BLOCKS", "20"))
    with Workspace() as workspace:
        try:
            show(workspace, blocks)
        except Failure as why:
            print(f"\nerror: the demo failed: {why}\n{workspace.log_tails()}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print()
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
