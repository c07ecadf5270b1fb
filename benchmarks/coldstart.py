"""Scale from zero → first token: how long a request waits that wakes a sleeping endpoint.

    python benchmarks/coldstart.py [--reps 5] [--model NAME=PATH …]

Prints wall seconds, since that is what a user waits; they depend on who else uses the machine. Each endpoint is let go
to zero, then asked for a streamed answer. `to first token` is the client's own watch; the parts are what the replica
recorded: `placed` (from being wanted to a place), `started` (to its process), `loaded` (to its report: the engine's
own part), `tried out` (to the route, with a real completion). What is left is the way there and back: the request's
arrival, the autoscaler's look, the routes, the first token itself. Engines that this machine cannot run are left out.
"""

import argparse
import json
import statistics
import time
import urllib.request
from collections.abc import Callable

from clouds import Cloud, new_home, running

DEFAULT = "smollm2-135m-instruct"
REACH_SECONDS = 1.0
PARTS = ("placed", "started", "loaded", "tried_out")
IDLE_SECONDS = 1
SLEEP_SECONDS = 60.0


def wait_for(condition: Callable[[], bool], what: str, seconds: float = SLEEP_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


def asleep(cloud: Cloud, name: str) -> bool:
    found = cloud.call("GET", f"/api/v1/endpoints/{name}")
    ended = all(replica["status"] in ("stopped", "failed") for replica in found["replicas"])
    return found["status"] == "stopped" and ended


def first_token(cloud: Cloud, name: str) -> float:
    """Seconds from sending the request to the first piece of the answer (for embeddings: the answer)."""
    body = {
        "model": name,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 2,
        "stream": True,
    }
    request = urllib.request.Request(
        f"{cloud.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {cloud.project_key}", "content-type": "application/json"},
    )
    begun = time.perf_counter()
    with urllib.request.urlopen(request, timeout=120) as answer:
        for line in answer:
            if line.startswith(b"data:") and b'"content":"' in line.replace(b" ", b""):
                return time.perf_counter() - begun
    raise RuntimeError("the stream had no token")


def measure(cloud: Cloud, name: str) -> dict[str, float]:
    wait_for(lambda: asleep(cloud, name), f"{name} sleeps")
    took = {"first token": first_token(cloud, name)}
    start = cloud.call("GET", f"/api/v1/endpoints/{name}/load")["cold_starts"][0]
    took |= {part: milliseconds / 1000 for part, milliseconds in start["parts_ms"].items()}
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", type=int, default=5)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=PATH", help="beside the default one")
    arguments = parser.parse_args()
    rows: dict[str, list[dict[str, float]]] = {}
    with new_home() as home, running(home) as cloud:
        names = [DEFAULT]
        for given in arguments.model:
            name, _, path = given.partition("=")
            cloud.call("POST", "/api/v1/models", {"name": name, "source": {"path": path}})
            names.append(name)
        for name in names:
            engine = cloud.call("GET", f"/api/v1/models/{name}")["engine"]
            sleepy = {"min_replicas": 0, "idle_timeout_seconds": IDLE_SECONDS}
            cloud.call("PATCH", f"/api/v1/endpoints/{name}", sleepy)
            rows[f"{engine} · {name}"] = [measure(cloud, name) for _ in range(arguments.reps)]
    print(
        f"Scale from zero → first token, {arguments.reps} repetitions, seconds, median (min-max); "
        f"to reach: about {REACH_SECONDS:.0f}\n"
    )
    columns = ("first token", *PARTS)
    print(f"| engine and model | {' | '.join(part.replace('_', ' ') for part in columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for name, values in rows.items():
        cells = []
        for column in columns:
            seconds = [value[column] for value in values if column in value]
            low, high = (min(seconds), max(seconds)) if seconds else (0.0, 0.0)
            cells.append(f"{statistics.median(seconds):.2f} ({low:.2f}-{high:.2f})" if seconds else "–")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
