"""HTTP/1.1 on the wire: framing, keep-alive, pipelining, and what is refused."""

import asyncio
import json
import random

import pytest

from tests.gateway.harness import KEY, route, running
from tests.gateway.upstream import upstream

BODY = json.dumps({"model": "fake", "messages": [{"role": "user", "content": "hi"}]}).encode()
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode()
SIZED = HEAD + b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"".join(
    b"%x\r\n%b\r\n" % (len(BODY[i : i + 7]), BODY[i : i + 7]) for i in range(0, len(BODY), 7)
) + b"0\r\n\r\n"  # fmt: skip


async def connect(bench):
    return await asyncio.open_connection("127.0.0.1", bench.port)


async def read_answer(reader) -> tuple[int, bytes]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 12)
    status = int(head.split()[1])
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return status, await reader.readexactly(length)


async def test_keep_alive_and_chunked_bodies(bench):
    reader, writer = await connect(bench)
    for request in (SIZED, CHUNKED, SIZED):
        writer.write(request)
        assert (await read_answer(reader))[0] == 200
    assert len(bench.records()) == 3
    writer.close()


@pytest.mark.parametrize("seed", range(5))
async def test_any_split_of_the_bytes_gives_the_same_answers(bench, seed):
    random_ = random.Random(seed)
    reader, writer = await connect(bench)
    data = SIZED + CHUNKED
    while data:
        cut = random_.randint(1, 40)
        writer.write(data[:cut])
        data = data[cut:]
        await asyncio.sleep(0)
    assert [(await read_answer(reader))[0] for _ in range(2)] == [200, 200]
    writer.close()


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(bench, fake):
    busy = most = 0

    async def slow(exchange):
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0.02)
        busy -= 1
        await exchange.json({"choices": [{}], "usage": {}, "n": len(fake.seen)})

    fake.default = slow
    reader, writer = await connect(bench)
    writer.write(SIZED * 4)
    order = [json.loads((await read_answer(reader))[1])["n"] for _ in range(4)]
    assert order == [1, 2, 3, 4] and most == 1
    writer.close()


@pytest.mark.parametrize(
    "request_bytes,status",
    [
        (HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400),
        (HEAD + b"content-length: -1\r\n\r\n", 400),
        (HEAD + b"content-length: 99999999999\r\n\r\n", 413),
        (HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (HEAD + b"x: " + b"a" * 200_000 + b"\r\n\r\n", 431),
        (HEAD + b"".join(b"x%d: 1\r\n" % n for n in range(200)) + b"\r\n", 431),
        (HEAD + b"expect: tea\r\ncontent-length: 0\r\n\r\n", 417),
    ],
)
async def test_what_could_be_read_two_ways_is_refused_and_the_connection_closed(bench, request_bytes, status):
    reader, writer = await connect(bench)
    writer.write(request_bytes)
    answer = await asyncio.wait_for(reader.read(), 12)
    assert int(answer.split()[1]) == status
    assert b"connection: close" in answer
    assert bench.records() == []
    writer.close()


async def test_expect_continue(bench):
    reader, writer = await connect(bench)
    writer.write(HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(BODY))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(BODY)
    assert (await read_answer(reader))[0] == 200
    writer.close()


async def test_http_10_gets_a_plain_stream_and_a_closed_connection(bench):
    reader, writer = await connect(bench)
    body = BODY[:-1] + b',"stream":true}'
    writer.write(HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + b"content-length: %d\r\n\r\n%b" % (len(body), body))
    answer = await asyncio.wait_for(reader.read(), 12)
    assert b"transfer-encoding" not in answer and answer.endswith(b"data: [DONE]\n\n")
    writer.close()


@pytest.mark.parametrize("seed", range(3))
async def test_garbage_never_hurts_other_connections(bench, seed):
    random_ = random.Random(seed)
    for _ in range(20):
        _, writer = await connect(bench)
        cut = random_.randrange(len(SIZED))
        writer.write(SIZED[:cut] + random_.randbytes(random_.randint(1, 200)))
        writer.close()
    reader, writer = await connect(bench)
    writer.write(SIZED)
    assert (await read_answer(reader))[0] == 200
    await bench.until(lambda: len(bench.gateway.connections) == 1)
    writer.close()


async def test_slow_head_is_timed_out(monkeypatch):
    monkeypatch.setattr("skerry.inference.gateway.connection.HEAD_SECONDS", 0.1)
    async with upstream() as fake, running() as bench:
        bench.routes(route(fake.url))
        reader, writer = await connect(bench)
        writer.write(b"POST /v1/chat")
        answer = await asyncio.wait_for(reader.read(), 12)
        assert answer.split()[1] == b"408"
        writer.close()


async def test_everything_else_is_passed_to_the_server_written_anew(fake):
    async def echo(exchange):
        await exchange.json({"path": exchange.path, "headers": exchange.headers, "body": exchange.body})

    fake.default = echo
    async with running(server_url=f"http://127.0.0.1:{fake.port}") as bench:
        reader, writer = await connect(bench)
        writer.write(
            b"POST /api/v1/things?a=b HTTP/1.1\r\nhost: me\r\nauthorization: Bearer sk-x\r\n"
            b"x-skerry-client-ip: 6.6.6.6\r\n"
            b"x-forwarded-for: 6.6.6.6\r\nconnection: keep-alive, x-secret\r\ncontent-length: 7\r\n\r\n" + b'{"a":1}'
        )
        status, body = await read_answer(reader)
        got = json.loads(body)
        assert (status, got["path"], got["body"]) == (200, "/api/v1/things?a=b", {"a": 1})
        assert got["headers"]["x-skerry-client-ip"] == "127.0.0.1"
        assert "x-forwarded-for" not in got["headers"] and "connection" not in got["headers"]
        assert len(got["headers"]["x-request-id"]) == 32
        writer.close()


async def test_server_that_is_down_is_503(bench):
    reader, writer = await connect(bench)
    writer.write(b"GET /api/v1/projects HTTP/1.1\r\nhost: x\r\n\r\n")
    status, body = await read_answer(reader)
    assert status == 503 and json.loads(body)["code"] == "server_unavailable"
    writer.close()


async def test_strangers_are_refused_before_their_body(bench):
    reader, writer = await connect(bench)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-nobody\r\n"
    writer.write(head + b"content-length: 5000000\r\n\r\n" + b"x" * 1000)
    answer = await asyncio.wait_for(reader.read(), 12)
    assert answer.split()[1] == b"401"
    await bench.until(lambda: bench.gateway.buffered == 0)
    writer.close()


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS", b"DELETE"])
async def test_hot_paths_say_what_they_take(bench, method):
    reader, writer = await connect(bench)
    writer.write(method + b" /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 12)
    assert answer.split()[1] == b"405" and b"allow: POST" in answer
    writer.close()


async def test_upgrade_is_refused_once(bench):
    reader, writer = await connect(bench)
    writer.write(HEAD + b"connection: Upgrade\r\nupgrade: h2c\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY))
    answer = await asyncio.wait_for(reader.read(), 12)
    assert answer.count(b"HTTP/1.1") == 1 and b"no_upgrade" in answer
    writer.close()
