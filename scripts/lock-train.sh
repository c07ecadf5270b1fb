#!/bin/sh
# Write requirements-train.lock anew: torch, and what its public wheel for Linux needs, pinned.
#
#     scripts/lock-train.sh [VERSION]
#
# torch has neither hash nor local version, so that an index with a build for this machine (CPU only, another CUDA) may
# give its own, which asks for less: `make install` takes the file as constraints on what the chosen wheel asks for.
# Needs pip and the public index; downloads metadata only.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
VERSION=${1:-$(sed -n 's/^torch==//p' requirements-train.lock)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What requirements.lock pins already stays as it is there.
grep -E '^[a-z0-9._-]+==' requirements.lock | sed 's/ *\\$//' > "$work/have.txt"
env PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= "$PYTHON" -m pip install --quiet --dry-run --ignore-installed \
    --only-binary :all: --index-url https://pypi.org/simple --constraint "$work/have.txt" \
    --report "$work/report.json" "torch==$VERSION"
"$PYTHON" - "$work/report.json" > requirements-train.lock <<'PY'
import json, pathlib, re, sys
found = json.loads(pathlib.Path(sys.argv[1]).read_text())["install"]
pins = {re.sub(r"[-_.]+", "-", one["metadata"]["name"]).lower(): one["metadata"]["version"] for one in found}
print("# Pinned; written by scripts/lock-train.sh. Install with: pip install --constraint requirements-train.lock torch")
for name in sorted(pins, key=lambda name: (name != "torch", name)):
    print(f"{name}=={pins[name]}")
PY
