#!/usr/bin/env bash
# Installs the Python packages of tests/kms/requirements.txt once and prints the path of their interpreter.
#
# They stay in ${XDG_CACHE_HOME:-~/.cache}/tmkms-tests, outside the tree, in a folder named after the list: another
# list is another folder. Safe to run at the same time (a lock) and to interrupt (a mark is set when all is there).
# Exit codes: 0 installed or found; 1 broken; 3 no Python with venv, or PyPI cannot be reached, so the caller may skip.
set -euo pipefail
cd "$(dirname "$0")/.."

list=tests/kms/requirements.txt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tmkms-tests
folder=$cache/python-$(sha256sum "$list" | cut -c1-12)
python=$folder/bin/python
install_seconds=600

if [ ! -e "$folder/complete" ]; then
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9
    if [ ! -e "$folder/complete" ]; then
        echo "installing moto, the AWS CLI and what they need (once; about a minute)" >&2
        if ! python3 -m venv "$folder" >"$folder/install.log" 2>&1; then
            echo "python3 cannot make a virtual environment (on Debian: apt-get install python3-venv)" >&2
            exit 3
        fi
        if ! timeout "$install_seconds" "$python" -m pip install --disable-pip-version-check -r "$list" \
            >>"$folder/install.log" 2>&1; then
            tail -n 3 "$folder/install.log" >&2
            echo "PyPI cannot be reached, or has not what $list names; the log is $folder/install.log" >&2
            exit 3
        fi
        : >"$folder/complete"
    fi
fi
printf '%s\n' "$python"
