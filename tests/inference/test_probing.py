"""Probes over a real socket."""

import asyncio
import json

import pytest

from skerry.inference import probing
from skerry.inference.probing import HttpProber, ProbeFailed

GOOD = json.dumps({"usage": {"completion_tokens": 1}}).encode()


@pytest.fixture
async def serve():
    """Starts servers that give one fixed answer; returns the address and the requests they saw."""
    servers = []

    async def begin(answer: bytes, pause: float = 0.0):
        seen: list[bytes] = []

        async def handle(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-l")), 0)
            seen.append(head + await reader.readexactly(length))
            await asyncio.sleep(pause)
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen

    yield begin
    for server in servers:
        server.close()


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


async def test_a_completion_carries_the_key_and_one_token(serve):
    address, seen = await serve(http("200 OK", GOOD))
    await HttpProber().complete(address, "hush", "smol")
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert b"Authorization: Bearer hush" in head
    assert json.loads(body)["max_tokens"] == 1
    assert json.loads(body)["model"] == "smol"


@pytest.mark.parametrize(
    "answer",
    [
        http("401 Unauthorized", b"{}"),
        http("200 OK", b"<html>"),
        http("200 OK", b"{}"),
        http("200 OK", b"[" * 100_000),
        http("200 OK", json.dumps({"usage": {"completion_tokens": 0}}).encode()),
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{",
        b"nonsense\r\n\r\n",
        b"",
    ],
)
async def test_any_other_answer_fails_with_words(serve, answer):
    address, _ = await serve(answer)
    with pytest.raises(ProbeFailed) as caught:
        await HttpProber().complete(address, "hush", "smol")
    assert str(caught.value)
    assert "hush" not in str(caught.value)


async def test_silence_fails(serve, monkeypatch):
    monkeypatch.setattr(probing, "HEALTH_SECONDS", 0.1)
    address, _ = await serve(http("200 OK", b""), pause=0.5)
    with pytest.raises(ProbeFailed, match="did not answer"):
        await HttpProber().healthy(address, "hush")


async def test_nobody_there_fails():
    with pytest.raises(ProbeFailed, match="cannot be reached"):
        await HttpProber().healthy("http://127.0.0.1:1", "hush")
