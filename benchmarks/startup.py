"""Installed → first token: how long from `skerry up` to the first token of a real model.

    python benchmarks/startup.py [--reps 3]

Prints wall seconds, since that is what a user waits; they depend on who else uses the machine. `first` is
a fresh SKERRY_HOME (database made, schema made), `again` a second start.
"""

import argparse
import json
import statistics
import time
import urllib.request

from clouds import Cloud, free_port, new_home, running

REACH_SECONDS = 15.0


def first_token(cloud: Cloud) -> None:
    """Returns when the first token of a streamed answer has come."""
    body = {
        "model": "smollm2-135m-instruct",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 4,
        "stream": True,
    }
    request = urllib.request.Request(
        f"{cloud.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {cloud.project_key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        for line in answer:
            if line.startswith(b"data:") and b'"content":"' in line.replace(b" ", b""):
                return
    raise RuntimeError("the stream had no token")


def measure(home: object, port: int) -> tuple[float, float]:
    """(seconds to ready, seconds to the first token)."""
    begun = time.perf_counter()
    with running(home, port) as cloud:  # type: ignore[arg-type]
        ready = time.perf_counter() - begun
        first_token(cloud)
        return ready, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=3)
    arguments = parser.parse_args()
    rows: dict[str, list[tuple[float, float]]] = {"first": [], "again": []}
    for _ in range(arguments.reps):
        with new_home() as home:
            port = free_port()
            for kind in ("first", "again"):
                rows[kind].append(measure(home, port))
    print(
        f"`skerry up` → first token, {arguments.reps} repetitions, seconds, median (min-max); "
        f"to reach: ≤ {REACH_SECONDS:.0f}\n"
    )
    print("| start | ready | first token |\n|---|---|---|")
    for kind, values in rows.items():
        cells = []
        for column in (0, 1):
            seconds = [value[column] for value in values]
            cells.append(f"{statistics.median(seconds):.1f} ({min(seconds):.1f}-{max(seconds):.1f})")
        print(f"| {kind} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
