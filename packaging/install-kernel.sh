#!/bin/sh
# Run by `meson install`: puts into the folder $1 the enclave's kernel, where `make kernel` built it.
set -eu
built=$MESON_BUILD_ROOT/image/bzImage
folder=${DESTDIR:-}$1
[ -f "$built" ] || exit 0
mkdir -p "$folder"
install -m 644 "$built" "$folder/bzImage"
[ -n "${MESON_INSTALL_QUIET:-}" ] || echo "Installing $built to $folder"
