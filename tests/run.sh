#!/usr/bin/env bash
# Installs what the tests need (packages only) and runs all of them: unit, property, end-to-end.
#   ./tests/run.sh [FILTER…]    only the tests whose name has FILTER
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '== %s\n' "$*"; }

# The programs that the end-to-end tests start, and the Debian package of each.
want=()
need() { # need PACKAGE PATH-OR-PROGRAM…
    local package=$1 each
    shift
    for each in "$@"; do
        command -v "$each" >/dev/null 2>&1 && return 0
        compgen -G "$each" >/dev/null && return 0
    done
    want+=("$package")
}
need git git
need postgresql '/usr/lib/postgresql/*/bin/initdb'
need postgresql-client pg_dump '/usr/lib/postgresql/*/bin/pg_dump'
need mariadb-server /usr/sbin/mariadbd /usr/libexec/mariadbd
need mariadb-client mariadb-dump
need openssl openssl
need redis-server redis-server
need redis-tools redis-cli
need python3-venv '/usr/lib/python3*/ensurepip' '/usr/share/python-wheels/pip*.whl'
need curl curl
need util-linux runuser
need prometheus promtool
need openssh-server /usr/sbin/sshd
need openssh-client sftp
need rsync rsync
need podman podman
need runc runc
need busybox-static busybox
need redis-server redis-server
need faketime '/usr/lib/*/faketime/libfaketimeMT.so.1'

if [ ${#want[@]} -gt 0 ]; then
    say "installing ${want[*]}"
    sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    # A package that starts a server on install is kept from doing so where policy-rc.d is respected.
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null
fi

say 'restic 0.18 and 0.19'
./deploy/get-restic.sh 0.18
./deploy/get-restic.sh 0.19

if [ -x tests/setup/smtp.sh ]; then
    say 'SMTP server'
    ./tests/setup/smtp.sh
fi

if [ -x tests/setup/prism.sh ]; then
    say 'OpenAPI mock'
    ./tests/setup/prism.sh
fi

if [ -x tests/setup/homeassistant.sh ]; then
    say 'Home Assistant'
    ./tests/setup/homeassistant.sh
fi

if [ -x tests/setup/rclone.sh ]; then
    say 'rclone'
    ./tests/setup/rclone.sh
fi

if [ -x tests/setup/moto.sh ]; then
    say 'moto'
    ./tests/setup/moto.sh
fi

if [ -x tests/setup/sops.sh ]; then
    say 'another implementation of the format of SOPS'
    ./tests/setup/sops.sh
fi

say 'what this machine lacks'
lacks=()
lack() { # lack WORD REASON: a test that says it needs it is counted as skipped; any other that cannot run fails
    lacks+=("$1")
    printf '%s: %s\n' "$1" "$2"
}
[ "$(id -u)" -eq 0 ] || lack root 'only root can mount, own files of others and become nobody'
probe=$(mktemp -d)
skipped=$(mktemp)
at_the_end() {
    if [ -s "$skipped" ]; then
        say "$(wc -l <"$skipped") tests could not run on this machine"
        sort "$skipped"
    fi
    rm -rf "$probe" "$skipped"
}
trap at_the_end EXIT
if mount -t tmpfs tmpfs "$probe" 2>/dev/null; then umount "$probe"; else lack mount 'nothing can be mounted here'; fi
touch "$probe/file"
if chattr +i "$probe/file" 2>/dev/null; then chattr -i "$probe/file"; else lack immutable "${TMPDIR:-/tmp} knows no immutable files"; fi
[ -x /usr/lib/postgresql/15/bin/initdb ] || lack package "PostgreSQL 15, which the tests' image has from this machine"
[ -d "${LARDER_SPECS:-../shared/specs}" ] || lack specs "the vendors' OpenAPI documents (LARDER_SPECS) are not part of this repository"
[ -x target/tools/prism/node_modules/.bin/prism ] || lack prism 'tests/setup/prism.sh could not install it'
[ -x target/tools/homeassistant/bin/python ] || lack homeassistant 'tests/setup/homeassistant.sh could not install it'
[ -x target/tools/rclone/rclone ] || lack rclone 'tests/setup/rclone.sh could not install it'
[ -x target/tools/moto/bin/python ] || lack moto 'tests/setup/moto.sh could not install it'
[ -x target/tools/sops/bin/python ] || lack sops 'tests/setup/sops.sh could not install it'
[ ${#lacks[@]} -gt 0 ] || echo 'nothing'

say 'tests'
export INSTA_UPDATE=no LARDER_TEST_NO_SKIP=1 LARDER_TEST_LACKS="${lacks[*]-} ${LARDER_TEST_LACKS:-}" LARDER_TEST_SKIPPED="$skipped"
if cargo nextest --version >/dev/null 2>&1; then
    # Most tests wait for programs most of the time: two for each core.
    cargo nextest run --locked --test-threads $((2 * $(nproc))) "$@"
else
    cargo test --locked --no-fail-fast -- "$@"
fi
