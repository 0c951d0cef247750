# Sourced by the scripts that build a program out of the Rust registry: cargo_tool CRATE VERSION NEEDED... prints its
# path. NEEDED are the Debian packages that its build links with.

source "$(dirname "${BASH_SOURCE[0]}")/debian.sh"
source "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

CARGO_MINOR_MIN=80 # Debian 12's own Cargo is of 1.65; its cargo-web follows the browsers

cargo_is_new() {
    local minor
    minor=$(cargo --version 2>/dev/null | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
    [ "${minor:-0}" -ge "$CARGO_MINOR_MIN" ]
}

cargo_get() {
    cargo_is_new && return 0
    ! command -v cargo >/dev/null || skip "$(cargo --version) is too old: 1.$CARGO_MINOR_MIN or newer is needed"
    debian_is_bookworm || skip "no Cargo here"
    debian_install cargo-web rustc-web ca-certificates ||
        skip "no Cargo here, and Debian's cannot be installed"
}

cargo_make() {
    local crate=$1 version=$2
    if ! nice cargo install --locked --root "$PWD/out" --target-dir "$PWD/target" "$crate" --version "$version"; then
        if grep -qE 'failed to (download|query|get)|nable to update registry|download of .* failed' "$folder/build.log"; then
            skip "the Rust registry cannot be reached"
        fi
        return 1
    fi
}

cargo_tool() {
    local crate=$1 version=$2
    cache_folder "$crate-$version" "$(cat "${BASH_SOURCE[0]}" "$0")"
    shift 2
    if [ ! -d "$folder/out" ]; then
        cargo_get
        ! command -v apt-get >/dev/null || debian_install "$@" || skip "$crate needs these Debian packages: $*"
        cache_build "$crate $version (once; 2 to 6 minutes)" cargo_make "$crate" "$version"
    fi
    printf '%s\n' "$folder/out/bin/$crate"
}
