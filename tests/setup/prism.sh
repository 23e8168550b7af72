#!/usr/bin/env bash
# Makes target/tools/prism: the OpenAPI mock of the contract tests, from npm. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly HOME_OF_IT=target/tools/prism

[ -x "$HOME_OF_IT/node_modules/.bin/prism" ] && exit 0
if ! command -v npm >/dev/null 2>&1; then
    echo 'npm is not there: the contract tests are skipped'
    exit 0
fi
mkdir -p "$HOME_OF_IT"
npm install --silent --no-audit --no-fund --prefix "$HOME_OF_IT" '@stoplight/prism-cli@5' >/dev/null ||
    echo 'npm could not install Prism: the contract tests are skipped'
