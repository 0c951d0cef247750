#!/usr/bin/env bash
# Makes, once, a folder with this machine's Debian and a systemd that can be booted in it, and prints its path.
#
# It stays in ${TMKMS_CACHE:-~/.cache/tmkms-tests}, outside the tree, named after the content of this script. Nothing
# may be written into it: who boots one copies it. Safe to run at the same time (a lock) and to interrupt (moved into
# place when it is complete).
# Exit codes: 0 made or found; 1 it failed; 77 it cannot be made here.
set -euo pipefail

make_seconds=600

cannot() {
    echo "$1" >&2
    exit 77
}

cache=${TMKMS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tmkms-tests}
# shellcheck source=/dev/null
codename=$(. /etc/os-release && [ "$ID" = debian ] && printf '%s' "${VERSION_CODENAME:-}") || true
[ -n "$codename" ] || cannot "the root folder for systemd is made of this machine's Debian, and this is none"
hash=$(sha256sum "$0" | cut -c 1-12)
root=$cache/systemd-root-$codename-$hash

if [ ! -e "$root/usr/lib/systemd/systemd" ]; then
    [ "$(id -u)" = 0 ] || cannot "only root can make a root folder for systemd"
    command -v mmdebstrap >/dev/null || cannot "no mmdebstrap here, which makes the root folder for systemd"
    mkdir -p "$cache"
    exec 9>"$root.lock"
    flock 9
    if [ ! -e "$root/usr/lib/systemd/systemd" ]; then
        echo "making a root folder with systemd (once; about two minutes)" >&2
        rm -rf "$root.new"
        if ! timeout "$make_seconds" mmdebstrap --quiet --mode=root --variant=minbase \
            --include=systemd,systemd-sysv --aptopt='Acquire::Languages "none"' \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
            --dpkgopt='path-exclude=/usr/share/locale/*' \
            --customize-hook='rm -rf "$1"/var/lib/apt/lists "$1"/var/cache/apt "$1"/usr/share/zoneinfo' \
            "$codename" "$root.new" >"$root.log" 2>&1; then
            tail -n 20 "$root.log" >&2
            echo "making a root folder with systemd failed; the log is $root.log" >&2
            rm -rf "$root.new"
            exit 1
        fi
        mv "$root.new" "$root"
    fi
fi
printf '%s\n' "$root"
