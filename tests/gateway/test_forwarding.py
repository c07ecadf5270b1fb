"""Streams on their way: what has come goes on at once, whatever it came with."""

import asyncio

import pytest

from tests.gateway.harness import KEY, route, running
from tests.gateway.upstream import upstream
from tests.gateway.wire import CHAT

STREAM = CHAT[:-1] + b',"stream":true}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3}}\n\ndata: [DONE]\n\n'


def token(text: str) -> bytes:
    event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


@pytest.mark.parametrize("apart", [True, False])
async def test_each_token_arrives_before_the_next_is_sent(apart: bool) -> None:
    """`apart`: the head comes alone."""
    arrived = asyncio.Semaphore(0)
    async with upstream() as fake, running() as bench:
        bench.routes(route(fake.url))

        async def script(exchange) -> None:
            if apart:
                await exchange.send(HEAD)
                [answering] = bench.gateway.in_flight
                await bench.until(lambda: answering._status == 200)
            for place, word in enumerate(("one", "two", "three")):
                await exchange.send((HEAD if not apart and not place else b"") + token(word))
                await asyncio.wait_for(arrived.acquire(), 10)
            await exchange.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(END), END))

        fake.default = script
        reader, writer = await ask(bench.port)
        for word in (b"one", b"two", b"three"):
            await asyncio.wait_for(reader.readuntil(b'"%b"}}]}\n\n\r\n' % word), 10)
            arrived.release()
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
        writer.close()
        [record] = bench.records()
        assert (record.prompt, record.completion, record.counted) == (9, 3, "engine")
        assert record.first_us > 0


@pytest.mark.parametrize("tail", [b"", END])
async def test_a_stream_that_comes_at_once_is_one_answer_and_one_record(tail: bytes) -> None:
    async with upstream() as fake, running() as bench:
        bench.routes(route(fake.url))

        async def script(exchange) -> None:
            end = b"%x\r\n%b\r\n" % (len(tail), tail) if tail else b""
            await exchange.send(HEAD + token("one") + token("two") + token("three") + end + b"0\r\n\r\n")

        fake.default = script
        reader, writer = await ask(bench.port)
        answer = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
        writer.close()
        assert answer.index(b"x-request-id") < answer.index(b"one") < answer.index(b"three") < answer.index(b"[DONE]")
        [record] = bench.records()
        assert record.completion == 3 and record.first_us > 0


async def test_tokens_before_an_error_in_the_same_read_are_delivered_and_charged() -> None:
    async with upstream() as fake, running() as bench:
        bench.routes(route(fake.url))

        async def script(exchange) -> None:
            error = b'data: {"error":{"message":"out of memory"}}\n\n'
            await exchange.send(HEAD + token("one") + token("two") + b"%x\r\n%b\r\n" % (len(error), error))

        fake.default = script
        reader, writer = await ask(bench.port)
        answer = await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200") and answer.index(b"two") < answer.index(b"replica_failed")
        [record] = bench.records()
        assert (record.completion, record.status, record.counted) == (2, 502, "gateway")


async def ask(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = b"host: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n" % (KEY.encode(), len(STREAM))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\n%b" % (lines, STREAM))
    return reader, writer
