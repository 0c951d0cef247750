#!/usr/bin/env bash
# Builds vhost-device-vsock once, which gives a virtual machine under QEMU its vsock, and prints the program's path.
# Exit codes: 0 built or found; 1 the build failed; 77 it cannot be made here, and why, so the caller may skip.
set -euo pipefail
source "$(dirname "$0")/cargo.sh"
cargo_tool vhost-device-vsock 0.3.0 gcc libc6-dev
