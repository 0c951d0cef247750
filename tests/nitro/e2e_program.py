"""The program around a list of scenarios: e2e.py and tests/vm/run.py. It runs some of them at a time and prints a line for
each."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

from e2e_rig import Failure, Skip, chains


def run_scenario(name, function, keep):
    began = time.monotonic()
    with chains.Workspace(keep) as workspace:
        where = f"\n  kept: {workspace.folder}" if keep else ""
        try:
            words = function(workspace)
            return True, f"ok {name} ({time.monotonic() - began:.1f} s, {words}){where}"
        except Skip as why:
            return True, f"skipped {name} {why}"
        except Exception as why:  # also a mistake in a scenario must end as one FAILED line
            reason = why if isinstance(why, Failure) else f"{type(why).__name__}: {why}"
            return False, f"FAILED {name} {reason}\n{workspace.log_tails()}{where}"


def main(about, scenarios, at_a_time, needs):
    """scenarios: (name, function of a workspace that returns words or raises Failure or Skip); needs raises Skip where
    none of them can run. Returns the exit code."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [s for s in scenarios if options.only in s[0]]
    if options.list:
        print("\n".join(s[0] for s in chosen))
        return 0
    if not chosen:
        print(f"no scenario's name contains {options.only!r}", file=sys.stderr)
        return 2
    try:
        needs()
    except Skip as why:
        print("\n".join(f"skipped {s[0]} {why}" for s in chosen))
        return 0
    all_ok = True
    with ThreadPoolExecutor(at_a_time) as pool:
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
