"""`python -I -m skerry.compute.health.checks burn_in|bandwidth`: a check, as the task of a workload on each node.

It imports everything, becomes an unprivileged user, works, writes what it found to `SKERRY_REPORT`, and ends with 0
where all was well, 1 where not. SIGTERM ends it at once: it has nothing to finish.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from skerry.compute.health.checks import bandwidth, burning
from skerry.compute.health.checks.found import Found
from skerry.db.osuser import OsUser
from skerry.runtime.privileges import drop_to


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    _drop()
    if given.check == "burn_in":
        found = burning.burn_in(given.seconds)
    else:
        found = bandwidth.bandwidth(bandwidth.Pair.from_env(os.environ), given.seconds, given.least_mbit)
    _report(found)
    return 0 if found.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="checks")
    parser.add_argument("check", choices=["burn_in", "bandwidth"])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--least-mbit", type=int, default=0)
    return parser


def _drop() -> None:
    run_as = os.environ.get("SKERRY_RUN_AS")
    if run_as:
        uid, _, gid = run_as.partition(":")
        report = os.environ.get("SKERRY_REPORT")
        if report and os.geteuid() == 0:
            os.chown(Path(report).parent, int(uid), int(gid))
        drop_to(OsUser("", int(uid), int(gid), ()))


def _report(found: Found) -> None:
    print(json.dumps(found.to_json()), flush=True)  # noqa: T201 - the log is where people look
    path = os.environ.get("SKERRY_REPORT")
    if path:
        fresh = Path(f"{path}.new")
        fresh.write_text(json.dumps(found.to_json()))
        fresh.replace(path)


if __name__ == "__main__":
    sys.exit(main())
