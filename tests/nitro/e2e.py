#!/usr/bin/env python3
"""The whole enclave path on one machine, without AWS. Usage: e2e.py [--only TEXT] [--keep] [--list]

Scenarios of CometBFT nodes, KMS and its key policy, keys made in the enclave, processes that die and parents that lie.
Prints one line each: `ok NAME (...)`, `FAILED NAME why`, `skipped NAME why`. What needs PyPI (a KMS that checks) or Go (a
real node) is skipped without them, and says so.

TMKMS_KILLS      kills of the scenario `kills` (100)
TMKMS_KILL_SEED  its random numbers, to run one again
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import e2e_chain  # noqa: E402
import e2e_faults  # noqa: E402
import e2e_guide  # noqa: E402
import e2e_keys  # noqa: E402
import e2e_parent  # noqa: E402
import e2e_seed  # noqa: E402
from e2e_program import main  # noqa: E402
from e2e_rig import python_tools  # noqa: E402

AT_A_TIME = 2
# The longest first, so that the others fill the second place beside it.
SCENARIOS = (e2e_faults.SCENARIOS + e2e_chain.SCENARIOS + e2e_guide.SCENARIOS + e2e_seed.SCENARIOS + e2e_keys.SCENARIOS
             + e2e_parent.SCENARIOS)

if __name__ == "__main__":
    sys.exit(main(__doc__, SCENARIOS, AT_A_TIME, python_tools))
