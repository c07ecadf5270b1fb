"""The sender against servers that answer in every way there is."""

import asyncio
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from skerry.inference.batches.sending import GatewayAway, HttpSender

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def server(*answers: bytes | None, close_after: bool = False):
    """Answers in turn, whatever is asked; None cuts the connection. Yields a sender and a mark for each connection."""
    left, made = list(answers), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(1)
        try:
            while left:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                await reader.readexactly(size)
                answer = left.pop(0)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
                if close_after:
                    return
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    sender = HttpSender(f"http://127.0.0.1:{port}", answer_seconds=5.0)
    try:
        yield sender, made
    finally:
        sender.close()
        listening.close()


async def ask(sender: HttpSender):
    return await sender.send("/v1/chat/completions", "Skerry-Batch x.y", b"{}")


async def test_what_an_answer_says_is_read() -> None:
    head = (
        b"HTTP/1.1 503 Busy\r\nX-Request-Id: r1\r\nretry-after: 7\r\nx-skerry-cost: 0.000012\r\n"
        b"x-skerry-queue-ms: 2500\r\ncontent-length: 4\r\n\r\nbusy"
    )
    async with server(head) as (sender, _):
        answer = await ask(sender)
    assert (answer.status, answer.body, answer.request_id, answer.after) == (503, b"busy", "r1", 7.0)
    assert (answer.cost, answer.waited) == (Decimal("0.000012"), True)


async def test_answers_in_chunks_are_put_together() -> None:
    chunked = b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\n{"a\r\n4\r\n": 1\r\n1\r\n}\r\n0\r\n\r\n'
    async with server(chunked, OK) as (sender, made):
        assert (await ask(sender)).body == b'{"a": 1}'
        assert (await ask(sender)).body == b"{}"
    assert len(made) == 1, "the connection is kept"


async def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing() -> None:
    async with server(OK, OK, close_after=True) as (sender, made):
        assert (await ask(sender)).status == 200
        assert (await ask(sender)).status == 200
    assert len(made) == 2


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_said_to_be_none(answer: bytes | None) -> None:
    async with server(answer, close_after=True) as (sender, _):
        with pytest.raises(GatewayAway) as away:
            await ask(sender)
    assert away.value.begun


async def test_a_gateway_that_is_not_there_has_begun_nothing(tmp_path) -> None:
    sender = HttpSender(f"unix:{tmp_path}/nothing.sock", answer_seconds=5.0)
    with pytest.raises(GatewayAway) as away:
        await ask(sender)
    assert not away.value.begun


async def test_a_gateway_that_stays_silent_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    sender = HttpSender(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", answer_seconds=0.05)
    with pytest.raises(GatewayAway) as away:
        await ask(sender)
    assert away.value.begun
    listening.close()
