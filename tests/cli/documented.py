#!/usr/bin/env python3
"""The man page and the bash completion know every command and every flag that the program's help lists, and no other.

Usage: documented.py TMKMS
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MAN_PAGE = ROOT / "doc/man/tmkms.1"
COMPLETION = ROOT / "packaging/completions/tmkms.bash"
LEAST_COMMANDS = 20  # fewer: the help was not understood
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
OLD_FLAGS = re.compile(r"--config_push_")  # synonyms of the prototype: documented, not completed
COMPLETE = """source "$1"; shift; COMP_WORDS=(tmkms "$@"); COMP_CWORD=$#; _tmkms; printf '%s\\n' "${COMPREPLY[@]}" """


def help_of(tmkms, words):
    done = subprocess.run([tmkms, *words, "--help"], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def flags_of(text):
    """The flags of the lines that begin with one; elsewhere the help may name flags of other programs."""
    lines = [line for line in text.splitlines() if line.lstrip().startswith("-")]
    return {flag for line in lines for flag in FLAG.findall(line)} - {"--help"}


def walk(tmkms, words=()):
    """Yields (words, sub-commands, None) of each group and (words, [], flags) of each command."""
    text = help_of(tmkms, words)
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", text, re.M)
    if not listed:
        yield words, [], flags_of(text)
        return
    names = [line.split()[0] for line in listed[1].splitlines()]
    yield words, names, None
    for name in names:
        if name != "help":
            yield from walk(tmkms, (*words, name))


def man_sections():
    """Command -> the text of its section."""
    text = re.sub(r"\\f[BIR]", "", MAN_PAGE.read_text()).replace("\\-", "-")
    commands = re.search(r"^\.SH COMMANDS$(.*?)^\.SH", text, re.M | re.S)[1]
    heads = re.split(r"^\.SS (.*)$", commands, flags=re.M)[1:]
    return dict(zip(heads[::2], heads[1::2]))


def completed(words, begun):
    done = subprocess.run(["bash", "-c", COMPLETE, "bash", COMPLETION, *words, begun], stdout=subprocess.PIPE,
                          text=True, check=True)
    return set(done.stdout.split())


def check_set(what, have, want, problems):
    problems += [f"{what} lacks {name}" for name in sorted(want - have)]
    problems += [f"{what} has {name}, which the program does not" for name in sorted(have - want)]


def main():
    tmkms, sections, problems, commands = sys.argv[1], man_sections(), [], {}
    for words, names, flags in walk(tmkms):
        name = " ".join(words)
        if flags is None:
            offered = {word for word in completed(words, "") if not word.startswith("-")}
            check_set(f"completion of `tmkms {name}`", offered, set(names), problems)
            continue
        commands[name] = flags
        new_flags = {flag for flag in flags if not OLD_FLAGS.match(flag)}
        check_set(f"completion of `tmkms {name}`", completed(words, "--") - {"--help"}, new_flags, problems)
        check_set(f"section {name} of the man page", set(FLAG.findall(sections.get(name, ""))), flags, problems)
    check_set("the man page", set(sections), set(commands), problems)
    if len(commands) < LEAST_COMMANDS:
        problems.append(f"only {len(commands)} commands were found")
    print("\n".join(problems) or f"{len(commands)} commands, {sum(map(len, commands.values()))} flags")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
