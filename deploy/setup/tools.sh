#!/usr/bin/env bash
# Makes .venv-tools: checkers whose requirements clash with the project's own (faust wants an older click). A second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

stamp=".venv-tools/.made-$(sha256sum <deploy/setup/tools.txt | cut -c1-16)"
[[ -f $stamp ]] && exit 0
echo "setup: making .venv-tools (check-jsonschema, hadolint)"
[[ -x .venv-tools/bin/python ]] || .venv/bin/python -m venv .venv-tools
.venv-tools/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/setup/tools.txt
rm -f .venv-tools/.made-*
touch "$stamp"
