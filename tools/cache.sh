# Sourced by the scripts that build a thing once and keep it outside the tree, in
# ${TMKMS_CACHE:-${XDG_CACHE_HOME:-~/.cache}/tmkms-tests}. The folder of a thing is named after the text of what makes
# it, so a changed script builds again. Two runs at once do not collide (a lock for each folder), and an interrupted one
# leaves nothing half made (the finished folder `out` is moved into place). With TMKMS_CACHED_ONLY set nothing is built:
# what is not there yet is skipped.

cache=${TMKMS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tmkms-tests}
temporary=() # removed at the end, however it comes
trap 'rm -rf "${temporary[@]}"' EXIT

# skip WORDS: this machine cannot make the thing; the caller may go on without.
skip() {
    echo "$*" >&2
    exit 77
}

cache_hash() {
    printf '%s' "$1" | sha256sum | cut -c1-12
}

# cache_folder NAME KEY: sets $folder.
cache_folder() {
    folder=$cache/$1-$(cache_hash "$2")
    [ -z "${TMKMS_CACHED_ONLY:-}" ] || [ -d "$folder/out" ] || skip "$1 is not built here yet"
}

# cache_newest PATTERN KEY: sets $folder to the newest finished one whose name fits the pattern; false if there is none.
cache_newest() {
    # shellcheck disable=SC2086  # a pattern
    folder=$(ls -d "$cache"/$1-"$(cache_hash "$2")"/out 2>/dev/null | sort -rV | head -n 1 || true)
    folder=${folder%/out}
    [ -n "$folder" ]
}

# cache_build WHAT FUNCTION ARGUMENT...: the function runs in a folder of its own, puts what shall stay into ./out, and
# may call `skip`. What it and its programs say goes into $folder/build.log, of which a failure shows the end.
cache_build() {
    local what=$1 status
    shift
    [ ! -d "$folder/out" ] || return 0
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9
    if [ ! -d "$folder/out" ]; then
        echo "building $what" >&2
        work=$(mktemp -d "$folder/build.XXXXXX")
        temporary+=("$work")
        set +e # not `|| status=$?`, in front of which errexit would not hold inside
        (
            set -e
            exec 9>&-
            mkdir "$work/out"
            cd "$work"
            "$@"
        ) >"$folder/build.log" 2>&1
        status=$?
        set -e
        if [ "$status" != 0 ]; then
            tail -n 20 "$folder/build.log" >&2
            echo "building $what did not work; the log is $folder/build.log" >&2
            [ "$status" = 77 ] || status=1
            exit "$status"
        fi
        mv "$work/out" "$folder/out"
    fi
    exec 9>&-
}
