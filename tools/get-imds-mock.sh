#!/usr/bin/env bash
# Builds amazon-ec2-metadata-mock once and prints the path of its binary.
# Exit codes: 0 built or found; 1 the build failed; 3 no usable Go here, so the caller may skip.
set -euo pipefail

version=v1.13.0
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tmkms-tests
folder=$cache/ec2-metadata-mock-$version
binary=$folder/ec2-metadata-mock
build_seconds=600

find_go() {
    local go
    for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
        [ -x "$go" ] && printf '%s\n' "$go" && return 0
    done
    return 1
}

if [ ! -x "$binary" ]; then
    go=$(find_go) || {
        echo "no Go found, which builds ec2-metadata-mock" >&2
        exit 3
    }
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9
    if [ ! -x "$binary" ]; then
        echo "building ec2-metadata-mock $version (once; about a minute)" >&2
        work=$(mktemp -d "$folder/build.XXXXXX")
        trap 'rm -rf "$work"' EXIT
        export CGO_ENABLED=0 GOFLAGS=-modcacherw GOPATH=$cache/go GOCACHE=$cache/go-build
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
