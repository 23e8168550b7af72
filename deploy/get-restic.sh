#!/bin/sh
# Gets a restic that is new enough for Larder (0.17 or newer) without touching the system.
#
#   deploy/get-restic.sh              any restic >= 0.17: the one on PATH, else the apt sources' one, else a newer suite's
#   deploy/get-restic.sh 0.18 0.19    these versions side by side, for the tests
#
# Everything lands in target/tools/restic-<version>/restic (LARDER_TOOLS names another directory); nothing is installed
# and no source of apt is changed. The last line printed is the path of the (last) restic.
set -eu

least=0.17.0
suites="trixie forky sid"   # Debian's suites with 0.17 or newer, oldest first
root=$(cd "$(dirname "$0")/.." && pwd)
tools=${LARDER_TOOLS:-$root/target/tools}
work=

fail() { printf 'get-restic: %s\n' "$1" >&2; [ -z "${2-}" ] || printf '  hint: %s\n' "$2" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# at_least VERSION LEAST
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# wanted VERSION WISH: whether VERSION is new enough and, where a wish such as 0.18 is given, of that series
wanted() {
    at_least "$1" "$least" || return 1
    case "$2" in any) return 0 ;; esac
    case "$1." in "$2".*) return 0 ;; esac
    return 1
}

version_of() { "$1" version 2>/dev/null | sed -n 's/^restic \([0-9][0-9.]*\).*/\1/p' | head -n 1; }

# present WISH: the newest fitting restic that is already unpacked
present() {
    for candidate in $(ls -d "$tools"/restic-*/restic 2>/dev/null | sort -rV); do
        version=$(version_of "$candidate")
        if [ -n "$version" ] && wanted "$version" "$1"; then printf '%s\n' "$candidate"; return 0; fi
    done
    return 1
}

# unpack DEB: puts the program of a package in its place
unpack() {
    dpkg -x "$1" "$work/tree" || fail "the package $(basename "$1") cannot be unpacked"
    [ -x "$work/tree/usr/bin/restic" ] || fail "the package $(basename "$1") has no usr/bin/restic"
    version=$(version_of "$work/tree/usr/bin/restic")
    [ -n "$version" ] || fail "the restic of $(basename "$1") does not run on this machine"
    mkdir -p "$tools/restic-$version" &&
        cp "$work/tree/usr/bin/restic" "$tools/restic-$version/.restic.new.$$" &&
        mv "$tools/restic-$version/.restic.new.$$" "$tools/restic-$version/restic" ||
        fail "$tools/restic-$version cannot be written"
    rm -rf "$work/tree" "$work"/*.deb
    printf '%s\n' "$tools/restic-$version/restic"
}

# candidate [APT-OPTION...]: the version that apt would take, without Debian's revision
candidate() { apt-cache "$@" policy restic 2>/dev/null | sed -n 's/^ *Candidate: \([0-9][0-9.]*\).*/\1/p'; }

# own WISH: from the apt sources as they are
own() {
    version=$(candidate -q)
    [ -n "$version" ] && wanted "$version" "$1" || return 1
    say "restic $version comes from the system's own apt sources"
    (cd "$work" && apt-get -q -o APT::Sandbox::User=root download restic >&2) || return 1
    unpack "$work"/restic_*.deb
}

# The mirror of the running release, taken from apt itself: the site that is not the security one.
mirror() {
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(SITE) $(RELEASE)' | sort -u |
        awk -v release="$codename" '$2 == release && $1 !~ /security/ { print $1; exit }'
}

# suite WISH SUITE: from another suite of the same mirror, with apt's state in a private directory
suite() {
    private=$work/$2
    mkdir -p "$private/lists/partial" "$private/cache/archives/partial"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -r "$keyring" ] || fail "$keyring is missing" "apt-get install debian-archive-keyring"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$site" "$2" >"$private/sources.list"
    set -- "$1" "$2" -q -o Dir::Etc::SourceList="$private/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$private/lists" -o Dir::Cache="$private/cache" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o APT::Get::List-Cleanup=false
    wish=$1 name=$2
    shift 2
    timeout 180 apt-get "$@" update >"$private/log" 2>&1 || { say "suite $name cannot be read: $(tail -n 1 "$private/log")"; return 1; }
    version=$(candidate "$@")
    [ -n "$version" ] && wanted "$version" "$wish" || { say "suite $name has restic ${version:-none}"; return 1; }
    say "restic $version comes from the suite $name"
    (cd "$work" && timeout 180 apt-get "$@" download restic >&2) || return 1
    unpack "$work"/restic_*.deb
}

get() {
    if [ "$1" = any ] && command -v restic >/dev/null 2>&1; then
        version=$(version_of restic)
        if [ -n "$version" ] && wanted "$version" any; then
            say "restic $version on the PATH is new enough"
            command -v restic
            return
        fi
        say "restic ${version:-of an unknown version} on the PATH is older than $least"
    fi
    if present "$1"; then return; fi
    command -v apt-get >/dev/null 2>&1 || fail "no restic $least or newer here, and no apt to get one with" \
        "put restic $least or newer on the PATH (https://restic.net)"
    [ -n "$work" ] || fail "no working directory"
    if own "$1"; then return; fi
    site=$(mirror)
    [ -n "$site" ] || fail "apt names no mirror for this release" "run apt-get update, then again"
    for name in $suites; do
        if suite "$1" "$name"; then return; fi
    done
    fail "no suite of $site has a restic that fits $1" "put restic $least or newer on the PATH (https://restic.net)"
}

work=$(mktemp -d "${TMPDIR:-/tmp}/get-restic.XXXXXX")
[ $# -gt 0 ] || set -- any
for wish in "$@"; do
    case "$wish" in any | [0-9]*.[0-9]*) ;; *) fail "$wish is no version such as 0.18" ;; esac
    path=$(get "$wish")
    printf '%s\n' "$path"
done
