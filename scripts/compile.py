"""Compile the gateway's hot path with mypyc, in place: half the CPU for the same source.

    python scripts/compile.py            # compile what has changed
    python scripts/compile.py --clean    # back to plain Python

Without a C compiler it says so and leaves everything as it is: the gateway then runs as plain Python. The modules are
those that `HOT` names; what was compiled from which source is noted in `src/skerry/compiled.json`, so that a module
that was changed since is found out (`tests/architecture`, and the gateway's log at its start).
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"
NOTE = SOURCE / "skerry" / "compiled.json"
GATEWAY = "skerry/inference/gateway"
HOT = (
    *(f"{GATEWAY}/{name}.py" for name in (
        "admission", "answering", "balances", "charge", "connection", "content", "exchange", "fairness", "fields",
        "gateway", "heads", "kinds", "lanes", "limits", "metrics", "passage", "pricing", "prompts", "repeats",
        "request", "snapshot", "sse", "state", "upstream", "waiting",
    )),
    *(f"{GATEWAY}/routing/{name}.py" for name in (
        "base", "choosing", "least_load", "prefix_affinity", "random_choice", "round_robin",
    )),
    "skerry/inference/engines/llamacpp/slots.py",
    "skerry/runtime/journal/segments.py",
    "skerry/runtime/journal/writer.py",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clean", action="store_true")
    if parser.parse_args().clean:
        clean()
        return 0
    sources = {name: digest(SOURCE / name) for name in HOT}
    if NOTE.exists() and json.loads(NOTE.read_text()) == {"python": sys.version, "sources": sources} and all_there():
        return 0
    clean()
    if not shutil.which(os.environ.get("CC") or "cc"):
        sys.stderr.write(
            "compile: there is no C compiler, so the gateway runs as plain Python (twice the CPU a request)\n"
        )
        return 0
    build()
    NOTE.write_text(json.dumps({"python": sys.version, "sources": sources}, indent=1) + "\n")
    return 0


def build() -> None:
    """Raises SystemExit where mypyc does not take the source."""
    from mypyc.build import mypycify  # noqa: PLC0415 - only where there is something to compile
    from setuptools import setup  # noqa: PLC0415

    os.chdir(ROOT)
    folder = ROOT / "build" / "compiled"
    extensions = mypycify([f"src/{name}" for name in HOT], opt_level="2", debug_level="0", target_dir=str(folder))
    setup(
        name="skerry-hot-path",
        package_dir={"": "src"},
        packages=[],
        ext_modules=extensions,
        script_args=["--quiet", "build_ext", "--inplace", "--build-temp", str(folder), "--build-lib", str(folder)],
    )


def clean() -> None:
    NOTE.unlink(missing_ok=True)
    for path in built():
        path.unlink()


def built() -> list[Path]:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    return [*SOURCE.glob(f"*__mypyc{suffix}"), *(path for name in HOT if (path := library(name)).exists())]


def library(name: str) -> Path:
    return (SOURCE / name).with_suffix(sysconfig.get_config_var("EXT_SUFFIX"))


def all_there() -> bool:
    return all(library(name).exists() for name in HOT)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
