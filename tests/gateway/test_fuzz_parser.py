"""Random conversations on several connections at once, whole and broken, in random pieces.

No crash, no hang, no answer on a connection that did not ask for it; and afterwards everything is as before.
"""

import asyncio
import json
import random
from dataclasses import dataclass

import hypothesis
import pytest
import uvloop
from hypothesis import Phase, given
from hypothesis import strategies as st

from tests.gateway.harness import KEY, route, running
from tests.gateway.rounds import seeds
from tests.gateway.test_smuggling import ONE, REFUSED
from tests.gateway.wire import SECONDS, backend, exchange, marked, parse_answers

EXAMPLES = 40
MAX_BODY = 64 * 1024
SOUP = 120
"""Mutants a round."""


@dataclass(frozen=True)
class Ask:
    """One request: chat or control API; `chunks` cuts its body into chunks, none: a length."""

    hot: bool
    filler: int
    chunks: tuple[int, ...]

    def bytes(self, mark: str) -> bytes:
        said = [{"role": "user", "content": "x" * self.filler}, {"role": "user", "content": mark}]
        body = json.dumps({"model": "fake", "messages": said}).encode()
        target = b"/v1/chat/completions" if self.hot else b"/api/v1/things"
        head = b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n" % (target, KEY.encode())
        if not self.chunks:
            return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)
        pieces, at = [], 0
        while at < len(body):
            size = self.chunks[len(pieces) % len(self.chunks)]
            pieces.append(b"%x\r\n%b\r\n" % (len(body[at : at + size]), body[at : at + size]))
            at += size
        return head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(pieces) + b"0\r\n\r\n"


@dataclass(frozen=True)
class Talk:
    """One connection: what it asks, the pieces it sends it in, and where it breaks, if it does."""

    asks: tuple[Ask, ...]
    pieces: tuple[int, ...]
    broken_at: float | None
    """A share of all bytes; None: whole."""
    garbage: bytes
    """Put in there; empty: nothing more is sent from there on."""


asks = st.builds(
    Ask, st.booleans(), st.integers(0, 3000), st.lists(st.integers(1, 700), max_size=4).map(tuple)
)  # fmt: skip
talks = st.builds(
    Talk,
    st.lists(asks, min_size=1, max_size=4).map(tuple),
    st.lists(st.integers(1, 1500), min_size=1, max_size=6).map(tuple),
    st.none() | st.floats(0, 1, exclude_max=True),
    st.binary(max_size=40)
    | st.sampled_from([b"\r\n\r\n", b"0\r\n\r\n", b"\n", b"\0", b" ", b"GET / HTTP/1.1\r\n\r\n"]),
)


@pytest.mark.parametrize("seed", seeds())
def test_each_connection_gets_its_own_answers_in_order_and_nothing_else(seed: int) -> None:
    print(f"seed {seed}")
    run = uvloop.run if seed % 2 else asyncio.run

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @given(st.lists(talks, min_size=1, max_size=5))
    def converse(several: list[Talk]) -> None:
        run(_converse(several))

    converse()


@pytest.mark.parametrize("seed", seeds())
def test_mutants_of_all_we_know_are_answered_or_refused_and_harm_nobody(seed: int) -> None:
    print(f"seed {seed}")
    (uvloop.run if seed % 2 else asyncio.run)(_soup(random.Random(seed)))


async def _converse(several: list[Talk]) -> None:
    async with backend() as behind, running(server_url=behind.url, max_body_bytes=MAX_BODY) as bench:
        bench.routes(route(f"{behind.url}/v1"))
        marks = [f"<{random.randbytes(6).hex()}>" for _ in several]
        told = await asyncio.gather(*(_talk(bench.port, talk, mark) for talk, mark in zip(several, marks, strict=True)))
        for (seen, expected), mark in zip(told, marks, strict=True):
            assert [said for said in seen[: len(expected)]] == expected
            others = [other for other in marks if other != mark]
            assert not any(other in said for said in seen for other in others), "another connection's answer"
        await _as_before(bench)


async def _talk(port: int, talk: Talk, mark: str) -> tuple[list[str], list[str]]:
    """What came back, and what had to come at least: marks, or the status of what was refused."""
    raws = [ask.bytes(f"{mark}{n}") for n, ask in enumerate(talk.asks)]
    data, whole = b"".join(raws), len(raws)
    if talk.broken_at is not None:
        cut = int(talk.broken_at * len(data))
        data = data[:cut] + talk.garbage + (data[cut:] if talk.garbage else b"")
        whole = sum(len(b"".join(raws[: n + 1])) <= cut for n in range(len(raws)))
    expected = [f"{mark}{n}" for n in range(whole)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        async with asyncio.timeout(SECONDS):
            at = turn = 0
            while at < len(data):
                size = talk.pieces[turn % len(talk.pieces)]
                writer.write(data[at : at + size])
                await asyncio.sleep(0)
                at, turn = at + size, turn + 1
            while len(parse_answers(received)[0]) < whole and (more := await reader.read(65536)):
                received += more
            writer.write_eof()
            received += await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()
    answers, _ = parse_answers(received)
    return [answer.mark if answer.status == 200 else str(answer.status) for answer in answers], expected


async def _soup(rng: random.Random) -> None:
    known = [*REFUSED.values(), *(raw for raw, _, _ in ONE.values()), marked("soup")]
    async with backend() as behind, running(server_url=behind.url, max_body_bytes=MAX_BODY) as bench:
        bench.routes(route(f"{behind.url}/v1"))
        for _ in range(SOUP // 8):
            several = [_mutant(rng, known) for _ in range(8)]
            results = await asyncio.gather(*(exchange(bench.port, *_pieces(rng, raw), wait=0.05) for raw in several))
            for raw, answers in zip(several, results, strict=True):
                assert all(answer.status < 500 or answer.status in (501, 503, 505) for answer in answers), (
                    raw,
                    answers,
                )
                assert len(answers) <= raw.count(b"\r\n\r\n") + 1, (raw, answers)
        await _as_before(bench)


def _mutant(rng: random.Random, known: list[bytes]) -> bytes:
    """One or two of the corpus, with bytes changed, left out, doubled or put in."""
    raw = bytearray(rng.choice(known)[:4096])
    if rng.random() < 0.3:
        other = rng.choice(known)[:4096]
        raw[rng.randrange(len(raw)) :] = other[rng.randrange(len(other)) :]
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(raw) + 1)
        match rng.randrange(4):
            case 0:
                raw[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del raw[at : at + rng.randint(1, 8)]
            case 2:
                raw[at:at] = raw[at : at + rng.randint(1, 40)]
            case _:
                raw[at:at] = rng.choice([b"\r", b"\n", b"\0", b" ", b"\t", b":", b"0", b"\r\n", b"\r\n\r\n", b"\xff"])
    return bytes(raw)


def _pieces(rng: random.Random, raw: bytes) -> list[bytes]:
    pieces = []
    while raw:
        cut = rng.randint(1, max(1, len(raw)))
        pieces.append(raw[:cut])
        raw = raw[cut:]
    return pieces


async def _as_before(bench) -> None:
    """Nothing is held for anybody, and a new client is served."""
    gateway = bench.gateway
    await bench.until(lambda: not gateway.connections and not gateway.in_flight and gateway.buffered == 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    writer.write(marked("after"))
    received = b""
    async with asyncio.timeout(SECONDS):
        while not parse_answers(received)[0]:
            received += await reader.read(65536)
    assert [answer.mark for answer in parse_answers(received)[0]] == ["after"]
    writer.close()
