#!/usr/bin/env bash
# Installs the Debian packages that a target needs, if any is missing. Usage: tools/deps.sh build|check|demo|bench|test
set -euo pipefail
source "$(dirname "$0")/debian.sh"

build_packages=(gcc g++ meson ninja-build pkg-config libsodium-dev libsecp256k1-dev libssl-dev libevent-dev
    libjansson-dev libtomlplusplus-dev libseccomp-dev libcmocka-dev python3)
# For the machine in which the systemd units are tested.
machine_packages=(mmdebstrap systemd-container)
# For the sanitizer build and the fuzzers: clang and the run-time library of the same version.
clang_packages() {
    local version
    version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p')
    printf 'clang\n'
    [ -z "$version" ] || printf 'libclang-rt-%s-dev\n' "$version"
}

target=${1:-test}
if ! command -v apt-get >/dev/null; then
    echo "No apt-get here: the packages are taken as installed (${build_packages[*]} and clang)." >&2
    exit 0
fi

missing_for_target() {
    missing_of "${build_packages[@]}"
    case $target in
    demo | test) missing_of python3-venv ;; # for the local KMS (tools/get-python-tools.sh)
    esac
    if [ "$target" = test ]; then
        # shellcheck disable=SC2046  # one argument a package
        missing_of $(clang_packages)
        missing_of "${machine_packages[@]}"
    fi
}

# Twice: with the lists that the first one fetched, clang's version is known.
# shellcheck disable=SC2046  # one argument a package
for _ in 1 2; do
    debian_install $(missing_for_target)
done
