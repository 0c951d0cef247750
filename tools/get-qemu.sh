#!/usr/bin/env bash
# Builds a QEMU that has the `nitro-enclave` machine (no package has it: it needs libcbor) and nothing that this machine
# does not use, and prints the path of qemu-system-x86_64, which finds its firmware beside itself.
#
# The source comes from Debian's bookworm-backports through sources of this script's own: the machine's stay as they
# are, and no package of it becomes one of backports. About 8 minutes of processor time, once (tools/cache.sh).
# Exit codes: 0 built or found; 1 the build failed; 77 it cannot be made here, and why, so the caller may skip.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
source "$here/debian.sh"
source "$here/cache.sh"

tested_version=10.0.2
compile_seconds=5400
libraries=(libcbor0.8 libfdt1 libglib2.0-0 libgnutls30)
packages=(gcc libc6-dev make ninja-build pkg-config flex bison python3 python3-venv xz-utils libcbor-dev
    libgnutls28-dev libglib2.0-dev libpixman-1-dev libfdt-dev)
options=(--python=/usr/bin/python3 --disable-download --target-list=x86_64-softmmu --without-default-features
    --without-default-devices --with-devices-x86_64=nitro --enable-kvm --enable-tcg --enable-vhost-user
    --enable-vhost-kernel --enable-libcbor --enable-gnutls --enable-fdt=system --disable-docs --disable-werror
    --disable-debug-info --disable-install-blobs)

fetch() {
    local mirror
    mirror=$(debian_mirror bookworm http://deb.debian.org/debian)
    archive_open "$PWD/archive" "deb-src $mirror bookworm-backports" "deb $mirror bookworm-backports" \
        "deb $mirror bookworm" || return 1
    # Debian's part of the source may be gone after a point release, and is not needed. The tarball is checked against
    # the signed list before it gets this name.
    archive_apt source --download-only qemu || ls qemu_*.orig.tar.xz || return 1
    # Meson and pycotap are used from here, not installed: those of bookworm are too old, or missing.
    archive_apt download meson/bookworm-backports python3-pycotap/bookworm-backports qemu-system-data/bookworm
}

# With an environment of its own: neither the caller's flags nor another Python get in.
clean() {
    nice env -i HOME="$PWD" LC_ALL=C PATH=/usr/bin:/bin:/usr/sbin:/sbin \
        PYTHONPATH="$PWD/tree/usr/lib/python3/dist-packages" "$@"
}

compile() {
    fetch || skip "Debian's archive cannot be reached, or has no source of QEMU"
    for package in ./*.deb; do
        dpkg -x "$package" tree
    done
    tar xf qemu_*.orig.tar.xz
    mv qemu-*/ source
    # Neither the firmware for other machines nor the devices of other machines.
    sed -i 's/^if unpack_edk2_blobs$/if false/' source/pc-bios/meson.build
    echo CONFIG_NITRO_ENCLAVE=y >source/configs/devices/x86_64-softmmu/nitro.mak
    mkdir source/build
    clean sh -c 'cd source/build && exec ../configure "$@"' configure "${options[@]}"
    clean timeout "$compile_seconds" ninja -C source/build qemu-system-x86_64
    # Found from the program as ../share/qemu.
    install -D -t out/share/qemu tree/usr/share/qemu/qboot.rom tree/usr/share/qemu/linuxboot_dma.bin
    strip -o qemu-system-x86_64 source/build/qemu-system-x86_64
    install -D -t out/bin qemu-system-x86_64
    out/bin/qemu-system-x86_64 -machine help | grep '^nitro-enclave '
}

cache_folder qemu "$(cat "$0")"
program=$folder/out/bin/qemu-system-x86_64
if [ ! -x "$program" ]; then
    [ "$(uname -m)" = x86_64 ] || skip "QEMU is built on x86_64 only, for enclaves of x86_64"
    debian_is_bookworm || skip "QEMU is built on Debian 12 only"
    debian_install "${packages[@]}" || skip "QEMU needs these Debian packages: ${packages[*]}"
    cache_build "QEMU with the nitro-enclave machine (once; 5 to 20 minutes)" compile
    found=$("$program" --version | sed -n 's/.*version \([0-9.]*\).*/\1/p')
    [ "$found" = "$tested_version" ] || echo "Debian has QEMU $found now; tested is $tested_version" >&2
fi
# A cache that outlived its machine: the program is there, its libraries are not.
if ! "$program" --version >/dev/null 2>&1; then
    debian_install "${libraries[@]}" || skip "QEMU needs these Debian packages: ${libraries[*]}"
fi
printf '%s\n' "$program"
