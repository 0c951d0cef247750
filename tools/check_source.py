#!/usr/bin/env python3
"""Gates on the text of the source, without a compiler. Prints every finding as FILE:LINE and ends with 1 if any."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def rooms_in_order():
    """From the bottom up, as meson.build lists them: a room may include its own headers and those of rooms before it."""
    listed = re.search(r"foreach room : \[(.*?)\]", (ROOT / "meson.build").read_text(), re.S)
    return re.findall(r"'(\w+)'", listed[1]) + ["cli", "sim"]


ROOMS = rooms_in_order()
# The only rooms that may include a library's headers.
LIBRARY_ROOMS = {
    "sodium.h": {"crypto"}, "secp256k1": {"crypto"}, "openssl/": {"crypto", "aws", "nitro", "sim"},
    "event2/": {"session", "parent"}, "toml++": {"config"}, "seccomp.h": {"sandbox"},
}
BANNED = {
    "strcpy": "has no bound", "strcat": "has no bound", "sprintf": "has no bound; use snprintf",
    "vsprintf": "has no bound; use vsnprintf", "gets": "has no bound", "strtok": "keeps hidden state",
    "atoi": "cannot report an error", "atol": "cannot report an error", "atoll": "cannot report an error",
    "system": "runs a shell", "popen": "runs a shell", "alloca": "can overrun the stack",
    "tmpnam": "is a race", "mktemp": "is a race", "rand": "is not random", "random": "is not random",
}
FINE_IN_TESTS = {"rand", "random", "system", "popen"}
FUNCTION_LINES_MAX = 80
FILE_LINES_MAX = {"src": 600, "tests": 1000}
LINE_MAX = 120
DEPTH_MAX = 5  # of braces, the body of the function being the first
SOURCE = re.compile(r"^(src|tests)/.*\.(c|h|cc|cpp)$")

findings = []


def found(path, line, text):
    findings.append(f"{path}:{line}: {text}")


def code_only(text):
    """The text with comments and string literals blanked, lines kept."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)

    def blank(match):
        return re.sub(r"[^\n]", " ", match[0])
    return pattern.sub(blank, text)


def check_includes(path, lines):
    room = path.split("/")[1] if path.startswith("src/") else None
    if room is None:
        return
    if room not in ROOMS:
        found(path, 1, f"room {room} is not in the list of rooms in meson.build")
        return
    for number, line in enumerate(lines, 1):
        include = re.match(r'\s*#\s*include\s*["<]([^">]+)[">]', line)
        if not include:
            continue
        first = include[1].split("/")[0]
        if first in ROOMS and ROOMS.index(first) > ROOMS.index(room):
            found(path, number, f"room {room} may not use room {first}, which lies above it")
        for library, rooms in LIBRARY_ROOMS.items():
            if include[1].startswith(library) and room not in rooms:
                found(path, number, f"{include[1]} belongs to {', '.join(sorted(rooms))} alone")


def check_guard(path, text):
    if not path.startswith("src/") or not path.endswith(".h"):
        return
    name = "TMKMS_" + re.sub(r"[/.]", "_", path.removeprefix("src/")).upper()
    if not re.search(rf"^#ifndef {name}\n#define {name}$", text, re.M):
        found(path, 1, f"the include guard is not {name}")
    if not text.startswith("/*"):
        found(path, 1, "the header does not begin with a comment that says what it is for")


def check_lines(path, lines):
    for number, line in enumerate(lines, 1):
        if line != line.rstrip():
            found(path, number, "space at the end of the line")
        if "\t" in line and not path.endswith(("Makefile", ".mk")):
            found(path, number, "a tab")


def check_code(path, code):
    depth = 0
    for number, line in enumerate(code.splitlines(), 1):
        for name in re.findall(r"(?<![\w.>])(\w+)\s*\(", line):
            if name in BANNED and not (name in FINE_IN_TESTS and path.startswith("tests/")):
                found(path, number, f"{name} {BANNED[name]}")
        depth += line.count("{") - line.count("}")
        if depth > DEPTH_MAX and "{" in line:
            found(path, number, f"nested more than {DEPTH_MAX} braces deep")


def check_functions(path, code):
    """clang-format puts a function's braces in the first column, and nothing else there opens with a bare brace."""
    start = None
    for number, line in enumerate(code.splitlines(), 1):
        if line.rstrip() == "{":
            start = number
        elif line.startswith("}") and start is not None:
            if number - start + 1 > FUNCTION_LINES_MAX:
                found(path, start, f"a function of {number - start + 1} lines (at most {FUNCTION_LINES_MAX})")
            start = None


def check_words(path, lines):
    for number, line in enumerate(lines, 1):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line) and not path.startswith("tools/check_source"):
            found(path, number, "an unfinished thought: do it or open an issue")
        if re.search(r"(?<![\w/])/(root|work)/", line):
            found(path, number, "a path of one machine")


def tracked_files():
    listing = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                             stdout=subprocess.PIPE)
    if listing.returncode != 0:  # a tarball: every file, the build folders left out
        return [str(p.relative_to(ROOT)) for top in ("src", "tests", "tools", "doc") for p in (ROOT / top).rglob("*")
                if p.is_file()]
    return [name for name in listing.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def main():
    sources = 0
    for path in sorted(tracked_files()):
        if not SOURCE.match(path) and not path.endswith((".py", ".sh", ".md", ".build")):
            continue
        text = (ROOT / path).read_text(errors="replace")
        lines = text.splitlines()
        check_lines(path, lines)
        check_words(path, lines)
        if not SOURCE.match(path):
            continue
        sources += 1
        code = code_only(text)
        check_includes(path, lines)
        check_guard(path, text)
        check_code(path, code)
        check_functions(path, code)
        lines_max = FILE_LINES_MAX[path.split("/")[0]]
        if len(lines) > lines_max:
            found(path, 1, f"{len(lines)} lines (at most {lines_max})")
        for number, line in enumerate(lines, 1):
            if len(line) > LINE_MAX:
                found(path, number, f"{len(line)} columns (at most {LINE_MAX})")
    for text in findings:
        print(text)
    print(f"{sources} source files, {len(findings)} findings")
    if sources == 0:
        print("no source files found: the gates checked nothing")
    return 1 if findings or sources == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
