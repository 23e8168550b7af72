#!/usr/bin/env bash
# Makes target/tools/homeassistant: Home Assistant Core from PyPI, and where there is no Python 3.13 for it, one from
# a newer Debian suite in target/tools/python-3.13, which runs by its own loader and C library. Nothing on the system
# is changed. Does nothing when it is there; says so and ends well when it cannot be had.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly RELEASE=2026.2.3     # the newest one that runs on Python 3.13
readonly LEAST='(3, 13, 2)'   # what it asks of its Python
readonly SUITES='trixie forky sid'
readonly HOME_OF_IT=target/tools/homeassistant
readonly PYTHON=target/tools/python-3.13

unavailable() {
    echo "Home Assistant $RELEASE is not available: $1; its tests are skipped"
    exit 0
}

# What a failed command said last.
why() { { grep '^ERROR' "$work/log" || cat "$work/log"; } | tail -n 1 | cut -c -300; }

installed() { "$1/bin/python" -c "import importlib.metadata as m; print(m.version('homeassistant'))" 2>/dev/null; }

fits() { "$1" -c "import sys, ssl, sqlite3, venv; sys.exit(not $LEAST <= sys.version_info[:3] < (3, 14))" 2>/dev/null; }

# python_of SUITE: unpacks Python, and all that it needs down to the C library, into $work/tree.
python_of() {
    local private=$work/$1 keyring=/usr/share/keyrings/debian-archive-keyring.gpg site codename deb tree=$work/tree
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    # The mirror of the running release, taken from apt itself: the site that is not the security one.
    site=$(apt-get indextargets --format '$(SITE) $(RELEASE)' | sort -u |
        awk -v release="$codename" '$2 == release && $1 !~ /security/ { print $1; exit }')
    [ -n "$site" ] && [ -r "$keyring" ] || return 1
    mkdir -p "$private"/{lists,cache/archives}/partial "$private/state"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$site" "$1" >"$private/sources.list"
    # With nothing installed in its eyes, apt fetches every library that is needed.
    : >"$private/status"
    local apt=(apt-get -qq -o Dir::Etc::SourceList="$private/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State="$private/state" -o Dir::State::status="$private/status" -o Dir::State::Lists="$private/lists"
        -o Dir::Cache="$private/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none -o Debug::NoLocking=1)
    timeout 90 "${apt[@]}" update >"$private/log" 2>&1 || return 1
    timeout 180 "${apt[@]}" -y --no-install-recommends --download-only install python3.13 python3-pip-whl libstdc++6 \
        >>"$private/log" 2>&1 || return 1
    rm -rf "$tree"
    mkdir "$tree"
    for deb in "$private"/cache/archives/*.deb; do dpkg -x "$deb" "$tree" || return 1; done
    mv "$tree/usr/bin/python3.13" "$tree/usr/bin/python3.13.real"
    cat >"$tree/usr/bin/python3.13" <<'RUN'
#!/bin/sh
tree=$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")
for loader in "$tree"/usr/lib/*/ld-linux*.so.*; do
    # Its own name is how Python finds its environment, and how it starts itself again.
    exec "$loader" --library-path "${loader%/*}" --argv0 "$0" "$tree/usr/bin/python3.13.real" "$@"
done
RUN
    chmod +x "$tree/usr/bin/python3.13"
    fits "$tree/usr/bin/python3.13"
}

[ "$(installed "$HOME_OF_IT")" = "$RELEASE" ] && exit 0
[ "$(uname -s)" = Linux ] || unavailable 'it needs Linux'

mkdir -p target/tools
# Made beside it and moved into place, so that two callers at once do no harm.
work=$(mktemp -d "$PWD/target/tools/homeassistant.XXXXXX")
trap 'rm -rf "$work"' EXIT

wheel=
if fits python3.13 && python3.13 -c 'import ensurepip' 2>/dev/null; then
    python=python3.13
else
    python=$PWD/$PYTHON/usr/bin/python3.13
    if ! fits "$python"; then
        for each in apt-get dpkg; do
            command -v "$each" >/dev/null 2>&1 || unavailable "there is no Python 3.13, and no $each to get one with"
        done
        for suite in $SUITES; do
            python_of "$suite" && break
        done
        fits "$work/tree/usr/bin/python3.13" ||
            unavailable "there is no Python 3.13, and none of Debian's $SUITES gives one that runs here"
        rm -rf "$PYTHON"
        mv -T "$work/tree" "$PYTHON"
    fi
    wheel=$(compgen -G "$PWD/$PYTHON/usr/share/python-wheels/pip-*.whl" | head -n 1)
fi

new=$work/new
if [ -n "$wheel" ]; then
    "$python" -m venv --without-pip "$new"
    pip=("$new/bin/python" "$wheel/pip")
else
    "$python" -m venv "$new"
    pip=("$new/bin/python" -m pip)
fi
install() {
    timeout "$1" "${pip[@]}" install --quiet --disable-pip-version-check --no-compile "${@:2}" >"$work/log" 2>&1 ||
        unavailable "pip did not install it within $1 s: $(why)"
}
# What it needs is told by it, with versions; but one of these has no wheel for this Python, one is an installer, and
# two read sounds. The frontend is no requirement of its package, and it does not start without.
install 240 --no-deps "homeassistant==$RELEASE"
"$new/bin/python" - "$work" <<'PYTHON'
import importlib.metadata
import importlib.resources
import re
import sys

loose, left_out = ("lru-dict",), ("uv", "standard-aifc", "standard-telnetlib")
name = lambda line: re.split(r"[^\w-]", line, maxsplit=1)[0].lower()
wanted = importlib.metadata.requires("homeassistant")
pinned = importlib.resources.files("homeassistant").joinpath("package_constraints.txt").read_text().splitlines()
with open(f"{sys.argv[1]}/wanted", "w") as out:
    for line in [*wanted, "home-assistant-frontend"]:
        if name(line) not in left_out:
            print(name(line) if name(line) in loose else line, file=out)
with open(f"{sys.argv[1]}/pinned", "w") as out:
    print(*(line for line in pinned if name(line) not in loose), sep="\n", file=out)
PYTHON
install 400 --prefer-binary -r "$work/wanted" -c "$work/pinned"

# Proves that it starts, and compiles what every start needs.
env -u PYTHONDONTWRITEBYTECODE timeout 120 "$new/bin/python" -c \
    'import homeassistant.bootstrap, homeassistant.components.frontend, homeassistant.components.onboarding.views' \
    >"$work/log" 2>&1 || unavailable "it does not start: $(why)"
rm -rf "$HOME_OF_IT"
mv -T "$new" "$HOME_OF_IT"
