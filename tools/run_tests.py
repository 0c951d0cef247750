#!/usr/bin/env python3
"""Runs the tests and counts them. Usage: run_tests.py check|test|fuzz

check  the inner loop: source gates, core tests with gcc
test   everything: that, the core tests under ASan and UBSan, a short fuzz run, real CometBFT nodes, the
       enclave path end to end, the units under a real systemd, the enclave image in QEMU
fuzz   only the fuzzers, FUZZ_SECONDS each

The last line is `N passed, N failed, N skipped`: single cases of the unit tests, programs without cases of their
own, fuzz targets and interop scenarios each count as one. The exit code is 0 when none failed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("BUILD", "build"))
SHORT_FUZZ_SECONDS = 10
ASAN_TIME_FACTOR = 4

# What every sanitized program gets: a finding ends it.
SANITIZER_ENV = {
    "ASAN_OPTIONS": "abort_on_error=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1",
}


class Tally:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures, self.skips = [], []

    def add_pass(self, n=1):
        self.passed += n

    def add_fail(self, name, n=1):
        self.failed += n
        self.failures.append(name)

    def add_skip(self, name, why, n=1):
        self.skipped += n
        self.skips.append(f"{name}: {why}")


def heading(text):
    print(f"\n== {text}", flush=True)


def run(argv, env=None):
    return subprocess.run([str(a) for a in argv], cwd=ROOT, env={**os.environ, **(env or {})}).returncode


def build(tally, kind, *targets):
    """False, counted as one failure, when it does not compile."""
    if run(["tools/build.sh", kind, *targets]) == 0:
        return True
    tally.add_fail(f"build ({kind})")
    return False


# ---- steps -----------------------------------------------------------------------------------

def source_gates(tally):
    heading("source gates")
    if run([sys.executable, "tools/check_source.py"]) == 0:
        tally.add_pass()
    else:
        tally.add_fail("source gates")


def count_cases(tally, label, entry, why_skipped):
    """One program of meson's log: cmocka's cases where it has them, otherwise the program itself."""
    output = entry.get("stdout", "") + entry.get("stderr", "")
    names = {word: set(re.findall(rf"^\[ +{word} +\] ([^:\n]+)$", output, re.M)) for word in ("OK", "FAILED", "SKIPPED")}
    where = f"{label} {entry['name']}"
    tally.add_pass(len(names["OK"]))
    for case in sorted(names["FAILED"]):
        tally.add_fail(f"{where}: {case}")
    for case in sorted(names["SKIPPED"]):
        tally.add_skip(f"{where}: {case}", why_skipped)
    if entry["result"] == "SKIP":
        if not names["SKIPPED"]:
            tally.add_skip(where, why_skipped)
    elif entry["result"] not in ("OK", "EXPECTEDFAIL"):
        if not names["FAILED"]:  # a crash or a time-out, which no case names
            tally.add_fail(f"{where}: {entry['result']}")
    elif not any(names.values()):
        tally.add_pass()


def meson_tests(tally, label, folder, *arguments, env=None, why_skipped="the test says it cannot run here"):
    heading(label)
    log = ROOT / folder / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    status = run(["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", *arguments], env)
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    failed_before = tally.failed
    for entry in entries:
        count_cases(tally, label, entry, why_skipped)
    if not entries or (status != 0 and tally.failed == failed_before):
        tally.add_fail(f"{label}: meson test ended with {status}, {len(entries)} programs ran")


def core_gcc(tally, *arguments):
    if build(tally, "gcc"):
        meson_tests(tally, "core tests, gcc", BUILD, *arguments)


def core_sanitized(tally):
    label = "core tests, clang, ASan and UBSan"
    if not shutil.which("clang"):
        tally.add_skip(label, "no clang here")
    elif build(tally, "asan"):
        meson_tests(tally, label, "build-asan", "--suite", "core", "--timeout-multiplier", ASAN_TIME_FACTOR,
                    env=SANITIZER_ENV, why_skipped="not under sanitizers; the gcc build runs it")


def fuzz_one(program, seconds):
    """Fuzzes from the target's corpus; what it learns stays in a folder of the build. (ok, words)"""
    name = program.name.removeprefix("fuzz_")
    learned = ROOT / "build-fuzz" / "corpus" / name
    learned.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [program, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1",
         f"-artifact_prefix={ROOT}/build-fuzz/finding-{name}-", learned, ROOT / "tests/fuzz/corpus" / name],
        env={**os.environ, **SANITIZER_ENV}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace")
    if done.returncode != 0:
        return False, f"FAILED {name}\n" + "\n".join(done.stdout.splitlines()[-40:])
    runs = re.search(r"number_of_executed_units: (\d+)", done.stdout)
    return True, f"ok {name} ({int(runs[1]) if runs else 0:,} runs in {seconds} s)"


