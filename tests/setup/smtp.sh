#!/usr/bin/env bash
# Makes target/tools/smtp: a Python with aiosmtpd, the real mail server of the tests. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly VERSION=1.4.6
readonly HOME_OF_IT=target/tools/smtp

if "$HOME_OF_IT/bin/python" -c "import aiosmtpd, sys; sys.exit(aiosmtpd.__version__ != '$VERSION')" 2>/dev/null; then
    exit 0
fi
mkdir -p target/tools
# Made beside it and moved into place, so that two callers at once do no harm. A venv's python works after a move;
# only its scripts name the old path, and none of them is used.
new=$(mktemp -d target/tools/smtp.XXXXXX)
trap 'rm -rf "$new"' EXIT
python3 -m venv "$new"
"$new/bin/python" -m pip install --quiet --disable-pip-version-check "aiosmtpd==$VERSION"
rm -rf "$HOME_OF_IT"
mv -T "$new" "$HOME_OF_IT"
