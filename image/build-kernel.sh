#!/usr/bin/env bash
# Builds the enclave's kernel from Debian's linux-source-6.12 and image/kernel.config.
# Usage: image/build-kernel.sh FOLDER [--source FILE.deb]
#        image/build-kernel.sh --check FRAGMENT CONFIG
#
# Leaves in FOLDER bzImage, bzImage.json (versions, hashes), bzImage.config and bzImage.map (addresses for a panic's
# words). The bytes depend on source, configuration, compiler and linker alone, not on folder, time, user or host.
# The source is what bookworm-security offers now, checked by apt against Debian's signatures; --source takes a
# package kept from before instead (the archive keeps only the newest one). A finished kernel stays in the cache
# (tools/cache.sh) and is taken from there while source, configuration, compiler and linker are the same.
# --check: whether Kconfig took the lines of FRAGMENT into CONFIG; names each one that it did not.
# Exit codes: 0 done; 1 failed; 2 usage; 77 it cannot be built here (no Debian 12, no network), and why.
set -euo pipefail
root=$(dirname "$(dirname "$(readlink -f "$0")")")
source "$root/tools/debian.sh"
source "$root/tools/cache.sh"

package=linux-source-6.12
tested_version=6.12.117-1~deb12u1
tested_sha256=e849faf31ca3555757f3a8877cb01af92122f744f75d1f3102734651c4e14703
compile_seconds=7200
size_max=2000000
config=$root/image/kernel.config
# libelf-dev: the kernel's objtool places the mitigations against speculation with it.
packages=(gcc libc6-dev make binutils bc flex bison libelf-dev xz-utils cpio)

check_lines() {
    local fragment=$1 made=$2 line name bad=0
    while IFS= read -r line || [ -n "$line" ]; do
        name=${line%%=*}
        case $line in
        '' | '#'*) continue ;;
        CONFIG_*=n) ! grep -q "^$name=" "$made" || bad=1 ;;
        CONFIG_*=*) grep -qxF -- "$line" "$made" || bad=1 ;;
        *) bad=1 ;;
        esac
        if [ "$bad" = 1 ]; then
            echo "not taken: $line (Kconfig says: $(grep -E "^(# )?$name[= ]" "$made" || echo "nothing about $name"))"
            not_taken=$((not_taken + 1))
            bad=0
        fi
    done <"$fragment"
}

check() {
    not_taken=0
    check_lines "$1" "$2" >&2
    [ "$not_taken" = 0 ] || {
        echo "$not_taken lines of $1 were not taken" >&2
        return 1
    }
}

tool_versions() {
    gcc --version | head -n 1
    ld --version | head -n 1
}

