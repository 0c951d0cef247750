#!/usr/bin/env python3
"""mutate.py IN OUT OLD NEW: copies a source file with one piece of it changed.

OLD must occur exactly once; white space in it stands for any white space, so that reformatting does no harm.
Anything else is an error: a mutant that is not made would prove nothing."""

import re
import sys


def main():
    source, target, old, new = sys.argv[1:]
    text = open(source).read()
    pattern = r"\s*".join(re.escape(word) for word in re.findall(r"\w+|[^\w\s]", old))
    found = re.findall(pattern, text)
    if len(found) != 1:
        sys.exit(f"mutate.py: {source} holds {len(found)} times, not once: {old}\n"
                 "The code has changed: bring the mutant in tests/state/meson.build up to date.")
    with open(target, "w") as out:
        out.write(re.sub(pattern, lambda _: new, text))


if __name__ == "__main__":
    main()
