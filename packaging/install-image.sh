#!/bin/sh
# Run by `meson install`: puts into the folder $1 what `make image` built of the enclave's image, if it did.
set -eu
folder=${DESTDIR:-}$1
for file in tmkms-enclave:755 bzImage:644; do
    built=$MESON_BUILD_ROOT/image/${file%:*}
    [ -f "$built" ] || continue
    mkdir -p "$folder"
    install -m "${file#*:}" "$built" "$folder/${file%:*}"
    [ -n "${MESON_INSTALL_QUIET:-}" ] || echo "Installing $built to $folder"
done
