#!/usr/bin/env bash
# Builds a release of CometBFT once and prints the path of its binary. Usage: tools/get-cometbft.sh v0.38.25
#
# The binary stays in the cache of tools/cache.sh. Safe to run at the same time (a lock for each version) and to
# interrupt (the binary is moved into place when it is complete).
# Exit codes: 0 built or found; 1 the build failed; 77 it cannot be made here, and why, so the caller may skip.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
source "$here/cache.sh"
source "$here/go.sh"

version=${1:?usage: tools/get-cometbft.sh VERSION}
folder=$cache/cometbft-$version
binary=$folder/cometbft
build_seconds=900

# Release v0.34 still carries tendermint's module path, so `go install` refuses it: a module of our own
# replaces the one by the other.
build_v0_34() {
    mkdir -p "$work/src"
    cd "$work/src"
    cat >go.mod <<EOF
module wrapper
go 1.22
require github.com/tendermint/tendermint $version
replace github.com/tendermint/tendermint => github.com/cometbft/cometbft $version
EOF
    printf 'package wrapper\n\nimport _ "github.com/tendermint/tendermint/abci/types"\n' >wrapper.go
    timeout "$build_seconds" "$go" build -mod=mod -o "$work/cometbft" github.com/tendermint/tendermint/cmd/cometbft
}

build() {
    case $version in
    v0.34.*) build_v0_34 ;;
    *) GOBIN=$work timeout "$build_seconds" "$go" install "github.com/cometbft/cometbft/cmd/cometbft@$version" ;;
    esac
}

if [ ! -x "$binary" ]; then
    [ -z "${TMKMS_CACHED_ONLY:-}" ] || skip "CometBFT $version is not built here yet"
    # From 1.21 on Go fetches the tool chain that a module asks for.
    go_find 21 || skip "no Go 1.21 or newer found, which builds CometBFT"
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9
    if [ ! -x "$binary" ]; then
        echo "building CometBFT $version (once; 1 to 5 minutes)" >&2
        work=$(mktemp -d "$folder/build.XXXXXX")
        temporary+=("$work")
        if ! (build) >"$folder/build.log" 2>&1; then
            tail -n 20 "$folder/build.log" >&2
            echo "building CometBFT $version failed; the log is $folder/build.log" >&2
            exit 1
        fi
        mv "$work/cometbft" "$binary"
    fi
fi
printf '%s\n' "$binary"
