#!/usr/bin/env python3
"""image/build-kernel.sh --check names every line of a fragment that Kconfig did not take, and image/kernel.config is well
formed. Builds no kernel and needs no network. Usage: test_kernel_config.py"""

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "image/build-kernel.sh"
FRAGMENT = ROOT / "image/kernel.config"

# As Kconfig writes them: what is off is a comment, what cannot be seen is not there at all.
MADE = """\
#
# Automatically generated file; DO NOT EDIT.
#
CONFIG_64BIT=y
CONFIG_NSM=y
CONFIG_NSM_EXTRA=y
CONFIG_HW_RANDOM=m
CONFIG_NR_CPUS=16
CONFIG_LOCALVERSION="-tmkms"
# CONFIG_MODULES is not set
"""


class Check(unittest.TestCase):
    def check(self, fragment, made=MADE):
        with tempfile.TemporaryDirectory(prefix="tmkms-kernel-") as folder:
            asked, got = Path(folder, "asked"), Path(folder, "got")
            asked.write_text(fragment)
            got.write_text(made)
            done = subprocess.run([SCRIPT, "--check", asked, got], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout, "")
        return done.returncode, re.findall(r"^not taken: (.*?) \(Kconfig says: (.*)\)$", done.stderr, re.M)

    def test_lines_that_were_taken(self):
        taken = '# why\n\nCONFIG_64BIT=y\nCONFIG_NR_CPUS=16\nCONFIG_LOCALVERSION="-tmkms"\nCONFIG_MODULES=n\nCONFIG_UNSEEN=n\n'
        self.assertEqual(self.check(taken), (0, []))

    def test_each_line_that_was_not(self):
        cases = {
            "CONFIG_MODULES=y": "# CONFIG_MODULES is not set",
            "CONFIG_64BIT=n": "CONFIG_64BIT=y",
            "CONFIG_HW_RANDOM=y": "CONFIG_HW_RANDOM=m",
            "CONFIG_NR_CPUS=1": "CONFIG_NR_CPUS=16",
            'CONFIG_LOCALVERSION=""': 'CONFIG_LOCALVERSION="-tmkms"',
            "CONFIG_NO_SUCH_THING=y": "nothing about CONFIG_NO_SUCH_THING",
            "CONFIG_NSM_EXT=y": "nothing about CONFIG_NSM_EXT",
        }
        for line, says in cases.items():
            with self.subTest(line):
                self.assertEqual(self.check(f"CONFIG_NSM=y\n{line}\n"), (1, [(line, says)]))
        code, named = self.check("\n".join(cases) + "\n")
        self.assertEqual((code, [line for line, _ in named]), (1, list(cases)))

    def test_lines_that_are_none(self):
        for line in ("CONFIG_NSM", "NSM=y", " CONFIG_NSM=y", "CONFIG_NSM y"):
            with self.subTest(line):
                code, named = self.check(line + "\n")
                self.assertEqual((code, len(named)), (1, 1))

    def test_the_last_line_without_an_end(self):
        self.assertEqual(self.check("CONFIG_NSM=y\nCONFIG_MODULES=y")[0], 1)


class Fragment(unittest.TestCase):
    lines = [line for line in FRAGMENT.read_text().splitlines() if line and not line.startswith("#")]

    def test_every_line_is_one_and_stands_once(self):
        self.assertGreater(len(self.lines), 100)
        for line in self.lines:
            self.assertRegex(line, r'^CONFIG_[A-Z0-9_]+=(y|n|[0-9]+|"[^"]*")$')
        names = [line.split("=")[0] for line in self.lines]
        self.assertEqual(len(names), len(set(names)))

    def test_what_must_never_change_by_accident(self):
        for line in ("CONFIG_MODULES=n", "CONFIG_BLOCK=n", "CONFIG_PCI=n", "CONFIG_INET=n", "CONFIG_KEXEC=n",
                     "CONFIG_DEVMEM=n", "CONFIG_BPF_SYSCALL=n", "CONFIG_IO_URING=n", "CONFIG_NSM=y",
                     "CONFIG_SECCOMP_FILTER=y", "CONFIG_RANDOMIZE_BASE=y", "CONFIG_MITIGATION_SPECTRE_V2=y"):
            self.assertIn(line, self.lines)


class KernelCommandLine(unittest.TestCase):
    """Words can be taken from its start without a change of PCR0, so each one stands in doc/image.md with what holds
    without it; where that is a line of the configuration, the line is there."""

    header = (ROOT / "src/nitro/image.h").read_text()
    document = (ROOT / "doc/image.md").read_text()

    def test_each_word_is_in_the_document(self):
        words = re.search(r'define IMAGE_CMDLINE "(.*)"', self.header).group(1).split()
        self.assertGreater(len(words), 3)
        section = self.document.split("### What PCR0 does not say\n")[1].split("\n## ")[0]
        rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", section, re.M))
        self.assertEqual(list(rows), words)
        lines = [line for row in rows.values() for line in re.findall(r"`(CONFIG_[^`]+)`", row)]
        self.assertGreater(len(lines), 0)
        for line in lines:
            self.assertIn(line, Fragment.lines)


class CommandLine(unittest.TestCase):
    def test_usage(self):
        for arguments in ([], ["--check", "a"], ["--build", "x"], ["out", "--source"], ["out", "--sources", "x"]):
            with self.subTest(arguments):
                done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 2)
                self.assertIn("image/build-kernel.sh FOLDER", done.stderr)

    def test_a_source_that_is_not_there(self):
        done = subprocess.run([SCRIPT, "out", "--source", "/nonexistent.deb"], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("there is no file /nonexistent.deb", done.stderr)


if __name__ == "__main__":
    sys.exit(unittest.main())
