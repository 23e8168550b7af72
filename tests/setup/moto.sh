#!/usr/bin/env bash
# Makes target/tools/moto: a Python with moto, a server for S3 with versions and object locks. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly VERSION=5.2.5
readonly HOME_OF_IT=target/tools/moto

if "$HOME_OF_IT/bin/python" -c "import moto, flask, sys; sys.exit(moto.__version__ != '$VERSION')" 2>/dev/null; then
    exit 0
fi
mkdir -p target/tools
# Made beside it and moved into place, so that two callers at once do no harm. A venv's python works after a move;
# only its scripts name the old path, and none of them is used.
new=$(mktemp -d target/tools/moto.XXXXXX)
trap 'rm -rf "$new"' EXIT
python3 -m venv "$new"
"$new/bin/python" -m pip install --quiet --disable-pip-version-check "moto[server,s3]==$VERSION"
rm -rf "$HOME_OF_IT"
mv -T "$new" "$HOME_OF_IT"
