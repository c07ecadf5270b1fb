"""CPU of the gateway for one request and one streamed token, beside other gateways, in one run.

    python benchmarks/gateway.py [--reps 3] [--scenarios ns16c1,ns16c16,st64c64,paced64] [--peers vllm-router,smg]

Skerry runs as it is sold: keys, rate limits, budgets and the journal on, one gateway process. The kit that drives it
(`compare.py`, its fake backend and its load client) is looked for in SKERRY_BENCH_KIT or beside this project; without
it this script says so and ends. `skerry` is the gateway's process alone, `skerry-all` every process but the replica.

Not like for like: vllm-router and smg check no keys, keep no accounts and write no usage records.
"""

import argparse
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from clouds import Cloud, free_port, new_home, running

HERE = Path(__file__).resolve().parent
DEFAULT = "ns16c1,ns16c16,st16c16,st64c64,paced64"


def find_kit() -> Path | None:
    given = os.environ.get("SKERRY_BENCH_KIT")
    candidates = [Path(given)] if given else [HERE.parent.parent / "shared" / "bench" / "gateway"]
    return next((folder for folder in candidates if (folder / "compare.py").exists()), None)


def prepare(cloud: Cloud, backend: int) -> str:
    """Register the fake backend as a model; a key of its own with limits and a budget."""
    source = {"upstream": f"http://127.0.0.1:{backend}/v1"}
    price = {"prompt": "0.05", "cached": "0.025", "completion": "0.10"}
    cloud.call("POST", "/api/v1/models", {"name": "fake", "engine": "external", "source": source, "price": price})
    limits = {
        "requests_per_minute": 60_000_000,
        "tokens_per_minute": 60_000_000_000,
        "budget": {"amount": "900", "currency": "USD"},
    }
    made = cloud.call("POST", "/api/v1/api-keys", {"name": "bench", "scopes": ["inference"], "limits": limits})
    return str(made["key"])


def wait_for(cloud: Cloud, key: str) -> None:
    """Until the gateway knows model and key (NOTIFY: some milliseconds)."""
    body = b'{"model":"fake","messages":[{"role":"user","content":"x"}],"max_tokens":1}'
    deadline = time.monotonic() + 10
    while True:
        request = urllib.request.Request(f"{cloud.url}/v1/chat/completions", body, {"authorization": f"Bearer {key}"})
        try:
            urllib.request.urlopen(request, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reps", default="3")
    parser.add_argument("--scenarios", default=DEFAULT)
    parser.add_argument("--peers", default="vllm-router")
    parser.add_argument("--workdir", default=str(HERE.parent / "gateway-bench-work"))
    arguments = parser.parse_args()
    kit = find_kit()
    if kit is None:
        print("gateway: the benchmark kit is not here (set SKERRY_BENCH_KIT to its folder); nothing was measured")
        return 0
    if not (Path(arguments.workdir) / "venv-routers").exists():
        subprocess.run(
            [sys.executable, kit / "compare.py", "--setup-peers", "routers", "--workdir", arguments.workdir], check=True
        )
    backend_port = free_port()
    backend = subprocess.Popen(
        [sys.executable, kit / "fake_backend.py", "--port", str(backend_port)], stdout=subprocess.DEVNULL
    )
    try:
        with new_home() as home, running(home) as cloud:
            key = prepare(cloud, backend_port)
            wait_for(cloud, key)
            pids = cloud.pids()
            everything = "+".join(str(pid) for role, pid in pids.items() if role != "replica")
            command = [
                sys.executable, kit / "compare.py", "--workdir", arguments.workdir, "--backend-port", str(backend_port),
                "--reps", arguments.reps, "--scenarios", arguments.scenarios, *arguments.peers.split(","),
                f"skerry={cloud.url},{key},pid={pids['gateway']}", f"skerry-all={cloud.url},{key},pid={everything}",
            ]  # fmt: skip
            return subprocess.run(command, check=False).returncode
    finally:
        backend.terminate()
        backend.wait()


if __name__ == "__main__":
    sys.exit(main())