# Sets $source_version: of the given package, or of what the archive offers.
ask_version() {
    if [ -n "$source_file" ]; then
        [ "$(dpkg-deb -f "$source_file" Package)" = "$package" ] || {
            echo "$source_file is not a package $package" >&2
            exit 1
        }
        source_version=$(dpkg-deb -f "$source_file" Version)
    else
        local mirror
        mirror=$(debian_mirror bookworm-security http://deb.debian.org/debian-security)
        archive_open "$scratch/archive" "deb $mirror bookworm-security" || return 1
        # 'URI' NAME_VERSION_ARCHITECTURE.deb SIZE HASH
        source_version=$(archive_apt download --print-uris "$package" |
            sed -n "s/.*' ${package}_\(.*\)_all\.deb .*/\1/p")
        [ -n "$source_version" ] || return 1
    fi
    [ "$source_version" = "$tested_version" ] ||
        echo "$package is $source_version; tested is $tested_version. Going on: PCR0 and PCR1 will be others." >&2
}

build_kernel() {
    local source=$PWD/$package made=$PWD/build
    if [ -z "$source_file" ]; then
        archive_apt download "$package" || skip "$package cannot be fetched from Debian's archive"
        source_file=$(ls "$PWD"/*.deb)
    fi
    source_sha256=$(sha256sum "$source_file" | cut -d ' ' -f 1)
    if [ "$source_version" = "$tested_version" ] && [ "$source_sha256" != "$tested_sha256" ]; then
        echo "$source_file says it is $source_version, but is not the package that Debian published"
        return 1
    fi
    dpkg-deb --fsys-tarfile "$source_file" | tar xO "./usr/src/$package.tar.xz" | tar xJ
    mkdir "$made"

    # Fixed words instead of time, user and host; an environment without the caller's flags.
    kernel_make() {
        nice env -i HOME="$PWD" PATH=/usr/bin:/bin:/usr/sbin:/sbin LC_ALL=C TZ=UTC \
            KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_USER=tmkms KBUILD_BUILD_HOST=tmkms \
            KBUILD_BUILD_VERSION=1 KCONFIG_WARN_UNKNOWN_SYMBOLS=1 KCONFIG_WERROR=1 "$@"
    }
    kernel_make make -C "$source" O="$made" allnoconfig KCONFIG_ALLCONFIG="$config"
    check "$config" "$made/.config"
    kernel_make timeout "$compile_seconds" make -C "$source" O="$made" -j"$(nproc)" bzImage

    local image=$made/arch/x86/boot/bzImage
    if [ "$(stat -c %s "$image")" -ge "$size_max" ]; then
        echo "the kernel has $(stat -c %s "$image") bytes; it must stay under $size_max"
        return 1
    fi
    cp "$image" out/bzImage
    cp "$made/.config" out/bzImage.config
    cp "$made/System.map" out/bzImage.map
    cat >out/bzImage.json <<JSON
{
  "version": "$(cat "$made/include/config/kernel.release")",
  "source": "$package $source_version",
  "source_sha256": "$source_sha256",
  "config_sha256": "$(sha256sum out/bzImage.config | cut -d ' ' -f 1)",
  "compiler": "$(tool_versions | head -n 1)",
  "linker": "$(tool_versions | tail -n 1)",
  "size": $(stat -c %s "$image"),
  "sha256": "$(sha256sum "$image" | cut -d ' ' -f 1)"
}
JSON
}

usage() {
    sed -n 's/^# Usage: //p; s/^#        image/image/p' "$0" >&2
    exit 2
}

source_file='' source_version='' target=''
case ${1:-} in
--check)
    [ $# = 3 ] || usage
    check "$2" "$3"
    exit
    ;;
'' | -*) usage ;;
*) target=$1 ;;
esac
if [ $# = 3 ] && [ "$2" = --source ]; then
    source_file=$(readlink -e "$3") || {
        echo "there is no file $3" >&2
        exit 1
    }
elif [ $# != 1 ]; then
    usage
fi

[ "$(uname -m)" = x86_64 ] || skip "the kernel is built on x86_64 only (doc/image.md says how aarch64 would be built)"
debian_is_bookworm || skip "the kernel is built on Debian 12 only"
debian_install "${packages[@]}" || skip "the kernel needs these Debian packages: ${packages[*]}"

scratch=$(mktemp -d)
temporary+=("$scratch")
# Neither a comment nor a word to people makes another kernel.
key=$(declare -f build_kernel && grep '^CONFIG_' "$config" && tool_versions)
if [ -n "${TMKMS_CACHED_ONLY:-}" ] && [ -z "$source_file" ]; then
    cache_newest "kernel-*" "$key" || skip "the kernel is not built here yet"
elif ask_version; then
    cache_folder "kernel-$source_version" "$key"
    cache_build "the kernel from $package $source_version (once; 5 to 20 minutes)" build_kernel
else
    cache_newest "kernel-*" "$key" || skip "Debian's archive cannot be reached, and no kernel is in $cache"
    echo "Debian's archive cannot be reached: the kernel is the one in $folder" >&2
fi
mkdir -p "$target"
install -m 644 -t "$target" "$folder"/out/*
version=$(sed -n 's/^  "version": "\(.*\)",/\1/p' "$target/bzImage.json")
echo "$target/bzImage: $version, $(stat -c %s "$target/bzImage") bytes" >&2
