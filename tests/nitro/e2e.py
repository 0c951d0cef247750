#!/usr/bin/env python3
"""The whole enclave path on one machine, without AWS. Usage: e2e.py [--only TEXT] [--keep] [--list]

Scenarios of CometBFT nodes, KMS and its key policy, keys made in the enclave, processes that die and parents that lie.
Prints one line each: `ok NAME (...)`, `FAILED NAME why`, `skipped NAME why`. What needs PyPI (a KMS that checks) or Go (a
real node) is skipped without them, and says so.

TMKMS_KILLS      kills of the scenario `kills` (100)
TMKMS_KILL_SEED  its random numbers, to run one again
"""

import argparse
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import e2e_chain  # noqa: E402
import e2e_faults  # noqa: E402
import e2e_keys  # noqa: E402
import e2e_parent  # noqa: E402
import e2e_seed  # noqa: E402
from e2e_rig import Failure, Skip, chains, python_tools  # noqa: E402

AT_A_TIME = 2
# The longest first, so that the others fill the second place beside it.
SCENARIOS = (e2e_faults.SCENARIOS + e2e_chain.SCENARIOS + e2e_seed.SCENARIOS + e2e_keys.SCENARIOS + e2e_parent.SCENARIOS)


def run_scenario(name, function, keep):
    began = time.monotonic()
    with chains.Workspace(keep) as workspace:
        try:
            words = function(workspace)
            return True, f"ok {name} ({time.monotonic() - began:.1f} s, {words})"
        except Skip as why:
            return True, f"skipped {name} {why}"
        except Exception as why:  # also a mistake in a scenario must end as one FAILED line
            where = f"\n  kept: {workspace.folder}" if keep else ""
            reason = why if isinstance(why, Failure) else f"{type(why).__name__}: {why}"
            return False, f"FAILED {name} {reason}\n{workspace.log_tails()}{where}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [s for s in SCENARIOS if options.only in s[0]]
    if options.list:
        print("\n".join(s[0] for s in chosen))
        return 0
    if not chosen:
        print(f"no scenario's name contains {options.only!r}", file=sys.stderr)
        return 2
    try:
        python_tools()
    except Skip as why:
        print("\n".join(f"skipped {s[0]} {why}" for s in chosen))
        return 0
    all_ok = True
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        futures = [pool.submit(run_scenario, name, function, options.keep) for name, function in chosen]
        try:
            for future in as_completed(futures):
                ok, text = future.result()
                all_ok = all_ok and ok
                print(text, flush=True)
        except KeyboardInterrupt:
            chains.interrupted.set()
            pool.shutdown(cancel_futures=True)
            return 130
    return 0 if all_ok else 1


if __name__ == "__main__":
    sys.exit(main())
