"""Streams: from bytes cut anywhere to deltas and a summary."""

import json
from decimal import Decimal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.client import BadAnswer, ChatDelta, ChatSummary, PaymentRequired, StreamBroken
from skerry.client.answers.inference import TokenUsage
from skerry.client.sse import EventDecoder
from tests.client.fakes import delta, events, problem, script, usage_chunk

# U+2028 and U+0085 are line breaks to str.splitlines, but not to JSON.
WORDS = ["Hel", "lo\u2028", "\u0085 wörld"]
CHUNKS = [
    *(delta(word) for word in WORDS),
    delta("", "stop"),
    usage_chunk(cost="0.0000123", currency="EUR", energy_mwh=5),
]


def test_a_stream_gives_deltas_and_then_a_summary():
    server = script(events(*CHUNKS))
    with server.client().chat("tiny", [{"role": "user", "content": "Hi"}], max_tokens=5, temperature=None) as stream:
        *deltas, summary = stream
    assert [part.text for part in deltas if isinstance(part, ChatDelta)] == WORDS
    assert isinstance(summary, ChatSummary)
    assert summary.text == "".join(WORDS)
    assert summary.usage == TokenUsage(prompt=12, cached=4, completion=3)
    assert (summary.cost, summary.currency, summary.energy_mwh) == (Decimal("0.0000123"), "EUR", 5)
    assert (summary.finish_reason, summary.request_id, summary.replica) == ("stop", "req_1", "rep_1")
    assert summary.time_to_first_token is not None
    assert 0 <= summary.time_to_first_token <= summary.seconds
    body = json.loads(server.requests[0].content)
    assert body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_the_asynchronous_stream_gives_the_same():
    async with script(events(*CHUNKS)).async_client() as client:
        stream = await client.chat("tiny", [])
        parts = [part async for part in stream]
    assert [part.text for part in parts] == [*WORDS, "".join(WORDS)]
    async with script(events(*CHUNKS)).async_client() as client:
        assert (await (await client.chat("tiny", [])).result()).text == "".join(WORDS)


def test_without_usage_the_summary_is_empty_but_there():
    summary = script(events(delta("x"))).client().chat("tiny", []).result()
    assert (summary.usage, summary.cost, summary.tokens_per_second) == (TokenUsage(), None, None)


def test_a_refusal_comes_before_the_stream():
    with pytest.raises(PaymentRequired):
        script(problem(402)).client().chat("tiny", [])


def test_an_error_inside_the_stream_is_raised():
    broken = {"error": {"message": "The replica died.", "type": "server_error", "code": "replica_lost"}}
    stream = script(events(delta("x"), broken)).client().chat("tiny", [])
    with pytest.raises(Exception, match="The replica died") as caught:
        stream.result()
    assert caught.value.code == "replica_lost"


def test_a_stream_that_just_ends_is_broken():
    stream = iter(script(events(delta("x"), done=False)).client().chat("tiny", []))
    assert next(stream).text == "x"
    with pytest.raises(StreamBroken, match="cut off"):
        next(stream)


def test_a_connection_that_breaks_is_a_broken_stream():
    class Breaking(httpx.SyncByteStream):
        def __iter__(self):
            yield b"data: " + json.dumps(delta("x")).encode() + b"\n\n"
            raise httpx.RemoteProtocolError("peer closed connection")

    stream = script(httpx.Response(200, stream=Breaking())).client().chat("tiny", [])
    with pytest.raises(StreamBroken, match="peer closed"):
        stream.result()


def test_leaving_a_stream_closes_the_connection():
    class Watched(httpx.SyncByteStream):
        closed = False

        def __iter__(self):
            while True:
                yield b"data: " + json.dumps(delta("x")).encode() + b"\n\n"

        def close(self):
            self.closed = True

    watched = Watched()
    with script(httpx.Response(200, stream=watched)).client().chat("tiny", []) as stream:
        next(iter(stream))
    assert watched.closed


def test_what_is_no_chunk_is_said_so():
    with pytest.raises(BadAnswer):
        script(httpx.Response(200, content=b"data: nonsense\n\n")).client().chat("tiny", []).result()


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(1, 9), st.sampled_from([b"\n", b"\r\n"]))
def test_events_survive_any_cut(texts, size, newline):
    payloads = [json.dumps(text, ensure_ascii=False).encode() for text in texts]
    data = b"".join(b"data: " + payload + newline + b": a comment" + newline * 2 for payload in payloads)
    decoder = EventDecoder()
    decoded = [event for at in range(0, len(data), size) for event in decoder.feed(data[at : at + size])]
    assert decoded == payloads
