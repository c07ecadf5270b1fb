"""Who is slow, endless or too big: given up after its time, with flat memory, and nobody else waits for it."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from skerry.inference.gateway import connection
from tests.gateway.harness import KEY, route, running
from tests.gateway.test_http import BODY, CHUNKED, HEAD, SIZED, connect, read_answer
from tests.gateway.upstream import upstream
from tests.gateway.wire import CHAT, Answer, backend, chat_head, exchange, marked, parse_answers, sized

STREAMED = sized(CHAT[:-1] + b',"stream":true}')
FLAT = 3 * 1024 * 1024
"""More than all buffers between the two ends of a stream, less than what would flow without them."""
IDLE_CONNECTIONS = 1000


@asynccontextmanager
async def bench_with(monkeypatch, **constants: float):
    """A gateway with these times of `connection` shortened, and the upstream behind it."""
    for name, value in constants.items():
        monkeypatch.setattr(connection, name, value)
    async with upstream() as fake, running() as bench:
        bench.routes(route(fake.url))
        yield bench, fake


async def until_closed(reader, seconds: float = 5.0) -> list[Answer]:
    data = b""
    async with asyncio.timeout(seconds):
        with suppress(ConnectionError):  # who does not stop sending is cut off at last
            while more := await reader.read(65536):
                data += more
    return parse_answers(data)[0]


async def drip(writer, data: bytes, pause: float) -> None:
    """A byte at a time, until the other side has enough of it."""
    with suppress(ConnectionError):
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(pause)


async def works(bench) -> bool:
    reader, writer = await connect(bench)
    writer.write(SIZED)
    status, _ = await read_answer(reader)
    writer.close()
    return status == 200


# --- slow clients
@pytest.mark.parametrize(
    ("constant", "start"),
    [
        ("HEAD_SECONDS", b""),
        ("HEAD_SECONDS", HEAD),
        ("BODY_SECONDS", HEAD + b"content-length: 5000\r\n\r\n"),
        ("BODY_SECONDS", HEAD + b"transfer-encoding: chunked\r\n\r\n"),
        ("BODY_SECONDS", HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n"),
        ("BODY_SECONDS", SIZED + HEAD + b"content-length: 5000\r\n\r\n"),
    ],
    ids=["line", "head", "body", "chunks", "trailer", "second body"],
)
async def test_who_drips_is_given_up_in_time_however_steadily_it_drips(monkeypatch, constant, start):
    async with bench_with(monkeypatch, **{constant: 0.3}) as (bench, _):
        reader, writer = await connect(bench)
        rest = b"1\r\na\r\n" * 200 if b"chunked" in start else b"GET /" + b"a" * 2000
        rest = b"x: y\r\n" * 200 if start.endswith(b"0\r\n") else b"x: " + b"y" * 2000 if start == HEAD else rest
        writer.write(start)
        began = time.monotonic()
        dripping = asyncio.create_task(drip(writer, rest, 0.02))
        answers = await until_closed(reader)
        dripping.cancel()
        assert answers[-1].status == 408 and answers[-1].closes
        assert time.monotonic() - began < 20, "all that drips would take longer"
        assert await works(bench)
        writer.close()
        await bench.until(lambda: bench.gateway.buffered == 0)


async def test_who_says_nothing_is_closed_without_a_word(monkeypatch):
    async with bench_with(monkeypatch, IDLE_SECONDS=0.2) as (bench, _):
        silent, writer = await connect(bench)
        used, other = await connect(bench)
        other.write(SIZED)
        assert (await read_answer(used))[0] == 200
        assert await until_closed(silent) == [] and await until_closed(used) == []
        writer.close()
        other.close()


async def test_who_goes_on_sending_after_a_refusal_is_cut_off_soon(monkeypatch):
    async with bench_with(monkeypatch, LINGER_SECONDS=0.3) as (bench, _):
        _, writer = await connect(bench)
        writer.write(HEAD + b"content-length: 99999999999\r\n\r\n")
        async with asyncio.timeout(30):
            with suppress(ConnectionError):
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()
                    await asyncio.sleep(0.005)
        await bench.until(lambda: not bench.gateway.connections and bench.gateway.buffered == 0)


async def test_a_client_that_does_not_read_holds_its_replica_back_and_is_given_up(monkeypatch):
    sent = 0

    async def endless(exchange):
        nonlocal sent
        await exchange.stream_head()
        text = "x" * 8000
        while True:
            await exchange.token(text)
            sent += len(text)

    async with bench_with(monkeypatch, SEND_SECONDS=1.0) as (bench, fake):
        fake.default = endless
        small, writer = await connect(bench)
        small._limit = 1024  # this client's own buffer
        writer.write(STREAMED)
        await bench.until(lambda: sent > 100_000)
        await bench.until(lambda: not all(client.writable for client in bench.gateway.connections))
        most = max(client.transport.get_write_buffer_size() for client in bench.gateway.connections)
        assert most < 2 * connection.HIGH_WATER
        held = await _settled(lambda: sent)
        await bench.until(lambda: not bench.gateway.connections)
        await bench.until(lambda: fake.gone == 1)
        assert sent - held < FLAT and sent < 20 * FLAT, "the replica was held back all the time"
        await bench.until(lambda: len(bench.records()) == 1)
        assert bench.records()[0].completion >= 1 and not bench.gateway.in_flight
        writer.close()


async def test_a_client_that_reads_slowly_gets_everything(monkeypatch):
    async def long(exchange):
        await exchange.stream_head()
        for _ in range(300):
            await exchange.token("x" * 8000)
        await exchange.end(completion=300)

    async with bench_with(monkeypatch) as (bench, fake):
        fake.default = long
        reader, writer = await connect(bench)
        writer.write(STREAMED)
        received = b""
        async with asyncio.timeout(20):
            while not received.endswith(b"0\r\n\r\n"):
                received += await reader.read(16384)
        assert received.count(b"x" * 8000) == 300 and b"[DONE]" in received
        writer.close()


BIG = 20_000_000
"""More than the kernel keeps between two ends."""


async def big(exchange):
    await exchange.json({"choices": [{"index": 0, "message": {"content": "x" * BIG}}], "usage": {}})


async def test_a_big_last_answer_is_not_cut_because_its_reader_is_slow(monkeypatch):
    async with bench_with(monkeypatch, LINGER_SECONDS=0.1) as (bench, fake):
        fake.default = big
        reader, writer = await connect(bench)
        writer.write(sized(CHAT, b"connection: close\r\n"))
        await bench.until(lambda: any(not client.writable for client in bench.gateway.connections))
        await asyncio.sleep(1.0)  # far more than the linger: nothing may happen in it
        received = 0
        async with asyncio.timeout(30):
            while piece := await reader.read(1 << 20):
                received += len(piece)
        assert received > BIG
        writer.close()


async def test_a_connection_that_was_full_once_ends_idle_like_any_other(monkeypatch):
    async with bench_with(monkeypatch, IDLE_SECONDS=0.3) as (bench, fake):
        fake.default = big
        reader, writer = await connect(bench)
        writer.write(SIZED)
        status, body = await asyncio.wait_for(_read_big(reader), 30)
        assert status == 200 and len(body) > BIG
        assert await until_closed(reader) == []
        writer.close()


async def _read_big(reader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return int(head.split()[1]), await reader.readexactly(length)


async def test_who_pipelines_without_end_is_not_read_any_further(monkeypatch):
    held = asyncio.Event()

    async def waiting(exchange):
        await held.wait()
        await exchange.json({"choices": [{}], "usage": {}})

    async with bench_with(monkeypatch) as (bench, fake):
        fake.default = waiting
        reader, writer = await connect(bench)
        filler = b" " * 200_000
        request = chat_head(b"content-length: %d\r\n" % len(BODY + filler)) + BODY + filler
        taken = 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                while taken < 500:
                    writer.write(request)
                    await writer.drain()
                    taken += 1
        assert taken * len(request) < 30_000_000, "most of it is still on the client's side"
        held.set()
        assert (await read_answer(reader))[0] == 200
        writer.transport.abort()
        await bench.until(lambda: not bench.gateway.connections and bench.gateway.buffered == 0)


# --- big heads and odd bodies
async def test_a_long_target_is_414(bench):
    for target in (b"/v1/models?" + b"a" * 40_000, b"/v1/chat/completions?" + b"a" * 40_000):
        answers = await exchange(bench.port, b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % target, half_close=False)
        assert [answer.status for answer in answers] == [414] and answers[0].closes


@pytest.mark.parametrize(
    "lines",
    [
        b"x: " + b"a" * 40_000 + b"\r\n",
        b"x" * 40_000 + b": a\r\n",
        b"".join(b"x%d: 1\r\n" % n for n in range(101)),
        b"".join(b"%b%d: 1\r\n" % (b"n" * 1000, n) for n in range(90)),
        b"".join(b"x%d: %b\r\n" % (n, b"v" * 1000) for n in range(90)),
    ],
    ids=["long value", "long name", "many", "long names", "long values"],
)
@pytest.mark.parametrize("size", [100, 10**6], ids=["in pieces", "at once"])
async def test_header_bombs_are_431(bench, lines, size):
    raw = chat_head(lines)
    pieces = [raw[at : at + size] for at in range(0, len(raw), size)]
    answers = await exchange(bench.port, *pieces, half_close=False)
    assert [answer.status for answer in answers] == [431]


@pytest.mark.parametrize(
    "endless",
    [b"x: y\r\n", b"y", b"3;a=b", b";a=b"],
    ids=["trailers", "one trailer", "chunk extension", "extension of the last chunk"],
)
async def test_what_is_no_body_is_bounded_in_a_body_too(bench, endless):
    """Trailers and chunk extensions count for nothing, and so must not go on for ever."""
    start = {b"x: y\r\n": b"0\r\n", b"y": b"0\r\nx: ", b"3;a=b": b"3;a=b", b";a=b": b"0"}[endless]
    reader, writer = await connect(bench)
    writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n" + start)
    sent = 0
    reading = asyncio.create_task(reader.read())
    with suppress(ConnectionError):
        while not reading.done() and sent < 20_000_000:
            writer.write(endless.lstrip(b"3") * 4096)
            await writer.drain()
            sent += len(endless) * 4096
            await asyncio.sleep(0)
    assert sent < 5_000_000, "it is read without end"
    answers = parse_answers(await asyncio.wait_for(reading, 12))[0] if reading.done() else []
    assert all(answer.status in (400, 431) for answer in answers)
    writer.close()


async def test_a_body_that_breaks_off_leaves_nothing_behind(bench, fake):
    for raw in (HEAD + b"content-length: 5000\r\n\r\nabc", HEAD + b"transfer-encoding: chunked\r\n\r\n30\r\nabc"):
        _, writer = await connect(bench)
        writer.write(raw)
        await bench.until(lambda: bench.gateway.buffered > 0)
        writer.transport.abort()
        await bench.until(lambda: not bench.gateway.connections and bench.gateway.buffered == 0)
    assert fake.seen == [] and bench.records() == []


@pytest.mark.parametrize("lines", [b"content-encoding: gzip\r\n", b"content-encoding: br\r\n"])
async def test_compressed_bodies_are_415(bench, lines):
    answers = await exchange(bench.port, chat_head(lines, b"content-length: 3\r\n") + b"abc", half_close=False)
    assert [answer.status for answer in answers] == [415]


async def test_nobody_is_told_to_continue_what_will_be_refused(bench):
    for line in (b"content-length: 99999999999\r\n", b"content-encoding: gzip\r\ncontent-length: 5\r\n"):
        reader, writer = await connect(bench)
        writer.write(chat_head(b"expect: 100-continue\r\n", line))
        data = await asyncio.wait_for(reader.read(), 12)
        assert b"100 Continue" not in data and data.startswith(b"HTTP/1.1 4")
        writer.close()
    reader, writer = await connect(bench)
    writer.write(chat_head(b"expect: 100-continue\r\ncontent-length: 5\r\n", key="sk-nobody"))
    assert (await asyncio.wait_for(reader.read(), 12)).startswith(b"HTTP/1.1 401")
    writer.close()


async def test_pipelined_requests_before_a_broken_one_are_answered_first():
    async with backend() as behind, running(server_url=behind.url) as bench:
        bench.routes(route(f"{behind.url}/v1"))
        behind.delay = 0.02
        answers = await exchange(
            bench.port, marked("1") + CHUNKED + marked("2") + b"\0\0\r\n\r\n" + marked("3"), half_close=False
        )
        assert [answer.status for answer in answers] == [200, 200, 200, 400]
        assert [answers[0].mark, answers[2].mark] == ["1", "2"] and len(behind.arrivals) == 3


# --- upstreams that misbehave
def plain(body: bytes, *lines: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), b"".join(lines), body)


GOOD = json.dumps({"choices": [{"index": 0, "message": {"content": "hi"}}], "usage": {}}).encode()
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVIL = {
    "two answers": plain(GOOD) * 2,
    "an answer and garbage": plain(GOOD) + b"\0garbage",
    "header bomb": b"HTTP/1.1 200 OK\r\n" + b"".join(b"x%d: %b\r\n" % (n, b"v" * 1000) for n in range(500)) + b"\r\n",
    "endless header": b"HTTP/1.1 200 OK\r\nx: " + b"v" * 1_000_000,
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 50_000,
    "garbage": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    "HTTP/0.9": b"hello\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "length and chunked": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "chunks that are none": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "chunk beyond 64 bits": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1ffffffffffffffff\r\n",
    "stream of chunks that are none": STREAM + b"zz\r\n",
    "stream of no events": STREAM + b"5\r\n\0\1\2\3\4\r\n0\r\n\r\n",
    "stream of broken events": STREAM + b"9\r\ndata: {\n\n\r\n0\r\n\r\n",
    "event without end": STREAM
    + b"f4240\r\ndata: "
    + b"x" * 999_994
    + b"\r\n"
    + (b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n") * 9,
    "empty": plain(b""),
    "not JSON": plain(b"hello"),
    "a list": plain(b"[]"),
    "deep JSON": plain(b"[" * 100_000),
    "redirect": b"HTTP/1.1 302 Found\r\nlocation: http://evil/\r\ncontent-length: 0\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"
    + plain(GOOD),
    "silence": b"",
}


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("raw", [SIZED, STREAMED], ids=["plain", "stream"])
async def test_an_upstream_that_misbehaves_hurts_only_the_request_it_was_given(bench, fake, name, raw):
    async def misbehaving(exchange):
        with suppress(ConnectionError):
            await exchange.send(EVIL[name])
        exchange.writer.close()

    fake.default = misbehaving
    reader, writer = await connect(bench)
    writer.write(raw)
    received = b""
    async with asyncio.timeout(12):
        while not parse_answers(received)[0] and (more := await reader.read(65536)):
            received += more
    answers, rest = parse_answers(received)
    assert len(answers) == 1 and rest == b""
    assert answers[0].status in (200, 400, 502, 503)
    if answers[0].status != 200:
        assert json.loads(answers[0].body)["error"]["message"]
    writer.close()
    fake.default = _well_marked
    async with asyncio.timeout(12):
        reader, writer = await connect(bench)
        writer.write(marked("next"))
        status, body = await read_answer(reader)
    assert status == 200 and json.loads(body)["choices"][0]["message"]["content"] == "next"
    assert not bench.gateway.in_flight
    writer.close()


async def _well_marked(exchange):
    said = exchange.body["messages"][-1]["content"]
    await exchange.json({"choices": [{"index": 0, "message": {"content": said}}], "usage": {}})


async def test_a_plain_answer_without_end_is_given_up(bench, fake):
    async def endless(exchange):
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        while True:
            await exchange.send(b"x" * 65536)

    bench.gateway.max_answer = 1_000_000
    fake.default = endless
    reader, writer = await connect(bench)
    writer.write(SIZED)
    status, body = await read_answer(reader)
    assert status == 503 and b"answer_too_large" in body
    await bench.until(lambda: fake.gone == 1)
    writer.close()


# --- very many
async def idle_crowd(count: int) -> tuple[float, float]:
    """`count` idle connections, held by another process; bytes each of them takes here, and seconds of one request."""
    async with upstream() as fake, running() as bench:
        bench.routes(route(fake.url))
        assert await works(bench)
        before = _rss()
        crowd = subprocess.Popen(  # noqa: ASYNC220 - it is there at once
            [sys.executable, "-c", CROWD, str(bench.port), str(count), KEY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", "")},
        )
        try:
            await bench.until(lambda: len(bench.gateway.connections) == count, 60)
            each = (_rss() - before) / count
            began = time.perf_counter()
            assert await works(bench)
            seconds = time.perf_counter() - began
            await asyncio.to_thread(_say, crowd, b"go\n")
            # Each of them still works: every tenth asks for something.
            assert int(await asyncio.to_thread(_hear, crowd)) == len(range(0, count, 10))
        finally:
            crowd.kill()
            crowd.communicate()
        await bench.until(lambda: not bench.gateway.connections, 60)
        return each, seconds


CROWD = """
import resource, socket, sys
port, count, key = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 100), hard))
crowd = [socket.create_connection(('127.0.0.1', port)) for _ in range(count)]
sys.stdin.readline()
ask = f'GET /v1/chat/completions HTTP/1.1\\r\\nhost: x\\r\\nauthorization: Bearer {key}\\r\\n\\r\\n'.encode()
answered = 0
for one in crowd[::10]:
    one.sendall(ask)
    answered += one.recv(65536).startswith(b'HTTP/1.1 405')
print(answered, flush=True)
sys.stdin.readline()
"""


def _say(crowd: "subprocess.Popen[bytes]", words: bytes) -> None:
    assert crowd.stdin is not None
    crowd.stdin.write(words)
    crowd.stdin.flush()


def _hear(crowd: "subprocess.Popen[bytes]") -> bytes:
    assert crowd.stdout is not None
    return crowd.stdout.readline()


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _settled(read, pause: float = 0.2) -> int:
    """A number that has stopped growing."""
    value = -1
    while value != (value := read()):
        await asyncio.sleep(pause)
    return value


async def test_a_thousand_idle_connections_cost_little_and_are_in_nobodys_way():
    each, seconds = await idle_crowd(IDLE_CONNECTIONS)
    print(f"{each / 1024:.1f} KiB a connection, a request beside them in {seconds * 1000:.1f} ms")
    assert each < 64 * 1024
