#!/usr/bin/env bash
# Configures a build folder once and builds it. Usage: tools/build.sh [gcc|asan|fuzz] [NINJA_ARGUMENT...]
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:-gcc}
shift || true
case $kind in
gcc)  folder=${BUILD:-build} options=(--prefix "${PREFIX:-/usr/local}") ;;
asan) folder=build-asan options=(-Db_sanitize=address,undefined -Db_lundef=false) ;;
fuzz) folder=build-fuzz options=(-Db_sanitize=address,undefined -Db_lundef=false -Dfuzz=true) ;;
*)    echo "usage: tools/build.sh [gcc|asan|fuzz] [NINJA_ARGUMENT...]" >&2; exit 2 ;;
esac
if [ "$kind" != gcc ]; then
    export CC=clang CXX=clang++
fi
if [ ! -f "$folder/build.ninja" ]; then
    if ! command -v meson >/dev/null; then
        echo "meson is missing: 'make deps' installs it and the libraries (Debian packages)." >&2
        exit 1
    fi
    log=$(mktemp)
    if ! meson setup "$folder" "${options[@]}" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        echo "The build could not be set up. 'make deps' installs what it needs (Debian packages)." >&2
        exit 1
    fi
    rm -f "$log"
fi
exec ninja --quiet -C "$folder" "$@"
