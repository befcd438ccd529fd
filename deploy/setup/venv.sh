#!/usr/bin/env bash
# Makes .venv with this project and its development tools, exactly as constraints.txt pins them. A second run does nothing.
set -euo pipefail
cd "$(dirname "$0")/../.."

stamp=".venv/.made-$(cat pyproject.toml constraints.txt | sha256sum | cut -c1-16)"
[[ -f $stamp ]] && exit 0

python=""
for candidate in "${PYTHON:-}" python3.11 python3.12 python3; do
  if [[ -n $candidate ]] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [[ -z $python ]]; then
  echo "setup: needs Python 3.11 or 3.12; install one, or name it: make PYTHON=/path/to/python3.12" >&2
  exit 1
fi

begun=$SECONDS
if [[ ! -x .venv/bin/python ]]; then
  echo "setup: making .venv with $("$python" --version)"
  "$python" -m venv .venv
fi
echo "setup: installing the pinned packages into .venv (torch brings its GPU libraries: a few GB, some minutes the first time)"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Only the large downloads are worth a line; all of pip's words are shown if it fails.
if ! .venv/bin/python -m pip install --progress-bar off --disable-pip-version-check -c constraints.txt -e '.[dev]' 2>&1 |
  tee "$log" | sed -unE 's/^ *Downloading ([^- ]+)-([0-9][^- ]*)-.* \(([0-9]{3,}\.[0-9] MB|[0-9.]+ GB)\)$/setup: downloading \1 \2 (\3)/p'; then
  cat "$log" >&2
  exit 1
fi
rm -f .venv/.made-*
touch "$stamp"
echo "setup: .venv is ready ($((SECONDS - begun)) s)"
