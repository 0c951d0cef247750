# Sourced by the scripts that need something of Debian's: packages on this machine, or files out of Debian's archive
# without touching the machine's own apt sources. Words go to stderr.

is_installed() {
    [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = 'install ok installed' ]
}

missing_of() {
    local package
    for package in "$@"; do
        is_installed "$package" || printf '%s\n' "$package"
    done
}

# as_root WHAT COMMAND...: WHAT is the wish that is told when neither root nor sudo is at hand.
as_root() {
    local what=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "$what. Neither root nor sudo is at hand: do it and try again." >&2
        return 1
    fi
}

# Installs those of the packages that are missing; nothing else on the machine is upgraded. With TMKMS_CACHED_ONLY set
# (tools/cache.sh) nothing is installed.
debian_install() {
    local missing
    missing=$(missing_of "$@" | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if [ -n "${TMKMS_CACHED_ONLY:-}" ]; then
        echo "Not installed: $missing" >&2
        return 1
    fi
    echo "Installing: $missing" >&2
    # shellcheck disable=SC2016,SC2086  # $@ is the inner shell's; one argument a package
    as_root "these packages must be installed: $missing" env DEBIAN_FRONTEND=noninteractive sh -c '
        apt="apt-get -qq -y -o DPkg::Lock::Timeout=900 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0"
        $apt update && $apt install --no-install-recommends "$@" >/dev/null' install $missing >&2
}

debian_is_bookworm() {
    command -v apt-get >/dev/null && grep -qx 'VERSION_CODENAME=bookworm' /etc/os-release
}

# The archive that the machine's own sources take a suite from; the second argument where they do not name it.
debian_mirror() {
    local found
    found=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n "s/^$1 //p" | head -n 1)
    printf '%s\n' "${found:-$2}"
}

# archive_open FOLDER LINE...: sources of our own, "deb|deb-src URI SUITE"; apt checks Debian's signatures.
archive_open() {
    local kind rest
    archive=$1
    shift
    mkdir -p "$archive/lists/partial" "$archive/cache/archives/partial"
    for line in "$@"; do
        read -r kind rest <<<"$line"
        printf '%s [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s main\n' "$kind" "$rest"
    done >"$archive/sources.list"
    archive_apt -qq -o APT::Update::Error-Mode=any update >&2
}

archive_apt() {
    apt-get -o Dir::Etc::sourcelist="$archive/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$archive/lists" -o Dir::Cache="$archive/cache" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o Acquire::Retries=3 -o Acquire::http::Timeout=20 "$@"
}
