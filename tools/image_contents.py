#!/usr/bin/env python3
"""What is in the program of an enclave image, from the linker's map. Usage: image_contents.py [--program F] [--check | --update] [DOC]

Prints the libraries and rooms with the bytes that the linker took from each. --update writes the list into DOC (doc/image.md),
between its two marks. --check looks that DOC says the same, as far as sizes go by a tenth, and that the program is what an
image may hold: static, without C++, TOML, commands, name services, loading of code, and without the software security module.
"""

import argparse
import re
import struct
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- made by tools/image_contents.py -->", "<!-- end of what was made -->"
LIBRARIES = {
    "libcrypto": ("OpenSSL, libcrypto", "TLS's ciphers, X.509, the CMS envelope of KMS, RSA, SHA-384"),
    "libssl": ("OpenSSL, libssl", "TLS to KMS"),
    "libsecp256k1": ("libsecp256k1", "secp256k1 keys; 1 MiB of it is the table for verifying"),
    "libc": ("glibc", "the C library, without name services"),
    "libsodium": ("libsodium", "Ed25519, X25519, ChaCha20-Poly1305, secret memory"),
    "libseccomp": ("libseccomp", "the system call filters"),
    "libevent_core": ("libevent, core", "the session's loop"),
    "libjansson": ("Jansson", "the pushed config"),
    "libgcc": ("libgcc", "arithmetic of the compiler"),
    "libgcc_eh": ("libgcc_eh", "asked for by glibc's threads"),
}
# What a linker's map that holds one of these objects gives away.
FORBIDDEN_OBJECTS = {
    r"libstdc\+\+": "C++", r"toml": "TOML", r"_src_(cli|parent|sim)_": "a room that no enclave needs",
    r"libc\.a\(getaddrinfo\.o\)": "name services", r"evdns": "a resolver", r"_src_nitro_(image|cpio|eif)": "the image writer",
    r"config_config_file": "reading of tmkms.toml",
}
FORBIDDEN_WORDS = [b"TMKMS_SIM", b"software NSM", b"toml::", b"/etc/nsswitch.conf"]
PIECES_MIN = 1000  # fewer, and the map was not understood


def fail(text):
    sys.exit(f"image_contents: {text}")


# ---- the linker's map ----

SECTION = re.compile(r"^ (\.\S+|COMMON)?\s+0x([0-9a-f]+)\s+0x([0-9a-f]+)\s+(\S.*)$")


def pieces(text):
    """(section, bytes, object) of each piece that the linker took into the file."""
    name = None
    for line in text[text.index("Linker script and memory map"):].splitlines():
        alone = re.match(r"^ (\.\S+|COMMON)\s*$", line)
        if alone:
            name = alone[1]
            continue
        found = SECTION.match(line)
        section, name = (found[1] or name if found else None), None
        if section and int(found[2], 16) and not section.startswith((".bss", ".tbss", ".debug", ".comment", ".note", "COMMON")):
            yield section, int(found[3], 16), found[4]


def owner(path):
    """('library', name) or ('room', name) of an object."""
    archive = re.search(r"([^/]+)\.a\(", path)
    if archive and archive[1] != "libenclave":
        return "library", archive[1]
    ours = re.search(r"_src_([a-z0-9]+)_", path)
    if ours:
        return "room", ours[1]
    return "library", "libc"  # start-up objects


def contents(map_text):
    sizes = Counter()
    for _, size, path in pieces(map_text):
        sizes[owner(path)] += size
    return sizes


# ---- the program ----

def elf_facts(data):
    """Whether it asks for a loader or a library, in words; nothing if it does not."""
    if data[:6] != b"\x7fELF\x02\x01":
        return ["it is no 64-bit ELF file"]
    start, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    said = []
    for i in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", data, start + i * size)
        if kind == 3:
            said.append("it wants a loader (PT_INTERP)")
        if kind == 2:
            tags = [struct.unpack_from("<q", data, offset + at)[0] for at in range(0, length, 16)]
            said += ["it wants a shared library (DT_NEEDED)"] if 1 in tags else []
    return said


def findings(program, map_text):
    data, linked = program.read_bytes(), [path for _, _, path in pieces(map_text)]
    said = elf_facts(data)
    said += [f"{why} is in it ({pattern})" for pattern, why in FORBIDDEN_OBJECTS.items()
             if re.search(pattern, "\n".join(linked))]
    said += [f"it holds the words '{w.decode()}'" for w in FORBIDDEN_WORDS if w in data]
    said += [f"only {len(linked)} pieces are in the linker's map"] if len(linked) < PIECES_MIN else []
    return said


# ---- the list ----

def kilobytes(size):
    return f"{size / 1000:,.1f}"


def table(head, rows):
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(r)} |" for r in rows)]


def listing(program, sizes):
    libraries = [(LIBRARIES.get(n, (n, "?")), s) for (kind, n), s in sizes.most_common() if kind == "library"]
    rooms = [(n, s) for (kind, n), s in sizes.most_common() if kind == "room"]
    total = program.stat().st_size
    rest = total - sum(sizes.values())
    lines = table(["library", "kB", "for"], [(name, kilobytes(s), why) for (name, why), s in libraries])
    lines += ["", *table(["room of `src/`", "kB"], [(f"`{n}`", kilobytes(s)) for n, s in rooms]), ""]
    lines += table(["in all", "kB"], [("libraries", kilobytes(sum(s for _, s in libraries))),
                                      ("our own code", kilobytes(sum(s for _, s in rooms))),
                                      ("headers, relocations, room between pages", kilobytes(rest)),
                                      ("**the file**", kilobytes(total))])
    return "\n".join(lines)


def figures(text):
    """{first cell: kB} of the rows of tables."""
    rows = re.findall(r"^\| ([^|]+) \| ([0-9,.]+) \|", text, re.M)
    return {name: float(number.replace(",", "")) for name, number in rows}


def differences(doc, now):
    says, has = figures(doc), figures(now)
    said = [f"the list lacks {n}" for n in has.keys() - says.keys()] + [f"the list has {n}, the program has not"
                                                                     for n in says.keys() - has.keys()]
    said += [f"{n}: {says[n]} kB in the list, {has[n]} kB in the program" for n in has.keys() & says.keys()
             if abs(says[n] - has[n]) > max(5.0, has[n] / 10)]
    return said


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", type=Path, default=ROOT / "build/image/tmkms-enclave")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("doc", type=Path, nargs="?", default=ROOT / "doc/image.md")
    args = parser.parse_args()
    map_file = args.program.with_name(args.program.name + ".map")
    if not args.program.is_file() or not map_file.is_file():
        fail(f"{args.program} or its map is missing; `make` builds both")
    map_text = map_file.read_text()
    now = listing(args.program, contents(map_text))
    if not args.check and not args.update:
        print(now)
        return
    doc = args.doc.read_text()
    if BEGIN not in doc or END not in doc:
        fail(f"{args.doc} has not the two marks")
    before, rest = doc.split(BEGIN, 1)
    listed, after = rest.split(END, 1)
    if args.update:
        args.doc.write_text(f"{before}{BEGIN}\n{now}\n{END}{after}")
        return
    said = findings(args.program, map_text) + differences(listed, now)
    for line in said:
        print(line)
    print(f"{len(figures(now))} parts compared, {len(said)} findings")
    sys.exit(1 if said or len(figures(now)) < 20 else 0)


if __name__ == "__main__":
    main()
