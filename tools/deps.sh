#!/usr/bin/env bash
# Installs the Debian packages that a target needs, if any is missing. Usage: tools/deps.sh build|check|demo|bench|test
set -euo pipefail

build_packages=(gcc g++ meson ninja-build pkg-config libsodium-dev libsecp256k1-dev libssl-dev libevent-dev
    libjansson-dev libtomlplusplus-dev libseccomp-dev libcmocka-dev python3)
# For the sanitizer build and the fuzzers: clang and the run-time library of the same version.
clang_packages() {
    local version
    version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p')
    printf 'clang\n'
    [ -z "$version" ] || printf 'libclang-rt-%s-dev\n' "$version"
}

is_installed() {
    [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = 'install ok installed' ]
}

missing_of() {
    local package
    for package in "$@"; do
        is_installed "$package" || printf '%s\n' "$package"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "tmkms needs these packages: $missing. Neither root nor sudo is at hand: install them and try again." >&2
        exit 1
    fi
}

target=${1:-test}
if ! command -v apt-get >/dev/null; then
    echo "No apt-get here: the packages are taken as installed (${build_packages[*]} and clang)." >&2
    exit 0
fi

missing_for_target() {
    missing_of "${build_packages[@]}"
    if [ "$target" = test ]; then
        # shellcheck disable=SC2046  # one argument a package
        missing_of $(clang_packages)
    fi
}

missing=$(missing_for_target)
[ -n "$missing" ] || exit 0

as_root apt-get -qq -o DPkg::Lock::Timeout=300 update
missing=$(missing_for_target) # the lists may be new, and with them clang's version known
echo "Installing: $(echo $missing)"
# shellcheck disable=SC2086  # one argument a package
as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
    -o Dpkg::Use-Pty=0 install --no-install-recommends $missing >/dev/null
