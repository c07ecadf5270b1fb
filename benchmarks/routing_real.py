"""Conversations over real llama.cpp replicas: each turn goes where the gateway's policy says.

The replicas are host programs with the default model, one thread each. As in the gateway, a request names the slot that
`Slots` gives it and may reuse it only where that held the same project's prompt. The talkers run at the same time, each
asks its next turn as soon as it has its answer. Every policy gets texts of its own, so none finds another's caches.
"""

import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from skerry.artifacts.default import default_model
from skerry.inference.engines.llamacpp.config import CONFIG_VARIABLE, KEY_FILE, HostConfig
from skerry.inference.engines.llamacpp.slots import Slots
from skerry.inference.gateway.routing.base import Policy, Server
from skerry.inference.gateway.routing.choosing import policy_of
from skerry.inference.model import RoutingPolicy

KEY = "benchmark"
SLOTS = 2
CONTEXT = 1536
ANSWER = 12
PROJECT = "project-0123456789abcdef"
Message = dict[str, str]


@dataclass
class Host:
    address: str
    server: Server
    slots: Slots


@dataclass
class Measured:
    cached: int = 0
    prompt: int = 0
    first: list[float] = field(default_factory=list)
    seconds: float = 0.0


class Front:
    """What a gateway does of all this: picks, counts, names slots."""

    def __init__(self, hosts: list[Host], policy: Policy) -> None:
        self._policy = policy
        self._hosts = [Host(host.address, Server(host.server.id, SLOTS), Slots(range(SLOTS))) for host in hosts]
        self._free = threading.Condition()
        self.measured = Measured()
        for host in self._hosts:
            policy.joined(host.server)

    def ask(self, messages: list[Message]) -> str:
        prompt = PROJECT.encode() + b"\0" + json.dumps(messages).encode()
        begun = time.perf_counter()
        with self._free:
            while (host := self._pick(prompt)) is None:
                self._free.wait()
            host.server.in_flight += 1
            host.server.unread += len(prompt)
            slot, reuse = host.slots.take(PROJECT, prompt)
        unread = len(prompt)
        answer, usage, answered = "", {}, False
        try:
            for event in stream(host.address, messages, slot, reuse):
                if unread:
                    host.server.unread -= unread
                    unread = 0
                    self.measured.first.append(time.perf_counter() - begun)
                usage = event.get("usage") or usage
                answer += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
            answered = True
        finally:
            with self._free:
                host.server.unread -= unread
                host.server.in_flight -= 1
                host.slots.give_back(slot, PROJECT, prompt, answered=answered)
                self._free.notify_all()
        self.measured.prompt += usage["prompt_tokens"]
        self.measured.cached += usage["prompt_tokens_details"]["cached_tokens"]
        return answer

    def _pick(self, prompt: bytes) -> Host | None:
        server = self._policy.pick([host.server for host in self._hosts], prompt, PROJECT, time.monotonic())
        return next((host for host in self._hosts if host.server is server), None)


def real(count: int, quick: bool) -> None:
    model = default_model()
    if model is None:
        print("routing: the default model is not installed; nothing was measured")
        return
    talkers, turns = (count + 1, 3) if quick else (2 * count - 1, 5)
    with ExitStack() as stack:
        hosts = [stack.enter_context(host(number, model.path)) for number in range(count)]
        print(
            f"{count} replicas of the default model, one thread and {SLOTS} slots each; {talkers} conversations at "
            f"once, {turns} turns each, {ANSWER} tokens an answer\n"
        )
        print("| policy | cached tokens | TTFT p50 s | p95 s | all done s |\n|---|---|---|---|---|")
        for kind in RoutingPolicy:
            seen = converse(hosts, kind, talkers, turns)
            cuts = statistics.quantiles(seen.first, n=20, method="inclusive")
            share = seen.cached / seen.prompt
            print(f"| {kind.value} | {share:.1%} | {cuts[9]:.2f} | {cuts[18]:.2f} | {seen.seconds:.0f} |", flush=True)


def converse(hosts: list[Host], kind: RoutingPolicy, talkers: int, turns: int) -> Measured:
    front = Front(hosts, policy_of(kind, 1))

    def talk(number: int) -> None:
        words = random.Random(f"{kind.value} {number}")
        messages = [{"role": "system", "content": f"Notes {number} for {kind.value}. {text(words, 60)}"}]
        for _ in range(turns):
            messages.append({"role": "user", "content": text(words, 25)})
            messages.append({"role": "assistant", "content": front.ask(messages)})

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(talkers)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    front.measured.seconds = time.perf_counter() - begun
    return front.measured


def text(words: random.Random, count: int) -> str:
    return " ".join(words.choice(WORDS) for _ in range(count)) + "."


WORDS = [
    "harbour", "island", "stone", "light", "water", "small", "boat",
    "morning", "wind", "paper", "green", "letter", "open", "market", "river", "quiet",
]  # fmt: skip


def stream(address: str, messages: list[Message], slot: int, reuse: bool) -> Iterator[dict]:
    body = {
        "messages": messages,
        "max_tokens": ANSWER,
        "stream": True,
        "stream_options": {"include_usage": True},
        "id_slot": slot,
        "cache_prompt": reuse,
    }
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=300)
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read()[:500].decode(errors="replace"))
        for line in answer:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
    finally:
        connection.close()


@contextmanager
def host(number: int, model: Path) -> Iterator[Host]:
    """A replica, ended with the block."""
    config = HostConfig(model=str(model), alias="model", context_length=CONTEXT, slots=SLOTS, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / KEY_FILE).write_text(KEY)
        report = work / "report.json"
        env = {
            **os.environ,
            "SKERRY_REPORT": str(report),
            "SKERRY_FILES": folder,
            CONFIG_VARIABLE: json.dumps(config.to_json()),
        }
        process = subprocess.Popen([sys.executable, "-m", "skerry.inference.engines.llamacpp.host"], env=env)
        try:
            deadline = time.monotonic() + 60
            while not report.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("a replica did not start")
                time.sleep(0.05)
            address = json.loads(report.read_text())["address"]
            yield Host(address, Server(f"replica-{number}", SLOTS), Slots(range(SLOTS)))
        finally:
            process.kill()
            process.wait()
