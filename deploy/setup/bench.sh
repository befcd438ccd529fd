#!/usr/bin/env bash
# Makes .venv-bench: the stream processors that `make bench NAME=align` compares with (quixstreams, bytewax). A second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

stamp=".venv-bench/.made-$(sha256sum <deploy/setup/bench.txt | cut -c1-16)"
[[ -f $stamp ]] && exit 0
echo "setup: making .venv-bench (quixstreams, bytewax)"
[[ -x .venv-bench/bin/python ]] || .venv/bin/python -m venv .venv-bench
.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -r deploy/setup/bench.txt
rm -f .venv-bench/.made-*
touch "$stamp"
