#!/usr/bin/env bash
# Builds amazon-ec2-metadata-mock once, into the cache of tools/cache.sh, and prints the path of its binary.
# Exit codes: 0 built or found; 1 the build failed; 77 it cannot be made here, and why, so the caller may skip.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
source "$here/cache.sh"
source "$here/go.sh"

version=v1.13.0
folder=$cache/ec2-metadata-mock-$version
binary=$folder/ec2-metadata-mock
build_seconds=600

if [ ! -x "$binary" ]; then
    [ -z "${TMKMS_CACHED_ONLY:-}" ] || skip "ec2-metadata-mock is not built here yet"
    go_find 0 || skip "no Go found, which builds ec2-metadata-mock"
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9
    if [ ! -x "$binary" ]; then
        echo "building ec2-metadata-mock $version (once; about a minute)" >&2
        work=$(mktemp -d "$folder/build.XXXXXX")
        temporary+=("$work")
        if ! GOBIN=$work timeout "$build_seconds" "$go" install \
            "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock@$version" >"$folder/build.log" 2>&1; then
            tail -n 20 "$folder/build.log" >&2
            echo "building ec2-metadata-mock failed; the log is $folder/build.log" >&2
            exit 1
        fi
        mv "$work/ec2-metadata-mock" "$binary"
    fi
fi
printf '%s\n' "$binary"
