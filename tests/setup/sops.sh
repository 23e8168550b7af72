#!/usr/bin/env bash
# Makes target/tools/sops: a Python with what an implementation of SOPS' format that is not ours needs
# (`tests/support/sops.py`). Does nothing when it is there. `sops` itself is in no package registry.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly HOME_OF_IT=target/tools/sops

if "$HOME_OF_IT/bin/python" -c 'import cryptography, pyrage, ruamel.yaml' 2>/dev/null; then
    exit 0
fi
mkdir -p target/tools
# Made beside it and moved into place, so that two callers at once do no harm. A venv's python works after a move;
# only its scripts name the old path, and none of them is used.
new=$(mktemp -d target/tools/sops.XXXXXX)
trap 'rm -rf "$new"' EXIT
python3 -m venv "$new"
"$new/bin/python" -m pip install --quiet --disable-pip-version-check cryptography==46.0.5 pyrage==1.4.0 ruamel.yaml==0.18.16
rm -rf "$HOME_OF_IT"
mv -T "$new" "$HOME_OF_IT"
