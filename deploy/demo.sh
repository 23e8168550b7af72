#!/usr/bin/env bash
# Shows the main job end to end: installs what is missing (packages only), builds Larder, runs `larder demo`.
#   ./deploy/demo.sh           leaves the daemon running, with the status page, until Ctrl-C
#   ./deploy/demo.sh --exit    stops at the end; 0 when every step worked
set -euo pipefail
cd "$(dirname "$0")/.."

missing() {
    printf 'demo: %s is missing; %s\n' "$1" "$2" >&2
    exit 1
}

if ! command -v cargo >/dev/null 2>&1; then
    # rustup puts it there without a new login shell.
    [ -x "$HOME/.cargo/bin/cargo" ] && PATH="$HOME/.cargo/bin:$PATH"
fi
command -v cargo >/dev/null 2>&1 || missing cargo 'install Rust (1.91 or newer) first'
command -v git >/dev/null 2>&1 || missing git 'install the package git'
if ! command -v cc >/dev/null 2>&1; then
    echo '== installing a C compiler (for SQLite and TLS)'
    sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends gcc libc6-dev >/dev/null
fi

echo '== restic 0.17 or newer'
restic=$(./deploy/get-restic.sh | tail -n 1)
"$restic" version

if [ -x target/demo/larder ]; then
    echo '== building Larder, as far as it changed'
else
    echo '== building Larder and what it is made of: 2 to 3 minutes on two cores, this first time'
fi
cargo build --profile demo --locked

echo '== the demo: half a minute'
exec ./target/demo/larder demo --restic "$restic" "$@"
