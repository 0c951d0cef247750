#!/usr/bin/env python3
"""run_mutants.py BUILD PROGRAM...: builds the mutants; each program is a test over one, and must fail by its own checks.

A mutant that passes, crashes or hangs turns this red: then a sentence of the design has no test."""

import os
import subprocess
import sys


def verdict(program):
    try:
        run = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    except subprocess.TimeoutExpired:
        return "hangs"
    if run.returncode == 0:
        return "is not noticed"
    if run.returncode < 0 or b"[  FAILED  ]" not in run.stdout:
        return f"ends with {run.returncode} without a failed test:\n{run.stdout.decode(errors='replace')[-2000:]}"
    return None


def main():
    build, programs = sys.argv[1], sys.argv[2:]
    if subprocess.run(["ninja", "-C", build, "mutants"], stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit("a mutant could not be made: `ninja -C BUILD mutants` says why")
    survivors = 0
    for program in programs:
        problem = verdict(program)
        print(f"{os.path.basename(program)}: {problem or 'found'}", flush=True)
        survivors += problem is not None
    print(f"{len(programs)} mutants, {survivors} not found")
    return 1 if survivors or not programs else 0


if __name__ == "__main__":
    sys.exit(main())
