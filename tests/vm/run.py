#!/usr/bin/env python3
"""The enclave image, booted in QEMU's `nitro-enclave` machine. Usage: run.py [--only TEXT] [--keep] [--list]

Scenarios of boot and measurements, KMS and its key policy, a real CometBFT chain, `tmkms nitro run` whose machine dies, and
parents that lie at boot. Prints one line each: `ok NAME (...)`, `FAILED NAME why`, `skipped NAME why`. QEMU, the kernel and
the vsock back end are built once by scripts of the project into a cache; where they cannot be had everything is skipped,
and says so.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import vm_boot  # noqa: E402
import vm_chain  # noqa: E402
import vm_reproducible  # noqa: E402
from vm_rig import needs  # noqa: E402
from e2e_program import main  # noqa: E402

AT_A_TIME = 2
# The longest first, so that the others fill the second place beside it.
SCENARIOS = vm_reproducible.SCENARIOS + vm_chain.SCENARIOS + vm_boot.SCENARIOS

if __name__ == "__main__":
    sys.exit(main(__doc__, SCENARIOS, AT_A_TIME, needs))
