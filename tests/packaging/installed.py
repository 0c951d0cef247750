#!/usr/bin/env python3
"""Installs a build folder into a DESTDIR and looks at what is there. Usage: installed.py BUILD

Prints cmocka's lines, one a case, for tools/run_tests.py.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

BUILD = Path(sys.argv[1])

# `systemd-analyze security`: 0 is best, 10 worst. As good as it is now, and never worse.
EXPOSURE = {"tmkms.service": 1.2, "tmkms-nitro.service": 2.1}  # the second may bind ports below 1024

EXPECTED = {
    "bin/tmkms": 0o755,
    "lib/systemd/system/tmkms.service": 0o644,
    "lib/systemd/system/tmkms-nitro.service": 0o644,
    "lib/sysusers.d/tmkms.conf": 0o644,
    "share/man/man1/tmkms.1": 0o644,
    "share/man/man5/tmkms.toml.5": 0o644,
    "share/bash-completion/completions/tmkms": 0o644,
    "share/doc/tmkms/README.md": 0o644,
    "share/doc/tmkms/SECURITY.md": 0o644,
    "share/doc/tmkms/guide/enclave.md": 0o644,
}
# Only where they were built: the one is no part of a sanitized build, the other is for `make kernel`.
IMAGE = {"tmkms-enclave": 0o755, "bzImage": 0o644}


class Skip(Exception):
    """What is missing here."""


def run(argv, **options):
    return subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def option(name):
    found = [o for o in json.loads((BUILD / "meson-info/intro-buildoptions.json").read_text()) if o["name"] == name]
    return found[0]["value"]


class Installation:
    """A DESTDIR with everything in it."""

    def __init__(self, folder):
        self.dest = Path(folder) / "dest"
        done = run(["meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", self.dest])
        if done.returncode != 0:
            raise AssertionError(f"meson install ended with {done.returncode}:\n{done.stdout}")
        self.prefix = self.dest / option("prefix").lstrip("/")

    def files(self):
        return {str(p.relative_to(self.dest)) for p in self.dest.rglob("*") if p.is_file()}


def everything_is_there(installation):
    wanted = dict(EXPECTED)
    for name, mode in IMAGE.items():
        if (BUILD / "image" / name).is_file():
            wanted[f"lib/tmkms/{name}"] = mode
    for name, mode in wanted.items():
        path = installation.prefix / name
        assert path.is_file(), f"{name} is missing; there is {sorted(installation.files())}"
        assert path.stat().st_mode & 0o777 == mode, f"{name} has mode {path.stat().st_mode & 0o777:o}"


def a_built_kernel_is_taken_along(installation):
    """With a file in place of the real one, which takes minutes to build."""
    folder = installation.dest.with_name("kernel-build")
    (folder / "image").mkdir(parents=True)
    (folder / "image/bzImage").write_text("kernel")
    script = Path(__file__).resolve().parents[2] / "packaging/install-kernel.sh"
    done = run([script, "/usr/lib/tmkms"], env={**os.environ, "MESON_BUILD_ROOT": str(folder), "DESTDIR": str(folder)})
    copy = folder / "usr/lib/tmkms/bzImage"
    assert done.returncode == 0 and copy.read_text() == "kernel", done.stdout
    assert copy.stat().st_mode & 0o777 == IMAGE["bzImage"], f"bzImage has mode {copy.stat().st_mode & 0o777:o}"


def nothing_of_the_tests_is_there(installation):
    strangers = [f for f in installation.files() if re.search(r"sim|test|\.a$|\.h$", f)]
    assert not strangers, f"installed as well: {strangers}"


def nothing_is_outside_the_prefix(installation):
    inside = str(installation.prefix.relative_to(installation.dest)) + "/"
    strangers = [f for f in installation.files() if not f.startswith(inside)]
    assert not strangers, f"outside the prefix: {strangers}"


def units_name_what_is_installed(installation):
    for name in EXPOSURE:
        text = (installation.prefix / "lib/systemd/system" / name).read_text()
        assert "@" not in re.sub(r"@(system-service|privileged|resources)", "", text), f"{name} is not filled in"
        program = re.search(r"^ExecStart=(\S+)", text, re.M)[1]
        assert (installation.dest / program.lstrip("/")).is_file(), f"{name} starts {program}"
        for line in ("Type=notify", "NotifyAccess=main", "Restart=always", "RestartPreventExitStatus=3", "User=tmkms"):
            assert re.search(rf"^{line}$", text, re.M), f"{name} does not say {line}"
        assert re.search(r"^WatchdogSec=\d", text, re.M), f"{name} has no watchdog"


def sysusers_makes_the_user(installation):
    if not shutil.which("systemd-sysusers"):
        raise Skip("no systemd-sysusers here")
    root = installation.dest.with_name("root")
    shutil.copytree(installation.prefix / "lib/sysusers.d", root / "usr/lib/sysusers.d")
    (root / "etc").mkdir()
    done = run(["systemd-sysusers", f"--root={root}"])
    assert done.returncode == 0, done.stdout
    passwd, group = (root / "etc/passwd").read_text(), (root / "etc/group").read_text()
    assert re.search(r"^tmkms:x:\d+:\d+:[^:]*:/var/lib/tmkms:/usr/sbin/nologin$", passwd, re.M), passwd
    assert re.search(r"^ne:x:\d+:", group, re.M), group


def unit_copies(installation):
    """The units with the program's path as it is under the DESTDIR, for tools that look whether it exists."""
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze here")
    folder = installation.dest.with_name("units")
    folder.mkdir(exist_ok=True)
    for name in EXPOSURE:
        text = (installation.prefix / "lib/systemd/system" / name).read_text()
        (folder / name).write_text(re.sub(r"^(ExecStart=)/", rf"\1{installation.dest}/", text, flags=re.M))
        yield folder / name


def systemd_finds_no_fault(installation):
    for unit in unit_copies(installation):
        done = run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit])
        assert done.returncode == 0 and not done.stdout.strip(), f"{unit.name}: {done.stdout}"


def units_are_as_hardened_as_they_were(installation):
    for unit in unit_copies(installation):
        limit = EXPOSURE[unit.name]
        done = run(["systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={limit * 10:.0f}", unit])
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
        assert found, done.stdout
        print(f"{unit.name}: exposure {found[1]}, allowed {limit}")
        assert done.returncode == 0 and float(found[1]) <= limit, done.stdout


CASES = (everything_is_there, a_built_kernel_is_taken_along, nothing_of_the_tests_is_there, nothing_is_outside_the_prefix, units_name_what_is_installed,
         sysusers_makes_the_user, systemd_finds_no_fault, units_are_as_hardened_as_they_were)


def main():
    if not shutil.which("meson"):
        print("no meson on the PATH")
        return 77
    failed = 0
    with tempfile.TemporaryDirectory(prefix="tmkms-install-") as folder:
        installation = Installation(folder)
        for case in CASES:
            name = f"test_{case.__name__}"
            try:
                case(installation)
                print(f"[       OK ] {name}")
            except Skip as why:
                print(f"[  SKIPPED ] {name}\n{why}")
            except Exception:
                failed += 1
                traceback.print_exc(file=sys.stdout)
                print(f"[  FAILED  ] {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
