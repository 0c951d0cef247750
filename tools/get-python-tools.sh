#!/usr/bin/env bash
# Installs the Python packages of tests/kms/requirements.txt once and prints the path of their interpreter.
#
# They stay in the cache of tools/cache.sh, in a folder named after the list: another list is another folder. Other than
# what is built there they cannot be moved into place, so a mark is set when all is there.
# Exit codes: 0 installed or found; 1 broken; 77 no Python with venv, or PyPI cannot be reached, so the caller may skip.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/cache.sh

list=tests/kms/requirements.txt
folder=$cache/python-$(sha256sum "$list" | cut -c1-12)
python=$folder/bin/python
install_seconds=600

if [ ! -e "$folder/complete" ]; then
    [ -z "${TMKMS_CACHED_ONLY:-}" ] || skip "what $list names is not installed here yet"
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9
    if [ ! -e "$folder/complete" ]; then
        echo "installing moto, the AWS CLI and what they need (once; about a minute)" >&2
        if ! python3 -m venv "$folder" >"$folder/install.log" 2>&1; then
            skip "python3 cannot make a virtual environment (on Debian: apt-get install python3-venv)"
        fi
        if ! timeout "$install_seconds" "$python" -m pip install --disable-pip-version-check -r "$list" \
            >>"$folder/install.log" 2>&1; then
            tail -n 3 "$folder/install.log" >&2
            skip "PyPI cannot be reached, or has not what $list names; the log is $folder/install.log"
        fi
        : >"$folder/complete"
    fi
fi
printf '%s\n' "$python"
