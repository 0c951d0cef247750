#!/usr/bin/env python3
"""tools/cache.sh, which every script that builds a tool or the kernel stands on: built once by two at the same time,
nothing half made stays, a failure is told with the end of its log. Usage: test_cache.py"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / "tools"
CACHE = TOOLS / "cache.sh"


class Cache(unittest.TestCase):
    def setUp(self):
        made = tempfile.TemporaryDirectory(prefix="tmkms-cache-")
        self.addCleanup(made.cleanup)
        self.folder = Path(made.name)

    def start(self, body, key="key"):
        script = (f'set -euo pipefail\nsource "{CACHE}"\nmake_it() {{\n{body}\n}}\n'
                  f'cache_folder thing "{key}"\ncache_build "a thing" make_it\ncat "$folder/out/it"\n')
        env = {**os.environ, "TMKMS_CACHE": str(self.folder / "cache"), "COUNT": str(self.folder / "count")}
        return subprocess.Popen(["bash", "-c", script], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run_one(self, body, key="key"):
        process = self.start(body, key)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def left(self):
        return sorted(p.name for p in (self.folder / "cache").glob("thing-*/*"))

    def test_built_once_by_two_at_the_same_time(self):
        pair = [self.start('echo x >>"$COUNT"; sleep 0.5; echo made >out/it') for _ in range(2)]
        self.assertEqual([(p.communicate(timeout=30)[0], p.returncode) for p in pair], [("made\n", 0)] * 2)
        self.assertEqual((self.folder / "count").read_text(), "x\n")
        self.assertEqual(self.run_one("exit 1")[:2], (0, "made\n"))
        self.assertEqual(self.left(), ["build.log", "lock", "out"])

    def test_another_key_is_another_folder(self):
        self.assertEqual(self.run_one("echo one >out/it")[1], "one\n")
        self.assertEqual(self.run_one("echo two >out/it", key="other")[1], "two\n")
        self.assertEqual(self.run_one("exit 1")[1], "one\n")

    def test_a_failure_in_the_middle_is_one(self):
        code, out, err = self.run_one("echo half >out/it; echo what went wrong >&2; false; echo not reached")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("what went wrong", err)
        self.assertIn("building a thing did not work; the log is ", err)
        self.assertNotIn("not reached", err)
        self.assertEqual(self.left(), ["build.log", "lock"])

    def test_what_cannot_be_made_here(self):
        code, out, err = self.run_one('skip "no network here"')
        self.assertEqual((code, out), (77, ""))
        self.assertIn("no network here", err)
        self.assertEqual(self.left(), ["build.log", "lock"])

    def test_ended_in_the_middle_and_begun_again(self):
        process = self.start('echo half >out/it; echo begun >>"$COUNT"; sleep 1')
        while not (self.folder / "count").exists() and process.poll() is None:
            pass
        process.terminate()
        process.communicate(timeout=30)
        self.assertNotIn("out", self.left())
        self.assertEqual(self.run_one("echo whole >out/it")[:2], (0, "whole\n"))

    def newest(self, pattern):
        script = (f'set -euo pipefail\nsource "{CACHE}"\ncache_newest "{pattern}" key || skip "none"\n'
                  'basename "$folder"\n')
        env = {**os.environ, "TMKMS_CACHE": str(self.folder / "cache"), "TMKMS_CACHED_ONLY": "1"}
        done = subprocess.run(["bash", "-c", script], env=env, text=True, capture_output=True, timeout=30)
        return done.returncode, done.stdout.strip()

    def test_the_newest_of_any_version_is_found_and_nothing_unfinished(self):
        self.assertEqual(self.newest("thing*")[0], 77)
        self.run_one("echo one >out/it")
        finished = next((self.folder / "cache").iterdir())
        hash_of_key = finished.name.removeprefix("thing-")
        for name in (f"thing-6.12.9-{hash_of_key}/out", f"thing-6.12.10-{hash_of_key}/out",
                     f"thing-6.12.11-{hash_of_key}", "thing-6.12.12-000000000000/out"):
            (self.folder / "cache" / name).mkdir(parents=True)
        self.assertEqual(self.newest("thing-*"), (0, f"thing-6.12.10-{hash_of_key}"))

    def test_cached_only_installs_no_package(self):
        script = (f'set -euo pipefail\nsource "{TOOLS / "debian.sh"}"\nas_root() {{ echo "asked for root"; }}\n'
                  'is_installed() { return 1; }\ndebian_install some-package')
        for only, expected in (("1", (1, "", "Not installed: some-package \n")),
                               ("", (0, "", "Installing: some-package \nasked for root\n"))):
            done = subprocess.run(["bash", "-c", script], env={**os.environ, "TMKMS_CACHED_ONLY": only}, text=True,
                                  capture_output=True, timeout=30)
            self.assertEqual((done.returncode, done.stdout, done.stderr), expected)

    def test_each_tool_says_that_it_is_not_there(self):
        env = {**os.environ, "TMKMS_CACHE": str(self.folder / "cache"), "TMKMS_CACHED_ONLY": "1"}
        for words in (["get-cometbft.sh", "v0.38.25"], ["get-imds-mock.sh"], ["get-python-tools.sh"], ["get-qemu.sh"],
                      ["get-vhost-vsock.sh"], ["get-eif-build.sh"]):
            done = subprocess.run([TOOLS / words[0], *words[1:]], env=env, text=True, capture_output=True, timeout=30)
            self.assertEqual((done.returncode, done.stdout), (77, ""), words)
            self.assertIn("here yet", done.stderr)


if __name__ == "__main__":
    sys.exit(unittest.main())
