"""Heads that come again: what is not parsed a second time is understood as if it were."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.inference.gateway.repeats import LEARNED_IN_VAIN, LONGEST, KnownHead
from tests.gateway.harness import KEY, key, route, running
from tests.gateway.test_http import read_answer
from tests.gateway.wire import CHAT, backend, sized

START = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
"""Of a head."""


def head(length: int, *, name: bytes = b"Content-Length", end: bytes = b"accept: */*\r\n") -> bytes:
    return b"%b%b: %d\r\n%b\r\n" % (START, name, length, end)


def known(body: bytes = b"{}") -> KnownHead:
    made = KnownHead()
    assert made.learn(head(len(body)) + body, len(head(len(body))))
    return made


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=1200), st.binary(max_size=1200))
def test_the_same_head_again_is_known_whatever_the_length(first: bytes, second: bytes) -> None:
    start = len(head(len(second)))
    assert known(first).body_of(head(len(second)) + second) == start


@pytest.mark.parametrize(
    "data",
    [
        b"",
        START,
        head(2),
        head(2) + b"{",
        head(2) + b"{}\r\n",
        head(2) + b"{}" + head(2) + b"{}",
        head(2, end=b"accept: */*\r\nx: y\r\n") + b"{}",
        head(2, end=b"accept: x/y\r\n") + b"{}",
        head(2, name=b"content-length") + b"{}",
        head(2).replace(b": 2", b": ") + b"{}",
        head(2).replace(b": 2", b": +2") + b"{}",
        head(2).replace(b": 2", b": 2, 2") + b"{}",
        head(2).replace(b": 2", b": 00000000000002") + b"{}",
        head(2).replace(b"x\r\n", b"y\r\n") + b"{}",
        b"\r\n" + head(2) + b"{}",
    ],
)
def test_anything_else_is_for_the_parser(data: bytes) -> None:
    assert known().body_of(data) == 0


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (head(2) + b"{}\r\n", len(head(2)) + 2),
        (b"\r\n\r\n" + head(2) + b"{}", len(head(2)) + 4),
        (START + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", len(START) + 30),
        (head(2, end=b"content-length: 2\r\n") + b"{}", len(head(2, end=b"content-length: 2\r\n"))),
        (head(2).replace(b": 2", b": 02") + b"{}", len(head(2)) + 1),
        (head(2, end=b"x: %b\r\n" % (b"y" * LONGEST)) + b"{}", len(head(2)) - 13 + LONGEST + 5),
    ],
)
def test_what_is_not_a_plain_head_is_not_remembered(data: bytes, start: int) -> None:
    made = KnownHead()
    assert not made.learn(data, start)
    assert made.body_of(data) == 0


def test_heads_that_never_come_again_are_seldom_remembered() -> None:
    made = KnownHead()
    heads = [head(2, end=b"x-request-id: %d\r\n" % number) for number in range(10 * LEARNED_IN_VAIN)]
    assert sum(made.learn(one + b"{}", len(one)) for one in heads) < 3 * LEARNED_IN_VAIN


@pytest.mark.parametrize("path", [b"/v1/chat/completions", b"/api/v1/anything"])
async def test_messages_with_one_head_keep_their_own_bodies(path: bytes) -> None:
    """To a replica and back, and to the control API and back."""
    async with backend() as behind, running(server_url=behind.url) as bench:
        bench.routes(route(behind.url))
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        words = ["a", "", "bb" * 40, "c" * 9000, "dd", "a"]
        got = []
        for word in words:
            body = CHAT.replace(b'"hi"', b'"%b"' % word.encode())
            lines = b"host: x\r\nauthorization: Bearer %b\r\n" % KEY.encode()
            writer.write(b"POST %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (path, lines, len(body), body))
            status, answer = await read_answer(reader)
            assert status == 200
            got.append(json.loads(answer)["choices"][0]["message"]["content"])
        writer.close()
        assert got == words
        assert [json.loads(arrival.body)["messages"][0]["content"] for arrival in behind.arrivals] == words
        assert len(bench.records()) == (len(words) if path.startswith(b"/v1") else 0)


async def test_a_key_that_is_revoked_meanwhile_is_refused_though_the_head_is_known() -> None:
    async with backend() as behind, running() as bench:
        bench.routes(route(behind.url))
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        for _ in range(2):
            writer.write(sized())
            assert (await read_answer(reader))[0] == 200
        bench.keys(key(revoked_at=datetime.now(UTC)))
        writer.write(sized())
        assert (await read_answer(reader))[0] == 401
        writer.close()
