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
if ! command -v meson >/dev/null || ! command -v ninja >/dev/null; then
    echo "meson or ninja is missing: 'make deps' installs them and the libraries (Debian packages)." >&2
    exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# What succeeds has nothing to say: warnings are errors. Of what fails, the part from the failure on.
quietly() {
    "$@" >"$log" 2>&1 && return
    sed -n '/^FAILED\|error:\|ERROR/,$p' "$log" | grep . >&2 || cat "$log" >&2
    return 1
}
if [ ! -f "$folder/build.ninja" ] && ! quietly meson setup "$folder" "${options[@]}"; then
    echo "The build could not be set up. 'make deps' installs what it needs (Debian packages)." >&2
    exit 1
fi
# A build folder keeps the prefix it was made with; another one is only a matter of where things are put.
if [ "$kind" = gcc ] && ! grep -qxF "${PREFIX:-/usr/local}" "$folder/.prefix" 2>/dev/null; then
    quietly meson configure "$folder" --prefix "${PREFIX:-/usr/local}"
    echo "${PREFIX:-/usr/local}" >"$folder/.prefix"
fi
quietly ninja -C "$folder" "$@"
