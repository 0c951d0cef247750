# Sourced by the scripts that build a Go program: what finds Go. After tools/cache.sh.

# go_find MINOR: sets $go to a Go of 1.MINOR or newer; false where there is none.
go_find() {
    local major minor
    for go in "$(command -v go || true)" /usr/local/go/bin/go /usr/lib/go-*/bin/go; do
        [ -x "$go" ] || continue
        IFS=. read -r major minor _ < <("$go" env GOVERSION | sed 's/^go//')
        if [ "$major" -gt 1 ] || [ "${minor%%[!0-9]*}" -ge "$1" ]; then
            # -modcacherw: a cache that plain `rm -r` can remove.
            export CGO_ENABLED=0 GOFLAGS=-modcacherw GOPATH=$cache/go GOCACHE=$cache/go-build
            return 0
        fi
    done
    return 1
}
