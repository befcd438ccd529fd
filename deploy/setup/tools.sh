#!/usr/bin/env bash
# Makes a virtual environment for what clashes with the project's own requirements (faust wants an older click). A second run does nothing.
#   tools.sh          .venv-tools: checkers (check-jsonschema, hadolint)
#   tools.sh bench    .venv-bench: the stream processors that `make bench NAME=align` compares with (quixstreams, bytewax)
set -euo pipefail
cd "$(dirname "$0")/../.."

name="${1:-tools}"
venv=".venv-$name"
pins="deploy/setup/$name.txt"
stamp="$venv/.made-$(sha256sum <"$pins" | cut -c1-16)"
[[ -f $stamp ]] && exit 0
echo "setup: making $venv ($pins)"
[[ -x $venv/bin/python ]] || .venv/bin/python -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$pins"
rm -f "$venv"/.made-*
touch "$stamp"
