"""What a routing policy is worth: cached tokens and time to the first token.

    python benchmarks/routing.py [--quick]   two real traces over simulated replicas
    python benchmarks/routing.py --micro     what choosing costs the gateway
    python benchmarks/routing.py --real      a conversation workload over real llama.cpp replicas

The traces are looked for in SKERRY_BENCH_DATA or beside this project; without them the script says so and ends. The
policies are the gateway's own. A trace is played faster where there are more replicas, so that each has as much to do.
"""

import argparse
import os
import statistics
import sys
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from routing_model import Call, Machine, Outcome, Replica, Simulation, by_policy, oracle
from routing_real import real
from routing_traces import azure, find_data, mooncake
from skerry.inference.gateway.routing.base import Policy, Server
from skerry.inference.gateway.routing.choosing import policy_of
from skerry.inference.model import RoutingPolicy

MACHINE = Machine()


def simulate(calls: list[Call], count: int, kind: RoutingPolicy | None, gateways: int) -> Outcome:
    """`kind` None: the oracle."""
    replicas = [Replica.new(number, MACHINE, gateways) for number in range(count)]
    if kind is None:
        return Simulation(replicas, oracle).run(calls)
    policies = [policy_of(kind, seed) for seed in range(gateways)]
    return Simulation(replicas, by_policy(policies, replicas)).run(calls, gateways)


def row(name: str, outcome: Outcome) -> str:
    first = statistics.quantiles(outcome.first, n=100)
    cached = f"{outcome.cached / outcome.prompt:.1%}"
    times = " | ".join(f"{first[at - 1]:.2f}" for at in (50, 95, 99))
    return f"| {name} | {cached} | {times} | {outcome.imbalance:.2f} | {outcome.busy:.2f} |"


def traces(folder: Path, quick: bool) -> None:
    count = 3000 if quick else None
    print(
        f"A replica reads {MACHINE.prefill:,.0f} tokens/s, keeps {MACHINE.cache:,} tokens, answers {MACHINE.slots} at "
        "once. Imbalance: requests of the busiest replica over the mean. Reading: share of the time.\n"
    )
    for replicas in (4, 8) if quick else (4, 8, 16):
        for title, calls in (
            (f"Mooncake conversations, {replicas / 4:g} x speed", mooncake(folder, replicas / 4, count)),
            (f"Azure conversations, {replicas * 1.6:g} x speed", azure(folder, replicas * 1.6, count)),
        ):
            print(f"{title}, {replicas} replicas\n")
            print("| policy | cached tokens | TTFT p50 s | p95 s | p99 s | imbalance | reading |")
            print("|---|---|---|---|---|---|---|")
            for kind in RoutingPolicy:
                print(row(kind.value, simulate(calls, replicas, kind, 1)), flush=True)
            affinity = simulate(calls, replicas, RoutingPolicy.PREFIX_AFFINITY, 4)
            print(row("prefix_affinity, 4 gateways", affinity), flush=True)
            print(row("oracle", simulate(calls, replicas, None, 1)), flush=True)
            print()


def micro() -> None:
    """CPU microseconds of one `pick`, best of five."""
    print("| policy | servers | no prompt | 4 KiB known | 4 KiB new | 64 KiB known |\n|---|---|---|---|---|---|")
    for count in (1, 2, 4, 16):
        for kind in RoutingPolicy:
            cells = [_known(kind, count, 0), _known(kind, count, 4096), _new(kind, count, 4096)]
            cells.append(_known(kind, count, 65536))
            print(f"| {kind.value} | {count} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")


def _known(kind: RoutingPolicy, count: int, size: int) -> float:
    policy, servers = _known_to(kind, count)
    prompt = os.urandom(size)
    return _best(lambda: policy.pick(servers, prompt, "tenant", 0.0))


def _new(kind: RoutingPolicy, count: int, size: int) -> float:
    policy, servers = _known_to(kind, count)
    prompts = iter([os.urandom(size) for _ in range(5000)])
    return _best(lambda: policy.pick(servers, next(prompts), "tenant", 0.0))


def _best(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=1000, repeat=5, timer=time.process_time)) * 1000


def _known_to(kind: RoutingPolicy, count: int) -> tuple[Policy, list[Server]]:
    policy, servers = policy_of(kind, 1), [Server(f"replica-{number}", 64) for number in range(count)]
    for server in servers:
        policy.joined(server)
    return policy, servers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 and 8 replicas, the first 3,000 requests")
    parser.add_argument("--micro", action="store_true")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--replicas", type=int, default=3, help="of --real")
    arguments = parser.parse_args()
    if arguments.micro:
        micro()
        return 0
    if arguments.real:
        real(arguments.replicas, arguments.quick)
        return 0
    folder = find_data()
    if folder is None:
        print("routing: the traces are not here (set SKERRY_BENCH_DATA to their folder); nothing was measured")
        return 0
    traces(folder, arguments.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
