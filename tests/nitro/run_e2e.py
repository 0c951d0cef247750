#!/usr/bin/env python3
"""`tmkms nitro run` on one machine, without AWS. Usage: run_e2e.py [--only TEXT] [--keep] [--list]

The supervisor with its enclave as a process (--simulate), a KMS front and nodes: what dies, hangs or is missing heals
without a hand, and what cannot heal is said. Prints one line for each scenario, as e2e.py does.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import run_faults  # noqa: E402
import run_life  # noqa: E402
import run_strangers  # noqa: E402
import run_tool  # noqa: E402
from e2e_program import main  # noqa: E402
from e2e_rig import python_tools  # noqa: E402

AT_A_TIME = 3  # most of them wait most of the time
# The longest first.
SCENARIOS = run_strangers.SCENARIOS + run_faults.SCENARIOS + run_life.SCENARIOS + run_tool.SCENARIOS

if __name__ == "__main__":
    sys.exit(main(__doc__, SCENARIOS, AT_A_TIME, python_tools))