def fuzz(tally, seconds):
    heading(f"fuzzing, {seconds} s a target")
    if not shutil.which("clang"):
        tally.add_skip("fuzzing", "no clang here")
        return
    if not build(tally, "fuzz", "fuzzers"):
        return
    programs = sorted(p for p in (ROOT / "build-fuzz/tests/fuzz").glob("fuzz_*") if p.is_file() and os.access(p, os.X_OK))
    if not programs:
        tally.add_fail("fuzzing: there is no target")
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for program, (ok, words) in zip(programs, pool.map(lambda p: fuzz_one(p, seconds), programs)):
            print(words, flush=True)
            if ok:
                tally.add_pass()
            else:
                tally.add_fail(program.name)


def scenarios(tally, title, label, script):
    """A program that prints a line for each scenario: `ok NAME ...`, `FAILED NAME ...` or `skipped NAME ...`."""
    heading(title)
    lines_before = tally.passed + tally.failed + tally.skipped
    with subprocess.Popen([sys.executable, script], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                          errors="replace") as runner:
        for line in runner.stdout:
            print(line, end="", flush=True)
            if match := re.match(r"(ok|FAILED|skipped) (\S+) ?(.*)", line):
                word, name, words = match.groups()
                if word == "ok":
                    tally.add_pass()
                elif word == "FAILED":
                    tally.add_fail(f"{label} {name}: {words}")
                else:
                    tally.add_skip(f"{label} {name}", words)
    if tally.passed + tally.failed + tally.skipped == lines_before or (runner.returncode != 0 and not tally.failures):
        tally.add_fail(f"{label}: the runner ended with {runner.returncode}")


# ---- which steps -----------------------------------------------------------------------------

def main():
    what = sys.argv[1] if len(sys.argv) == 2 else ""
    began = time.monotonic()
    tally = Tally()
    if what == "check":
        source_gates(tally)
        core_gcc(tally, "--suite", "core")
    elif what == "test":
        source_gates(tally)
        core_gcc(tally)
        core_sanitized(tally)
        fuzz(tally, SHORT_FUZZ_SECONDS)
        scenarios(tally, "real CometBFT nodes", "interop", "tests/interop/run.py")
        scenarios(tally, "the enclave path, end to end", "enclave", "tests/nitro/e2e.py")
        scenarios(tally, "enclave images", "image", "tests/image/eif_reference.py")
        scenarios(tally, "the supervisor of an enclave", "supervisor", "tests/nitro/run_e2e.py")
        scenarios(tally, "the units under a real systemd", "systemd", "tests/systemd/run.py")
        scenarios(tally, "the enclave image in QEMU", "vm", "tests/vm/run.py")
    elif what == "fuzz":
        fuzz(tally, int(os.environ.get("FUZZ_SECONDS", "30")))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    heading(f"summary of `make {what}` ({time.monotonic() - began:.0f} s)")
    for line in tally.skips:
        print(f"skipped {line}")
    for line in tally.failures:
        print(f"FAILED {line}")
    print(f"{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped", flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
