#!/usr/bin/env bash
# Builds eif_build once, AWS's own writer of enclave images (tests compare ours with it), and prints the path of the
# program. Exit codes: 0 built or found; 1 the build failed; 77 it cannot be made here, and why, so the caller may skip.
set -euo pipefail
source "$(dirname "$0")/cargo.sh"
cargo_tool eif_build 0.2.1 gcc libc6-dev pkg-config libssl-dev
