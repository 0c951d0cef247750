#!/usr/bin/env python3
"""run_mutants.py BUILD PROGRAM...: builds the mutants; each program is a test over one, and must fail by its own checks.

A mutant that passes, crashes or hangs turns this red: then a sentence of the design has no test."""

import os
import signal
import subprocess
import sys
import threading

SECONDS = 60


def verdict(program):
    """None when one of its own checks failed; that is enough, what comes after a failed check need not end."""
    with subprocess.Popen(["stdbuf", "-oL", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", start_new_session=True) as run:
        alarm = threading.Timer(SECONDS, os.killpg, (run.pid, signal.SIGKILL))
        alarm.start()
        lines = []
        try:
            for line in run.stdout:
                lines.append(line)
                if line.startswith("[  FAILED  ]"):
                    os.killpg(run.pid, signal.SIGKILL)
                    return None
        finally:
            hangs = not alarm.is_alive()
            alarm.cancel()
    if hangs:
        return "hangs"
    return "is not noticed" if run.returncode == 0 else (
        f"ends with {run.returncode} without a failed test:\n{''.join(lines)[-2000:]}")


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
